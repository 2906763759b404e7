//! What most of these tests begin with.

use anyhow::Result;
use clearway::nats::{Nats, Options};
use clearway::{Bus, BusBuilder, TopicConfig};
use std::time::Duration;

/// Options that notice soon what is broken, so that a test need not wait for it.
pub(crate) fn options(url: &str) -> Result<Options> {
    Ok(Options::from_url(url)?
        .ping_interval(Duration::from_millis(500))
        .connect_timeout(Duration::from_secs(2))
        .request_timeout(Duration::from_secs(2))
        .publish_timeout(Duration::from_secs(2))
        .ack_wait(Duration::from_secs(4)))
}

/// A bus of these options that comes back soon.
pub(crate) fn bus(options: Options) -> BusBuilder {
    Bus::builder()
        .backend(Nats::new(options))
        .ensure_timeout(Duration::from_secs(30))
        .reconnect_delay(Duration::from_millis(20), Duration::from_millis(200))
}

/// Topics of so many partitions each.
pub(crate) fn topics(prefix: &str, partitions: &[u32]) -> Vec<TopicConfig> {
    let configs = partitions.iter().enumerate();
    configs
        .map(|(n, &count)| TopicConfig::new(format!("{prefix}-{n}")).partitions(count))
        .collect()
}
