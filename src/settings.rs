//! The bounds and timeouts of a bus.

use crate::backlog::Backlog;
use crate::protocol::credit::Budget;
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
