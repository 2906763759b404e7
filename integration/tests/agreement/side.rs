//! One side of a comparison: a broker, the processes that talk to it, and somebody who reaches past the bus. It does nothing by itself.

use clearway::{BackendChoice, Bus, ConnectError, Runtime, TopicConfig};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// The largest envelope of the topic.
pub(crate) const SIZE_LIMIT: usize = 4000;

/// Takes away a topic, as somebody else would. Says whether it was there.
pub(crate) type Delete = Box<dyn Fn(String) -> Pin<Box<dyn Future<Output = anyhow::Result<bool>>>>>;

/// See the module.
pub(crate) struct Side {
    /// What the test waits by.
    pub(crate) clock: Arc<dyn Runtime>,
    pub(crate) processes: Vec<Process>,
    /// Of every name, so that nobody else has it.
    pub(crate) prefix: String,
    pub(crate) delete: Delete,
    /// The status of a subscription lists the partitions that it has, and no other: so it is seen when a group has shared them.
    pub(crate) shows_shares: bool,
}

/// What a bus runs in, and what it connects by.
pub(crate) struct Process {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) backend: Box<dyn Fn() -> BackendChoice>,
}

impl Side {
    /// The topic.
    pub(crate) fn home(&self) -> String {
        format!("{}-orders", self.prefix)
    }

    /// That of the dead letters.
    pub(crate) fn dead(&self) -> String {
        format!("{}-dead", self.prefix)
    }

    /// A group's name: on Kafka a group is not one of a topic.
    pub(crate) fn group(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// A bus in that process. Both topics are declared: what one member does not know, it cannot give up.
    pub(crate) async fn connect(
        &self,
        member: usize,
        partitions: u32,
    ) -> Result<Bus, ConnectError> {
        let process = &self.processes[member];
        let home = TopicConfig::new(self.home()).partitions(partitions);
        Bus::builder()
            .backend((process.backend)())
            .runtime(process.runtime.clone())
            .reconnect_delay(Duration::from_millis(20), Duration::from_millis(200))
            .topic(home.size_limit(SIZE_LIMIT))
            .topic(TopicConfig::new(self.dead()).partitions(1))
            .connect()
            .await
    }
}
