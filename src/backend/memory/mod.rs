//! Memory: a broker in the process. The embedded default, and the test double.
//!
//! It keeps the promises of a real one: partitions, groups, positions, acknowledgements, redelivery,
//! rebalance, bounds. What it cannot do (survive the process, replicate) it refuses. Its [`Faults`]
//! make it misbehave as real brokers do.
//!
//! Publishing is as with a real broker: the envelope goes into the connection's queue, without a
//! lock, and a task of the connection stores it and answers.

mod broker;
mod connection;
mod consumer;
mod faults;
mod group;
mod log;

use super::{Backend, Capabilities, Host, check_capabilities};
use crate::config::{Durability, TopicConfig};
use crate::error::{ConfigureError, ConnectError, Failure, FailureKind};
use broker::Broker;
use std::sync::Arc;
use std::time::Duration;

pub use connection::{MemoryConnection, MemoryRoute};
pub use consumer::{MemoryConsumer, MemoryToken};
pub use faults::Faults;

const NAME: &str = "memory";

/// A broker in the process. Clones are the same broker: give them to several buses and they talk.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use clearway::{Bus, memory::Memory};
/// use std::time::Duration;
///
/// let broker = Memory::new();
/// let bus = Bus::builder().backend(broker.clone()).connect().await?;
/// broker.faults().answer_after(Duration::from_millis(5));
/// bus.publish("orders", "one").await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Memory {
    broker: Arc<Broker>,
    answer_timeout: Duration,
}

impl Memory {
    /// An empty broker.
    pub fn new() -> Self {
        Self {
            broker: Arc::new(Broker::new()),
            answer_timeout: Duration::from_secs(10),
        }
    }

    /// How long a publish may be without an answer before its outcome is said to be unknown (10 s).
    pub fn answer_timeout(mut self, limit: Duration) -> Self {
        self.answer_timeout = limit;
        self
    }

    /// Ways to make this broker misbehave.
    pub fn faults(&self) -> Faults {
        Faults::new(self.broker.clone())
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for Memory {
    type Connection = MemoryConnection;

    fn name(&self) -> &'static str {
        NAME
    }

    fn endpoint(&self) -> String {
        "memory://".into()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            durability_max: Durability::Volatile,
            partitions: true,
            replicas: false,
            dedup_window: None,
            key_order_across_members: true,
            foreign: false,
            delayed_nack: true,
            counts_deliveries: true,
            settles_each: true,
            size_max: None,
        }
    }

    fn check_topic(&self, config: &TopicConfig) -> Result<(), ConfigureError> {
        check_capabilities(NAME, &self.capabilities(), config)
    }

    async fn connect(
        &self,
        host: Arc<dyn Host>,
        generation: u64,
    ) -> Result<MemoryConnection, ConnectError> {
        if self.broker.lock().refuses_connections {
            return Err(ConnectError::Unreachable {
                endpoint: self.endpoint(),
                limit: Duration::ZERO,
                failure: Failure::new(FailureKind::Disconnected, "the broker refuses connections"),
            });
        }
        Ok(MemoryConnection::start(
            self.broker.clone(),
            host,
            generation,
            self.answer_timeout,
        ))
    }
}
