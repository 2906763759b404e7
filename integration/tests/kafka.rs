//! Kafka, as only Kafka is: options, publishes, topics, groups, rebalances; and the conformance suite. Against the broker that
//! `CLEARWAY_TEST_KAFKA=host:port` names. `CLEARWAY_TEST_CASE=name` runs one case of the suite.

#[path = "kafka/conformance.rs"]
mod conformance;
#[path = "kafka/setup.rs"]
mod setup;
