//! Steer: how much is held ready for the task, and what an end of a log means beside a pause.
//!
//! A client that is paused throws away what it has fetched. An end that it told before says nothing after that: what was before the end
//! is fetched anew.

use super::{Fetched, Poller};
use rdkafka::consumer::Consumer as _;

/// As many deliveries are held ready, at most, and half of it is where a consumer that was paused goes on.
const AHEAD: usize = 1024;
/// The same in bytes.
const AHEAD_BYTES: usize = 4 << 20;

impl Poller {
    /// Pauses late and goes on early.
    pub(super) fn steer(&mut self) {
        let full = self.ahead >= AHEAD || self.ahead_bytes >= AHEAD_BYTES;
        let room = self.ahead < AHEAD / 2 && self.ahead_bytes < AHEAD_BYTES / 2;
        let ours: Vec<_> = self.owned.keys().copied().collect();
        if full && !self.paused && !ours.is_empty() {
            self.paused = true;
            // What the client had fetched is gone, and its ends with it.
            self.forget_ends();
            let _ = self.consumer.pause(&self.list(&ours));
        } else if room && self.paused {
            self.paused = false;
            let _ = self.consumer.resume(&self.list(&ours));
        }
    }

    fn forget_ends(&mut self) {
        for owned in self.owned.values_mut() {
            owned.seen_end = false;
        }
    }

    /// The log ended there, and all before was taken: a marker, or what was deleted, is nothing to wait for.
    pub(super) fn at_end(&mut self, ends: Vec<(i32, i64)>) {
        for (partition, end) in ends {
            let Some(owned) = self.owned.get_mut(&partition) else {
                continue;
            };
            if owned.seen_end && !owned.anew && owned.next.is_none_or(|next| next < end) {
                self.wire.fetched.push(Fetched::End {
                    partition: partition as u32,
                    epoch: owned.epoch,
                    seen: owned.next.map(|next| next as u64),
                    offset: end as u64,
                });
                owned.next = Some(end);
                self.wire.task.wake();
            }
        }
    }
}
