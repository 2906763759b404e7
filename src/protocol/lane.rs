//! Lane: per key one runner, first in first out; across keys as many runners as there are workers.
//!
//! One dispatcher submits messages, any number of workers run them. A lane is made when a key needs one, and the one that was idle
//! for longest is retired when there is no other room. What a worker is done with goes back to the dispatcher.
//!
//! # Invariants
//!
//! * `one_runner_per_key`: never do two workers have messages of one key; what the one before did is visible to the next.
//! * `first_in_first_out`: messages of a key are run in the order of their submission, a parked one before those behind it.
//! * `no_message_without_a_runner`: no worker sleeps while a lane waits to be run, however it came to wait.
//! * `every_submission_completes_once`: every message comes back to the dispatcher, done or parked, and is never done twice.
//! * `idle_lane_is_retired_once`: a lane is given to another key only when all it had is back, and to one key.
//! * `no_two_lanes_for_a_key`: a key that has a lane is submitted to that one.
//! * `bounded`: never more lanes or messages than there is room for; what does not fit is handed back.
//! * `kill_is_heard_at_work`: a worker that waits for the end of its work beside it hears a kill, and what it had comes back.
//!
//! # States
//!
//! A message lies in a slot, where it stays while it is run, and links to the next of its lane. A lane is one word: how many of its
//! messages are not done. Who makes it 1 queues the lane to be run: the dispatcher, always. Whoever makes it less goes on with the
//! next message if there is one, and otherwise has let go. The table of keys, the free slots and the idle lanes are the dispatcher's
//! own: nothing races with making or retiring a lane, and the word of a lane whose last message is back is nobody else's.
//!
//! The queue of lanes to be run has one producer, the dispatcher, and room for every lane; each is there once at most. Slots
//! come back over a stack that any worker pushes to and the dispatcher takes whole.
//!
//! A worker that finds nothing says so in a bit, and looks again; who queues a lane looks at the bits after, and wakes one. A
//! worker that takes a lane and sees more of them wakes the next.
//!
//! # Orderings
//!
//! | site                     | order   | pairs with             | if weaker                                              |
//! |--------------------------|---------|------------------------|--------------------------------------------------------|
//! | lane word, submit        | AcqRel  | lane word, done        | the next runner misses what the last did; a link is not seen |
//! | lane word, begin         | Relaxed | –                      | nobody is at it; the queue publishes it                |
//! | lane word, done          | AcqRel  | lane word, submit      | same                                                   |
//! | `tail`, queue            | Release | `tail`, take           | a worker runs a message that it does not see whole     |
//! | `tail`, take             | Acquire | `tail`, queue          | same                                                   |
//! | idle word, announce      | Release | idle word, sleep       | neither sees the other: a lane waits, a worker sleeps  |
//! | idle word, sleep         | Acquire | idle word, announce    | same                                                   |
//! | idle word, look          | Acquire | idle word, wake        | a worker that finds itself woken does not see for what |
//! | idle word, woken         | Acquire | idle word, wake        | a wake that came for a second lane is taken for the first |
//! | idle word, wake          | Release | the two above          | same                                                   |
//! | `returned`, give back    | Release | `returned`, take back  | the dispatcher sees a message that is not whole        |
//! | `returned`, take back    | Acquire | `returned`, give back  | same                                                   |

use super::sync::{Arc, AtomicU64, AtomicWaker, CachePadded, Hand, Held, Ordering, Plain};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::ops::{Deref, DerefMut};
use std::task::{Context, Poll};

/// No slot, no lane.
const NONE: u32 = u32::MAX;
/// In an idle word: no worker may take anything any more. The other bits are workers.
const STOPPED: u64 = 1 << 63;
/// In an idle word: what a worker is at is to be dropped.
const KILLED: u64 = 1 << 62;
const WORKERS: u64 = KILLED - 1;
const WORKERS_PER_WORD: usize = 62;

/// What the dispatcher and the workers share.
pub struct Lanes<M> {
    slots: Box<[Slot<M>]>,
    /// How many messages of each lane are not done.
    words: Box<[AtomicU64]>,
    /// Lanes to be run, each with the slot it goes on with. As many as a power of two.
    queue: Box<[AtomicU64]>,
    /// The dispatcher's to write.
    tail: CachePadded<AtomicU64>,
    head: CachePadded<AtomicU64>,
    /// The top of the stack of what has come back, plus one.
    returned: CachePadded<AtomicU64>,
    dispatcher: AtomicWaker,
    idle: Box<[CachePadded<AtomicU64>]>,
    sleepers: Box<[AtomicWaker]>,
}

struct Slot<M> {
    message: Hand<M>,
    /// The next of the lane. Written by the dispatcher before it is counted.
    next: Plain,
    /// What lies below in the stack of what has come back.
    below: Plain,
    /// Whether it came back done.
    done: Plain,
}

/// The one who submits: owns the table of keys. Not shared; its lanes are.
pub struct Dispatcher<K, M, S> {
    lanes: Arc<Lanes<M>>,
    table: HashMap<K, u32, S>,
    rooms: Box<[Room<K>]>,
    /// The idle lanes, the one that was idle for longest first.
    oldest: u32,
    newest: u32,
    free: Vec<u32>,
    /// Whose lane the message in each slot belongs to.
    lane_of: Box<[u32]>,
    /// What was taken from the stack of what has come back and not looked at: its top, plus one.
    came: u64,
}

/// A lane, as the dispatcher knows it.
struct Room<K> {
    key: Option<K>,
    /// How many of its messages are not back.
    out: u32,
    /// Its last message, if that is not back.
    last: u32,
    older: u32,
    newer: u32,
}

/// There is no free slot, or no lane that could be given to the key.
#[derive(Debug, PartialEq, Eq)]
pub struct Full<K, M> {
    /// The key, handed back.
    pub key: Option<K>,
    /// The message, handed back.
    pub message: M,
}

/// What came back to the dispatcher.
#[derive(Debug)]
pub enum Back<M> {
    /// A message is done with. Its slot is free again.
    Done(M),
    /// A message that is not done: its lane stands still until it is resumed or removed.
    Parked(Parked<M>),
}

/// A message at the head of a lane that stands still.
#[derive(Debug)]
#[must_use = "its lane stands still until it is resumed or removed"]
pub struct Parked<M> {
    /// The message.
    pub message: M,
    lane: u32,
    slot: u32,
}

/// What was taken from the queue.
struct Taken {
    lane: u32,
    slot: u32,
    /// Whether it was not the last.
    more: bool,
}

/// The right to run the first message of a lane. Dropped before it is done, it parks the message.
#[must_use = "dropped, it parks the message"]
pub struct Run<'l, M> {
    lanes: &'l Lanes<M>,
    lane: u32,
    slot: u32,
    /// The message, in its slot. There until it has been given back.
    held: Option<Held<'l, M>>,
}

/// The dispatcher of `lanes` lanes with `slots` messages in all, for `workers` workers.
///
/// # Panics
///
/// When one of them is 0, or 2^32 or more.
pub fn lanes<K, M, S>(lanes: usize, slots: usize, workers: usize, hasher: S) -> Dispatcher<K, M, S>
where
    K: Clone + Eq + Hash,
    S: BuildHasher,
{
    let fits = |n: usize| n > 0 && u32::try_from(n).is_ok_and(|n| n != NONE);
    assert!(
        fits(lanes) && fits(slots) && fits(workers),
        "lanes, messages and workers: one at least, and fewer than 2^32"
    );
    let words = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
    let shared = Lanes {
        slots: (0..slots).map(|_| Slot::new()).collect(),
        words: words(lanes),
        queue: words(lanes.next_power_of_two()),
        tail: CachePadded::new(AtomicU64::new(0)),
        head: CachePadded::new(AtomicU64::new(0)),
        returned: CachePadded::new(AtomicU64::new(0)),
        dispatcher: AtomicWaker::new(),
        idle: (0..workers.div_ceil(WORKERS_PER_WORD))
            .map(|_| CachePadded::new(AtomicU64::new(0)))
            .collect(),
        sleepers: (0..workers).map(|_| AtomicWaker::new()).collect(),
    };
    let mut dispatcher = Dispatcher {
        lanes: Arc::new(shared),
        // Twice: a table that is never more than half full is cleaned in its place.
        table: HashMap::with_capacity_and_hasher(2 * lanes, hasher),
        rooms: (0..lanes).map(|_| Room::new()).collect(),
        oldest: NONE,
        newest: NONE,
        free: (0..slots as u32).rev().collect(),
        lane_of: (0..slots).map(|_| NONE).collect(),
        came: 0,
    };
    (0..lanes as u32).for_each(|lane| dispatcher.idle_last(lane));
    dispatcher
}

impl<K: Clone + Eq + Hash, M, S: BuildHasher> Dispatcher<K, M, S> {
    /// What the workers need.
    pub fn shared(&self) -> &Arc<Lanes<M>> {
        &self.lanes
    }

    /// Puts `message` behind all that was submitted for `key`; without a key, behind nothing. Wakes nobody: that is
    /// [`announce`](Self::announce), once for many.
    pub fn submit(&mut self, key: Option<K>, message: M) -> Result<(), Full<K, M>> {
        if self.free.is_empty() {
            return Err(Full { key, message });
        }
        let lane = match self.lane_for(key) {
            Ok(lane) => lane,
            Err(key) => return Err(Full { key, message }),
        };
        let slot = self.free.pop().expect("looked at above");
        self.lanes.slots[slot as usize].message.put(message);
        self.lane_of[slot as usize] = lane;
        let room = &mut self.rooms[lane as usize];
        room.out += 1;
        let before = std::mem::replace(&mut room.last, slot);
        let word = &self.lanes.words[lane as usize];
        let idle = if before == NONE {
            // What it had last is back, so it is 0 and nobody is at it. Relaxed: the queue publishes it.
            word.store(1, Ordering::Relaxed);
            true
        } else {
            // Before it is counted: who counts down to it reads this.
            self.lanes.slots[before as usize].next.set(slot.into());
            // AcqRel: pairs with itself in `done`, both ways: the last runner's work reaches the next, and the link the present one.
            word.fetch_add(1, Ordering::AcqRel) == 0
        };
        if idle {
            self.lanes.queue(lane, slot);
        }
        Ok(())
    }

    /// Wakes a worker for what was submitted or resumed. It wakes the next.
    pub fn announce(&self) {
        self.lanes.announce();
    }

    /// What comes back next. Of what came together, the last comes first.
    pub fn poll_back(&mut self, cx: &mut Context<'_>) -> Poll<Back<M>> {
        if let Some(back) = self.take_back() {
            return Poll::Ready(back);
        }
        self.lanes.dispatcher.register(cx.waker());
        // Look again: it may have come between the look and the registration.
        self.take_back().map_or(Poll::Pending, Poll::Ready)
    }

    /// What has come back, without waiting.
    pub fn take_back(&mut self) -> Option<Back<M>> {
        if self.came == 0 {
            self.came = self.lanes.take_returned();
        }
        let slot = self.came.checked_sub(1)? as u32;
        let at = &self.lanes.slots[slot as usize];
        self.came = at.below.get();
        let message = at.message.take();
        if at.done.get() != 0 {
            self.free_slot(slot);
            return Some(Back::Done(message));
        }
        let lane = self.lane_of[slot as usize];
        Some(Back::Parked(Parked {
            message,
            lane,
            slot,
        }))
    }

    /// Lets a lane go on, with the message that was parked. To be [announced](Self::announce).
    pub fn resume(&mut self, parked: Parked<M>) {
        let at = &self.lanes.slots[parked.slot as usize];
        at.message.put(parked.message);
        self.lanes.queue(parked.lane, parked.slot);
    }

    /// Takes a parked message out; its lane goes on with the next, to be [announced](Self::announce).
    pub fn remove(&mut self, parked: Parked<M>) -> M {
        if let Some(next) = self.lanes.done(parked.lane, parked.slot) {
            self.lanes.queue(parked.lane, next);
        }
        self.free_slot(parked.slot);
        parked.message
    }

    /// How many messages of a parked one's lane are not back: itself, and those behind it.
    pub fn waits_behind(&self, parked: &Parked<M>) -> usize {
        self.rooms[parked.lane as usize].out as usize
    }

    /// How many messages are not back.
    pub fn out(&self) -> usize {
        self.lane_of.len() - self.free.len()
    }

    /// How many lanes have a message that is not back.
    pub fn busy(&self) -> usize {
        self.rooms.iter().filter(|room| room.out > 0).count()
    }

    /// Workers take nothing more: [`poll_run`](Lanes::poll_run) tells them to end. What waits in a lane stays there.
    pub fn stop(&self) {
        for word in &self.lanes.idle {
            // Relaxed: the bit carries no data.
            word.fetch_or(STOPPED, Ordering::Relaxed);
        }
        self.lanes.sleepers.iter().for_each(AtomicWaker::wake);
    }

    /// As [`stop`](Self::stop), and workers drop what they are at: [`poll_killed`](Lanes::poll_killed) tells them.
    pub fn kill(&self) {
        for word in &self.lanes.idle {
            // Relaxed: as in `stop`.
            word.fetch_or(STOPPED | KILLED, Ordering::Relaxed);
        }
        self.lanes.sleepers.iter().for_each(AtomicWaker::wake);
    }

    /// The key's lane, or one that is made its own.
    fn lane_for(&mut self, key: Option<K>) -> Result<u32, Option<K>> {
        if let Some(&lane) = key.as_ref().and_then(|key| self.table.get(key)) {
            if self.rooms[lane as usize].out == 0 {
                self.not_idle(lane);
            }
            return Ok(lane);
        }
        let lane = self.oldest;
        if lane == NONE {
            return Err(key);
        }
        self.not_idle(lane);
        if let Some(retired) = self.rooms[lane as usize].key.take() {
            self.table.remove(&retired);
        }
        if let Some(key) = &key {
            self.table.insert(key.clone(), lane);
        }
        self.rooms[lane as usize].key = key;
        Ok(lane)
    }

    fn free_slot(&mut self, slot: u32) {
        let lane = self.lane_of[slot as usize];
        let room = &mut self.rooms[lane as usize];
        room.out -= 1;
        if room.last == slot {
            // It may be another lane's by the time of the next submission: not to be linked from.
            room.last = NONE;
        }
        if room.out == 0 {
            self.idle_last(lane);
        }
        self.free.push(slot);
    }

    fn idle_last(&mut self, lane: u32) {
        let older = std::mem::replace(&mut self.newest, lane);
        let room = &mut self.rooms[lane as usize];
        (room.older, room.newer) = (older, NONE);
        match older {
            NONE => self.oldest = lane,
            older => self.rooms[older as usize].newer = lane,
        }
    }

    fn not_idle(&mut self, lane: u32) {
        let Room { older, newer, .. } = self.rooms[lane as usize];
        match older {
            NONE => self.oldest = newer,
            older => self.rooms[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.rooms[newer as usize].older = older,
        }
    }
}

impl<M> Lanes<M> {
    /// The next lane to be run, for `worker`; `None` when the dispatcher has stopped. One task for each worker's number.
    pub fn poll_run(&self, worker: usize, cx: &mut Context<'_>) -> Poll<Option<Run<'_, M>>> {
        let (word, bit) = (
            &self.idle[worker / WORKERS_PER_WORD],
            1 << (worker % WORKERS_PER_WORD),
        );
        // Acquire: pairs with the Release in `wake_of`. Whoever finds that it was woken, also without having slept on, sees
        // all lanes that it was woken for.
        let idle = word.load(Ordering::Acquire);
        if idle & STOPPED != 0 {
            return Poll::Ready(None);
        }
        let mut taken = self.take();
        let slept = idle & bit != 0 || taken.is_none();
        if taken.is_none() {
            self.sleepers[worker].register(cx.waker());
            // Acquire: pairs with the Release in `announce`: either a lane that was queued is seen below, or the bit is seen
            // there. The waker needs no more: it is registered before.
            if word.fetch_or(bit, Ordering::Acquire) & STOPPED != 0 {
                return Poll::Ready(None);
            }
            taken = self.take();
        }
        let Some(Taken { lane, slot, more }) = taken else {
            return Poll::Pending;
        };
        if if slept { self.awake(word, bit) } else { more } {
            self.wake_one();
        }
        Poll::Ready(Some(Run::new(self, lane, slot)))
    }

    /// Ready when `worker` is to drop what it is at. It waits for this beside its work, and not beside `poll_run`.
    pub fn poll_killed(&self, worker: usize, cx: &mut Context<'_>) -> Poll<()> {
        let word = &self.idle[worker / WORKERS_PER_WORD];
        // Relaxed: the bit carries no data.
        if word.load(Ordering::Relaxed) & KILLED != 0 {
            return Poll::Ready(());
        }
        self.sleepers[worker].register(cx.waker());
        // Look again: it may have been said between the look and the registration. Relaxed: it comes after that.
        match word.load(Ordering::Relaxed) & KILLED {
            0 => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }

    /// The worker does not sleep any more. Whether there is more to be run.
    fn awake(&self, word: &AtomicU64, bit: u64) -> bool {
        // Acquire: pairs with the Release in `wake_of`. A wake that was meant for another lane is passed on: that lane is
        // seen after this.
        word.fetch_and(!bit, Ordering::Acquire);
        // Relaxed: whoever is queued after this has a wake of its own.
        self.head.load(Ordering::Relaxed) < self.tail.load(Ordering::Relaxed)
    }

    fn queue(&self, lane: u32, slot: u32) {
        // Relaxed: nobody else writes it.
        let tail = self.tail.load(Ordering::Relaxed);
        let place = self.place(tail);
        // Relaxed: the store below publishes it.
        place.store(u64::from(lane) << 32 | u64::from(slot), Ordering::Relaxed);
        // Release: pairs with the Acquire in `take`.
        self.tail.store(tail + 1, Ordering::Release);
    }

    fn take(&self) -> Option<Taken> {
        // Relaxed: a value that is too old fails below.
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // Acquire: pairs with the Release in `queue`.
            let tail = self.tail.load(Ordering::Acquire);
            if head >= tail {
                return None;
            }
            let place = self.place(head);
            // Relaxed: written before `tail`. Written again only after it was taken, and then the exchange fails.
            let item = place.load(Ordering::Relaxed);
            // Relaxed: what is taken was published by `tail`.
            match self
                .head
                .compare_exchange(head, head + 1, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => {
                    return Some(Taken {
                        lane: (item >> 32) as u32,
                        slot: item as u32,
                        more: head + 1 < tail,
                    });
                }
                Err(now) => head = now,
            }
        }
    }

    fn place(&self, number: u64) -> &AtomicU64 {
        &self.queue[number as usize & (self.queue.len() - 1)]
    }

    fn announce(&self) {
        let mut asleep = 0;
        // All words before the first wake: who is woken looks at them with loads, and sees as much as was seen here.
        for word in &self.idle {
            // Release: pairs with the Acquire in `poll_run`. A load would let a worker that goes to sleep and this miss each
            // other.
            asleep |= word.fetch_add(0, Ordering::Release) & WORKERS;
        }
        if asleep != 0 {
            self.wake_one();
        }
    }

    /// Wakes a worker that sleeps, if there is one.
    fn wake_one(&self) {
        for at in 0..self.idle.len() {
            if self.wake_of(at) {
                return;
            }
        }
    }

    /// Wakes a worker of the idle word at `at` that sleeps, if there is one.
    fn wake_of(&self, at: usize) -> bool {
        let word = &self.idle[at];
        loop {
            // Relaxed: the exchange below decides.
            let idle = word.load(Ordering::Relaxed) & WORKERS;
            if idle == 0 {
                return false;
            }
            let bit = idle & idle.wrapping_neg();
            // Release: pairs with the Acquires in `poll_run` and `awake`.
            if word.fetch_and(!bit, Ordering::Release) & bit != 0 {
                let worker = at * WORKERS_PER_WORD + bit.trailing_zeros() as usize;
                self.sleepers[worker].wake();
                return true;
            }
        }
    }

    /// Counts a message of `lane` as done; the slot of the next, if there is one.
    fn done(&self, lane: u32, slot: u32) -> Option<u32> {
        // AcqRel: pairs with itself in `submit`.
        let before = self.words[lane as usize].fetch_sub(1, Ordering::AcqRel);
        (before > 1).then(|| self.slots[slot as usize].next.get() as u32)
    }

    fn give_back(&self, slot: u32, done: bool) {
        let at = &self.slots[slot as usize];
        at.done.set(done.into());
        // Relaxed: the exchange below decides.
        let mut top = self.returned.load(Ordering::Relaxed);
        loop {
            at.below.set(top);
            // Release: pairs with the Acquire in `take_returned`. Relaxed when it fails: it is tried again.
            match self.returned.compare_exchange(
                top,
                u64::from(slot) + 1,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => break,
                Err(now) => top = now,
            }
        }
        if top == 0 {
            self.dispatcher.wake();
        }
    }

    /// The top of all that has come back, plus one; 0 when nothing has.
    fn take_returned(&self) -> u64 {
        // Relaxed: who comes later wakes the dispatcher, which has registered before it looked.
        if self.returned.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        // Acquire: pairs with the Release in `give_back`.
        self.returned.swap(0, Ordering::Acquire)
    }
}

impl<'l, M> Run<'l, M> {
    fn new(lanes: &'l Lanes<M>, lane: u32, slot: u32) -> Self {
        let held = Some(lanes.slots[slot as usize].message.hold());
        Self {
            lanes,
            lane,
            slot,
            held,
        }
    }

    /// Gives the message back as done, and goes on with the next of the lane if there is one.
    pub fn done(mut self) -> Option<Run<'l, M>> {
        let lanes = self.lanes;
        self.held = None;
        // First this: afterwards the slot is the dispatcher's.
        let next = lanes.done(self.lane, self.slot);
        lanes.give_back(self.slot, true);
        next.map(|slot| Run::new(lanes, self.lane, slot))
    }

    /// Gives the message back as not done: the lane stands still until the dispatcher lets it go on.
    pub fn park(self) {}
}

impl<M> Drop for Run<'_, M> {
    fn drop(&mut self) {
        if self.held.take().is_some() {
            self.lanes.give_back(self.slot, false);
        }
    }
}

impl<M> Deref for Run<'_, M> {
    type Target = M;
    fn deref(&self) -> &M {
        self.held.as_deref().expect("there until it is given back")
    }
}

impl<M> DerefMut for Run<'_, M> {
    fn deref_mut(&mut self) -> &mut M {
        self.held
            .as_deref_mut()
            .expect("there until it is given back")
    }
}

impl<M> Slot<M> {
    fn new() -> Self {
        Self {
            message: Hand::new(),
            next: Plain::new(0),
            below: Plain::new(0),
            done: Plain::new(0),
        }
    }
}

impl<K> Room<K> {
    fn new() -> Self {
        Self {
            key: None,
            out: 0,
            last: NONE,
            older: NONE,
            newer: NONE,
        }
    }
}
