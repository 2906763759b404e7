//! Jobs on as many threads as the machine has cores, and a line that says what is going on.

use std::io::{IsTerminal, Write, stderr};
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

/// Without a terminal, what is going on is said only so often.
const SECONDS_BETWEEN_LINES: u64 = 15;

/// Says what is being done: on a terminal one line that changes, elsewhere a line for each step
/// and now and then one for what is going on.
pub struct Progress {
    started: Instant,
    live: bool,
    quiet: bool,
    /// When the last line was printed, in seconds since the start.
    line: Mutex<u64>,
}

impl Progress {
    /// To the terminal, if there is one.
    pub fn new() -> Self {
        let live = stderr().is_terminal();
        Self {
            started: Instant::now(),
            live,
            quiet: false,
            line: Mutex::new(0),
        }
    }

    /// Says nothing.
    pub fn quiet() -> Self {
        Self {
            quiet: true,
            ..Self::new()
        }
    }

    /// A new step begins.
    pub fn step(&self, what: &str) {
        self.print(
            &format!("{:>5.0} s  {what}", self.started.elapsed().as_secs_f64()),
            true,
        );
    }

    /// Within a step: `what` is going on now.
    pub fn now(&self, what: &str) {
        let seconds = self.started.elapsed().as_secs();
        let last = *self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if self.live || seconds >= last + SECONDS_BETWEEN_LINES {
            self.print(&format!("{seconds:>5} s  {what}"), false);
        }
    }

    /// Takes the changing line away.
    pub fn clear(&self) {
        if self.live {
            self.print("", false);
        }
    }

    fn print(&self, text: &str, stays: bool) {
        if self.quiet {
            return;
        }
        let mut last = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        *last = self.started.elapsed().as_secs();
        let text: String = text
            .chars()
            .take(if self.live { 110 } else { usize::MAX })
            .collect();
        let text = match (self.live, stays) {
            (true, true) => format!("\r\x1b[K{text}\n"),
            (true, false) => format!("\r\x1b[K{text}"),
            (false, _) => format!("{text}\n"),
        };
        // A terminal that is gone is no reason to stop.
        _ = stderr().write_all(text.as_bytes());
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

/// How many jobs run at a time.
pub fn workers() -> usize {
    thread::available_parallelism().map_or(2, NonZero::get)
}

/// Does `jobs`, one on each core at a time, and gives the results in the order of the jobs.
pub fn all<J: Sync, R: Send>(
    jobs: &[J],
    progress: &Progress,
    name: impl Fn(&J) -> String + Sync,
    work: impl Fn(&J) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<R>>> = Mutex::new(jobs.iter().map(|_| None).collect());
    thread::scope(|scope| {
        for _ in 0..workers().min(jobs.len()) {
            scope.spawn(|| {
                // Relaxed: hands out numbers; the results are under the lock.
                while let at = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(job) = jobs.get(at)
                {
                    progress.now(&format!("{:>4} of {}  {}", at + 1, jobs.len(), name(job)));
                    let result = work(job);
                    results.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(result);
                }
            });
        }
    });
    progress.clear();
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        let jobs: Vec<u64> = (0..100).collect();
        let results = all(&jobs, &Progress::quiet(), u64::to_string, |job| job * 2);
        assert_eq!(results, (0..100).map(|job| job * 2).collect::<Vec<_>>());
    }
}
