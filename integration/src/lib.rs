//! Clearway against real brokers.
//!
//! A test asks [`Broker`] for a NATS server, or with the feature `kafka` `KafkaBroker` for an Apache Kafka of one node or three, and gets a
//! real one: the one that `CLEARWAY_TEST_NATS` or `CLEARWAY_TEST_KAFKA` names, or one in a container of its own
//! that can be paused, killed, cut off and started again. [`Proxy`] stands between a client
//! and any server and spoils the connections. [`Authority`] issues the
//! certificates of the TLS tests.
//!
//! What a test does with a bus goes on [`Record`]: a [`Member`] is a bus whose publishes, deliveries,
//! sessions and close are written into a history, which [`Record::finish`] has checked. [`Load`] is the
//! work of many publishers, [`Outside`] and `KafkaOutside` a look at the server past the bus. A [`Fleet`] is a group of processes that can be
//! killed, each with a history of its own.
//!
//! `integration/run.sh` is the way to run them all; a single test runs with
//! `cargo test -p clearway-integration NAME` and finds its broker in the same way.

#![forbid(unsafe_code)]

mod authority;
mod broker;
mod container;
mod engine;
mod fleet;
mod greeting;
#[cfg(feature = "kafka")]
mod kafka;
mod log;
mod member;
mod operator;
mod origin;
mod outside;
mod patience;
mod ports;
mod proxy;
mod record;
mod run;
mod server;
mod witness;
mod workload;

pub use authority::{Authority, Identity};
pub use broker::Broker;
pub use fleet::{Fleet, Post};
#[cfg(feature = "kafka")]
pub use kafka::{Kafka, KafkaBroker, KafkaOutside, Node, Stored};
pub use member::{Begun, Member, Publisher, RawTopic, envelope};
pub use operator::Operator;
pub use origin::Origin;
pub use outside::Outside;
pub use patience::{PATIENCE, until, until_within};
pub use proxy::{Fault, Proxy};
pub use record::Record;
pub use run::say;
pub use server::{Access, Nats, Store};
pub use witness::{MISHAPS, Manner, Mishaps, PANIC};
pub use workload::{Load, Quota};
