//! The bounds and timeouts of a bus.

use crate::backlog::Backlog;
use crate::protocol::credit::Budget;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use std::time::Duration;

/// What a bus was built with.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) in_flight: Budget,
    pub(crate) receipts_max: usize,
    pub(crate) topics_max: usize,
    pub(crate) ensure_timeout: Duration,
    pub(crate) reconnect_delay_min: Duration,
    pub(crate) reconnect_delay_max: Duration,
    pub(crate) backlog: Option<Backlog>,
}

impl Settings {
    /// Pauses between attempts at what a broker does not let be: each longer than the one before, up to the longest, and spread, so that not
    /// all that wait come back in the same moment. They do not end.
    pub(crate) fn pauses(&self, seed: u64) -> ExponentialBackoff {
        ExponentialBuilder::default()
            .with_min_delay(self.reconnect_delay_min)
            .with_max_delay(self.reconnect_delay_max)
            .without_max_times()
            .with_jitter()
            .with_jitter_seed(seed)
            .build()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            in_flight: Budget {
                envelopes: 4096,
                bytes: 64 << 20,
            },
            receipts_max: 8192,
            topics_max: 10_000,
            ensure_timeout: Duration::from_secs(10),
            reconnect_delay_min: Duration::from_millis(50),
            reconnect_delay_max: Duration::from_secs(5),
            backlog: None,
        }
    }
}
