//! What a body knows without asking the protocol.

use super::engine::Point;
use std::sync::atomic::{AtomicU64, Ordering};

/// A counter outside of the protocol that is always exact and orders no memory.
///
/// It is a step of its own for the checker: who counts itself out just before it gives something
/// back must be caught while it still counts, so others have to be tried in between.
#[derive(Default)]
pub struct Oracle {
    count: AtomicU64,
    point: Point,
}

impl Oracle {
    /// A counter at 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one more; the new count.
    pub fn add(&self) -> u64 {
        self.add_many(1)
    }

    /// Counts one less; the new count.
    pub fn take(&self) -> u64 {
        self.take_many(1)
    }

    /// Counts `amount` more; the new count.
    pub fn add_many(&self, amount: u64) -> u64 {
        self.point.pass();
        self.count.fetch_add(amount, Ordering::Relaxed) + amount
    }

    /// Counts `amount` less; the new count.
    pub fn take_many(&self, amount: u64) -> u64 {
        self.point.pass();
        self.count.fetch_sub(amount, Ordering::Relaxed) - amount
    }

    /// Replaces the count.
    pub fn set(&self, count: u64) {
        self.point.pass();
        self.count.store(count, Ordering::Relaxed);
    }

    /// The count now.
    pub fn count(&self) -> u64 {
        self.point.pass();
        self.count.load(Ordering::Relaxed)
    }
}
