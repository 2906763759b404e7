//! Lease: until when what was taken is surely ours.
//!
//! A broker that gives the partitions of a silent member to another does not wait for its handlers. A process that stood still for
//! longer than that, or could not reach its broker, must not begin where it was: what it has queued may be at work elsewhere. So no
//! handler begins after the lease is over, until the intake, which hears the broker, has noted a later end, or has retired what is
//! not ours any more.

use crate::protocol::sync::Noted;
use std::time::Duration;

/// See the module. Workers look at it, the intake notes it.
#[derive(Default)]
pub(super) struct Lease(Noted);

/// What needs no lease.
const ENDLESS: u64 = u64::MAX;

impl Lease {
    /// Notes its end on the runtime's clock; `None`: it has none.
    pub(super) fn note(&self, until: Option<Duration>) {
        let nanos = |until: Duration| u64::try_from(until.as_nanos()).unwrap_or(ENDLESS);
        self.0.set(until.map_or(ENDLESS, nanos));
    }

    /// Whether it is over. An older end that is seen here is an earlier one: whoever sees it looks again.
    pub(super) fn is_over(&self, now: impl FnOnce() -> Duration) -> bool {
        let until = self.0.get();
        until != ENDLESS && now() >= Duration::from_nanos(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_at_its_end_and_not_before_and_without_an_end_never() {
        let lease = Lease::default();
        let at = Duration::from_secs;
        lease.note(Some(at(5)));
        assert!(!lease.is_over(|| at(4)) && lease.is_over(|| at(5)) && lease.is_over(|| at(9)));
        lease.note(Some(at(10)));
        assert!(!lease.is_over(|| at(9)));
        lease.note(None);
        assert!(!lease.is_over(|| unreachable!("nobody looks at the clock")));
    }
}
