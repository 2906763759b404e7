//! Interest: what should be consumed, and who tells the consumer.
//!
//! Any thread wants keys, holds, pauses and withdraws them. One consumer applies that, and says how far it is. Who has paused
//! something can wait until the consumer has applied it.
//!
//! # Invariants
//!
//! * `consumed_becomes_desired`: once nothing changes any more, what the consumer has applied is what is wanted of every
//!   key, and it is not told that it is behind.
//! * `no_lost_wakeup`: a consumer that waits is woken by every change, and who waits for the consumer is woken when it has
//!   applied enough or has ended.
//! * `held_until_activated`: what ends a hold is `activate`. It brings back nothing that was withdrawn and resumes nothing
//!   that is paused.
//! * `not_one_message_is_taken_while_held`: who was told that a hold or a pause is applied sees all that was taken before it;
//!   from there on nothing is taken, until that changes.
//! * `restore_converges_on_desired`: a new consumer is given all that is wanted, as it is wanted, whatever the lost one
//!   still has to say.
//!
//! # States
//!
//! Everything is under one lock, but for one word that says whether the consumer is behind: it is written under the lock and
//! read without. `version` counts the changes, `applied` is what the consumer has applied. Losing a consumer is a change like the
//! others: what the lost one says late is of a version before `floor`, the least that a new one can have been given.
//!
//! A key carries two marks, since it may be held and paused at a time:
//!
//! ```text
//!               activate                 want Paused
//!        Held ────────────▶ Active  ◀────────────────▶ Paused
//!   want Paused: Held until activate,    want Active
//!   then Paused
//! ```
//!
//! # Orderings
//!
//! | site         | order   | pairs with | if weaker                                             |
//! |--------------|---------|------------|-------------------------------------------------------|
//! | every access | Relaxed | –          | the word only says who has to lock; the lock orders the rest |
//!
//! The second look of `poll_change` needs no ordering of its own: a wake that came before the registration is ordered before it
//! by the waker's cell, and so is what was written before that wake.

use super::sync::{AtomicU64, AtomicWaker, CachePadded, Mutex, Ordering};
use std::collections::BTreeMap;
use std::mem;
use std::task::{Context, Poll, Waker};

/// What is wanted of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Known to the consumer, and nothing is taken before it is activated.
    Held,
    /// Taken.
    Active,
    /// Nothing is taken for now.
    Paused,
}

/// What is wanted of each key, and how much of that the consumer has applied.
pub struct Interest<K> {
    /// 1: what the consumer has applied is not what is wanted.
    behind: CachePadded<AtomicU64>,
    desired: Mutex<Desired<K>>,
    consumer: AtomicWaker,
}

/// A place among those who wait. Unless it was told `Ready`, it must go to [`Interest::cancel`].
#[derive(Debug, Default)]
pub struct Waiter(Option<u64>);

struct Desired<K> {
    keys: BTreeMap<K, Marks>,
    version: u64,
    applied: u64,
    /// What is said of an earlier version, a lost consumer says.
    floor: u64,
    ended: bool,
    waiting: Vec<Waiting>,
    next_ticket: u64,
}

#[derive(Clone, Copy, Default)]
struct Marks {
    held: bool,
    paused: bool,
}

struct Waiting {
    ticket: u64,
    version: u64,
    waker: Waker,
}

impl<K: Ord + Clone> Interest<K> {
    /// Nothing is wanted, and that is applied.
    pub fn new() -> Self {
        Self {
            behind: CachePadded::new(AtomicU64::new(0)),
            desired: Mutex::new(Desired {
                keys: BTreeMap::new(),
                version: 0,
                applied: 0,
                floor: 0,
                ended: false,
                waiting: Vec::new(),
                next_ticket: 0,
            }),
            consumer: AtomicWaker::new(),
        }
    }

    /// Wants `key`, or something else of it than before; other keys stay as they are. Gives the version that says so.
    ///
    /// `Active` resumes what is paused and leaves held what is held.
    pub fn want(&self, key: K, want: Want) -> u64 {
        self.change(|desired| {
            let before = desired.keys.get(&key).copied();
            let mut marks = before.unwrap_or_default();
            match want {
                Want::Held => marks.held = true,
                Want::Active => marks.paused = false,
                Want::Paused => marks.paused = true,
            }
            desired.keys.insert(key, marks);
            before.map(Marks::want) != Some(marks.want())
        })
    }

    /// Wants `key` no longer. Gives the version that says so.
    pub fn withdraw(&self, key: &K) -> u64 {
        self.change(|desired| desired.keys.remove(key).is_some())
    }

    /// Ends the hold of `key`. `false`: it was not held, and nothing has changed.
    pub fn activate(&self, key: &K) -> bool {
        let mut held = false;
        self.change(|desired| {
            held = (desired.keys.get_mut(key)).is_some_and(|marks| mem::take(&mut marks.held));
            held
        });
        held
    }

    /// Nothing is applied any more: the next [`poll_change`](Self::poll_change) gives all that is wanted. For a new
    /// consumer in the place of a lost one, once that takes nothing more. What that still says is not heard.
    pub fn lost(&self) {
        self.change(|desired| {
            desired.floor = desired.version + 1;
            desired.applied = 0;
            true
        });
    }

    /// Changes what is desired, and tells the consumer if `change` says that there is something to tell.
    fn change(&self, change: impl FnOnce(&mut Desired<K>) -> bool) -> u64 {
        let mut desired = self.desired.lock();
        let changed = change(&mut desired);
        if changed {
            desired.version += 1;
            // Relaxed: who sees it takes the lock.
            self.behind.store(1, Ordering::Relaxed);
        }
        let version = desired.version;
        drop(desired);
        if changed {
            self.consumer.wake();
        }
        version
    }

    /// Whether there is something to apply. One load: the consumer looks before each take.
    pub fn changed(&self) -> bool {
        // Relaxed: who is told yes takes the lock; a no that is late is what it would have been before the change.
        self.behind.load(Ordering::Relaxed) != 0
    }

    /// Ready with all that is wanted, and its version, while that is not applied. The consumer's own: one waits at a time.
    pub fn poll_change(&self, cx: &mut Context<'_>) -> Poll<(u64, BTreeMap<K, Want>)> {
        if !self.changed() {
            self.consumer.register(cx.waker());
            // Look again: it may have changed between the look and the registration.
            if !self.changed() {
                return Poll::Pending;
            }
        }
        let desired = self.desired.lock();
        let keys = desired.keys.iter();
        let wants = keys.map(|(key, marks)| (key.clone(), marks.want()));
        Poll::Ready((desired.version, wants.collect()))
    }

    /// The consumer goes by `version` from here on, and is done with what it took before.
    pub fn applied(&self, version: u64) {
        let mut desired = self.desired.lock();
        if version < desired.floor {
            return;
        }
        desired.applied = desired.applied.max(version);
        let behind = desired.applied < desired.version;
        // Relaxed: as in `change`. Under the lock, so that no change is lost from sight.
        self.behind.store(u64::from(behind), Ordering::Relaxed);
        let told = desired.told();
        drop(desired);
        told.into_iter().for_each(Waker::wake);
    }

    /// Ready when the consumer has applied `version` or a later one, or with `false` when it has ended before that. Any
    /// number may wait.
    ///
    /// Call it with the same `version` until it is ready, or give the waiter to [`cancel`](Self::cancel).
    pub fn poll_applied(
        &self,
        waiter: &mut Waiter,
        version: u64,
        cx: &mut Context<'_>,
    ) -> Poll<bool> {
        let mut desired = self.desired.lock();
        if let Some(answer) = desired.answer(version) {
            waiter.0 = None;
            return Poll::Ready(answer);
        }
        desired.wait(waiter, version, cx.waker());
        Poll::Pending
    }

    /// Waits no longer.
    pub fn cancel(&self, waiter: &mut Waiter) {
        if let Some(ticket) = waiter.0.take() {
            let mut desired = self.desired.lock();
            desired.waiting.retain(|waiting| waiting.ticket != ticket);
        }
    }

    /// The consumer has ended for good, and is done with what it took: nobody waits for it any more.
    pub fn end(&self) {
        let mut desired = self.desired.lock();
        desired.ended = true;
        let told = desired.told();
        drop(desired);
        told.into_iter().for_each(Waker::wake);
    }
}

impl<K: Ord + Clone> Default for Interest<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> Desired<K> {
    /// What is to be said to who waits for `version`, if anything.
    fn answer(&self, version: u64) -> Option<bool> {
        let applied = self.applied >= version;
        (applied || self.ended).then_some(applied)
    }

    fn wait(&mut self, waiter: &mut Waiter, version: u64, waker: &Waker) {
        let ticket = *waiter.0.get_or_insert_with(|| {
            self.next_ticket += 1;
            self.next_ticket
        });
        match (self.waiting.iter_mut()).find(|waiting| waiting.ticket == ticket) {
            Some(waiting) => waiting.waker.clone_from(waker),
            // New, or woken and too late: the consumer was lost meanwhile.
            None => self.waiting.push(Waiting {
                ticket,
                version,
                waker: waker.clone(),
            }),
        }
    }

    /// Takes those out whose wait is over. To be woken after the lock.
    fn told(&mut self) -> Vec<Waker> {
        let (told, left): (Vec<_>, _) = mem::take(&mut self.waiting)
            .into_iter()
            .partition(|waiting| self.answer(waiting.version).is_some());
        self.waiting = left;
        told.into_iter().map(|waiting| waiting.waker).collect()
    }
}

impl Marks {
    fn want(self) -> Want {
        match self {
            Self { held: true, .. } => Want::Held,
            Self { paused: true, .. } => Want::Paused,
            _ => Want::Active,
        }
    }
}
