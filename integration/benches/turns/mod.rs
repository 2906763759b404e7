//! What the benches against a broker share: the figures of a round, sides that take turns, and the ids that both sides give.

#![allow(dead_code, reason = "every bench takes what it needs")]

use crate::common::{median, process_cpu_now};
use crate::weather;
use anyhow::Result;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// More than this share of the machine used by others, and the rows are held against nothing.
pub(crate) const BUSY_MAX: f64 = 0.15;

/// What a round of one side came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Envelopes.
    pub(crate) per_second: f64,
    /// CPU time of this process, all threads, for one envelope.
    pub(crate) cpu_nanos: f64,
}

/// A moment, on the clock and in CPU time of this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) at: Instant,
    cpu: Duration,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self {
            at: Instant::now(),
            cpu: process_cpu_now(),
        }
    }

    /// What `count` envelopes took from `self` to `end`.
    pub(crate) fn until(self, end: Self, count: usize) -> Figures {
        Figures {
            per_second: count as f64 / (end.at - self.at).as_secs_f64(),
            cpu_nanos: (end.cpu - self.cpu).as_nanos() as f64 / count as f64,
        }
    }
}

/// What each of some sides came to, round by round.
pub(crate) struct Rounds<T, const N: usize>(pub(crate) [Vec<T>; N]);

impl<T, const N: usize> Rounds<T, N> {
    /// The sides in turns. Another one begins each time: whoever comes after a busy server has it harder. How
    /// busy others keep the machine is noted in `others`.
    pub(crate) async fn of<S: Copy>(
        sides: [S; N],
        rounds: usize,
        others: &mut Vec<f64>,
        round: impl AsyncFn(S) -> Result<T>,
    ) -> Result<Self> {
        let mut all = [const { Vec::new() }; N];
        for number in 0..rounds {
            for at in (0..N).map(|n| (n + number) % N) {
                others.push(weather::busy().await);
                all[at].push(round(sides[at]).await?);
            }
        }
        Ok(Self(all))
    }

    /// The median of a figure, for each side.
    pub(crate) fn each(&self, figure: impl Fn(&T) -> f64) -> [f64; N] {
        self.0
            .each_ref()
            .map(|of_side| median(of_side.iter().map(&figure).collect()))
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_millis() as u64
}

/// An id of the kind that the bus gives an envelope, drawn in the same way.
pub(crate) fn id(unix_ms: u64) -> Uuid {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&fastrand::u64(..).to_le_bytes());
    random[8..].copy_from_slice(&fastrand::u64(..).to_le_bytes()[..2]);
    uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid()
}
