//! Gate: who may be inside, and when the last of them has left.
//!
//! Every publish holds a pass from the moment it is admitted until its outcome is known. Close
//! shuts the gate, waits for the passes to come back, and only then takes the session away.
//!
//! # Invariants
//!
//! * `closed_admits_nobody`: once `close` has returned, `enter` gives `None`.
//! * `drained_means_nobody_inside`: when `poll_drained` is ready, no pass is out and everything
//!   done under one is visible to the caller.
//! * `last_one_out_wakes`: a closer that saw `Pending` is woken.
//! * `every_closer_sees_the_same_end`: all closers wait for the same passes and all are woken.
//!
//! # States
//!
//! The gate is striped: every stripe is a one-word gate of its own, so that admitting on two
//! threads touches two cache lines. In a stripe bit 0 is the shut bit and the rest counts passes:
//! admitting and closing cannot be torn apart, and no two words have to agree.
//!
//! ```text
//!            enter                close               last pass left
//!   open,n ────────▶ open,n+1 ─────────▶ shut,n+1 ──▶ … ──▶ shut,0 (drained)
//! ```
//!
//! Close is an interval: while it shuts one stripe after the other, `enter` may be admitted or
//! refused; after it has returned only refused. A refused caller counts itself in and straight
//! out again. It may delay `drained` by that long; it is never admitted and never loses the wake.
//!
//! # Orderings
//!
//! | site         | order   | pairs with   | if weaker                                          |
//! |--------------|---------|--------------|----------------------------------------------------|
//! | `enter`      | Relaxed | –            | the word's own order decides; no data              |
//! | `close`      | Relaxed | –            | the bit carries no data                            |
//! | `leave`      | Release | `is_drained` | the closer frees a session that is still being used |
//! | `is_drained` | Acquire | `leave`      | same                                               |
//!
//! The wakers need no ordering of their own: `poll_drained` stores one under the lock *before* it
//! looks again, `leave` takes them under the lock *after* it counts down, so one of the two
//! always sees the other.

use super::sync::{AtomicUsize, CachePadded, Mutex, Ordering, STRIPES, stripe};
use std::array;
use std::mem;
use std::task::{Context, Poll, Waker};

const SHUT: usize = 1;
const PASS: usize = 2;

/// Admits callers until it is closed, and tells every closer when all have left.
pub struct Gate {
    stripes: [CachePadded<AtomicUsize>; STRIPES],
    closers: Mutex<Vec<Waker>>,
}

/// Proof of admission: whoever holds it is counted as inside until it goes to [`Gate::leave`].
///
/// It names the stripe it was counted on, because a task may leave on another thread than it
/// came. It has no destructor: it is meant to be stored in the ledger slot of the publish.
#[must_use = "you are counted as inside until the pass is given to `leave`"]
#[derive(Debug)]
pub struct Pass {
    stripe: u8,
}

impl Gate {
    /// An open gate with nobody inside.
    pub fn new() -> Self {
        Self {
            stripes: array::from_fn(|_| CachePadded::new(AtomicUsize::new(0))),
            closers: Mutex::new(Vec::new()),
        }
    }

    /// Admits the caller, or `None` once the gate is closed.
    pub fn enter(&self) -> Option<Pass> {
        let stripe = stripe();
        // Relaxed: the word's own order decides. Counting first and looking second is what
        // rules out check-then-act.
        let before = self.stripes[stripe].fetch_add(PASS, Ordering::Relaxed);
        let pass = Pass {
            stripe: stripe as u8,
        };
        if before & SHUT != 0 {
            self.leave(pass);
            return None;
        }
        Some(pass)
    }

    /// Counts the caller out, and wakes the closers if it was the last.
    pub fn leave(&self, pass: Pass) {
        // Release: pairs with the Acquire in `is_drained`.
        let before = self.stripes[usize::from(pass.stripe)].fetch_sub(PASS, Ordering::Release);
        if before == SHUT | PASS {
            // Its own statement: the guard is gone before a waker runs.
            let closers = mem::take(&mut *self.closers.lock());
            closers.into_iter().for_each(Waker::wake);
        }
    }

    /// Refuses every later `enter`. Idempotent; does not wait.
    pub fn close(&self) {
        for stripe in &self.stripes {
            // Relaxed: the bit carries no data.
            stripe.fetch_or(SHUT, Ordering::Relaxed);
        }
    }

    /// Ready once the gate is closed and every pass is back. Any number of closers may wait.
    pub fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_drained() {
            return Poll::Ready(());
        }
        {
            let mut closers = self.closers.lock();
            if !closers.iter().any(|waker| waker.will_wake(cx.waker())) {
                closers.push(cx.waker().clone());
            }
        }
        // Look again: the last pass may have left between the look and the lock.
        if self.is_drained() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Whether close has begun, as far as this stripe has heard. For counting, not for admitting.
    pub fn is_shut(&self) -> bool {
        // Relaxed: the bit carries no data.
        self.stripes[stripe()].load(Ordering::Relaxed) & SHUT != 0
    }

    /// Whether the gate is closed and every pass is back.
    pub fn is_drained(&self) -> bool {
        // Acquire: pairs with the Release in `leave`.
        self.stripes
            .iter()
            .all(|stripe| stripe.load(Ordering::Acquire) == SHUT)
    }
}

impl Pass {
    /// The pass as a number, to be kept in a ledger slot.
    pub fn into_bits(self) -> u8 {
        self.stripe
    }

    /// The pass that [`into_bits`](Self::into_bits) gave. Once for every pass.
    pub fn from_bits(bits: u8) -> Self {
        Self { stripe: bits }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}
