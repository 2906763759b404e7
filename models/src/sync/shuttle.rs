//! The sync facade over shuttle. The same names as `src/protocol/sync.rs`.

use super::engine;
use crate::atomics::recorded_atomic;
use crate::recorder::{self, Access};
use std::cell::{Cell, UnsafeCell};
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::task::Waker;
use std::thread::panicking;

pub use crossbeam_utils::CachePadded;
pub use std::sync::Arc;
pub use std::sync::atomic::Ordering;

type Site = &'static Location<'static>;

/// Two stripes are enough to have two.
pub const STRIPES: usize = 2;

/// The thread's number, so that the same schedule always meets on the same stripe.
pub fn stripe() -> usize {
    engine::who() % STRIPES
}

/// Shuttle runs everything as if it were sequentially consistent, whatever the order says.
fn ordering(_: &'static str, _: Ordering, _: Site) -> Ordering {
    Ordering::SeqCst
}

/// Shuttle treats all steps alike.
#[derive(Default)]
struct LoadsMeet;

impl LoadsMeet {
    fn meet(&self) {}
}

recorded_atomic!(AtomicU64, shuttle::sync::atomic::AtomicU64, AtomicU64, u64);
recorded_atomic!(
    AtomicUsize,
    shuttle::sync::atomic::AtomicUsize,
    AtomicUsize,
    usize
);

/// A step that is recorded, for what is one atomic step to shuttle.
struct Step {
    point: engine::Point,
    object: usize,
}

impl Step {
    fn new() -> Self {
        Self {
            point: engine::Point::default(),
            object: recorder::object(),
        }
    }

    fn take(&self, what: &'static str, access: Access, site: Site) {
        if !panicking() {
            self.point.pass();
            recorder::operation(what, 0, self.object, access, site);
        }
    }
}

/// A lock that shuttle schedules. The value lies beside it, so that a failing execution can
/// unwind through a locked one.
pub struct Mutex<T> {
    lock: shuttle::sync::Mutex<()>,
    value: UnsafeCell<T>,
    object: usize,
}

// SAFETY: the value is reached through the guard only, and shuttle gives the lock to one thread;
// all of them are coroutines of one thread of the machine.
unsafe impl<T: Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// A lock around `value`.
    pub fn new(value: T) -> Self {
        Self {
            lock: shuttle::sync::Mutex::new(()),
            value: UnsafeCell::new(value),
            object: recorder::object(),
        }
    }

    /// Waits for the lock.
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let lock = (!panicking()).then(|| {
            let lock = self.lock.lock();
            lock.unwrap_or_else(std::sync::PoisonError::into_inner)
        });
        if lock.is_some() {
            recorder::operation("lock", 0, self.object, Access::Write, Location::caller());
        }
        MutexGuard {
            value: self.value.get(),
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
    _lock: Option<shuttle::sync::MutexGuard<'m, ()>>,
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

/// The real cell behind a scheduling point: its operations are atomic steps, and no thread is
/// stopped inside one.
pub struct ArcCell<T> {
    cell: arc_swap::ArcSwap<T>,
    step: Step,
}

impl<T> ArcCell<T> {
    /// A cell that holds `value`.
    pub fn new(value: Arc<T>) -> Self {
        Self {
            cell: arc_swap::ArcSwap::new(value),
            step: Step::new(),
        }
    }

    /// The value now.
    #[track_caller]
    pub fn load(&self) -> impl Deref<Target = Arc<T>> + use<T> {
        self.step
            .take("load cell", Access::Read, Location::caller());
        self.cell.load()
    }

    /// Replaces the value.
    #[track_caller]
    pub fn store(&self, value: Arc<T>) {
        self.swap(value);
    }

    /// Replaces the value and gives the one before.
    #[track_caller]
    pub fn swap(&self, value: Arc<T>) -> Arc<T> {
        self.step
            .take("swap cell", Access::Write, Location::caller());
        self.cell.swap(value)
    }
}

/// The waker that receipts wait with: one atomic step each to register, to take and wake.
pub struct AtomicWaker {
    waker: std::sync::Mutex<Option<Waker>>,
    step: Step,
}

impl AtomicWaker {
    /// A cell without a waker.
    pub fn new() -> Self {
        Self {
            waker: std::sync::Mutex::new(None),
            step: Step::new(),
        }
    }

    /// Replaces the waker.
    #[track_caller]
    pub fn register(&self, waker: &Waker) {
        self.step
            .take("register", Access::Write, Location::caller());
        self.replace(Some(waker.clone()));
    }

    /// Takes the waker out and wakes it.
    #[track_caller]
    pub fn wake(&self) {
        self.step.take("wake", Access::Write, Location::caller());
        let waker = self.replace(None);
        if !panicking() {
            waker.into_iter().for_each(Waker::wake);
        }
    }

    fn replace(&self, waker: Option<Waker>) -> Option<Waker> {
        let mut place = self.waker.lock().expect("never poisoned");
        std::mem::replace(&mut *place, waker)
    }
}

impl Default for AtomicWaker {
    fn default() -> Self {
        Self::new()
    }
}

/// A word that the protocol's orderings protect. Shuttle tracks no races, so an access gives the
/// others a chance and then says whether they used it.
pub struct Plain {
    value: Cell<u64>,
    readers: Cell<u32>,
    writing: Cell<bool>,
    point: engine::Point,
}

// SAFETY: all threads of a shuttle execution are coroutines of one thread of the machine.
unsafe impl Sync for Plain {}

impl Plain {
    /// A word that holds `value`.
    pub fn new(value: u64) -> Self {
        Self {
            value: Cell::new(value),
            readers: Cell::new(0),
            writing: Cell::new(false),
            point: engine::Point::default(),
        }
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        if !panicking() {
            assert!(!self.writing.get(), "a race: read while another writes");
            self.readers.set(self.readers.get() + 1);
            self.point.pass();
            self.readers.set(self.readers.get() - 1);
        }
        self.value.get()
    }

    /// Replaces the value.
    pub fn set(&self, value: u64) {
        if !panicking() {
            let alone = !self.writing.get() && self.readers.get() == 0;
            assert!(alone, "a race: written while another is there");
            self.writing.set(true);
            self.point.pass();
            self.writing.set(false);
        }
        self.value.set(value);
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
