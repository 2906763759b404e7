//! The sync facade over plain threads: the one that ships, but with real memory where the models
//! want to see a race. This world is what ThreadSanitizer runs.

use super::engine;
use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};

#[path = "../../../src/protocol/sync.rs"]
#[allow(dead_code, unreachable_pub)] // what is replaced below
mod shipped;

pub use shipped::{
    Arc, ArcCell, AtomicU64, AtomicUsize, AtomicWaker, CachePadded, Mutex, Ordering,
};

/// As many as a model has threads.
pub const STRIPES: usize = 4;

/// The thread's number.
pub fn stripe() -> usize {
    engine::who() % STRIPES
}

/// A word that the protocol's orderings protect: real memory, so that a race is one.
#[derive(Default)]
pub struct Plain(UnsafeCell<u64>);

// SAFETY: that nobody else is there is what the protocol promises and ThreadSanitizer checks.
unsafe impl Sync for Plain {}

impl Plain {
    /// A word that holds `value`.
    pub const fn new(value: u64) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        // SAFETY: as for `Sync`. Volatile: the access must not be optimized away.
        unsafe { self.0.get().read_volatile() }
    }

    /// Replaces the value.
    pub fn set(&self, value: u64) {
        // SAFETY: as in `get`.
        unsafe { self.0.get().write_volatile(value) }
    }
}

/// A place for a value that goes from hand to hand: real memory, so that a race is one.
pub struct Hand<T>(UnsafeCell<Option<T>>);

// SAFETY: as for `Plain`; the value itself goes from thread to thread.
unsafe impl<T: Send> Sync for Hand<T> {}

impl<T> Hand<T> {
    /// An empty place.
    pub const fn new() -> Self {
        Self(UnsafeCell::new(None))
    }

    /// Puts a value in.
    pub fn put(&self, value: T) {
        // SAFETY: as for `Sync`.
        unsafe { *self.0.get() = Some(value) }
    }

    /// Takes the value out.
    pub fn take(&self) -> T {
        // SAFETY: as for `Sync`.
        unsafe { (*self.0.get()).take() }.expect("a value is taken once")
    }

    /// Has the value in its place, alone, until what this gives is dropped.
    pub fn hold(&self) -> Held<'_, T> {
        // SAFETY: as for `Sync`.
        let value = unsafe { (*self.0.get()).as_mut() };
        Held(value.expect("a value that was put in"))
    }
}

/// A value in its [`Hand`], and nobody else at it.
pub struct Held<'h, T>(&'h mut T);

impl<T> Deref for Held<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0
    }
}

impl<T> Default for Hand<T> {
    fn default() -> Self {
        Self::new()
    }
}
