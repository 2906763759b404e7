//! Kafka, as only Kafka is: options, publishes, topics, groups, rebalances. One broker for most of them.

#[path = "kafka/admin.rs"]
mod admin;
#[path = "kafka/connect.rs"]
mod connect;
#[path = "kafka/denied.rs"]
mod denied;
#[path = "kafka/full.rs"]
mod full;
#[path = "kafka/groups.rs"]
mod groups;
#[path = "kafka/publish.rs"]
mod publish;
#[path = "kafka/setup.rs"]
mod setup;
