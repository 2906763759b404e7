//! Speaking for what waits: a delivery that is ready and that no handler has is not forgotten, and the server must know.

use super::{Fetched, Pace, Partition};
use async_nats::Subject;
use std::time::Duration;

impl Partition {
    pub(super) fn hold_ready(&mut self, sequence: u64, mut fetched: Fetched, now: Duration) {
        if self.ready.is_empty() {
            self.spoken_for = now;
        }
        // Nobody has tried it in between: it was here.
        if let Some(known) = self.ready.get(sequence) {
            fetched.attempt = fetched.attempt.min(known.attempt);
        }
        self.ready.insert(sequence, fetched);
    }

    /// The deliveries that wait here for a handler, when the server must be told so again before it makes them anew.
    pub(in super::super) fn to_speak_for(&self, now: Duration, pace: &Pace) -> Vec<Subject> {
        let soon = self.spoken_for + pace.ack_wait / 3;
        if self.ready.is_empty() || now < soon {
            return Vec::new();
        }
        let replies = self.ready.iter().map(|(_, fetched)| fetched.reply.clone());
        replies.collect()
    }

    /// The server was told.
    pub(in super::super) fn spoke_for(&mut self, now: Duration) {
        self.spoken_for = now;
    }
}
