//! Recovery: how far behind the subscription is, and how fast it may go meanwhile.

use super::options::Recovery;
use crate::protocol::mode::{Change, Kind, Mode};
use std::time::Duration;

/// The mode of one subscription, its next look at the lag, and its pace in recovery.
pub(super) struct Pace {
    recovery: Recovery,
    mode: Mode,
    look: Duration,
    not_before: Duration,
}

impl Pace {
    pub(super) fn new(recovery: Recovery) -> Self {
        Self {
            mode: Mode::new(recovery.thresholds),
            recovery,
            look: Duration::ZERO,
            not_before: Duration::ZERO,
        }
    }

    /// Whether it is far behind.
    pub(super) fn in_recovery(&self) -> bool {
        self.mode.now().kind == Kind::Recovery
    }

    /// Whether another delivery may be taken now, with so many at work.
    pub(super) fn admits(&self, at_work: usize, now: Duration) -> bool {
        !self.in_recovery()
            || (now >= self.not_before && self.recovery.concurrency.is_none_or(|max| at_work < max))
    }

    /// A delivery was taken.
    pub(super) fn took(&mut self, now: Duration) {
        if let (true, Some(rate)) = (self.in_recovery(), self.recovery.processing_rate) {
            let pause = Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::MAX);
            self.not_before = self.not_before.max(now).saturating_add(pause);
        }
    }

    /// When there is something to do.
    pub(super) fn due(&self, now: Duration) -> Duration {
        if self.in_recovery() && self.not_before > now {
            self.look.min(self.not_before)
        } else {
            self.look
        }
    }

    /// Whether the lag is to be looked at now; the next look is later.
    pub(super) fn looks(&mut self, now: Duration) -> bool {
        let looks = now >= self.look;
        if looks {
            self.look = now + self.recovery.look_every;
        }
        looks
    }

    /// The lag, as it was seen.
    pub(super) fn observe(&self, lag: u64, now: Duration) -> Option<Change> {
        let at = now.as_millis().try_into().unwrap_or(u64::MAX);
        self.mode.observe(lag, at)
    }
}
