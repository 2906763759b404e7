//! Spec of `src/protocol/session.rs`: the sessions as if only one thread existed.
//!
//! A session's value is the number that its generation should have, so a lease that shows half of
//! one session and half of another is seen.

use super::subject::engine::{block_on, thread};
use super::subject::session::{Kept, Lease, Retired, Session, Sessions};
use clearway_verify::linear::Spec;
use clearway_verify::protocol::{CallOf, CallsOf, Checked, Protocol, explore};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::ops::Deref;
use std::sync::Arc;

/// The protocol's name.
pub const NAME: &str = "session";

/// Runs `programs` generated programs against the sessions.
pub fn histories(programs: u32, seed: u64) -> Checked {
    explore::<SessionCalls>(programs, seed)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Lease,
    /// Leasing the session of this generation, which was kept.
    LeaseKept(u64),
    Return(u64),
    /// Asks for the right to replace this generation.
    Reconnect(u64),
    /// The one who has the right to replace this generation does it.
    Finish(u64),
    /// The one who has it gives it up.
    GiveUp(u64),
    Close,
    /// Waiting until nobody uses this generation any more.
    Wait(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ret {
    Leased(u64),
    Nothing,
    Ticket,
    /// The session of this generation is ours to close.
    Retired(u64),
    HandedBack,
    Unused,
    Done,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct SessionSpec {
    current: u64,
    closed: bool,
    reconnecting: Option<u64>,
    leases: BTreeMap<u64, u32>,
    retired: BTreeSet<u64>,
    /// Retired, and said to be in nobody's hands.
    unused: BTreeSet<u64>,
}

impl Spec for SessionSpec {
    type Op = Op;
    type Ret = Ret;

    fn step(&self, op: &Op, ret: Option<&Ret>) -> Option<Self> {
        let mut next = self.clone();
        let legal = match (op, ret) {
            (Op::Lease, Some(Ret::Leased(generation))) => {
                *next.leases.entry(*generation).or_default() += 1;
                !self.closed && *generation == self.current
            }
            (Op::Lease, Some(Ret::Nothing)) => self.closed,
            // A reconnect puts the new session in place before it retires the old one: meanwhile either is had.
            (Op::LeaseKept(kept), Some(Ret::Leased(generation))) => {
                *next.leases.entry(*generation).or_default() += 1;
                kept == generation && !self.unused.contains(kept) && kept + 1 >= self.current
            }
            (Op::LeaseKept(kept), Some(Ret::Nothing)) => self.closed || self.retired.contains(kept),
            (Op::Return(generation), _) => {
                let out = next.leases.entry(*generation).or_default();
                let any = *out > 0;
                *out = out.saturating_sub(1);
                any
            }
            (Op::Reconnect(generation), Some(ret)) => {
                let free =
                    !self.closed && self.reconnecting.is_none() && *generation == self.current;
                if free {
                    next.reconnecting = Some(*generation);
                }
                *ret == if free { Ret::Ticket } else { Ret::Nothing }
            }
            (Op::Finish(generation), Some(Ret::Retired(old))) => {
                next.current += 1;
                next.reconnecting = None;
                next.retired.insert(*old)
                    && !self.closed
                    && old == generation
                    && self.reconnecting == Some(*generation)
                    && *generation == self.current
            }
            (Op::Finish(_), Some(Ret::HandedBack)) => {
                next.reconnecting = None;
                self.closed
            }
            (Op::GiveUp(generation), _) => {
                next.reconnecting = None;
                self.reconnecting == Some(*generation)
            }
            (Op::Close, Some(Ret::Retired(last))) => {
                next.closed = true;
                next.retired.insert(*last) && !self.closed && *last == self.current
            }
            (Op::Close, Some(Ret::Nothing)) => self.closed,
            (Op::Wait(generation), Some(Ret::Unused)) => {
                next.unused.insert(*generation);
                self.retired.contains(generation)
                    && self.leases.get(generation).copied().unwrap_or_default() == 0
            }
            // Nobody heard: a call that hangs is told of elsewhere.
            (_, None) => true,
            _ => false,
        };
        legal.then_some(next)
    }

    fn promise(&self, op: &Op, ret: Option<&Ret>) -> &'static str {
        match (op, ret) {
            (Op::Lease, Some(Ret::Leased(_))) if self.closed => "no_session_after_close",
            (Op::Lease, _) => "one_session_per_operation",
            (Op::LeaseKept(_), _) => "a_retired_session_is_not_leased_by_who_kept_it",
            (Op::Reconnect(_), Some(Ret::Ticket)) if self.closed => "no_session_after_close",
            (Op::Reconnect(_) | Op::GiveUp(_), _) => "one_reconnect_per_loss",
            (Op::Finish(_), Some(Ret::Retired(_))) if self.closed => "no_session_after_close",
            (Op::Finish(_) | Op::Close, Some(Ret::Retired(old))) if self.retired.contains(old) => {
                "each_session_closed_once"
            }
            (Op::Finish(_), _) => "one_reconnect_per_loss",
            (Op::Close, _) => "each_session_closed_once",
            _ => "nobody_uses_a_retired_session",
        }
    }
}

/// One thing a thread does.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Uses the current session for a moment.
    Use,
    /// Uses the first session, which it has kept, or else the current one.
    UseKept,
    /// Takes the current session for lost: replaces it, or gives the right to do so up again.
    Replace {
        give_up: bool,
        wait: bool,
    },
    Close {
        wait: bool,
    },
}

struct SessionCalls;

impl Protocol for SessionCalls {
    const NAME: &'static str = NAME;
    const GOALS: &'static [&'static str] = &[
        "leased the first session",
        "leased a later session",
        "nothing to lease",
        "leased the kept session",
        "the kept session is retired",
        "replaced",
        "another replaces it",
        "handed back after close",
        "waited until it was unused",
    ];
    const PANIC: &'static str = "nobody_uses_a_retired_session";
    type Spec = SessionSpec;
    type Program = Vec<Vec<Act>>;

    fn programs() -> BoxedStrategy<Self::Program> {
        let act = prop_oneof![
            3 => Just(Act::Use),
            3 => Just(Act::UseKept),
            4 => (prop::bool::weighted(0.2), any::<bool>())
                .prop_map(|(give_up, wait)| Act::Replace { give_up, wait }),
            1 => any::<bool>().prop_map(|wait| Act::Close { wait }),
        ];
        let thread = prop::collection::vec(act, 1..4);
        prop::collection::vec(thread, 2..4).boxed()
    }

    fn start(_: &Self::Program) -> SessionSpec {
        SessionSpec {
            current: 1,
            closed: false,
            reconnecting: None,
            leases: BTreeMap::new(),
            retired: BTreeSet::new(),
            unused: BTreeSet::new(),
        }
    }

    fn run(program: &Self::Program, calls: &CallsOf<Self>) -> Result<(), String> {
        let sessions = Arc::new(Sessions::new(1));
        let kept = Arc::new(sessions.keep());
        let threads: Vec<_> = (1..)
            .zip(program.clone())
            .map(|(process, acts)| {
                let (sessions, kept, calls) = (sessions.clone(), kept.clone(), calls.clone());
                thread::spawn(move || {
                    acts.iter()
                        .try_for_each(|act| step((&sessions, &kept), *act, process, &calls))
                })
            })
            .collect();
        for thread in threads {
            thread
                .join()
                .map_err(|_| format!("{}: a thread panicked", Self::PANIC))??;
        }
        Ok(())
    }

    fn goal(call: &CallOf<Self>) -> Option<&'static str> {
        Some(match (call.op, call.end?.1) {
            (Op::Lease, Ret::Leased(1)) => "leased the first session",
            (Op::Lease, Ret::Leased(_)) => "leased a later session",
            (Op::Lease, _) => "nothing to lease",
            (Op::LeaseKept(_), Ret::Leased(_)) => "leased the kept session",
            (Op::LeaseKept(_), _) => "the kept session is retired",
            (Op::Finish(_), Ret::Retired(_)) => "replaced",
            (Op::Finish(_), Ret::HandedBack) => "handed back after close",
            (Op::Reconnect(_), Ret::Nothing) => "another replaces it",
            (Op::Wait(_), _) => "waited until it was unused",
            _ => return None,
        })
    }

    fn hang(_: &[CallOf<Self>]) -> &'static str {
        "last_lease_wakes"
    }
}

fn step(
    (sessions, kept): (&Sessions<u64>, &Kept<u64>),
    act: Act,
    process: usize,
    calls: &CallsOf<SessionCalls>,
) -> Result<(), String> {
    match act {
        Act::Use => drop(lease(sessions, process, calls)?),
        Act::UseKept => {
            if !use_kept(kept, process, calls)? {
                lease(sessions, process, calls)?;
            }
        }
        Act::Replace { give_up, wait } => {
            if let Some(generation) = lease(sessions, process, calls)? {
                replace(sessions, generation, give_up, wait, process, calls);
            }
        }
        Act::Close { wait } => {
            let last = calls.call(process, Op::Close, || {
                let last = sessions.close();
                let ret = last
                    .as_ref()
                    .map_or(Ret::Nothing, |last| Ret::Retired(last.generation()));
                (last, ret)
            });
            if let Some(last) = last.filter(|_| wait) {
                unused(&last, process, calls);
            }
        }
    }
    Ok(())
}

/// Uses the current session for a moment, and says which it was.
fn lease(
    sessions: &Sessions<u64>,
    process: usize,
    calls: &CallsOf<SessionCalls>,
) -> Result<Option<u64>, String> {
    let lease = calls.call(process, Op::Lease, || {
        let lease = sessions.lease();
        let ret = leased(&lease);
        (lease, ret)
    });
    lease.map(|lease| spend(lease, process, calls)).transpose()
}

/// Uses the first session for a moment, which was kept. Says whether it could.
fn use_kept(
    kept: &Kept<u64>,
    process: usize,
    calls: &CallsOf<SessionCalls>,
) -> Result<bool, String> {
    let lease = calls.call(process, Op::LeaseKept(1), || {
        let lease = kept.lease();
        let ret = leased(&lease);
        (lease, ret)
    });
    let spent = lease
        .map(|lease| spend(lease, process, calls))
        .transpose()?;
    Ok(spent.is_some())
}

fn leased<G: Deref<Target = Arc<Session<u64>>>>(lease: &Option<Lease<u64, G>>) -> Ret {
    lease
        .as_ref()
        .map_or(Ret::Nothing, |lease| Ret::Leased(lease.generation()))
}

/// Holds a lease for a moment and returns it.
fn spend<G: Deref<Target = Arc<Session<u64>>>>(
    lease: Lease<u64, G>,
    process: usize,
    calls: &CallsOf<SessionCalls>,
) -> Result<u64, String> {
    // Stay for a moment, or nobody ever meets a lease.
    thread::yield_now();
    let (value, generation) = (*lease, lease.generation());
    if value != generation {
        return Err(format!(
            "connection_and_producer_belong_together: value {value} under generation {generation}"
        ));
    }
    calls.call(process, Op::Return(generation), || (drop(lease), Ret::Done));
    Ok(generation)
}

fn replace(
    sessions: &Sessions<u64>,
    lost: u64,
    give_up: bool,
    wait: bool,
    process: usize,
    calls: &CallsOf<SessionCalls>,
) {
    let ticket = calls.call(process, Op::Reconnect(lost), || {
        let ticket = sessions.reconnect(lost);
        let ret = if ticket.is_some() {
            Ret::Ticket
        } else {
            Ret::Nothing
        };
        (ticket, ret)
    });
    let Some(ticket) = ticket else { return };
    thread::yield_now();
    if give_up {
        return calls.call(process, Op::GiveUp(lost), || (drop(ticket), Ret::Done));
    }
    let retired = calls.call(process, Op::Finish(lost), || {
        match ticket.finish(lost + 1) {
            Ok(retired) => {
                let ret = Ret::Retired(retired.generation());
                (Some(retired), ret)
            }
            Err(_) => (None, Ret::HandedBack),
        }
    });
    if let Some(retired) = retired.filter(|_| wait) {
        unused(&retired, process, calls);
    }
}

fn unused(retired: &Retired<u64>, process: usize, calls: &CallsOf<SessionCalls>) {
    calls.call(process, Op::Wait(retired.generation()), || {
        block_on(poll_fn(|cx| retired.poll_unused(cx).map(|_| ())));
        ((), Ret::Unused)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_history_has_a_sequential_explanation() {
        let checked = histories(150, 1);
        assert_eq!(checked.complaint(), None, "{checked:#?}");
    }
}
