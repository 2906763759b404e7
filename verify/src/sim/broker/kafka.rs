//! A simulated Kafka: a broker with topics, partitions and groups, and a client of it that is a backend of the bus.
//!
//! What is simulated is what a client sees of a broker, and what the bus's own Kafka backend makes of librdkafka for the stages: who has
//! which partitions, under which epoch, what is committed, and when. The stages above it are the production ones.
//!
//! Simpler than a real one: a group is one of a topic, a topic is known by a number and not by its name alone, so that one that is made again is
//! never taken for the one before, and all partitions change their leaders together. What the bus's own backend does with librdkafka is
//! not run here but `leaving` and `progress`, which decide: the rest is in the tests over librdkafka's mock broker, and over real ones.
//!
//! | file | what |
//! |---|---|
//! | `log` | one partition: numbered appends, gaps, retention, leaders |
//! | `group` | one group's coordinator: members, generations, commits |
//! | `cluster` | topics and groups together |
//! | `net` | requests and answers under way |
//! | `produce` | an idempotent producer |
//! | `member` | a consumer's client: membership, reading, commits |
//! | `consumer` | how far it is settled |
//! | `backend` | the seam |
//! | `run` | the levers of a run |
//! | `settings` | how it is set, or drawn |

mod backend;
mod cluster;
mod consumer;
pub mod group;
pub mod log;
mod member;
mod net;
mod produce;
mod run;
pub mod settings;

pub use backend::Kafka;
