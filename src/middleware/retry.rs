//! Retry: how long a delivery that failed waits for its next attempt, and how often there is one.

use backon::{BackoffBuilder, ExponentialBuilder};
use std::time::Duration;

/// What is done about a delivery that failed: it is handled again, after a pause that doubles each time.
///
/// It keeps its place in its lane: its key waits, the others go on, and the worker is free meanwhile. Without
/// [`attempts_max`](Self::attempts_max) it is tried until it succeeds.
///
/// # What counts as an attempt
///
/// Every failure here, and every time that the broker has delivered it without an answer: to a process that crashed, to a
/// subscription that was cut off. So an envelope that kills its process, each time, ends in the dead letters as well: it has come
/// more often than [`deliveries_max`](Self::deliveries_max), and the handler is not called again.
///
/// A broker counts what it delivered, not what a handler began: all that was in flight beside the one that killed the process
/// counts one more, too. Therefore a subscription gives up only one envelope in this way, the first that has come too often,
/// and tries the others on. If it was one of them, the next process gives that up.
///
/// ```
/// use clearway::Retry;
/// use std::time::Duration;
///
/// let retry = Retry::new()
///     .delays(Duration::from_millis(100), Duration::from_secs(30))
///     .attempts_max(5);
/// # let _ = retry;
/// ```
#[derive(Clone, Debug)]
pub struct Retry {
    delay_min: Duration,
    delay_max: Duration,
    attempts_max: Option<u32>,
    deliveries_max: Option<u32>,
}

/// As often an envelope may be delivered, at least, before it is given up without its handler: each restart of a process
/// delivers anew what it had not come to.
const DELIVERIES_LEAST: u32 = 5;

/// Beyond this many doublings every delay is the longest.
const DOUBLINGS_MAX: usize = 64;

impl Retry {
    /// Pauses from 50 ms to 10 s, without an end.
    pub fn new() -> Self {
        Self {
            delay_min: Duration::from_millis(50),
            delay_max: Duration::from_secs(10),
            attempts_max: None,
            deliveries_max: None,
        }
    }

    /// The first pause and the longest. To each a random part of the first is added; none is longer than
    /// the longest.
    pub fn delays(mut self, min: Duration, max: Duration) -> Self {
        (self.delay_min, self.delay_max) = (min, max.max(min));
        self
    }

    /// When it fails at the so many'th attempt, or later, it is given up, and the subscription's [`OnFailure`](crate::OnFailure)
    /// decides. At least 1.
    pub fn attempts_max(mut self, attempts: u32) -> Self {
        self.attempts_max = Some(attempts.max(1));
        self
    }

    /// When the broker has delivered it more often than this, and nobody has answered, it is given up without calling the handler,
    /// and the subscription's [`OnFailure`](crate::OnFailure) decides. At least 1. Without this it is what
    /// [`attempts_max`](Self::attempts_max) says, but not less than 5; without either there is no limit.
    ///
    /// ```
    /// use clearway::Retry;
    ///
    /// // Tried once; and a process may be restarted twenty times while it waits for its turn.
    /// let retry = Retry::new().attempts_max(1).deliveries_max(20);
    /// # let _ = retry;
    /// ```
    pub fn deliveries_max(mut self, deliveries: u32) -> Self {
        self.deliveries_max = Some(deliveries.max(1));
        self
    }

    /// The pause after the `failures`th failure here, at the so many'th attempt, or `None` when that was the last one.
    pub(crate) fn delay(&self, failures: u32, attempt: u32, random: u64) -> Option<Duration> {
        if self.attempts_max.is_some_and(|max| attempt >= max) {
            return None;
        }
        Some(self.pause(failures, random))
    }

    /// Whether a delivery that nobody has answered comes too often to be handled once more.
    pub(crate) fn is_too_often(&self, attempt: u32) -> bool {
        let attempts_max = self.attempts_max.map(|max| max.max(DELIVERIES_LEAST));
        (self.deliveries_max.or(attempts_max)).is_some_and(|max| attempt > max)
    }

    /// The pause after the `failures`th failure, however many attempts were asked for.
    pub(crate) fn pause(&self, failures: u32, random: u64) -> Duration {
        let mut delays = ExponentialBuilder::default()
            .with_min_delay(self.delay_min)
            .with_max_delay(self.delay_max)
            .without_max_times()
            .build();
        let doublings = (failures.max(1) as usize - 1).min(DOUBLINGS_MAX);
        let delay = delays.nth(doublings).unwrap_or(self.delay_max);
        let jitter = self.delay_min.mul_f64(random as f64 / u64::MAX as f64);
        (delay + jitter).min(self.delay_max)
    }

    pub(crate) fn has_an_end(&self) -> bool {
        self.attempts_max.is_some() || self.deliveries_max.is_some()
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_then_there_is_none() {
        let ms = Duration::from_millis;
        let retry = Retry::new().delays(ms(100), ms(1_000)).attempts_max(6);
        let delays: Vec<_> = (1..=6).map(|n| retry.delay(n, n, 0)).collect();
        let in_ms = |delay: &Option<Duration>| delay.map(|delay| delay.as_millis());
        let doubled = [100, 200, 400, 800, 1_000].map(Some);
        assert_eq!(delays[..5].iter().map(in_ms).collect::<Vec<_>>(), doubled);
        assert_eq!(delays[5], None);
        assert_eq!(retry.delay(1, 1, u64::MAX), Some(ms(200)));
        assert_eq!(
            Retry::new().delay(u32::MAX, u32::MAX, 0),
            Some(Duration::from_secs(10))
        );
        // The first failure here, and the last attempt all the same.
        assert_eq!(retry.delay(1, 5, 0), Some(ms(100)));
        assert_eq!(retry.delay(1, 6, 0), None);
    }

    #[test]
    fn what_comes_too_often_is_given_up_and_a_restart_or_four_is_not_too_often() {
        let last = |retry: Retry| (1..100).find(|attempt| retry.is_too_often(*attempt));
        assert_eq!(last(Retry::new()), None);
        assert_eq!(last(Retry::new().attempts_max(1)), Some(6));
        assert_eq!(last(Retry::new().attempts_max(7)), Some(8));
        assert_eq!(
            last(Retry::new().attempts_max(7).deliveries_max(2)),
            Some(3)
        );
        assert_eq!(last(Retry::new().deliveries_max(0)), Some(2));
    }
}
