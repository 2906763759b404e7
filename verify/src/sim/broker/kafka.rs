//! A simulated Kafka: a broker with topics, partitions and groups, and a client of it that is a backend of the bus.
//!
//! What is simulated is what a client sees of a broker, and what the bus's own Kafka backend makes of librdkafka for the stages: who has
//! which partitions, under which epoch, what is committed, and when. The stages above it are the production ones.
//!
//! | file | what |
//! |---|---|
//! | `log` | one partition: numbered appends, gaps, retention, leaders |
//! | `group` | one group's coordinator: members, generations, commits |

pub mod group;
pub mod log;
