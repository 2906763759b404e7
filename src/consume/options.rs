//! What one subscription was asked for.

use crate::backend::{Foreign, StartAt};
use crate::error::SubscribeError;
use crate::middleware::concurrency::Concurrency;
use crate::middleware::dead_letter::OnFailure;
use crate::middleware::retry::Retry;
#[cfg(feature = "throttle")]
use crate::middleware::throttle::Throttle;
use crate::middleware::trace::Trace;
use crate::protocol::credit::Budget;
use crate::protocol::mode::Thresholds;
use std::sync::Arc;
use std::time::Duration;

/// What a subscription's handlers may run at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Deliveries of one key one after the other, keys side by side. One without a key waits for nothing and nothing
    /// waits for it.
    #[default]
    ByKey,
    /// Deliveries of one partition one after the other.
    ByPartition,
    /// All side by side.
    Unordered,
}

/// The settings of one subscription.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) order: Order,
    pub(crate) concurrency: usize,
    pub(crate) in_flight: Budget,
    pub(crate) lanes_max: usize,
    pub(crate) retry: Retry,
    pub(crate) on_failure: OnFailure,
    pub(crate) timeout: Option<Duration>,
    pub(crate) start: StartAt,
    /// What is read in the place of a topic.
    pub(crate) foreign: Option<Foreign>,
    pub(crate) held: bool,
    pub(crate) dedup: Option<usize>,
    pub(crate) confirm: bool,
    pub(crate) recovery: Option<Recovery>,
    pub(crate) shared: Option<Concurrency>,
    pub(crate) trace: Option<Trace>,
    #[cfg(feature = "throttle")]
    pub(crate) throttle: Option<Throttle>,
    #[cfg(feature = "throttle")]
    pub(crate) throttle_by_key: Option<Throttle>,
}

/// What a subscription does about being far behind: above one threshold it enters recovery, below another, once that has
/// lasted, it leaves. Order by key never depends on it.
///
/// It says so in [`Delivery::recovery`](crate::Delivery), in its status, in the metrics and as
/// [`BusEvent::RecoveryEntered`](crate::BusEvent::RecoveryEntered) and `RecoveryLeft`.
#[derive(Clone, Debug)]
pub struct Recovery {
    pub(crate) thresholds: Thresholds,
    pub(crate) processing_rate: Option<f64>,
    pub(crate) concurrency: Option<usize>,
    pub(crate) look_every: Duration,
}

impl Recovery {
    /// Enters when the lag is `enter_above` envelopes or more; leaves when it is `leave_below` or less and has been for ten seconds.
    ///
    /// # Panics
    ///
    /// When `leave_below` is not less than `enter_above`.
    pub fn new(enter_above: u64, leave_below: u64) -> Self {
        assert!(
            leave_below < enter_above,
            "recovery is left below where it is entered: {leave_below} is not less than {enter_above}"
        );
        Self {
            thresholds: Thresholds {
                enter_above,
                leave_below,
                hold: 10_000,
            },
            processing_rate: None,
            concurrency: None,
            look_every: Duration::from_secs(1),
        }
    }

    /// How long the lag must stay low before recovery is left.
    pub fn hold(mut self, hold: Duration) -> Self {
        self.thresholds.hold = hold.as_millis().try_into().unwrap_or(u64::MAX);
        self
    }

    /// How often the lag is looked at: every second, unless this says something else.
    pub fn look_every(mut self, every: Duration) -> Self {
        self.look_every = every.max(Duration::from_millis(1));
        self
    }

    /// At most so many deliveries a second while in recovery.
    pub fn processing_rate(mut self, deliveries_per_second: f64) -> Self {
        self.processing_rate = Some(deliveries_per_second.max(f64::MIN_POSITIVE));
        self
    }

    /// At most so many handlers at the same time while in recovery.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.concurrency = Some(handlers.max(1));
        self
    }
}

/// Deliveries of a partition that are counted behind one that is not settled, for each that may be in flight ...
const WINDOW_PER_DELIVERY: usize = 16;
/// ... up to this many; or as many as may be in flight, if that is more. Each costs a word.
const WINDOW_MAX: usize = 1 << 16;
/// More workers than this are no workers any more.
const CONCURRENCY_MAX: usize = 4096;
const IN_FLIGHT_MAX: u64 = 1 << 20;

impl Default for Options {
    fn default() -> Self {
        Self {
            order: Order::ByKey,
            concurrency: 16,
            in_flight: Budget {
                envelopes: 1024,
                bytes: 64 << 20,
            },
            lanes_max: 1024,
            retry: Retry::new(),
            on_failure: OnFailure::Block,
            timeout: None,
            start: StartAt::Earliest,
            foreign: None,
            held: false,
            dedup: None,
            confirm: false,
            recovery: None,
            shared: None,
            trace: None,
            #[cfg(feature = "throttle")]
            throttle: None,
            #[cfg(feature = "throttle")]
            throttle_by_key: None,
        }
    }
}

impl Options {
    /// Refuses what cannot be meant.
    pub(crate) fn check(&self, topic: &Arc<str>) -> Result<(), SubscribeError> {
        let wrong = |setting: &'static str, reason: String| {
            Err(SubscribeError::Config {
                topic: topic.clone(),
                setting,
                reason: reason.into(),
            })
        };
        if !(1..=CONCURRENCY_MAX).contains(&self.concurrency) {
            let reason = format!("{} is not from 1 to {CONCURRENCY_MAX}", self.concurrency);
            return wrong("concurrency", reason);
        }
        if !(1..=IN_FLIGHT_MAX).contains(&self.in_flight.envelopes) {
            let reason = format!(
                "{} is not from 1 to {IN_FLIGHT_MAX}",
                self.in_flight.envelopes
            );
            return wrong("in_flight", reason);
        }
        if self.in_flight.bytes == 0 {
            return wrong("in_flight", "no byte may be in flight".into());
        }
        if self.lanes_max == 0 {
            return wrong("lanes_max", "there is no lane".into());
        }
        if self.timeout.is_some_and(|limit| limit.is_zero()) {
            return wrong("timeout", "no handler ends in no time".into());
        }
        match &self.on_failure {
            OnFailure::DeadLetter(letters) if letters.topic == *topic => wrong(
                "on_failure",
                "the dead letters of a topic cannot go to itself".into(),
            ),
            OnFailure::Block if self.retry.has_an_end() => wrong(
                "retry",
                "attempts_max and deliveries_max need something to do afterwards: give on_failure dead letters, or Skip".into(),
            ),
            _ => Ok(()),
        }
    }

    pub(super) fn slots(&self) -> usize {
        self.in_flight.envelopes as usize
    }

    pub(super) fn lanes(&self) -> usize {
        self.lanes_max
    }

    pub(super) fn window(&self) -> usize {
        let window = WINDOW_MAX.min(self.slots() * WINDOW_PER_DELIVERY);
        window.max(self.slots())
    }
}
