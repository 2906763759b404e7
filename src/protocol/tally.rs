//! Tally: counting without losing, and without two threads sharing a cache line.
//!
//! # Invariants
//!
//! * `sum_of_windows_is_the_total`: what successive windows report adds up to the total; each
//!   window reader has its own, and none takes from another.
//! * `pairs_are_read_together`: of two counters where the second is counted after the first,
//!   `read_pair` never shows more of the second than of the first.
//! * `monotone`: a total that was read is never read smaller.
//!
//! # States
//!
//! One row of counters a stripe. A counter only grows, so there is nothing to reset and
//! nothing to lose; a window is the difference of two totals and belongs to its reader.
//!
//! # Orderings
//!
//! | site               | order   | pairs with       | if weaker                                  |
//! |--------------------|---------|------------------|--------------------------------------------|
//! | `add`              | Release | `total`          | a settled publish that was never begun: in flight goes below zero |
//! | `total`            | Acquire | `add`            | same                                       |
//!
//! A later counter is read before an earlier one (`read_pair`): whatever of the later was seen, its
//! part of the earlier happened before it.

use super::sync::{AtomicU64, CachePadded, Ordering, STRIPES, stripe};
use std::array;

/// `N` counters that only grow.
pub struct Tally<const N: usize> {
    rows: [CachePadded<[AtomicU64; N]>; STRIPES],
}

/// What a window reader has seen so far. One for every reader and counter.
#[derive(Debug, Default)]
pub struct Window {
    seen: u64,
}

impl<const N: usize> Tally<N> {
    /// All counters at zero.
    pub fn new() -> Self {
        Self {
            rows: array::from_fn(|_| CachePadded::new(array::from_fn(|_| AtomicU64::new(0)))),
        }
    }

    /// Adds `amount` to `counter`.
    pub fn add(&self, counter: usize, amount: u64) {
        // Release: pairs with the Acquire in `total`.
        self.rows[stripe()][counter].fetch_add(amount, Ordering::Release);
    }

    /// What `counter` has come to.
    pub fn total(&self, counter: usize) -> u64 {
        // Acquire: pairs with the Release in `add`.
        self.rows
            .iter()
            .map(|row| row[counter].load(Ordering::Acquire))
            .fold(0, u64::wrapping_add)
    }

    /// `earlier` and `later`, where each count of `later` comes after its count of `earlier`.
    pub fn read_pair(&self, earlier: usize, later: usize) -> (u64, u64) {
        let later = self.total(later);
        (self.total(earlier), later)
    }

    /// What `counter` has gained since this reader looked last.
    pub fn window(&self, counter: usize, window: &mut Window) -> u64 {
        let total = self.total(counter);
        total.wrapping_sub(std::mem::replace(&mut window.seen, total))
    }
}

impl<const N: usize> Default for Tally<N> {
    fn default() -> Self {
        Self::new()
    }
}
