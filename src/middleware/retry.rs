//! Retry: how long a delivery that failed waits for its next attempt, and how often there is one.

use backon::{BackoffBuilder, ExponentialBuilder};
use std::time::Duration;

/// What is done about a delivery that failed: it is handled again, after a pause that doubles each time.
///
/// It keeps its place in its lane: its key waits, the others go on, and the worker is free meanwhile. Without
/// [`attempts_max`](Self::attempts_max) it is tried until it succeeds.
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
}

/// Beyond this many doublings every delay is the longest.
const DOUBLINGS_MAX: usize = 64;

impl Retry {
    /// Pauses from 50 ms to 10 s, without an end.
    pub fn new() -> Self {
        Self {
            delay_min: Duration::from_millis(50),
            delay_max: Duration::from_secs(10),
            attempts_max: None,
        }
    }

    /// The first pause and the longest. To each a random part of the first is added; none is longer than
    /// the longest.
    pub fn delays(mut self, min: Duration, max: Duration) -> Self {
        (self.delay_min, self.delay_max) = (min, max.max(min));
        self
    }

    /// After so many attempts it is given up, and the subscription's [`OnFailure`](crate::OnFailure) decides. At least 1.
    pub fn attempts_max(mut self, attempts: u32) -> Self {
        self.attempts_max = Some(attempts.max(1));
        self
    }

    /// The pause after the `failures`th failure, or `None` when that was the last attempt.
    pub(crate) fn delay(&self, failures: u32, random: u64) -> Option<Duration> {
        if self.attempts_max.is_some_and(|max| failures >= max) {
            return None;
        }
        Some(self.pause(failures, random))
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
        self.attempts_max.is_some()
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
        let delays: Vec<_> = (1..=6).map(|failures| retry.delay(failures, 0)).collect();
        let in_ms = |delay: &Option<Duration>| delay.map(|delay| delay.as_millis());
        let doubled = [100, 200, 400, 800, 1_000].map(Some);
        assert_eq!(delays[..5].iter().map(in_ms).collect::<Vec<_>>(), doubled);
        assert_eq!(delays[5], None);
        assert_eq!(retry.delay(1, u64::MAX), Some(ms(200)));
        assert_eq!(
            Retry::new().delay(u32::MAX, 0),
            Some(Duration::from_secs(10))
        );
    }
}
