//! The sync facade over loom. The same names as `src/protocol/sync.rs`.

use super::engine;
use crate::atomics::recorded_atomic;
use crate::recorder::{self, Access};
use crate::weaken::ordering;
use std::cell::{RefCell, UnsafeCell};
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::task::Waker;
use std::thread::panicking;

pub use crossbeam_utils::CachePadded;
pub use std::sync::Arc;
pub use std::sync::atomic::Ordering;

type Site = &'static Location<'static>;

/// Two stripes are enough to have two, and keep the executions few.
pub const STRIPES: usize = 2;

/// The thread's number, so that the same schedule always meets on the same stripe.
pub fn stripe() -> usize {
    engine::who() % STRIPES
}

/// Makes the loads of one atomic steps that depend on each other.
///
/// Loom remembers only the last access to an atomic and takes two loads for independent. So when
/// a thread loads a word and then writes it, loom has forgotten the other threads that had loaded
/// it before, and never tries to let the write come first: a reader beside a copy-on-write map
/// gets one execution.
#[derive(Default)]
struct LoadsMeet(engine::Point);

impl LoadsMeet {
    fn meet(&self) {
        self.0.pass();
    }
}

recorded_atomic!(AtomicU64, loom::sync::atomic::AtomicU64, AtomicU64, u64);
recorded_atomic!(
    AtomicUsize,
    loom::sync::atomic::AtomicUsize,
    AtomicUsize,
    usize
);

thread_local! {
    /// The numbers of the threads that hold a lock, once for each.
    static HOLDERS: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Whether the calling thread holds a lock of the facade's.
pub(crate) fn is_locked() -> bool {
    HOLDERS.with_borrow(|holders| holders.contains(&engine::who()))
}

/// An execution begins: nobody holds anything.
pub(crate) fn forget_locks() {
    HOLDERS.with_borrow_mut(Vec::clear);
}

/// A lock that loom schedules. The value lies beside it, so that a failing execution can unwind
/// through a locked one.
pub struct Mutex<T> {
    lock: loom::sync::Mutex<()>,
    value: UnsafeCell<T>,
    object: usize,
}

// SAFETY: the value is reached through the guard only, and loom gives the lock to one thread; all
// of them are coroutines of one thread of the machine.
unsafe impl<T: Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// A lock around `value`.
    pub fn new(value: T) -> Self {
        Self {
            lock: loom::sync::Mutex::new(()),
            value: UnsafeCell::new(value),
            object: recorder::object(),
        }
    }

    /// Waits for the lock.
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let lock = (!panicking()).then(|| self.lock.lock().expect("loom's lock is never poisoned"));
        if lock.is_some() {
            recorder::operation("lock", 0, self.object, Access::Write, Location::caller());
        }
        let holder = lock.is_some().then(engine::who);
        HOLDERS.with_borrow_mut(|holders| holders.extend(holder));
        MutexGuard {
            value: self.value.get(),
            holder,
            _lock: lock,
        }
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> std::fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mutex")
    }
}

/// The right to use what the lock protects.
pub struct MutexGuard<'m, T> {
    value: *mut T,
    holder: Option<usize>,
    _lock: Option<loom::sync::MutexGuard<'m, ()>>,
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        HOLDERS.with_borrow_mut(|holders| {
            if let Some(at) = holders.iter().position(|who| Some(*who) == self.holder) {
                holders.swap_remove(at);
            }
        });
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock, or the execution has failed and nobody else runs.
        unsafe { &*self.value }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`.
        unsafe { &mut *self.value }
    }
}

/// A shared value replaced whole: one loom atomic that is an index into all values there ever
/// were. An index may be read stale, which the real cell never does more of; a lock around the
/// value instead would order what the real cell leaves unordered, and hide bugs.
///
/// Its orderings are arc-swap's, which is trusted, so they are not weakened.
pub struct ArcCell<T> {
    index: loom::sync::atomic::AtomicUsize,
    loads: LoadsMeet,
    object: usize,
    values: std::sync::Mutex<Vec<Arc<T>>>,
}

impl<T> ArcCell<T> {
    /// A cell that holds `value`.
    pub fn new(value: Arc<T>) -> Self {
        Self {
            index: loom::sync::atomic::AtomicUsize::new(0),
            loads: LoadsMeet::default(),
            object: recorder::object(),
            values: std::sync::Mutex::new(vec![value]),
        }
    }

    /// The value now, or one that a thread without an edge to the last store may still see.
    #[track_caller]
    pub fn load(&self) -> impl Deref<Target = Arc<T>> + use<T> {
        if panicking() {
            return Loaded(self.value(0));
        }
        self.loads.meet();
        let index = self.index.load(Ordering::Acquire);
        let site = Location::caller();
        recorder::operation(
            "load -> version",
            index as u64,
            self.object,
            Access::Read,
            site,
        );
        Loaded(self.value(index))
    }

    /// Replaces the value.
    #[track_caller]
    pub fn store(&self, value: Arc<T>) {
        self.swap(value);
    }

    /// Replaces the value and gives the one before.
    #[track_caller]
    pub fn swap(&self, value: Arc<T>) -> Arc<T> {
        if panicking() {
            return value;
        }
        let next = {
            let mut values = self.values.lock().expect("never poisoned");
            values.push(value);
            values.len() - 1
        };
        let before = self.index.swap(next, Ordering::AcqRel);
        let site = Location::caller();
        recorder::operation(
            "swap to version",
            next as u64,
            self.object,
            Access::Write,
            site,
        );
        self.value(before)
    }

    fn value(&self, index: usize) -> Arc<T> {
        self.values.lock().expect("never poisoned")[index].clone()
    }
}

struct Loaded<T>(Arc<T>);

impl<T> Deref for Loaded<T> {
    type Target = Arc<T>;
    fn deref(&self) -> &Arc<T> {
        &self.0
    }
}

/// Loom's own model of the waker that receipts wait with.
pub struct AtomicWaker {
    waker: loom::future::AtomicWaker,
    object: usize,
}

impl AtomicWaker {
    /// A cell without a waker.
    pub fn new() -> Self {
        Self {
            waker: loom::future::AtomicWaker::new(),
            object: recorder::object(),
        }
    }

    /// Replaces the waker.
    #[track_caller]
    pub fn register(&self, waker: &Waker) {
        if !panicking() {
            self.waker.register_by_ref(waker);
            recorder::operation(
                "register",
                0,
                self.object,
                Access::Write,
                Location::caller(),
            );
        }
    }

    /// Takes the waker out and wakes it.
    #[track_caller]
    pub fn wake(&self) {
        if !panicking() {
            let waker = self.waker.take_waker();
            let found = u64::from(waker.is_some());
            recorder::operation(
                "wake",
                found,
                self.object,
                Access::Write,
                Location::caller(),
            );
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

impl Default for AtomicWaker {
    fn default() -> Self {
        Self::new()
    }
}

/// A word that the protocol's orderings protect: plain memory, so a missing edge is a reported
/// race.
pub struct Plain(loom::cell::UnsafeCell<u64>);

// SAFETY: loom checks every access and fails the execution that has a race.
unsafe impl Sync for Plain {}

impl Plain {
    /// A word that holds `value`.
    pub fn new(value: u64) -> Self {
        Self(loom::cell::UnsafeCell::new(value))
    }

    /// The value now.
    #[track_caller]
    pub fn get(&self) -> u64 {
        if panicking() {
            return 0;
        }
        // SAFETY: loom has checked that nobody writes.
        self.0.with(|value| unsafe { *value })
    }

    /// Replaces the value.
    #[track_caller]
    pub fn set(&self, value: u64) {
        if !panicking() {
            // SAFETY: loom has checked that nobody else is here.
            self.0.with_mut(|place| unsafe { *place = value });
        }
    }
}

impl Default for Plain {
    fn default() -> Self {
        Self::new(0)
    }
}

/// A place for a value that goes from hand to hand: a [`Plain`] word says whether anybody else is there.
pub struct Hand<T> {
    there: Plain,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: all threads of an execution are coroutines of one thread of the machine.
unsafe impl<T: Send> Sync for Hand<T> {}

impl<T> Hand<T> {
    /// An empty place.
    pub fn new() -> Self {
        Self {
            there: Plain::new(0),
            value: UnsafeCell::new(None),
        }
    }

    /// Puts a value in.
    pub fn put(&self, value: T) {
        self.there.set(1);
        // SAFETY: as for `Sync`; no switch happens here.
        unsafe { *self.value.get() = Some(value) }
    }

    /// Takes the value out.
    pub fn take(&self) -> T {
        self.there.set(0);
        // SAFETY: as in `put`.
        unsafe { (*self.value.get()).take() }.expect("a value is taken once")
    }

    /// Has the value in its place, alone, until what this gives is dropped.
    #[track_caller]
    pub fn hold(&self) -> Held<'_, T> {
        self.there.set(1);
        // SAFETY: as in `put`; that nobody else touches it while it is held is what the word checks, at both ends.
        let value = unsafe { (*self.value.get()).as_mut() };
        Held {
            there: &self.there,
            value: value.expect("a value that was put in"),
        }
    }
}

/// A value in its [`Hand`], and nobody else at it.
pub struct Held<'h, T> {
    there: &'h Plain,
    value: &'h mut T,
}

impl<T> Deref for Held<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.value
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value
    }
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        self.there.set(1);
    }
}

impl<T> Default for Hand<T> {
    fn default() -> Self {
        Self::new()
    }
}
