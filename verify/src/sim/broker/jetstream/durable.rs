//! A durable: how far one group is in one partition, and to whom it is pinned. Like the server's: it hands out what has to come again before
//! what is new, counts how often, and takes back what is not answered in time.

use std::collections::BTreeMap;
use std::time::Duration;

/// A delivery that is not answered for so long comes again.
pub(super) const ACK_WAIT: Duration = Duration::from_secs(5);

/// As many may be out and unanswered.
pub(super) const ACK_PENDING_MAX: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Durable {
    /// The member that alone gets deliveries.
    pub(super) pin: Option<u64>,
    /// Counts the pins of all durables: no two owners have the same.
    pub(super) epoch: u64,
    /// The pinned member was asked to give it up.
    pub(super) is_asked_back: bool,
    /// As many deliveries the pinned member waits for.
    pub(super) credit: usize,
    /// The first sequence that was never handed out.
    next: u64,
    /// Handed out and not answered: how often so far, and until when it may be answered.
    pending: BTreeMap<u64, (u32, Duration)>,
    /// To come again: how often it has been handed out, and not before when.
    again: BTreeMap<u64, (u32, Duration)>,
}

impl Durable {
    pub(super) fn new(next: u64) -> Self {
        Self {
            pin: None,
            epoch: 0,
            is_asked_back: false,
            credit: 0,
            next,
            pending: BTreeMap::new(),
            again: BTreeMap::new(),
        }
    }

    /// Pins it to `member`. What was out comes again first, in order, whatever delays were asked for.
    pub(super) fn give(&mut self, member: Option<u64>, epoch: u64) {
        self.pin = member;
        self.epoch = epoch;
        self.is_asked_back = false;
        self.credit = 0;
        let pending = std::mem::take(&mut self.pending);
        self.again.extend(
            pending
                .into_iter()
                .map(|(sequence, (times, _))| (sequence, (times, Duration::ZERO))),
        );
        for (_, due) in self.again.values_mut() {
            *due = Duration::ZERO;
        }
    }

    /// The next to hand out, of the partition's `sequences`, and for the how-manieth time.
    pub(super) fn take(&mut self, sequences: &[u64], now: Duration) -> Option<(u64, u32)> {
        if self.credit == 0 || self.pending.len() >= ACK_PENDING_MAX {
            return None;
        }
        let due = self.again.iter().find(|(_, (_, due))| *due <= now);
        let (sequence, times) = match due.map(|(sequence, (times, _))| (*sequence, *times)) {
            Some((sequence, times)) => {
                self.again.remove(&sequence);
                (sequence, times)
            }
            None => {
                let at = sequences.partition_point(|sequence| *sequence < self.next);
                let sequence = *sequences.get(at)?;
                self.next = sequence + 1;
                (sequence, 0)
            }
        };
        self.credit -= 1;
        self.pending.insert(sequence, (times + 1, now + ACK_WAIT));
        Some((sequence, times + 1))
    }

    /// Done. Says whether it was waited for.
    pub(super) fn ack(&mut self, sequence: u64) -> bool {
        self.pending.remove(&sequence).is_some() || self.again.remove(&sequence).is_some()
    }

    /// Not done.
    pub(super) fn nack(&mut self, sequence: u64, due: Duration) {
        if let Some((times, _)) = self.pending.remove(&sequence) {
            self.again.insert(sequence, (times, due));
        }
    }

    /// Still at work.
    pub(super) fn in_progress(&mut self, sequence: u64, now: Duration) {
        if let Some((_, due)) = self.pending.get_mut(&sequence) {
            *due = now + ACK_WAIT;
        }
    }

    /// Takes back what was not answered in time. Says how many.
    pub(super) fn take_back(&mut self, now: Duration) -> usize {
        let late = |(sequence, (times, due)): (&u64, &(u32, Duration))| {
            (*due <= now).then_some((*sequence, *times))
        };
        let late: Vec<_> = self.pending.iter().filter_map(late).collect();
        for (sequence, times) in &late {
            self.pending.remove(sequence);
            self.again.insert(*sequence, (*times, Duration::ZERO));
        }
        late.len()
    }

    /// Hands one out once more though its time is not up. For the how-manieth time?
    pub(super) fn repeat(&mut self, sequence: u64, now: Duration) -> Option<u32> {
        let (times, due) = self.pending.get_mut(&sequence)?;
        *times += 1;
        *due = now + ACK_WAIT;
        Some(*times)
    }

    /// A sequence that is out, if there is one.
    pub(super) fn some_pending(&self, turn: u64) -> Option<u64> {
        let at = turn.checked_rem(self.pending.len() as u64)?;
        self.pending.keys().nth(at as usize).copied()
    }

    /// What is not done, of the partition's `sequences`.
    pub(super) fn lag(&self, sequences: &[u64]) -> u64 {
        let at = sequences.partition_point(|sequence| *sequence < self.next);
        (sequences.len() - at + self.pending.len() + self.again.len()) as u64
    }

    /// The stream has lost everything from `sequence` on.
    pub(super) fn forget_from(&mut self, sequence: u64) {
        self.next = self.next.min(sequence);
        self.pending.split_off(&sequence);
        self.again.split_off(&sequence);
    }
}
