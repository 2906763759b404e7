//! Watermark: what may be committed of a partition, and never more.
//!
//! One task delivers positions in their order; any thread settles them, in any order; one task commits. The watermark is
//! the first position that is not settled, as far as anything was delivered: all below it is done.
//!
//! # Invariants
//!
//! * `commit_is_a_settled_prefix`: everything that was delivered below the watermark is settled.
//! * `never_goes_back`: the watermark begins at the start that it was given and only grows.
//! * `gaps_do_not_stall`: a position that the broker never delivers (compacted, a transaction's marker) holds up nothing.
//! * `settled_once`: a delivery counts as settled once; whoever comes second is told so.
//! * `stale_epoch_is_ignored`: what was delivered in another epoch, or is settled after `retire`, moves nothing.
//! * `window_holds`: never more than the window is unsettled, and a place is free only when what was in it is done.
//! * `everything_settled_everything_commits`: the committer is woken for the last progress too, and a commit that
//!   failed is due again.
//!
//! # States
//!
//! Deliveries are numbered. A ring has a slot for each number in the window and one more, and as many as make a power of two, so that a slot
//! is found without a division: its position, and a word that says
//! whose number it is and whether that one is settled. `low` is the one truth: the first number that is not
//! settled, and a bit for retired. Who settles marks its slot and then moves `low` over every settled slot it
//! finds, its own and others', so nobody waits for a slower thread.
//!
//! The watermark is the position before `low`, plus one. The slot more keeps that position readable while the window is
//! full; a reader that was overtaken sees `low` changed and looks again.
//!
//! # Orderings
//!
//! | site                    | order   | pairs with                 | if weaker                                       |
//! |-------------------------|---------|----------------------------|-------------------------------------------------|
//! | slot word, settle       | Release | slot word, advance         | what is committed is not done yet for the committer |
//! | slot word, advance      | Acquire | slot word, settle          | same                                            |
//! | `low`, settle (add 0)   | AcqRel  | itself                     | two settle side by side, neither sees the other: stuck |
//! | `low`, advance          | Release | the three below            | what is committed is not done yet for who sees it moved |
//! | `low`, deliver          | Acquire | `low`, advance             | a place is used again that somebody still uses  |
//! | `low`, watermark        | Acquire | `low`, advance             | what is committed is not done yet for the committer |
//! | `low`, retire           | Acquire | `low`, advance             | same                                            |
//! | position, deliver       | Release | position, watermark        | a reader that was overtaken does not notice     |
//! | position, watermark     | Acquire | position, deliver          | same                                            |
//!
//! Adding nothing to `low` is not a load: additions to one word have one order, so of two that settle side by side
//! the later sees what the earlier has marked.

use super::sync::{AtomicU64, AtomicWaker, CachePadded, Ordering, Plain};
use std::task::{Context, Poll};

/// In a slot's word, and in `low`.
const SETTLED: u64 = 1;
const RETIRED: u64 = 1;
/// What the words count in.
const ONE: u64 = 2;

/// How far one partition was settled in one epoch.
pub struct Watermark {
    epoch: u64,
    start: u64,
    window: u64,
    slots: Box<[Slot]>,
    /// The deliverer's alone.
    next: AtomicU64,
    low: CachePadded<AtomicU64>,
    /// The committer's alone.
    committed: Plain,
    committer: AtomicWaker,
}

struct Slot {
    /// A number in the high bits; `SETTLED`.
    word: AtomicU64,
    position: AtomicU64,
}

/// A delivery that is to be settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    epoch: u64,
    number: u64,
}

/// Why a position was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The window is full.
    Full,
    /// Not after the one before, or before the start.
    NotNew,
    /// The epoch is over.
    Retired,
}

impl Watermark {
    /// Nothing delivered yet: `start` is the first position that will be read, and committed as far as anybody knows.
    ///
    /// # Panics
    ///
    /// When `window` is 0.
    pub fn new(epoch: u64, start: u64, window: usize) -> Self {
        assert!(window > 0, "a watermark's window has room for one at least");
        Self {
            epoch,
            start,
            window: window as u64,
            slots: (0..slots_for(window)).map(|_| Slot::new()).collect(),
            next: AtomicU64::new(0),
            low: CachePadded::new(AtomicU64::new(0)),
            committed: Plain::new(start),
            committer: AtomicWaker::new(),
        }
    }

    /// Takes a position that was delivered. One thread at a time, in the order of the partition.
    pub fn deliver(&self, position: u64) -> Result<Mark, Refused> {
        // Relaxed: nobody else writes it.
        let number = self.next.load(Ordering::Relaxed);
        let least = match number {
            0 => self.start,
            // Relaxed: this thread wrote it, or the one that called before.
            _ => self.slot(number - 1).position.load(Ordering::Relaxed) + 1,
        };
        if position < least {
            return Err(Refused::NotNew);
        }
        // Acquire: pairs with the Release in `advance`, so that a slot's last user is done with it.
        let low = self.low.load(Ordering::Acquire);
        if low & RETIRED != 0 {
            return Err(Refused::Retired);
        }
        if number - low / ONE >= self.window {
            return Err(Refused::Full);
        }
        let slot = self.slot(number);
        // Release: pairs with the Acquire in `before`. Who reads it in the place of the one before sees that `low`
        // has moved.
        slot.position.store(position, Ordering::Release);
        // Relaxed: whoever settles it has the mark from here.
        slot.word.store(number * ONE, Ordering::Relaxed);
        // Relaxed: nobody else goes by it.
        self.next.store(number + 1, Ordering::Relaxed);
        Ok(Mark {
            epoch: self.epoch,
            number,
        })
    }

    /// Settles a delivery. `false`: it was settled before, or its epoch was over.
    pub fn settle(&self, mark: Mark) -> bool {
        if mark.epoch != self.epoch {
            return false;
        }
        let (open, settled) = (mark.number * ONE, (mark.number * ONE) | SETTLED);
        // Release: pairs with the Acquire in `advance`.
        if (self.slot(mark.number).word)
            .compare_exchange(open, settled, Ordering::Release, Ordering::Relaxed)
            .is_err()
        {
            return false;
        }
        // AcqRel: pairs with itself. A load would let two that settle side by side both miss the other.
        let low = self.low.fetch_add(0, Ordering::AcqRel);
        if low & RETIRED != 0 {
            // Unless another moved over it before the end.
            return low / ONE > mark.number;
        }
        if self.advance(low) {
            self.committer.wake();
        }
        true
    }

    /// Moves `low` over all that is settled. Whether it has moved it.
    fn advance(&self, mut low: u64) -> bool {
        let mut moved = false;
        // Acquire: pairs with the Release in `settle`.
        while low & RETIRED == 0
            && self.slot(low / ONE).word.load(Ordering::Acquire) == low | SETTLED
        {
            // Release: pairs with the Acquires in `deliver`, `watermark` and `retire`. Relaxed when it fails: it is
            // looked at again from there.
            match self
                .low
                .compare_exchange(low, low + ONE, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => {
                    moved = true;
                    low += ONE;
                }
                Err(now) => low = now,
            }
        }
        moved
    }

    /// The first position that is not settled: what may be committed as the next to read.
    pub fn watermark(&self) -> u64 {
        loop {
            // Acquire: pairs with the Release in `advance`.
            let low = self.low.load(Ordering::Acquire);
            let watermark = self.before(low);
            // Relaxed: it comes after the Acquire in `before`.
            if self.low.load(Ordering::Relaxed) / ONE == low / ONE {
                return watermark;
            }
        }
    }

    fn before(&self, low: u64) -> u64 {
        match low / ONE {
            0 => self.start,
            // Acquire: pairs with the Release in `deliver`.
            number => self.slot(number - 1).position.load(Ordering::Acquire) + 1,
        }
    }

    /// What is to be committed, if it is more than what was. The same again until [`committed`](Self::committed) says
    /// that it was. The committer's own.
    pub fn due(&self) -> Option<u64> {
        let watermark = self.watermark();
        (watermark > self.committed.get()).then_some(watermark)
    }

    /// Ready when there is something to commit. One committer waits at a time.
    pub fn poll_due(&self, cx: &mut Context<'_>) -> Poll<u64> {
        if let Some(due) = self.due() {
            return Poll::Ready(due);
        }
        self.committer.register(cx.waker());
        // Look again: the last one may have been settled between the look and the registration.
        self.due().map_or(Poll::Pending, Poll::Ready)
    }

    /// Notes that the broker has taken a commit. The committer's own.
    pub fn committed(&self, watermark: u64) {
        self.committed.set(self.committed.get().max(watermark));
    }

    /// How many are delivered and not settled.
    pub fn in_flight(&self) -> u64 {
        // Relaxed: a number to look at. First `low`: it only grows towards the other.
        let low = self.low.load(Ordering::Relaxed) / ONE;
        // Relaxed: as above.
        self.next.load(Ordering::Relaxed).saturating_sub(low)
    }

    /// Ends the epoch, and gives the watermark as it stays. Idempotent.
    pub fn retire(&self) -> u64 {
        // Acquire: pairs with the Release in `advance`.
        self.before(self.low.fetch_or(RETIRED, Ordering::Acquire))
    }

    /// Whether the epoch is over.
    pub fn is_retired(&self) -> bool {
        // Relaxed: whoever is told no settles in vain.
        self.low.load(Ordering::Relaxed) & RETIRED != 0
    }

    fn slot(&self, number: u64) -> &Slot {
        // A power of two.
        &self.slots[number as usize & (self.slots.len() - 1)]
    }
}

/// One more than the window, for the position before `low`.
fn slots_for(window: usize) -> usize {
    (window + 1).next_power_of_two()
}

impl Slot {
    fn new() -> Self {
        Self {
            // Nobody's number.
            word: AtomicU64::new(u64::MAX),
            position: AtomicU64::new(0),
        }
    }
}
