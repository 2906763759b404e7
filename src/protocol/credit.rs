//! Credit: never more in flight than the limit, and every credit comes back.
//!
//! A publish takes one envelope's credit and its bytes before anything is sent, and gives both
//! back when its slot settles. When there is not enough, `try_take` refuses and `poll_take`
//! waits in line.
//!
//! # Invariants
//!
//! * `limit_holds`: what is out never exceeds the limit, neither in envelopes nor in bytes.
//! * `every_credit_comes_back`: when all is given back or cancelled, the whole limit is free.
//! * `waiters_in_order`: who waits first is served first; nobody passes a line that exists.
//! * `no_waiter_sleeps_on_free_credit`: the first in line is served as soon as it fits.
//! * `close_wakes_all`: after `close` nobody waits and nobody takes.
//!
//! # States
//!
//! The limit is spread over stripes. A stripe is one word: envelopes and bytes that are free
//! there, and two bits. Takers subtract with a compare, givers add, and neither locks.
//!
//! Who finds too little everywhere takes the lock and *gathers*: a swap empties each
//! stripe into a pool under the lock and leaves the `LINE` bit there. From then on takers go to the lock, and a giver, whose
//! addition shows it the bit, goes there too and gathers again. So the word itself decides whether
//! a credit came before the gathering, and is in the pool, or after it, and its giver comes to serve the line.
//! When the line is empty the pool is spread over the stripes again and the bit is cleared.
//!
//! # Orderings
//!
//! | site          | order   | pairs with | if weaker                                       |
//! |---------------|---------|------------|-------------------------------------------------|
//! | every access  | Relaxed | –          | one word decides each race; the rest is under the lock |
//!
//! Credit carries no data: what an envelope's memory needs is ordered by the ledger.

use super::sync::{AtomicU64, CachePadded, Mutex, Ordering, STRIPES, stripe};
use std::array;
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

const BYTES: u32 = 40;
const BYTES_MASK: u64 = (1 << BYTES) - 1;
const ENVELOPES_MASK: u64 = (1 << 22) - 1;
const LINE: u64 = 1 << 62;
const CLOSED: u64 = 1 << 63;
const FLAGS: u64 = LINE | CLOSED;

/// An amount of credit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Envelopes.
    pub envelopes: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What may be in flight, in envelopes and bytes.
pub struct Credit {
    stripes: [CachePadded<AtomicU64>; STRIPES],
    line: Mutex<Line>,
    limit: Budget,
}

/// Why there is no credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not enough is free now, or others are in line.
    Full,
    /// The bytes alone exceed the limit: waiting would be for ever.
    TooLarge,
    /// Closed; nothing is given any more.
    Closed,
}

/// A place in line. Unless it was told `Ready`, it must go to [`Credit::cancel`].
#[derive(Debug, Default)]
pub struct Waiter(Option<u64>);

#[derive(Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    /// Tickets that were served and have not yet been picked up.
    served: Vec<(u64, u64)>,
    pool: Budget,
    next_ticket: u64,
    closed: bool,
}

struct Waiting {
    ticket: u64,
    bytes: u64,
    waker: Waker,
}

impl Credit {
    /// Credit for `limit`, all of it free.
    ///
    /// # Panics
    ///
    /// When the limit is zero, or over 4,194,303 envelopes or 2^40 - 1 bytes.
    pub fn new(limit: Budget) -> Self {
        assert!(
            (1..=ENVELOPES_MASK).contains(&limit.envelopes),
            "a limit of {} envelopes",
            limit.envelopes
        );
        assert!(
            (1..=BYTES_MASK).contains(&limit.bytes),
            "a limit of {} bytes",
            limit.bytes
        );
        let credit = Self {
            stripes: array::from_fn(|_| CachePadded::new(AtomicU64::new(0))),
            line: Mutex::new(Line {
                pool: limit,
                ..Line::default()
            }),
            limit,
        };
        credit.spread(&mut credit.line.lock());
        credit
    }

    /// The whole of it.
    pub fn limit(&self) -> Budget {
        self.limit
    }

    /// Takes credit for one envelope of `bytes`, now or not at all.
    pub fn try_take(&self, bytes: u64) -> Result<(), Refused> {
        if bytes > self.limit.bytes {
            return Err(Refused::TooLarge);
        }
        if self.take_striped(bytes) {
            return Ok(());
        }
        let mut line = self.line.lock();
        if line.closed {
            return Err(Refused::Closed);
        }
        if !line.waiting.is_empty() {
            return Err(Refused::Full);
        }
        self.gather(&mut line);
        let taken = line.take_pooled(bytes);
        self.spread(&mut line);
        if taken { Ok(()) } else { Err(Refused::Full) }
    }

    /// Takes credit for one envelope of `bytes`, waiting in line while there is not enough.
    ///
    /// Call it with the same `bytes` until it is ready, or give the waiter to
    /// [`cancel`](Self::cancel).
    pub fn poll_take(
        &self,
        waiter: &mut Waiter,
        bytes: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Refused>> {
        if bytes > self.limit.bytes {
            return Poll::Ready(Err(Refused::TooLarge));
        }
        if waiter.0.is_none() && self.take_striped(bytes) {
            return Poll::Ready(Ok(()));
        }
        let mut line = self.line.lock();
        let ticket = match waiter.0 {
            Some(ticket) => ticket,
            None if line.closed => return Poll::Ready(Err(Refused::Closed)),
            None => line.join(bytes, cx.waker()),
        };
        waiter.0 = Some(ticket);
        let woken = self.serve(&mut line);
        let answer = line.answer(ticket, cx.waker());
        drop(line);
        if answer.is_ready() {
            waiter.0 = None;
        }
        woken.into_iter().for_each(Waker::wake);
        answer
    }

    /// Leaves the line. Credit that was granted meanwhile goes to the next.
    pub fn cancel(&self, waiter: &mut Waiter) {
        let Some(ticket) = waiter.0.take() else {
            return;
        };
        let mut line = self.line.lock();
        if let Some(at) = line.served.iter().position(|(served, _)| *served == ticket) {
            let (_, bytes) = line.served.swap_remove(at);
            line.pool.envelopes += 1;
            line.pool.bytes += bytes;
        }
        line.waiting.retain(|waiting| waiting.ticket != ticket);
        let woken = self.serve(&mut line);
        drop(line);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Gives back what one envelope of `bytes` took.
    pub fn give(&self, bytes: u64) {
        // Relaxed: the word's own order decides whether the line has gathered this already.
        let before = self.stripes[stripe()].fetch_add(packed(1, bytes), Ordering::Relaxed);
        if before & LINE != 0 {
            let mut line = self.line.lock();
            let woken = self.serve(&mut line);
            drop(line);
            woken.into_iter().for_each(Waker::wake);
        }
    }

    /// Refuses every later taker and sends the line home.
    pub fn close(&self) {
        let mut line = self.line.lock();
        line.closed = true;
        for stripe in &self.stripes {
            // Relaxed: the bit carries no data.
            stripe.fetch_or(CLOSED, Ordering::Relaxed);
        }
        let sent_home: Vec<_> = line.waiting.drain(..).collect();
        drop(line);
        sent_home
            .into_iter()
            .for_each(|waiting| waiting.waker.wake());
    }

    /// What is free now. While others take and give it is a guess.
    pub fn free(&self) -> Budget {
        let line = self.line.lock();
        self.stripes.iter().fold(line.pool, |sum, stripe| {
            // Relaxed: a guess.
            let word = stripe.load(Ordering::Relaxed);
            Budget {
                envelopes: sum.envelopes + envelopes(word),
                bytes: sum.bytes + bytes_of(word),
            }
        })
    }

    /// The hot path: from the home stripe, or from another that has enough.
    fn take_striped(&self, bytes: u64) -> bool {
        let home = stripe();
        (0..STRIPES).any(|away| take_from(&self.stripes[(home + away) % STRIPES], bytes))
    }

    /// Gathers, serves the line in order, and gives the wakers to call after the lock.
    fn serve(&self, line: &mut Line) -> Vec<Waker> {
        self.gather(line);
        let mut woken = Vec::new();
        while let Some(first) = line.waiting.front() {
            let bytes = first.bytes;
            if !line.take_pooled(bytes) {
                break;
            }
            if let Some(Waiting { ticket, waker, .. }) = line.waiting.pop_front() {
                line.served.push((ticket, bytes));
                woken.push(waker);
            }
        }
        if line.waiting.is_empty() {
            self.spread(line);
        }
        woken
    }

    /// Empties the stripes into the pool and leaves the bit that sends everybody to the lock.
    fn gather(&self, line: &mut Line) {
        let flags = if line.closed { FLAGS } else { LINE };
        for stripe in &self.stripes {
            // Relaxed: the word's own order decides which credit is in the pool.
            let word = stripe.swap(flags, Ordering::Relaxed);
            line.pool.envelopes += envelopes(word);
            line.pool.bytes += bytes_of(word);
        }
    }

    /// Spreads the pool over the stripes and opens the hot path again.
    fn spread(&self, line: &mut Line) {
        let pool = std::mem::take(&mut line.pool);
        for (at, stripe) in self.stripes.iter().enumerate() {
            let (at, all) = (at as u64, STRIPES as u64);
            let share = |whole: u64| whole / all + u64::from(at < whole % all);
            // Relaxed: a giver that adds before the bit is cleared comes to the lock and finds no line.
            stripe.fetch_add(
                packed(share(pool.envelopes), share(pool.bytes)),
                Ordering::Relaxed,
            );
            // Relaxed: the bit carries no data.
            stripe.fetch_and(!LINE, Ordering::Relaxed);
        }
    }
}

impl Line {
    fn join(&mut self, bytes: u64, waker: &Waker) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting.push_back(Waiting {
            ticket,
            bytes,
            waker: waker.clone(),
        });
        ticket
    }

    fn answer(&mut self, ticket: u64, waker: &Waker) -> Poll<Result<(), Refused>> {
        if let Some(at) = self.served.iter().position(|(served, _)| *served == ticket) {
            self.served.swap_remove(at);
            return Poll::Ready(Ok(()));
        }
        match self
            .waiting
            .iter_mut()
            .find(|waiting| waiting.ticket == ticket)
        {
            Some(waiting) => {
                waiting.waker.clone_from(waker);
                Poll::Pending
            }
            // Neither served nor waiting: close has sent it home.
            None => Poll::Ready(Err(Refused::Closed)),
        }
    }

    fn take_pooled(&mut self, bytes: u64) -> bool {
        let enough = self.pool.envelopes >= 1 && self.pool.bytes >= bytes;
        if enough {
            self.pool.envelopes -= 1;
            self.pool.bytes -= bytes;
        }
        enough
    }
}

fn take_from(stripe: &AtomicU64, bytes: u64) -> bool {
    // Relaxed: the comparison below decides.
    let mut word = stripe.load(Ordering::Relaxed);
    while word & FLAGS == 0 && envelopes(word) >= 1 && bytes_of(word) >= bytes {
        let less = word - packed(1, bytes);
        // Relaxed: credit carries no data.
        match stripe.compare_exchange_weak(word, less, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(now) => word = now,
        }
    }
    false
}

fn packed(envelopes: u64, bytes: u64) -> u64 {
    envelopes << BYTES | bytes
}

fn envelopes(word: u64) -> u64 {
    word >> BYTES & ENVELOPES_MASK
}

fn bytes_of(word: u64) -> u64 {
    word & BYTES_MASK
}
