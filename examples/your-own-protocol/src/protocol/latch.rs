//! A latch: one waits until a known number of others have arrived.
//!
//! # Invariants
//!
//! * `opens_after_all_arrived`: whoever is let through sees all that the others did before they arrived.
//! * `last_arrival_wakes`: a waiter does not sleep on when all have arrived.

use super::sync::{AtomicUsize, AtomicWaker, Ordering};
use std::task::{Context, Poll};

/// Opens when as many have arrived as it was made for. One task may wait.
pub struct Latch {
    missing: AtomicUsize,
    waiter: AtomicWaker,
}

impl Latch {
    /// A latch that `arrivals` calls of [`arrive`](Self::arrive) open.
    pub fn new(arrivals: usize) -> Self {
        Self {
            missing: AtomicUsize::new(arrivals),
            waiter: AtomicWaker::new(),
        }
    }

    /// One has arrived. To be called once by each.
    pub fn arrive(&self) {
        // Release: with the waiter's Acquire; what was done before is seen behind the latch.
        if self.missing.fetch_sub(1, Ordering::Release) == 1 {
            self.waiter.wake();
        }
    }

    /// Ready when all have arrived.
    pub fn poll_open(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waiter.register(cx.waker());
        // Looked at after the waker is there: whoever arrives from here on wakes it.
        // Acquire: with the Release of every arrival.
        if self.missing.load(Ordering::Acquire) == 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}
