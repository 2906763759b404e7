//! Session: one live connection, swapped whole, retired once.
//!
//! A session is one value: the connection and everything made over it. An operation leases the
//! current one for as long as it hands something to it, which is short and never across an
//! await. A reconnect puts a new one in its place, waits until the last lease of the old one is
//! back, and only then closes it.
//!
//! # Invariants
//!
//! * `connection_and_producer_belong_together`: a lease shows one value, made as one.
//! * `one_session_per_operation`: what a lease shows does not change while it is held.
//! * `nobody_uses_a_retired_session`: when `poll_unused` is ready, no lease of it is out or can be had,
//!   and everything done under one is visible.
//! * `a_retired_session_is_not_leased_by_who_kept_it`: the same for who leases a session that was kept.
//! * `each_session_closed_once`: of every session exactly one `Retired` is given out.
//! * `one_reconnect_per_loss`: of those that saw a generation lost, one gets the ticket.
//! * `no_session_after_close`: a session that is finished after close is handed back to its maker.
//! * `last_lease_wakes`: whoever waits for a retired session to be unused is woken.
//!
//! # States
//!
//! The cell holds the current session or, after close, an empty one. Each session counts its
//! leases in striped words of its own; bit 0 of each says retired.
//! A lease counts itself in first and looks second: if the session was retired
//! it counts out again and loads anew. Who keeps a session leases it without the load, and
//! looks for the current one only when the kept one is retired.
//!
//! ```text
//! current ──replace──▶ retiring (leases out) ──last lease back──▶ unused ──▶ closed by whoever holds `Retired`
//! ```
//!
//! # Orderings
//!
//! | site          | order   | pairs with      | if weaker                                              |
//! |---------------|---------|-----------------|--------------------------------------------------------|
//! | cell load     | Acquire | cell swap       | a lease sees half a session (the cell's own promise)   |
//! | `lease`       | Acquire | `retire`        | a refused lease may load the old session again, for ever |
//! | `retire`      | Release | `lease`         | same                                                   |
//! | `return_lease` | Release | `is_unused`    | the old session is closed under a lease                |
//! | `is_unused`   | Acquire | `return_lease`  | same                                                   |

use super::sync::{
    Arc, ArcCell, AtomicUsize, AtomicWaker, CachePadded, Mutex, Ordering, STRIPES, stripe,
};
use std::array;
use std::mem;
use std::ops::Deref;
use std::task::{Context, Poll};

const RETIRED: usize = 1;
const LEASE: usize = 2;

/// The current session and the right to replace it.
pub struct Sessions<S> {
    cell: ArcCell<Session<S>>,
    control: Mutex<Control>,
}

/// One session: a value and its generation.
pub struct Session<S> {
    generation: u64,
    value: Option<S>,
    leases: [CachePadded<AtomicUsize>; STRIPES],
    waiting: AtomicWaker,
}

/// The current session, for the length of one operation. Not to be held across an await.
pub struct Lease<S, G: Deref<Target = Arc<Session<S>>>> {
    session: G,
    stripe: usize,
}

/// A session that somebody keeps, to lease it without looking for the current one. It keeps the value's memory,
/// not its life: a session is retired and closed all the same.
pub struct Kept<S>(Arc<Session<S>>);

/// The right to replace the session of one generation. Dropping it lets another try.
#[must_use = "dropping the ticket gives up the reconnect"]
pub struct Ticket<'s, S> {
    sessions: &'s Sessions<S>,
    generation: u64,
}

/// A session that was replaced: wait until it is unused, then close its value.
#[must_use = "a retired session must be closed by whoever holds this"]
pub struct Retired<S> {
    session: Arc<Session<S>>,
}

#[derive(Debug, Default)]
struct Control {
    closed: bool,
    reconnecting: Option<u64>,
    generation: u64,
}

impl<S> Sessions<S> {
    /// Starts with `first`, generation 1.
    pub fn new(first: S) -> Self {
        let control = Control {
            generation: 1,
            ..Control::default()
        };
        Self {
            cell: ArcCell::new(Arc::new(Session::new(1, Some(first)))),
            control: Mutex::new(control),
        }
    }

    /// Leases the current session, or `None` after close.
    pub fn lease(&self) -> Option<Lease<S, impl Deref<Target = Arc<Session<S>>> + use<S>>> {
        loop {
            let session = self.cell.load();
            session.value.as_ref()?;
            let stripe = stripe();
            // Acquire: pairs with the Release in `retire`, so that a refused lease loads what
            // replaced this. Counting first and looking second rules out check-then-act.
            let before = session.leases[stripe].fetch_add(LEASE, Ordering::Acquire);
            let lease = Lease { session, stripe };
            if before & RETIRED == 0 {
                return Some(lease);
            }
        }
    }

    /// The generation of the current session.
    pub fn generation(&self) -> u64 {
        self.control.lock().generation
    }

    /// The current session, to be kept.
    pub fn keep(&self) -> Kept<S> {
        Kept(Arc::clone(&self.cell.load()))
    }

    /// The right to replace the session of `generation`, or `None` if it has been replaced, is
    /// being replaced by another, or the sessions are closed.
    pub fn reconnect(&self, generation: u64) -> Option<Ticket<'_, S>> {
        let mut control = self.control.lock();
        let free =
            !control.closed && control.reconnecting.is_none() && control.generation == generation;
        free.then(|| {
            control.reconnecting = Some(generation);
            Ticket {
                sessions: self,
                generation,
            }
        })
    }

    /// Ends the last session. The first closer gets it; nobody can lease any more.
    pub fn close(&self) -> Option<Retired<S>> {
        let mut control = self.control.lock();
        if mem::replace(&mut control.closed, true) {
            return None;
        }
        let last = self
            .cell
            .swap(Arc::new(Session::new(control.generation, None)));
        drop(control);
        Some(last.retire())
    }
}

impl<S> Kept<S> {
    /// Leases the kept session, or `None` once it is retired: then [`Sessions::lease`] finds the current one.
    ///
    /// While it is being replaced others may lease the new one already.
    pub fn lease(&self) -> Option<Lease<S, &Arc<Session<S>>>> {
        let session = &self.0;
        session.value.as_ref()?;
        let stripe = stripe();
        // Relaxed: saves the way in and out when it was retired long ago; the addition decides.
        if session.leases[stripe].load(Ordering::Relaxed) & RETIRED != 0 {
            return None;
        }
        // Relaxed: the word's own order decides who was first, this or `retire`. Who is refused finds the current
        // session by `Sessions::lease`, which has the Acquire.
        let before = session.leases[stripe].fetch_add(LEASE, Ordering::Relaxed);
        let lease = Lease { session, stripe };
        (before & RETIRED == 0).then_some(lease)
    }
}

impl<S> Ticket<'_, S> {
    /// The generation that is being replaced.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Puts `new` in the place of the lost session and gives the old one, to be closed; or gives
    /// `new` back, to be closed, if the sessions were closed meanwhile.
    pub fn finish(self, new: S) -> Result<Retired<S>, S> {
        let mut control = self.sessions.control.lock();
        if control.closed {
            return Err(new);
        }
        control.generation += 1;
        // With the new session in place: its loss must find the way free, not this ticket.
        control.reconnecting = None;
        // Stored first and retired second: nobody ever finds only a retired one.
        let old = self
            .sessions
            .cell
            .swap(Arc::new(Session::new(control.generation, Some(new))));
        drop(control);
        Ok(old.retire())
    }
}

impl<S> Drop for Ticket<'_, S> {
    fn drop(&mut self) {
        let mut control = self.sessions.control.lock();
        if control.reconnecting == Some(self.generation) {
            control.reconnecting = None;
        }
    }
}

impl<S> Session<S> {
    fn new(generation: u64, value: Option<S>) -> Self {
        Self {
            generation,
            value,
            leases: array::from_fn(|_| CachePadded::new(AtomicUsize::new(0))),
            waiting: AtomicWaker::new(),
        }
    }

    fn retire(self: Arc<Self>) -> Retired<S> {
        for stripe in &self.leases {
            // Release: pairs with the Acquire in `lease`.
            stripe.fetch_or(RETIRED, Ordering::Release);
        }
        Retired { session: self }
    }

    fn is_unused(&self) -> bool {
        // Acquire: pairs with the Release in `return_lease`.
        self.leases
            .iter()
            .all(|stripe| stripe.load(Ordering::Acquire) == RETIRED)
    }

    fn return_lease(&self, stripe: usize) {
        // Release: pairs with the Acquire in `is_unused`.
        let before = self.leases[stripe].fetch_sub(LEASE, Ordering::Release);
        if before == RETIRED | LEASE {
            self.waiting.wake();
        }
    }
}

impl<S, G: Deref<Target = Arc<Session<S>>>> Lease<S, G> {
    /// The generation of the leased session.
    pub fn generation(&self) -> u64 {
        self.session.generation
    }
}

impl<S, G: Deref<Target = Arc<Session<S>>>> Deref for Lease<S, G> {
    type Target = S;

    fn deref(&self) -> &S {
        self.session
            .value
            .as_ref()
            .expect("an empty session is never leased")
    }
}

impl<S, G: Deref<Target = Arc<Session<S>>>> Drop for Lease<S, G> {
    fn drop(&mut self) {
        self.session.return_lease(self.stripe);
    }
}

impl<S> Retired<S> {
    /// The generation of the retired session.
    pub fn generation(&self) -> u64 {
        self.session.generation
    }

    /// Ready with the value once no lease of it is out. Then it is yours to close.
    pub fn poll_unused(&self, cx: &mut Context<'_>) -> Poll<&S> {
        if !self.session.is_unused() {
            self.session.waiting.register(cx.waker());
            // Look again: the last lease may have come back between the look and the registration.
            if !self.session.is_unused() {
                return Poll::Pending;
            }
        }
        Poll::Ready(
            self.session
                .value
                .as_ref()
                .expect("an empty session is never retired"),
        )
    }
}
