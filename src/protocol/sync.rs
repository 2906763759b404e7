//! The sync facade: every atomic, lock and waker a protocol may touch, and nothing else.
//!
//! The models compile the protocol files again with their own `sync` beside them: over
//! loom, over shuttle and over plain threads with real memory. What is missing here is missing
//! there: add a primitive to all of them or to none.

use atomic_refcell::{AtomicRefCell, AtomicRefMut};
use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};

pub use atomic_waker::AtomicWaker;
pub use crossbeam_utils::CachePadded;
pub use std::sync::Arc;
pub use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How many stripes a striped protocol has. A power of two.
pub const STRIPES: usize = 16;

/// The calling thread's home stripe, below [`STRIPES`].
///
/// Threads take turns, so the first sixteen never share one.
pub fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    // Relaxed: a spread, not an order; two threads on one stripe are slower, not wrong.
    thread_local!(static HOME: usize = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES);
    HOME.with(|home| *home)
}

thread_local!(static LOCKS: Cell<u64> = const { Cell::new(0) });

/// How often the calling thread has taken a lock of ours since it started.
pub fn locks_taken() -> u64 {
    LOCKS.get()
}

/// A lock for the cold path. It counts its acquisitions, so that a test can show the hot path
/// takes none. `parking_lot`'s inside: ThreadSanitizer understands it.
#[derive(Default)]
pub struct Mutex<T>(parking_lot::Mutex<T>);

impl<T> Mutex<T> {
    /// A lock around `value`.
    pub const fn new(value: T) -> Self {
        Self(parking_lot::Mutex::new(value))
    }

    /// Waits for the lock. Never poisoned: no protocol runs foreign code under one.
    pub fn lock(&self) -> parking_lot::MutexGuard<'_, T> {
        LOCKS.set(LOCKS.get() + 1);
        self.0.lock()
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

/// A shared value replaced whole; readers take no lock and never wait.
pub struct ArcCell<T>(arc_swap::ArcSwap<T>);

impl<T> ArcCell<T> {
    /// A cell that holds `value`.
    pub fn new(value: Arc<T>) -> Self {
        Self(arc_swap::ArcSwap::new(value))
    }

    /// The value now. The guard is for the length of one operation: keep it across an await and
    /// it costs what a clone of the `Arc` does.
    pub fn load(&self) -> impl Deref<Target = Arc<T>> + use<T> {
        self.0.load()
    }

    /// Replaces the value.
    pub fn store(&self, value: Arc<T>) {
        self.0.store(value);
    }

    /// Replaces the value and gives the one before.
    pub fn swap(&self, value: Arc<T>) -> Arc<T> {
        self.0.swap(value)
    }
}

/// A word that the protocol's own orderings protect: whoever touches it is alone with it.
///
/// In the models it is plain memory, so an ordering that is too weak is a reported race. Here it
/// is a relaxed atomic, because `src` forbids unsafe code; both cost the same.
#[derive(Default)]
pub struct Plain(AtomicU64);

impl Plain {
    /// A word that holds `value`.
    pub const fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    /// The value now.
    #[inline]
    pub fn get(&self) -> u64 {
        // Relaxed: the protocol orders the accesses; the models check that it does.
        self.0.load(Ordering::Relaxed)
    }

    /// Replaces the value.
    #[inline]
    pub fn set(&self, value: u64) {
        // Relaxed: as in `get`.
        self.0.store(value, Ordering::Relaxed);
    }
}

/// A number that one task notes for others to look at. It orders nothing: who decides by it must be content with an older one.
#[derive(Default)]
pub struct Noted(CachePadded<AtomicU64>);

impl Noted {
    /// The number now, or one that was noted a moment ago.
    pub fn get(&self) -> u64 {
        // Relaxed: only looked at.
        self.0.load(Ordering::Relaxed)
    }

    /// Notes another.
    pub fn set(&self, number: u64) {
        // Relaxed: as in `get`.
        self.0.store(number, Ordering::Relaxed);
    }
}

/// A place for a value that goes from hand to hand: who puts it in or takes it out is alone with it, by the
/// protocol's own orderings, as with [`Plain`].
///
/// In the models it is plain memory. Here it is a cell that refuses instead of waiting, because `src` forbids unsafe
/// code: no lock, and a protocol that is wrong panics.
pub struct Hand<T>(AtomicRefCell<Option<T>>);

impl<T> Hand<T> {
    /// An empty place.
    pub const fn new() -> Self {
        Self(AtomicRefCell::new(None))
    }

    /// Puts a value in.
    pub fn put(&self, value: T) {
        *self.0.borrow_mut() = Some(value);
    }

    /// Takes the value out.
    ///
    /// # Panics
    ///
    /// When there is none: it was not put in, or was taken twice.
    pub fn take(&self) -> T {
        self.0.borrow_mut().take().expect("a value is taken once")
    }

    /// Has the value in its place, alone, until what this gives is dropped.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn hold(&self) -> Held<'_, T> {
        Held(AtomicRefMut::map(self.0.borrow_mut(), |place| {
            place.as_mut().expect("a value that was put in")
        }))
    }
}

/// A value in its [`Hand`], and nobody else at it.
pub struct Held<'h, T>(AtomicRefMut<'h, T>);

impl<T> Deref for Held<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> Default for Hand<T> {
    fn default() -> Self {
        Self::new()
    }
}
