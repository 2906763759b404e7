//! Ledger: every accepted publish gets exactly one outcome.
//!
//! A publish opens a slot before anything is sent. Whoever learns its fate settles the slot, from
//! any thread: the broker's answer, a timeout, a lost session, close. The first one counts and
//! the others hear `None`. What the publish holds (its pass, its credit) is in the slot and
//! comes back to the settler, so a caller that drops its future changes nothing.
//!
//! # Invariants
//!
//! * `one_outcome_each`: every opened slot is settled once, and its receipt says the same.
//! * `late_answer_is_not_a_second_outcome`: of two settlers one gets the entry, the other `None`.
//! * `stale_slot_is_ignored`: a token whose slot was used again settles nothing.
//! * `close_settles_the_rest_as_unknown`: after `settle_rest` nothing opened before it is open.
//! * `acceptance_before_sending`: there is no token, so nothing to send with, before the slot is open.
//! * `result_order_per_key`: outcomes reach the result reader in the order they were settled.
//! * `no_receipt_sleeps_on_an_outcome`: a receipt that saw `Pending` is woken.
//! * `no_slot_has_two_publishes`: an open publish shares its slot with no other.
//! * `nothing_is_told_to_nobody`: an outcome on its way to a reader that goes is discarded, once.
//!
//! # States
//!
//! One word a slot: the generation above, flags below. A slot is in three hands: the settler's,
//! the receipt's and the result reader's. Each sets its own flag with one read-modify-write when it is done
//! (`SETTLED`, `READ`, `TOLD`), and whoever sets the last of the three frees the slot. `CLAIMED`
//! makes one settler of many.
//!
//! ```text
//!        open            claim (compare)        publish               last of SETTLED, READ, TOLD
//! free,g ───▶ OPEN,g ───────────────▶ CLAIMED,g ───────▶ SETTLED,g ─────────────────────▶ free,g+1
//! ```
//!
//! Free slots are stacks of indices with a tag against reuse, one stack a stripe. The result ring has
//! as many places as there are slots and a slot is in it at most once, so it cannot overflow:
//! outcomes nobody reads keep their slots, and that is felt as back-pressure.
//!
//! # Orderings
//!
//! | site              | order   | pairs with                | if weaker                                 |
//! |-------------------|---------|---------------------------|-------------------------------------------|
//! | `open` store      | Release | `claim`                   | a settler returns another publish's credit |
//! | `claim`           | Acquire | `open` store              | same                                      |
//! | `finish`          | AcqRel  | `is_settled`, `finish`    | a receipt reads half an answer; a slot is reused while it is read |
//! | `is_settled`      | Acquire | `finish`                  | a receipt reads half an answer            |
//! | `push` on free    | Release | `pop`                     | a new entry mixes with the old one        |
//! | `pop` of free     | Acquire | `push`                    | same                                      |
//! | `result_reader`, `return_reader`, `is_heard` | Relaxed | each other | the word's own order decides |
//! | `tell`            | Release | `poll_result`             | the reader looks into a slot not yet settled |
//! | `poll_result`     | Acquire | `tell`                    | same                                      |

use super::sync::{
    AtomicU64, AtomicUsize, AtomicWaker, CachePadded, Mutex, Ordering, Plain, STRIPES, stripe,
};
use std::array;
use std::task::{Context, Poll, Waker};

const OPEN: u64 = 1;
const CLAIMED: u64 = 1 << 1;
const SETTLED: u64 = 1 << 2;
const READ: u64 = 1 << 3;
const TOLD: u64 = 1 << 4;
const DONE: u64 = SETTLED | READ | TOLD;
const GENERATION: u32 = 8;

const ACKED: u64 = 0;
const REJECTED: u64 = 1;
const UNKNOWN: u64 = 2;

/// The publishes whose outcome is not known yet, or not read yet. `F` says why one failed.
pub struct Ledger<F> {
    slots: Box<[CachePadded<Cell<F>>]>,
    free: [CachePadded<AtomicU64>; STRIPES],
    ring: Box<[AtomicU64]>,
    tail: CachePadded<AtomicUsize>,
    reader: AtomicWaker,
    reader_out: AtomicUsize,
    spare_reader: Mutex<Option<ResultReader>>,
}

/// One publish under way, as a number that fits any client's opaque: index and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(u64);

/// What a publish holds while it is under way, and what the outside needs to say of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The pass of the gate, as bits.
    pub pass: u8,
    /// Marks of the caller's own.
    pub marks: u8,
    /// The topic's number.
    pub topic: u32,
    /// The credit in bytes (one envelope goes without saying).
    pub bytes: u64,
    /// The envelope's id.
    pub id: u128,
    /// When it was opened, in nanoseconds of the bus's clock.
    pub opened_at: u64,
}

/// What became of a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<F> {
    /// The broker has it.
    Acked {
        /// In which partition.
        partition: u32,
        /// At which position.
        position: u64,
        /// Whether the broker had it already.
        duplicate: bool,
    },
    /// The broker surely does not have it.
    Rejected(F),
    /// Nobody can tell.
    Unknown(F),
}

/// Who will ask for the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audience {
    /// A receipt will: it must be polled until ready, or dropped with [`Ledger::drop_receipt`].
    pub receipt: bool,
    /// The result reader will.
    pub results: bool,
}

/// The one reader of results: its place in the ring.
pub struct ResultReader {
    head: usize,
}

struct Cell<F> {
    word: AtomicU64,
    next: AtomicU64,
    waker: AtomicWaker,
    entry: [Plain; 5],
    answer: [Plain; 2],
    failure: Mutex<Option<F>>,
}

impl<F: Clone> Ledger<F> {
    /// A ledger with room for `capacity` publishes.
    ///
    /// # Panics
    ///
    /// When `capacity` is 0 or does not fit 31 bits.
    pub fn new(capacity: usize) -> Self {
        assert!(
            capacity > 0 && capacity < 1 << 31,
            "a ledger of {capacity} slots"
        );
        let ledger = Self {
            slots: (0..capacity)
                .map(|_| CachePadded::new(Cell::new()))
                .collect(),
            free: array::from_fn(|_| CachePadded::new(AtomicU64::new(0))),
            ring: (0..capacity).map(|_| AtomicU64::new(0)).collect(),
            tail: CachePadded::new(AtomicUsize::new(0)),
            reader: AtomicWaker::new(),
            reader_out: AtomicUsize::new(0),
            spare_reader: Mutex::new(Some(ResultReader { head: 0 })),
        };
        (0..capacity).rev().for_each(|index| ledger.push(index));
        ledger
    }

    /// How many slots there are.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// The slots that are open, each at the moment when it is looked at; by index. For people: a slot may be settled meanwhile.
    pub fn open_slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.slots.iter().enumerate().filter_map(|(index, cell)| {
            // Relaxed: only looked at; whoever would settle it claims it first.
            let word = cell.word.load(Ordering::Relaxed);
            let slot = Slot(word >> GENERATION << 32 | index as u64);
            (word & (OPEN | CLAIMED) == OPEN).then_some(slot)
        })
    }

    /// Opens a slot for `entry`, or `None` when all are taken.
    pub fn open(&self, entry: Entry, audience: Audience) -> Option<Slot> {
        let index = self.pop()?;
        let cell = &self.slots[index];
        cell.write_entry(entry);
        // Relaxed: the slot is ours alone since `pop`.
        let generation = cell.word.load(Ordering::Relaxed) >> GENERATION;
        let read = if audience.receipt { 0 } else { READ };
        let told = if audience.results { 0 } else { TOLD };
        // Release: pairs with the Acquire in `claim`.
        cell.word.store(
            generation << GENERATION | OPEN | read | told,
            Ordering::Release,
        );
        Some(Slot(generation << 32 | index as u64))
    }

    /// Settles `slot`: gives back what the publish held, or `None` if it is settled already or
    /// the token is of an earlier use of the slot.
    pub fn settle(&self, slot: Slot, outcome: Outcome<F>) -> Option<Entry> {
        let cell = self.cell(slot)?;
        if !cell.claim(slot.generation()) {
            return None;
        }
        let entry = cell.read_entry();
        cell.write_outcome(outcome);
        let before = self.finish(slot, SETTLED);
        if before & TOLD == 0 {
            self.tell(slot);
        }
        if before & READ == 0 {
            // The receipt may be gone and the slot in other hands: then this wakes for nothing.
            cell.waker.wake();
        }
        Some(entry)
    }

    /// Settles as `Unknown` whatever is open, handing each entry to `each`.
    pub fn settle_rest(&self, failure: &F, mut each: impl FnMut(Entry)) {
        for index in 0..self.slots.len() {
            // Relaxed: only a guess at the generation; `claim` decides.
            let word = self.slots[index].word.load(Ordering::Relaxed);
            if word & (OPEN | CLAIMED) == OPEN {
                let slot = Slot(word >> GENERATION << 32 | index as u64);
                if let Some(entry) = self.settle(slot, Outcome::Unknown(failure.clone())) {
                    each(entry);
                }
            }
        }
    }

    /// The receipt's look at its outcome. Ready once; the token is void afterwards.
    pub fn poll_receipt(&self, slot: Slot, cx: &mut Context<'_>) -> Poll<Outcome<F>> {
        let cell = &self.slots[slot.index()];
        if !cell.is_settled() {
            cell.waker.register(cx.waker());
            // Look again: it may have been settled between the look and the registration.
            if !cell.is_settled() {
                return Poll::Pending;
            }
        }
        let outcome = cell.read_outcome();
        self.finish(slot, READ);
        Poll::Ready(outcome)
    }

    /// The receipt is given up. The publish goes on; nobody will ask how it ended.
    pub fn drop_receipt(&self, slot: Slot) {
        self.finish(slot, READ);
    }

    /// The one result reader, or `None` while it is out.
    pub fn result_reader(&self) -> Option<ResultReader> {
        let reader = self.spare_reader.lock().take()?;
        // Relaxed: only chooses an audience for slots that are opened from here on. A read-modify-write
        // like the other two, so that all three have one order for the models as well.
        self.reader_out.swap(1, Ordering::Relaxed);
        Some(reader)
    }

    /// Whether the result reader is out: then slots should be opened for it.
    pub fn has_reader(&self) -> bool {
        // Relaxed: as in `result_reader`.
        self.reader_out.load(Ordering::Relaxed) == 1
    }

    /// Takes the result reader back, so that another can go on where it stopped. What was told
    /// and not read must be discarded.
    pub fn return_reader(&self, reader: ResultReader) {
        // Relaxed: the word's own order decides who comes second, this or `is_heard`. Whoever it is
        // discards, and `poll_result` registers a waker there, which orders what was told.
        self.reader_out.swap(0, Ordering::Relaxed);
        // Only now may another take it, and say that it is out.
        *self.spare_reader.lock() = Some(reader);
    }

    /// Asked after settling a slot that was opened for the reader: whether the reader is still there.
    /// If not, the settler must [`discard`](Self::discard).
    pub fn is_heard(&self) -> bool {
        // Relaxed: as in `return_reader`. A read-modify-write, because a load could miss it.
        self.reader_out.fetch_or(0, Ordering::Relaxed) == 1
    }

    /// Reads what was told while no reader is out.
    pub fn discard(&self) -> Vec<Entry> {
        let mut discarded = Vec::new();
        if let Some(reader) = &mut *self.spare_reader.lock() {
            let mut nobody = Context::from_waker(Waker::noop());
            while let Poll::Ready((entry, _)) = self.poll_result(reader, &mut nobody) {
                discarded.push(entry);
            }
        }
        discarded
    }

    /// The next outcome, in the order of settling.
    pub fn poll_result(
        &self,
        reader: &mut ResultReader,
        cx: &mut Context<'_>,
    ) -> Poll<(Entry, Outcome<F>)> {
        let place = &self.ring[reader.head % self.ring.len()];
        // Acquire: pairs with the Release in `tell`.
        let mut told = place.load(Ordering::Acquire);
        if told == 0 {
            self.reader.register(cx.waker());
            // Acquire: as above. Look again: it may have come between the look and the registration.
            told = place.load(Ordering::Acquire);
            if told == 0 {
                return Poll::Pending;
            }
        }
        // Relaxed: the place is ours until this slot has gone round.
        place.store(0, Ordering::Relaxed);
        reader.head = reader.head.wrapping_add(1);
        let slot = Slot(told);
        let cell = &self.slots[slot.index()];
        let result = (cell.read_entry(), cell.read_outcome());
        self.finish(slot, TOLD);
        Poll::Ready(result)
    }

    /// Makes the result reader look again, because something outside of the ledger has changed.
    pub fn wake_reader(&self) {
        self.reader.wake();
    }

    /// Puts a settled slot into the result ring.
    fn tell(&self, slot: Slot) {
        // Relaxed: hands out places; the place itself carries the data.
        let place = self.tail.fetch_add(1, Ordering::Relaxed) % self.ring.len();
        // Release: pairs with the Acquire in `poll_result`.
        self.ring[place].store(slot.0, Ordering::Release);
        self.reader.wake();
    }

    /// Marks one hand as done, gives the flags before, and frees the slot after the last.
    fn finish(&self, slot: Slot, hand: u64) -> u64 {
        let cell = &self.slots[slot.index()];
        // AcqRel: hands over the answer, and the last hand sees that the others are done with it.
        let before = cell.word.fetch_or(hand, Ordering::AcqRel);
        if before & DONE == DONE & !hand {
            cell.clear();
            let generation = (slot.generation() + 1) & u64::from(u32::MAX);
            // Relaxed: whoever pops the slot sees this through the free stack.
            cell.word
                .store(generation.max(1) << GENERATION, Ordering::Relaxed);
            self.push(slot.index());
        }
        before
    }

    fn push(&self, index: usize) {
        let top = &self.free[index % STRIPES];
        // Relaxed: the comparison below decides.
        let mut head = top.load(Ordering::Relaxed);
        loop {
            // Relaxed: read only by a `pop` that has acquired the head.
            self.slots[index]
                .next
                .store(head & u64::from(u32::MAX), Ordering::Relaxed);
            let new = tagged(head, index as u64 + 1);
            // Release: pairs with the Acquire in `pop`.
            match top.compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    fn pop(&self) -> Option<usize> {
        let home = stripe();
        (0..STRIPES).find_map(|away| self.pop_from((home + away) % STRIPES))
    }

    fn pop_from(&self, stripe: usize) -> Option<usize> {
        let top = &self.free[stripe];
        loop {
            // Acquire: pairs with the Release in `push`.
            let head = top.load(Ordering::Acquire);
            let index = (head & u64::from(u32::MAX)).checked_sub(1)? as usize;
            // Relaxed: if the slot has moved meanwhile, the tag fails the comparison.
            let next = self.slots[index].next.load(Ordering::Relaxed);
            // Relaxed: the value is the one acquired above.
            if top
                .compare_exchange_weak(
                    head,
                    tagged(head, next),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok()
            {
                return Some(index);
            }
        }
    }

    fn cell(&self, slot: Slot) -> Option<&Cell<F>> {
        self.slots.get(slot.index()).map(|padded| &**padded)
    }
}

impl<F: Clone> Cell<F> {
    fn new() -> Self {
        Self {
            word: AtomicU64::new(1 << GENERATION),
            next: AtomicU64::new(0),
            waker: AtomicWaker::new(),
            entry: array::from_fn(|_| Plain::new(0)),
            answer: array::from_fn(|_| Plain::new(0)),
            failure: Mutex::new(None),
        }
    }

    /// Makes the caller the one settler.
    fn claim(&self, generation: u64) -> bool {
        // Relaxed: the comparison below decides.
        let mut word = self.word.load(Ordering::Relaxed);
        while word >> GENERATION == generation && word & (OPEN | CLAIMED) == OPEN {
            // Acquire: pairs with the Release in `open`.
            match self.word.compare_exchange_weak(
                word,
                word | CLAIMED,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    fn is_settled(&self) -> bool {
        // Acquire: pairs with the Release in `finish`.
        self.word.load(Ordering::Acquire) & SETTLED != 0
    }

    fn write_entry(&self, entry: Entry) {
        let Entry {
            pass,
            marks,
            topic,
            bytes,
            id,
            opened_at,
        } = entry;
        let words = [
            u64::from(topic) << 16 | u64::from(marks) << 8 | u64::from(pass),
            bytes,
            (id >> 64) as u64,
            id as u64,
            opened_at,
        ];
        self.entry
            .iter()
            .zip(words)
            .for_each(|(plain, word)| plain.set(word));
    }

    fn read_entry(&self) -> Entry {
        let [first, bytes, high, low, opened_at] = array::from_fn(|i| self.entry[i].get());
        Entry {
            pass: first as u8,
            marks: (first >> 8) as u8,
            topic: (first >> 16) as u32,
            bytes,
            id: u128::from(high) << 64 | u128::from(low),
            opened_at,
        }
    }

    fn write_outcome(&self, outcome: Outcome<F>) {
        let (kind, position) = match outcome {
            Outcome::Acked {
                partition,
                position,
                duplicate,
            } => (
                ACKED | u64::from(duplicate) << 8 | u64::from(partition) << 32,
                position,
            ),
            Outcome::Rejected(failure) => {
                *self.failure.lock() = Some(failure);
                (REJECTED, 0)
            }
            Outcome::Unknown(failure) => {
                *self.failure.lock() = Some(failure);
                (UNKNOWN, 0)
            }
        };
        self.answer[0].set(kind);
        self.answer[1].set(position);
    }

    fn read_outcome(&self) -> Outcome<F> {
        let (kind, position) = (self.answer[0].get(), self.answer[1].get());
        let failure = || {
            self.failure
                .lock()
                .clone()
                .expect("a failed outcome has a reason")
        };
        match kind & 0xff {
            ACKED => Outcome::Acked {
                partition: (kind >> 32) as u32,
                position,
                duplicate: kind >> 8 & 1 == 1,
            },
            REJECTED => Outcome::Rejected(failure()),
            _ => Outcome::Unknown(failure()),
        }
    }

    /// Drops the reason of a failure; a slot that was acked has none and takes no lock.
    fn clear(&self) {
        if self.answer[0].get() & 0xff != ACKED {
            self.failure.lock().take();
        }
    }
}

impl Slot {
    /// The token as a number, for a client's opaque.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The token that [`to_bits`](Self::to_bits) gave.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Which slot it is: below the ledger's capacity, and no other open publish has it.
    pub fn index(self) -> usize {
        (self.0 & u64::from(u32::MAX)) as usize
    }

    fn generation(self) -> u64 {
        self.0 >> 32
    }
}

/// A stack head with the tag counted up, so that a head seen before is never mistaken for now.
fn tagged(head: u64, index: u64) -> u64 {
    ((head >> 32) + 1) << 32 | index
}
