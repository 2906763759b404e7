//! Waiting: what was given to the client and has no report, and since when.
//!
//! A publish is settled as unknown after its time limit, and the client is *not* told: it goes on sending that message under the number that it
//! has. The client's own time limit would take the message out and number all that is behind it anew; what a broker has stored of that
//! and not acknowledged it would store once more, under the new numbers. Two of three brokers killed is all it takes.
//!
//! So the client may have messages whose publishes are over: *late* ones. When there are as many as there are slots, or as many bytes as may be in
//! flight, or some for too long, everything is taken out of the client at once. Then nothing is left that could be stored twice.

use crate::backend::Slot;
use crate::backend::wheel::Wheel;
use crate::protocol::sync::Mutex;
use crossbeam_queue::ArrayQueue;
use std::collections::BTreeMap;
use std::time::Duration;

/// So long the client may have late messages.
const LATE_LIMIT: Duration = Duration::from_secs(60);
/// So long the reports' thread may be at something else without ending a publish early.
const SLACK: Duration = Duration::from_millis(250);

pub(super) struct Waiting {
    /// From publishers. There is a place for every slot: a slot whose publish is over was taken out before.
    given: ArrayQueue<(Slot, u64)>,
    /// The reports' thread's own; a publisher takes it when the client refuses, and when somebody else has ended so many publishes that there is no
    /// place.
    table: Mutex<Table>,
}

struct Table {
    limit: Duration,
    wheel: Wheel,
    /// By index.
    open: Vec<Option<Slot>>,
    /// By index: how many bytes what is or was open there has.
    bytes: Vec<u64>,
    /// What is over, and the client still has, with its bytes.
    late: BTreeMap<u64, u64>,
    late_bytes: u64,
    late_since: Option<Duration>,
    late_max: Most,
}

/// What may be in flight at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    pub(super) slots: usize,
    pub(super) bytes: u64,
}

impl Waiting {
    /// For as many publishes at once, each of which may wait so long.
    pub(super) fn new(limit: Duration, most: Most) -> Self {
        let slots = most.slots.max(1);
        let table = Table {
            limit,
            wheel: Wheel::new(limit + SLACK),
            open: Vec::new(),
            bytes: Vec::new(),
            late: BTreeMap::new(),
            late_bytes: 0,
            late_since: None,
            late_max: Most { slots, ..most },
        };
        Self {
            given: ArrayQueue::new(slots),
            table: Mutex::new(table),
        }
    }

    /// The client is about to get it.
    pub(super) fn given(&self, slot: Slot, bytes: u64, now: impl FnOnce() -> Duration) {
        if let Err((slot, bytes)) = self.given.push((slot, bytes)) {
            let (now, mut table) = (now(), self.table.lock());
            self.hear(&mut table, now);
            table.open(slot, bytes, now);
        }
    }

    /// It is over: the client has told what became of it, or has not taken it.
    pub(super) fn over(&self, slot: Slot, now: Duration) {
        let mut table = self.table.lock();
        // It was given before.
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
        let most = table.late_max;
        let much = table.late.len() >= most.slots || table.late_bytes >= most.bytes;
        let too_late = long || much;
        if too_late {
            table.late.clear();
            table.late_bytes = 0;
            table.late_since = None;
        }
        too_late
    }

    fn hear(&self, table: &mut Table, now: Duration) {
        while let Some((slot, bytes)) = self.given.pop() {
            table.open(slot, bytes, now);
        }
    }
}

impl Table {
    fn open(&mut self, slot: Slot, bytes: u64, now: Duration) {
        let index = slot.index();
        if self.open.len() <= index {
            self.open.resize(index + 1, None);
            self.bytes.resize(index + 1, 0);
        }
        // Somebody else has settled the one before, and the client still has it.
        if let Some(before) = self.open[index].replace(slot) {
            self.be_late(before, now);
        }
        self.bytes[index] = bytes;
        self.wheel.insert(index as u32, now, now + self.limit);
    }

    fn forget(&mut self, slot: Slot) {
        let index = slot.index();
        if let Some(open) = self.open.get_mut(index)
            && *open == Some(slot)
        {
            *open = None;
            self.wheel.remove(index as u32);
        } else if let Some(bytes) = self.late.remove(&slot.to_bits()) {
            self.late_bytes -= bytes;
            if self.late.is_empty() {
                self.late_since = None;
            }
        }
    }

    fn be_late(&mut self, slot: Slot, now: Duration) {
        let bytes = self.bytes[slot.index()];
        self.late.insert(slot.to_bits(), bytes);
        self.late_bytes += bytes;
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

    fn waiting(slots: usize) -> Waiting {
        let bytes = 1000;
        Waiting::new(at(1000), Most { slots, bytes })
    }

    fn due(waiting: &Waiting, now: Duration) -> Vec<Slot> {
        std::iter::from_fn(|| waiting.expire(now)).collect()
    }

    #[test]
    fn what_has_no_report_is_over_in_its_time_and_once() {
        let waiting = waiting(8);
        waiting.given(slot(1, 0), 100, || at(0));
        waiting.given(slot(1, 1), 100, || at(0));
        waiting.given(slot(1, 2), 100, || at(0));
        waiting.over(slot(1, 2), at(0));
        assert!(due(&waiting, at(0)).is_empty());
        waiting.over(slot(1, 1), at(10));
        assert!(due(&waiting, at(999)).is_empty());
        assert_eq!(due(&waiting, at(1020)), [slot(1, 0)]);
        assert!(due(&waiting, at(9000)).is_empty());
    }

    /// The report of a message that is over is not that of the one that has its slot since.
    #[test]
    fn a_late_report_is_not_the_next_ones() {
        let waiting = waiting(8);
        waiting.given(slot(1, 0), 100, || at(0));
        assert!(due(&waiting, at(0)).is_empty());
        assert_eq!(due(&waiting, at(1020)), [slot(1, 0)]);
        waiting.given(slot(2, 0), 100, || at(0));
        waiting.over(slot(1, 0), at(1100));
        assert!(!waiting.is_too_late(at(90_000)), "nothing is late");
        assert_eq!(due(&waiting, at(2200)), [slot(2, 0)]);
    }

    #[test]
    fn late_ones_are_taken_back_when_they_are_many_or_old() {
        let waiting = waiting(2);
        waiting.given(slot(1, 0), 100, || at(0));
        assert!(due(&waiting, at(0)).is_empty());
        assert_eq!(due(&waiting, at(1020)).len(), 1);
        assert!(!waiting.is_too_late(at(61_000)));
        assert!(waiting.is_too_late(at(61_020)), "for a minute");
        assert!(!waiting.is_too_late(at(61_021)), "said once");
        waiting.given(slot(2, 0), 100, || at(0));
        waiting.given(slot(2, 1), 100, || at(0));
        assert!(due(&waiting, at(62_000)).is_empty());
        assert_eq!(due(&waiting, at(63_020)).len(), 2);
        assert!(waiting.is_too_late(at(63_020)), "as many as slots");
    }

    /// Few and large: what the client holds of what is over is bounded as what is in flight is.
    #[test]
    fn late_bytes_are_taken_back_too() {
        let waiting = waiting(8);
        waiting.given(slot(1, 0), 600, || at(0));
        waiting.given(slot(1, 1), 300, || at(0));
        assert!(due(&waiting, at(0)).is_empty());
        assert_eq!(due(&waiting, at(1020)).len(), 2);
        assert!(!waiting.is_too_late(at(1020)), "900 of 1000");
        waiting.over(slot(1, 1), at(1030));
        waiting.given(slot(2, 0), 399, || at(1030));
        assert!(due(&waiting, at(1030)).is_empty());
        assert_eq!(due(&waiting, at(2060)).len(), 1);
        assert!(!waiting.is_too_late(at(2060)), "999 of 1000");
        waiting.given(slot(3, 0), 1, || at(2060));
        assert!(due(&waiting, at(2060)).is_empty());
        assert_eq!(due(&waiting, at(3090)).len(), 1);
        assert!(waiting.is_too_late(at(3090)), "1000 of 1000");
        assert!(!waiting.is_too_late(at(3091)), "said once");
    }

    /// More than there are places for, and nobody hears: each is known all the same.
    #[test]
    fn what_has_no_place_is_known_too() {
        let waiting = waiting(2);
        for index in 0..5 {
            waiting.given(slot(1, index), 100, || at(0));
        }
        waiting.over(slot(1, 3), at(0));
        assert!(due(&waiting, at(999)).is_empty());
        let mut over = due(&waiting, at(1020));
        over.sort_unstable_by_key(|slot| slot.index());
        let others = [0, 1, 2, 4].map(|index| slot(1, index));
        assert_eq!(over, others);
    }

    /// A publish that the client refuses again and again leaves nothing behind, and nothing that is over stays in a place.
    #[test]
    fn what_is_refused_takes_no_place() {
        let waiting = waiting(2);
        for generation in 1..100 {
            waiting.given(slot(generation, 0), 100, || panic!("there is a place"));
            waiting.over(slot(generation, 0), at(0));
        }
        assert!(due(&waiting, at(1020)).is_empty());
        assert!(!waiting.is_too_late(at(90_000)), "nothing is late");
    }
}
