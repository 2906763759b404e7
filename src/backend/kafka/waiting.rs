//! Waiting: what was given to the client and has no report, and since when.
//!
//! A publish is settled as unknown after its time limit, and the client is *not* told: it goes on sending that message under the number that it
//! has. The client's own time limit would take the message out and number all that is behind it anew; what a broker has stored of that
//! and not acknowledged it would store once more, under the new numbers. Two of three brokers killed is all it takes.
//!
//! So the client may have messages whose publishes are over: *late* ones. When there are as many as there are slots, or some for too long,
//! everything is taken out of the client at once. Then nothing is left that could be stored twice.

use crate::backend::Slot;
use crate::backend::wheel::Wheel;
use crate::protocol::sync::Mutex;
use crossbeam_queue::SegQueue;
use std::collections::BTreeSet;
use std::time::Duration;

/// So long the client may have late messages.
const LATE_LIMIT: Duration = Duration::from_secs(60);
/// So long the reports' thread may be at something else without ending a publish early.
const SLACK: Duration = Duration::from_millis(250);

pub(super) struct Waiting {
    /// From publishers.
    told: SegQueue<Told>,
    /// The reports' thread's own.
    table: Mutex<Table>,
}

#[derive(Clone, Copy, Debug)]
enum Told {
    Given(Slot),
    NotTaken(Slot),
}

struct Table {
    limit: Duration,
    wheel: Wheel,
    /// By index.
    open: Vec<Option<Slot>>,
    /// What is over, and the client still has.
    late: BTreeSet<u64>,
    late_since: Option<Duration>,
    late_max: usize,
}

impl Waiting {
    /// For as many publishes at once, each of which may wait so long.
    pub(super) fn new(limit: Duration, slots: usize) -> Self {
        let table = Table {
            limit,
            wheel: Wheel::new(limit + SLACK),
            open: Vec::new(),
            late: BTreeSet::new(),
            late_since: None,
            late_max: slots.max(1),
        };
        Self {
            told: SegQueue::new(),
            table: Mutex::new(table),
        }
    }

    /// The client is about to get it.
    pub(super) fn given(&self, slot: Slot) {
        self.told.push(Told::Given(slot));
    }

    /// The client did not take it: the bus settles it.
    pub(super) fn not_taken(&self, slot: Slot) {
        self.told.push(Told::NotTaken(slot));
    }

    /// The client has told what became of it.
    pub(super) fn reported(&self, slot: Slot, now: Duration) {
        let mut table = self.table.lock();
        // It was given before its report came.
        self.hear(&mut table, now);
        table.forget(slot);
    }

    /// The next whose time is up. Call until `None`.
    pub(super) fn expire(&self, now: Duration) -> Option<Slot> {
        let mut table = self.table.lock();
        // Before what is new is put in: the wheel is at `now` then.
        while let Some(index) = table.wheel.expire(now) {
            if let Some(slot) = table.open[index as usize].take() {
                table.be_late(slot, now);
                return Some(slot);
            }
        }
        self.hear(&mut table, now);
        None
    }

    /// Whether the client has too much that is over, or had some for too long. Says so once.
    pub(super) fn is_too_late(&self, now: Duration) -> bool {
        let mut table = self.table.lock();
        let long = (table.late_since).is_some_and(|since| since + LATE_LIMIT <= now);
        let too_late = long || table.late.len() >= table.late_max;
        if too_late {
            table.late.clear();
            table.late_since = None;
        }
        too_late
    }

    fn hear(&self, table: &mut Table, now: Duration) {
        while let Some(told) = self.told.pop() {
            match told {
                Told::Given(slot) => table.open(slot, now),
                Told::NotTaken(slot) => table.forget(slot),
            }
        }
    }
}

impl Table {
    fn open(&mut self, slot: Slot, now: Duration) {
        let index = slot.index();
        if self.open.len() <= index {
            self.open.resize(index + 1, None);
        }
        // Somebody else has settled the one before, and the client still has it.
        if let Some(before) = self.open[index].replace(slot) {
            self.be_late(before, now);
        }
        self.wheel.insert(index as u32, now, now + self.limit);
    }

    fn forget(&mut self, slot: Slot) {
        let index = slot.index();
        if let Some(open) = self.open.get_mut(index)
            && *open == Some(slot)
        {
            *open = None;
            self.wheel.remove(index as u32);
        } else if self.late.remove(&slot.to_bits()) && self.late.is_empty() {
            self.late_since = None;
        }
    }

    fn be_late(&mut self, slot: Slot, now: Duration) {
        self.late.insert(slot.to_bits());
        self.late_since.get_or_insert(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn slot(generation: u64, index: u64) -> Slot {
        Slot::from_bits(generation << 32 | index)
    }

    fn due(waiting: &Waiting, now: Duration) -> Vec<Slot> {
        std::iter::from_fn(|| waiting.expire(now)).collect()
    }

    #[test]
    fn what_has_no_report_is_over_in_its_time_and_once() {
        let waiting = Waiting::new(at(1000), 8);
        waiting.given(slot(1, 0));
        waiting.given(slot(1, 1));
        waiting.given(slot(1, 2));
        waiting.not_taken(slot(1, 2));
        assert!(due(&waiting, at(0)).is_empty());
        waiting.reported(slot(1, 1), at(10));
        assert!(due(&waiting, at(999)).is_empty());
        assert_eq!(due(&waiting, at(1020)), [slot(1, 0)]);
        assert!(due(&waiting, at(9000)).is_empty());
    }

    /// The report of a message that is over is not that of the one that has its slot since.
    #[test]
    fn a_late_report_is_not_the_next_ones() {
        let waiting = Waiting::new(at(1000), 8);
        waiting.given(slot(1, 0));
        assert!(due(&waiting, at(0)).is_empty());
        assert_eq!(due(&waiting, at(1020)), [slot(1, 0)]);
        waiting.given(slot(2, 0));
        waiting.reported(slot(1, 0), at(1100));
        assert!(!waiting.is_too_late(at(90_000)), "nothing is late");
        assert_eq!(due(&waiting, at(2200)), [slot(2, 0)]);
    }

    #[test]
    fn late_ones_are_taken_back_when_they_are_many_or_old() {
        let waiting = Waiting::new(at(1000), 2);
        waiting.given(slot(1, 0));
        assert!(due(&waiting, at(0)).is_empty());
        assert_eq!(due(&waiting, at(1020)).len(), 1);
        assert!(!waiting.is_too_late(at(61_000)));
        assert!(waiting.is_too_late(at(61_020)), "for a minute");
        assert!(!waiting.is_too_late(at(61_021)), "said once");
        waiting.given(slot(2, 0));
        waiting.given(slot(2, 1));
        assert!(due(&waiting, at(62_000)).is_empty());
        assert_eq!(due(&waiting, at(63_020)).len(), 2);
        assert!(waiting.is_too_late(at(63_020)), "as many as slots");
    }
}
