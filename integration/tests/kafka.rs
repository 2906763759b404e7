//! Kafka, as only Kafka is: options, publishes, topics, groups, rebalances; and the conformance suite. Against the broker that
//! `CLEARWAY_TEST_KAFKA=host:port` names. `CLEARWAY_TEST_CASE=name` runs one case of the suite, or one room of it.

#[path = "kafka/admin.rs"]
mod admin;
#[path = "kafka/conformance.rs"]
mod conformance;
#[path = "kafka/connect.rs"]
mod connect;
#[path = "kafka/groups.rs"]
mod groups;
#[path = "kafka/publish.rs"]
mod publish;
#[path = "kafka/setup.rs"]
mod setup;
