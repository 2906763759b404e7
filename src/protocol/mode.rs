//! Mode: normal, or recovery while far behind.
//!
//! Detectors measure the lag and observe it here, any number of them on any thread. Every delivery is stamped once: the
//! mode is read, and goes with the delivery to whoever runs it.
//!
//! # Invariants
//!
//! * `enter_above_leave_below`: a lag of `enter_above` or more enters recovery at once; it ends only when the lag was
//!   `leave_below` or less at every measurement for the hold time.
//! * `each_change_seen_once`: a change is given to the one detector whose measurement made it; changes are numbered
//!   without a gap.
//! * `order_holds_across_a_change`: who reads after another never finds fewer changes than the other did, so along a
//!   lane the deliveries of one mode come before those of the next.
//! * `read_is_one_load`: the kind and the number of changes that are read belong together.
//!
//! # States
//!
//! ```text
//!             lag >= enter_above               lag <= leave_below
//!   normal, n ──────────────────▶ recovery, n+1 ─────────────────▶ recovery, n+1, holding since t
//!       ▲                              ▲                                 │           │
//!       │                              └───────── lag > leave_below ─────┘           │
//!       └ normal, n+2 ◀── lag <= leave_below, measured at t + hold or later ─────────┘
//! ```
//!
//! One word has all of it: how many changes there were, whether the hold is running, and a time. An even number of
//! changes is normal and an odd one is recovery, so the two cannot disagree. While the hold runs the time is when it
//! began; else it is the earliest at which one may begin, the latest of all that was measured too high. It never goes
//! back: a hold that begins with an older measurement begins at that time instead, and an older measurement ends no
//! hold. One that is too high starts the hold over however old it is, and then none begins before that hold did.
//!
//! A measurement counts when it is judged. One that changes nothing writes nothing.
//!
//! The fields have ends, and neither goes round. Ticks after [`TICKS_MAX`] are that one: time stands still, and a
//! hold that begins then never ends. After [`CHANGES_MAX`] changes it stays in recovery: what is read is still true,
//! and nobody runs unprotected.
//!
//! # Orderings
//!
//! | site              | order   | pairs with | why that is enough                                         |
//! |-------------------|---------|------------|------------------------------------------------------------|
//! | `now`             | Relaxed | –          | the word is all there is to a change                       |
//! | `observe`, look   | Relaxed | –          | what it finds is only proposed to the exchange             |
//! | `observe`, change | Relaxed | –          | the word's own order decides who made which change         |
//!
//! Nothing is handed over by a change. What recovery is like (the rate) is settled before there is a mode, and who
//! makes the change learns of it only afterwards, so there is nothing that it could have written for the readers.
//! That changes do not go back needs no more than one word: who reads after another, whatever makes it come after,
//! finds what the other found or something later. A measurement that was judged by an older word and changed nothing
//! counts as an earlier one; one that changes something is compared with the newest.

use super::sync::{AtomicU64, CachePadded, Ordering};

const CHANGES_BITS: u32 = 22;
/// After this many changes there are no more. Odd: recovery.
pub const CHANGES_MAX: u64 = (1 << CHANGES_BITS) - 1;
/// Set while the lag has been low since the time in the word.
const HOLDING: u64 = 1 << CHANGES_BITS;
const TIME_SHIFT: u32 = CHANGES_BITS + 1;
/// The last tick that is told from those after it. In milliseconds 69 years.
pub const TICKS_MAX: u64 = u64::MAX >> TIME_SHIFT;

/// When to enter recovery and when to leave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// A lag of this or more enters recovery.
    pub enter_above: u64,
    /// A lag of this or less may leave it.
    pub leave_below: u64,
    /// For how many ticks the lag must have been that low. What a tick is the caller knows.
    pub hold: u64,
}

/// How deliveries are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As fast as they come.
    Normal,
    /// Far behind.
    Recovery,
}

/// The mode at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Which.
    pub kind: Kind,
    /// How many changes there had been.
    pub change: u64,
}

/// A change, given to the one who made it. To be announced: nobody else is told.
#[must_use = "nobody else is told of this change"]
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// What the mode is from here.
    pub to: Kind,
    /// Its number, from 1. Two may be announced in the wrong order; this is the right one.
    pub change: u64,
}

/// Normal or recovery.
pub struct Mode {
    word: CachePadded<AtomicU64>,
    thresholds: Thresholds,
}

/// What the word says.
#[derive(Clone, Copy)]
struct State {
    changes: u64,
    holding: bool,
    time: u64,
}

impl Mode {
    /// Normal, nothing measured yet.
    ///
    /// # Panics
    ///
    /// When `leave_below` is not less than `enter_above`: one lag would both enter and leave.
    pub fn new(thresholds: Thresholds) -> Self {
        let Thresholds {
            enter_above,
            leave_below,
            ..
        } = thresholds;
        assert!(
            leave_below < enter_above,
            "recovery is left below {leave_below}, which must be less than {enter_above}, where it is entered"
        );
        Self {
            word: CachePadded::new(AtomicU64::new(0)),
            thresholds,
        }
    }

    /// The mode, in one load. It is stamped on a delivery and goes with it: what runs the delivery does not look again.
    pub fn now(&self) -> Now {
        // Relaxed: the word is all there is to a change.
        let state = State::of(self.word.load(Ordering::Relaxed));
        Now {
            kind: state.kind(),
            change: state.changes,
        }
    }

    /// Takes a measurement: the `lag` at the time `at`, in ticks since any moment that all detectors agree on. Gives
    /// the change, if this measurement has made one.
    pub fn observe(&self, lag: u64, at: u64) -> Option<Change> {
        // Relaxed: if it is an old one, the exchange finds out.
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let next = self.judged(State::of(word), lag, at.min(TICKS_MAX));
            if next.word() == word {
                return None;
            }
            // Relaxed: the word's own order decides. When it fails the measurement is judged again by what was found.
            match (self.word).compare_exchange(
                word,
                next.word(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) if next.changes == State::of(word).changes => return None,
                Ok(_) => {
                    return Some(Change {
                        to: next.kind(),
                        change: next.changes,
                    });
                }
                Err(found) => word = found,
            }
        }
    }

    /// What a measurement makes of a state.
    fn judged(&self, state: State, lag: u64, at: u64) -> State {
        let Thresholds {
            enter_above,
            leave_below,
            hold,
        } = self.thresholds;
        let latest = state.time.max(at);
        match state.kind() {
            Kind::Normal if lag < enter_above => state,
            Kind::Normal => state.changed(latest),
            // Too high: whatever was held begins anew.
            Kind::Recovery if lag > leave_below => State {
                holding: false,
                time: latest,
                ..state
            },
            Kind::Recovery => {
                let since = if state.holding { state.time } else { latest };
                let held = at.checked_sub(since).is_some_and(|held| held >= hold);
                if held && state.changes < CHANGES_MAX {
                    return state.changed(at);
                }
                State {
                    holding: true,
                    time: since,
                    ..state
                }
            }
        }
    }
}

impl State {
    fn of(word: u64) -> Self {
        Self {
            changes: word & CHANGES_MAX,
            holding: word & HOLDING != 0,
            time: word >> TIME_SHIFT,
        }
    }

    fn word(self) -> u64 {
        let holding = if self.holding { HOLDING } else { 0 };
        (self.time << TIME_SHIFT) | holding | self.changes
    }

    fn kind(self) -> Kind {
        match self.changes % 2 {
            0 => Kind::Normal,
            _ => Kind::Recovery,
        }
    }

    fn changed(self, time: u64) -> Self {
        Self {
            changes: self.changes + 1,
            holding: false,
            time,
        }
    }
}
