//! A real Apache Kafka for a test: alone or a cluster of three, in KRaft mode.

mod broker;
mod hello;
mod node;
mod outside;
mod setup;
mod tools;

pub use broker::KafkaBroker;
pub use node::Node;
pub use outside::{Outside as KafkaOutside, Stored};
pub use setup::Kafka;
