//! Pauses: how long a subscription waits before it asks for another consumer in the place of one that failed.
//!
//! A refusal for good is asked about less and less often: each attempt may cost all members of a group a rebalance. A connection that is down
//! is another's to wait for, longer and longer; who waits for it here is there when it is back.

use crate::error::{FailureKind, SubscribeError};
use crate::settings::Settings;
use backon::ExponentialBackoff;
use std::time::Duration;

/// While there is no connection.
const DISCONNECTED: Duration = Duration::from_millis(100);

pub(super) struct Pauses {
    settings: Settings,
    seed: u64,
    /// Since something was delivered last.
    growing: Option<ExponentialBackoff>,
}

impl Pauses {
    pub(super) fn new(settings: &Settings, seed: u64) -> Self {
        Self {
            settings: settings.clone(),
            seed,
            growing: None,
        }
    }

    /// After a failure of this kind.
    pub(super) fn after(&mut self, kind: FailureKind) -> Duration {
        if kind == FailureKind::Disconnected {
            return DISCONNECTED;
        }
        let make = || self.settings.pauses(self.seed);
        let next = self.growing.get_or_insert_with(make).next();
        next.unwrap_or(self.settings.reconnect_delay_max)
    }

    /// Something was delivered: what was refused is not refused any more.
    pub(super) fn begin_anew(&mut self) {
        self.growing = None;
    }
}

/// What kept a consumer from coming to be.
pub(super) fn kind_of(error: SubscribeError) -> FailureKind {
    match error {
        SubscribeError::Failed { failure, .. } => failure.kind(),
        SubscribeError::Topic(error) => error.into_failure().kind(),
        SubscribeError::Closed => FailureKind::Closed,
        SubscribeError::Unsupported(_) => FailureKind::Unsupported,
        _ => FailureKind::Mismatch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_asked_about_less_and_less_often_until_something_comes() {
        let settings = Settings::default();
        let mut pauses = Pauses::new(&settings, 1);
        let first = pauses.after(FailureKind::Unauthorized);
        let told: Vec<_> = (0..20)
            .map(|_| pauses.after(FailureKind::Unauthorized))
            .collect();
        assert!(first < 3 * settings.reconnect_delay_min, "{first:?}");
        let (tenth, last) = (told[9], told[19]);
        assert!(tenth >= settings.reconnect_delay_max, "{told:?}");
        assert!(last <= 2 * settings.reconnect_delay_max, "{told:?}");
        pauses.begin_anew();
        assert_eq!(pauses.after(FailureKind::Unauthorized), first);
    }

    #[test]
    fn a_connection_that_is_down_is_waited_for_evenly() {
        let mut pauses = Pauses::new(&Settings::default(), 1);
        for _ in 0..20 {
            let pause = pauses.after(FailureKind::Disconnected);
            assert_eq!(pause, DISCONNECTED);
        }
    }
}
