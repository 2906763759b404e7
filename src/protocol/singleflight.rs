//! Singleflight: one attempt per key, everybody gets its answer.
//!
//! Making sure that a topic exists is slow and must not be done by a thousand publishers at
//! once. The first to ask leads, the others follow and get its answer. What succeeded is
//! remembered in a [`Mark`], which the hot path reads with one load.
//!
//! # Invariants
//!
//! * `one_leader_per_key`: at any time one caller works on a key.
//! * `followers_get_the_leaders_answer`: all that joined an attempt hear how it ended.
//! * `success_is_not_repeated`: while the mark stands, nobody leads again.
//! * `failure_is_not_remembered`: whoever asks after a failure leads a new attempt.
//! * `cancelled_leader_hands_over`: a leader that is dropped makes a follower lead.
//! * `panicking_leader_frees_its_followers`: a leader that panics is one that is dropped.
//! * `key_names_the_work`: callers with different keys never share an answer.
//!
//! # States
//!
//! A key is in the table while somebody leads it. The mark is set before the key leaves the
//! table, and looked at again under the table's lock before anybody leads: so there is no
//! moment at which the work is done, the key is gone, and the mark is not seen.
//!
//! ```text
//! absent ──join──▶ led ──finish──▶ absent (answer to all followers)
//!                   └──dropped──▶ led by the next follower, or absent
//! ```
//!
//! # Orderings
//!
//! | site        | order   | pairs with  | if weaker                                             |
//! |-------------|---------|-------------|-------------------------------------------------------|
//! | `Mark::set` | Release | `is_set`    | a publisher sees "ensured" and not what ensuring wrote |
//! | `is_set`    | Acquire | `Mark::set` | same                                                  |

use super::sync::{AtomicU64, Mutex, Ordering};
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

/// The attempts under way.
pub struct Singleflight<K, A> {
    attempts: Mutex<Attempts<K, A>>,
}

/// Remembers that the work was done, for one value of `term` (a session, a stream's life). 0 is none.
pub struct Mark(AtomicU64);

/// One caller's part in an attempt. Poll it until it says what to do.
#[must_use = "a caller that joined must be polled"]
pub struct Caller<'f, K: Ord + Clone, A: Clone> {
    flights: &'f Singleflight<K, A>,
    key: K,
    ticket: Option<u64>,
}

/// What a caller has to do.
pub enum Turn<'f, K: Ord + Clone, A: Clone> {
    /// The work is done already: the mark stands.
    Done,
    /// Do the work and say how it ended.
    Lead(Leader<'f, K, A>),
    /// Another has done it, and this is how it ended.
    Answer(A),
}

/// The duty to do the work of a key. Dropped unfinished, it goes to the next follower.
#[must_use = "dropping the leader hands the work over"]
pub struct Leader<'f, K: Ord + Clone, A: Clone> {
    flights: &'f Singleflight<K, A>,
    key: K,
    finished: bool,
}

struct Attempts<K, A> {
    led: BTreeMap<K, VecDeque<(u64, Waker)>>,
    /// Answers and duties that were given and not yet picked up, by ticket.
    mail: BTreeMap<u64, Mail<A>>,
    next_ticket: u64,
}

enum Mail<A> {
    Answer(A),
    Lead,
}

impl<K: Ord + Clone, A: Clone> Singleflight<K, A> {
    /// No attempt under way.
    pub fn new() -> Self {
        let attempts = Attempts {
            led: BTreeMap::new(),
            mail: BTreeMap::new(),
            next_ticket: 0,
        };
        Self {
            attempts: Mutex::new(attempts),
        }
    }

    /// Joins the work that `key` names. The key must say all that the work depends on.
    pub fn join(&self, key: K) -> Caller<'_, K, A> {
        Caller {
            flights: self,
            key,
            ticket: None,
        }
    }

    /// How many keys are being worked on.
    pub fn len(&self) -> usize {
        self.attempts.lock().led.len()
    }

    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives the duty to the next follower, or forgets the key.
    fn hand_over(&self, key: &K) {
        let mut attempts = self.attempts.lock();
        let next = attempts.led.get_mut(key).and_then(VecDeque::pop_front);
        match next {
            Some((ticket, waker)) => {
                attempts.mail.insert(ticket, Mail::Lead);
                drop(attempts);
                waker.wake();
            }
            None => {
                attempts.led.remove(key);
            }
        }
    }
}

impl<'f, K: Ord + Clone, A: Clone> Caller<'f, K, A> {
    /// What to do: nothing (`mark` stands for `term`), lead, or take the answer.
    pub fn poll_turn(
        &mut self,
        mark: &Mark,
        term: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Turn<'f, K, A>> {
        let mut attempts = self.flights.attempts.lock();
        if let Some(ticket) = self.ticket {
            return match attempts.mail.remove(&ticket) {
                Some(mail) => {
                    self.ticket = None;
                    drop(attempts);
                    Poll::Ready(match mail {
                        Mail::Answer(answer) => Turn::Answer(answer),
                        Mail::Lead => Turn::Lead(self.leader()),
                    })
                }
                None => {
                    let followers = attempts.led.get_mut(&self.key).into_iter().flatten();
                    for (_, waker) in followers.filter(|(follower, _)| *follower == ticket) {
                        waker.clone_from(cx.waker());
                    }
                    Poll::Pending
                }
            };
        }
        if attempts.led.contains_key(&self.key) {
            let ticket = attempts.next_ticket;
            attempts.next_ticket += 1;
            self.ticket = Some(ticket);
            let follower = (ticket, cx.waker().clone());
            attempts
                .led
                .entry(self.key.clone())
                .or_default()
                .push_back(follower);
            return Poll::Pending;
        }
        // Looked at under the lock: the last leader may have set it and gone since the caller
        // looked outside.
        if mark.is_set(term) {
            return Poll::Ready(Turn::Done);
        }
        attempts.led.insert(self.key.clone(), VecDeque::new());
        drop(attempts);
        Poll::Ready(Turn::Lead(self.leader()))
    }

    fn leader(&self) -> Leader<'f, K, A> {
        Leader {
            flights: self.flights,
            key: self.key.clone(),
            finished: false,
        }
    }
}

impl<K: Ord + Clone, A: Clone> Drop for Caller<'_, K, A> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut attempts = self.flights.attempts.lock();
        let mail = attempts.mail.remove(&ticket);
        if let Some(followers) = attempts.led.get_mut(&self.key) {
            followers.retain(|(follower, _)| *follower != ticket);
        }
        drop(attempts);
        // A duty that nobody will pick up goes on to the next.
        if matches!(mail, Some(Mail::Lead)) {
            self.flights.hand_over(&self.key);
        }
    }
}

impl<K: Ord + Clone, A: Clone> Leader<'_, K, A> {
    /// The work is done: `mark` stands for `term` and every follower gets `answer`.
    pub fn succeed(mut self, mark: &Mark, term: u64, answer: A) {
        // Before the key is forgotten, so that nobody leads in between.
        mark.set(term);
        self.tell(answer);
    }

    /// The work failed: every follower gets `answer`, and the next to ask leads anew.
    pub fn fail(mut self, answer: A) {
        self.tell(answer);
    }

    fn tell(&mut self, answer: A) {
        self.finished = true;
        let mut attempts = self.flights.attempts.lock();
        let followers = attempts.led.remove(&self.key).unwrap_or_default();
        for (ticket, _) in &followers {
            attempts.mail.insert(*ticket, Mail::Answer(answer.clone()));
        }
        drop(attempts);
        followers.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

impl<K: Ord + Clone, A: Clone> Drop for Leader<'_, K, A> {
    fn drop(&mut self) {
        if !self.finished {
            self.flights.hand_over(&self.key);
        }
    }
}

impl Mark {
    /// Not set.
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Whether the work was done for `term`.
    pub fn is_set(&self, term: u64) -> bool {
        // Acquire: pairs with the Release in `set`.
        self.0.load(Ordering::Acquire) == term
    }

    /// Forgets it, if it still stands for `term`: the work must be done again.
    pub fn clear(&self, term: u64) -> bool {
        // Relaxed: carries no data.
        self.0
            .compare_exchange(term, 0, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    fn set(&self, term: u64) {
        // Release: pairs with the Acquire in `is_set`. A read-modify-write like `clear`, so that both have
        // one order for the models as well.
        self.0.swap(term, Ordering::Release);
    }
}

impl Default for Mark {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord + Clone, A: Clone> Default for Singleflight<K, A> {
    fn default() -> Self {
        Self::new()
    }
}
