//! A simulated Kafka: a broker with topics, partitions and groups, and a client of it that is a backend of the bus.
//!
//! What is simulated is what a client sees of a broker, and what the bus's own Kafka backend makes of librdkafka for the stages: who has
//! which partitions, under which epoch, what is committed, and when. The stages above it are the production ones.
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
