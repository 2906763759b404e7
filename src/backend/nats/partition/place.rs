//! Place: where a partition's durable would have to begin, if it were gone now.

use super::super::durable::{Begin, Standing};
use super::{CALM, Pace, Partition, Phase};
use std::time::Duration;

impl Partition {
    /// Where to begin, if the durable were gone, by what the server says.
    pub(super) fn note_left(&mut self, standing: &Standing) {
        let here = self.ours();
        self.left = match standing.unanswered > here {
            true => standing.floor + 1,
            false => u64::MAX,
        };
        // The partition is another's: how far that one is, is how far the group is.
        if self.phase == Phase::Probe && here == 0 {
            self.next = standing.floor + 1;
        }
    }

    /// Whether it is time to see whether somebody has changed the durable.
    pub(in super::super) fn is_to_be_watched(&self, now: Duration, pace: &Pace) -> bool {
        !matches!(self.phase, Phase::Broken { .. }) && now >= self.watched + pace.watch
    }

    /// The server was asked.
    pub(in super::super) fn watches(&mut self, now: Duration) {
        self.watched = now;
    }

    /// The server has said how the durable stands, and that it is as it must be.
    pub(in super::super) fn on_watched(&mut self, standing: &Standing) {
        if matches!(self.phase, Phase::Probe | Phase::Open) {
            self.note_left(standing);
        }
        // Whoever was to get it did not take it.
        let waits = standing.waits > 0 || standing.unanswered > 0;
        self.is_needed = self.phase == Phase::Probe && standing.pin.is_none() && waits;
    }

    /// The server has given up `sequence`: it must come again, whatever is behind it. The durable is made anew, a moment later: others
    /// are given up with it. Says whether this is the first.
    pub(in super::super) fn on_given_up(
        &mut self,
        sequence: u64,
        what: &str,
        now: Duration,
    ) -> bool {
        self.next = self.next.min(sequence);
        if std::mem::replace(&mut self.is_to_be_replaced, true) {
            return false;
        }
        let _ = self.break_down(what, now + CALM);
        true
    }

    /// Where a durable made anew has to begin in the stream that was made at `born`. All there is in
    /// another stream is new to the group.
    pub(in super::super) fn resume_at(&self, born: &str) -> Begin {
        if self.born != born {
            return Begin::First;
        }
        let first = |sequence: Option<u64>| sequence.unwrap_or(u64::MAX);
        let at = first(self.out.first())
            .min(first(self.ready.first()))
            .min(first(self.confirming.keys().next().copied()))
            .min(self.left)
            .min(self.next);
        Begin::At(at)
    }

    /// The durable was made again, in the stream that was made at `born`.
    pub(in super::super) fn made_again(&mut self, born: String) {
        if let Begin::At(sequence) = self.resume_at(&born) {
            self.next = sequence;
        } else {
            self.next = 1;
        }
        self.born = born;
    }
}
