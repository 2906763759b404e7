//! Spec of `src/protocol/singleflight.rs`: the attempts as if only one thread existed.
//!
//! Asking is two calls. `Join` happens at a moment: the caller leads, follows, or sees that the work
//! is done. `Turn` is the follower's wait for what becomes of it.

use super::subject::engine::{block_on, thread};
use super::subject::singleflight::{Caller, Leader, Mark, Singleflight, Turn};
use clearway_verify::linear::Spec;
use clearway_verify::protocol::{CallOf, CallsOf, Checked, Protocol, explore};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The protocol's name.
pub const NAME: &str = "singleflight";

/// Runs `programs` generated programs against the singleflight.
pub fn histories(programs: u32, seed: u64) -> Checked {
    explore::<FlightCalls>(programs, seed)
}

/// Who asks. Every asking is somebody else's.
type Who = u16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Op {
    key: u8,
    who: Who,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Join,
    Turn,
    Succeed,
    Fail,
    /// A leader is dropped.
    Abandon,
    /// A follower is dropped.
    Cancel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ret {
    Leads,
    Follows,
    AlreadyDone,
    Answer(Who),
    Said,
}

/// One key: the search takes different keys apart.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct FlightSpec {
    leader: Option<Who>,
    followers: Vec<Who>,
    /// What followers were told and have not heard yet.
    told: BTreeMap<Who, Who>,
    /// Followers that have to lead and do not know it yet.
    promoted: BTreeSet<Who>,
    marked: bool,
}

impl FlightSpec {
    fn hand_over(&mut self) {
        self.leader = None;
        if !self.followers.is_empty() {
            let next = self.followers.remove(0);
            self.leader = Some(next);
            self.promoted.insert(next);
        }
    }

    fn finish(&mut self, who: Who) -> bool {
        let leads = self.leader == Some(who);
        self.leader = None;
        self.told.extend(
            std::mem::take(&mut self.followers)
                .into_iter()
                .map(|next| (next, who)),
        );
        leads
    }
}

impl Spec for FlightSpec {
    type Op = Op;
    type Ret = Ret;

    fn step(&self, op: &Op, ret: Option<&Ret>) -> Option<Self> {
        let (mut next, who) = (self.clone(), op.who);
        let legal = match (op.what, ret) {
            (What::Join, Some(Ret::Leads)) => {
                next.leader = Some(who);
                self.leader.is_none() && !self.marked
            }
            (What::Join, Some(Ret::Follows)) => {
                next.followers.push(who);
                self.leader.is_some()
            }
            (What::Join, Some(Ret::AlreadyDone)) => self.leader.is_none() && self.marked,
            (What::Turn, Some(Ret::Answer(from))) => next.told.remove(&who) == Some(*from),
            (What::Turn, Some(Ret::Leads)) => next.promoted.remove(&who),
            (What::Succeed, _) => {
                next.marked = true;
                next.finish(who)
            }
            (What::Fail, _) => next.finish(who),
            (What::Abandon, _) => {
                next.hand_over();
                self.leader == Some(who)
            }
            (What::Cancel, _) => {
                next.followers.retain(|follower| *follower != who);
                next.told.remove(&who);
                if next.promoted.remove(&who) {
                    next.hand_over();
                }
                true
            }
            // Nobody heard: a call that hangs is told of elsewhere.
            (_, None) => true,
            _ => false,
        };
        legal.then_some(next)
    }

    fn promise(&self, op: &Op, ret: Option<&Ret>) -> &'static str {
        match (op.what, ret) {
            (What::Join, Some(Ret::Leads)) if self.leader.is_some() => "one_leader_per_key",
            (What::Join, Some(Ret::Leads)) => "success_is_not_repeated",
            (What::Join, _) => "failure_is_not_remembered",
            (What::Turn, Some(Ret::Answer(_))) => "followers_get_the_leaders_answer",
            (What::Turn | What::Cancel, _) => "cancelled_leader_hands_over",
            _ => "one_leader_per_key",
        }
    }
}

/// One asking, and what the one who asks does if it has to lead or to wait.
#[derive(Clone, Copy, Debug)]
struct Act {
    key: u8,
    leading: Leading,
    /// A follower may give up at once.
    patient: bool,
}

#[derive(Clone, Copy, Debug)]
enum Leading {
    Succeeds,
    Fails,
    IsDropped,
}

struct FlightCalls;

impl Protocol for FlightCalls {
    const NAME: &'static str = NAME;
    const GOALS: &'static [&'static str] = &[
        "led",
        "followed",
        "already done",
        "heard the answer",
        "led after another",
        "abandoned",
        "cancelled",
    ];
    const PANIC: &'static str = "one_leader_per_key";
    type Spec = FlightSpec;
    type Program = Vec<Vec<Act>>;

    fn programs() -> BoxedStrategy<Self::Program> {
        let leading = prop_oneof![
            2 => Just(Leading::Succeeds),
            3 => Just(Leading::Fails),
            3 => Just(Leading::IsDropped),
        ];
        // Mostly one key: followers are what can go wrong.
        let act = (
            prop_oneof![4 => Just(0), 1 => Just(1_u8)],
            leading,
            prop::bool::weighted(0.7),
        )
            .prop_map(|(key, leading, patient)| Act {
                key,
                leading,
                patient,
            });
        let thread = prop::collection::vec(act, 1..3);
        prop::collection::vec(thread, 2..5).boxed()
    }

    fn start(_: &Self::Program) -> FlightSpec {
        FlightSpec::default()
    }

    fn run(program: &Self::Program, calls: &CallsOf<Self>) -> Result<(), String> {
        let shared = Arc::new(Shared::default());
        let threads: Vec<_> = (1..)
            .zip(program.clone())
            .map(|(process, acts)| {
                let (shared, calls) = (shared.clone(), calls.clone());
                thread::spawn(move || {
                    for (number, act) in (0..).zip(acts) {
                        shared.ask(act, process as Who * 10 + number, process, &calls);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread
                .join()
                .map_err(|_| format!("{}: a thread panicked", Self::PANIC))?;
        }
        if !shared.flights.is_empty() {
            return Err("cancelled_leader_hands_over: a key is led by nobody".to_owned());
        }
        Ok(())
    }

    fn part(op: &Op) -> u64 {
        u64::from(op.key)
    }

    fn goal(call: &CallOf<Self>) -> Option<&'static str> {
        Some(match (call.op.what, call.end?.1) {
            (What::Join, Ret::Leads) => "led",
            (What::Join, Ret::Follows) => "followed",
            (What::Join, Ret::AlreadyDone) => "already done",
            (What::Turn, Ret::Answer(_)) => "heard the answer",
            (What::Turn, Ret::Leads) => "led after another",
            (What::Abandon, _) => "abandoned",
            (What::Cancel, _) => "cancelled",
            _ => return None,
        })
    }

    fn hang(calls: &[CallOf<Self>]) -> &'static str {
        let dropped = |call: &CallOf<Self>| matches!(call.op.what, What::Abandon | What::Cancel);
        if calls.iter().any(dropped) {
            "cancelled_leader_hands_over"
        } else {
            "followers_get_the_leaders_answer"
        }
    }
}

/// The work is done for this term.
const TERM: u64 = 1;

/// Answers say who worked.
#[derive(Default)]
struct Shared {
    flights: Singleflight<u8, Who>,
    marks: [Mark; 2],
}

impl Shared {
    fn ask(&self, act: Act, who: Who, process: usize, calls: &CallsOf<FlightCalls>) {
        let op = |what| Op {
            key: act.key,
            who,
            what,
        };
        let mark = &self.marks[usize::from(act.key)];
        let mut caller = self.flights.join(act.key);
        let joined = calls.call(process, op(What::Join), || {
            let turn = caller.poll_turn(mark, TERM, &mut Context::from_waker(Waker::noop()));
            let ret = match &turn {
                Poll::Pending => Ret::Follows,
                Poll::Ready(turn) => said(turn),
            };
            (turn, ret)
        });
        let turn = match joined {
            Poll::Ready(turn) => turn,
            Poll::Pending if act.patient => calls.call(process, op(What::Turn), || {
                let turn = self.wait(&mut caller, mark);
                let ret = said(&turn);
                (turn, ret)
            }),
            Poll::Pending => {
                thread::yield_now();
                return calls.call(process, op(What::Cancel), || (drop(caller), Ret::Said));
            }
        };
        if let Turn::Lead(leader) = turn {
            // Work for a moment, or nobody ever follows.
            thread::yield_now();
            self.lead(leader, act, who, process, calls);
        }
    }

    fn wait<'f>(&self, caller: &mut Caller<'f, u8, Who>, mark: &Mark) -> Turn<'f, u8, Who> {
        block_on(poll_fn(|cx| caller.poll_turn(mark, TERM, cx)))
    }

    fn lead(
        &self,
        leader: Leader<'_, u8, Who>,
        act: Act,
        who: Who,
        process: usize,
        calls: &CallsOf<FlightCalls>,
    ) {
        let op = |what| Op {
            key: act.key,
            who,
            what,
        };
        let mark = &self.marks[usize::from(act.key)];
        match act.leading {
            Leading::Succeeds => calls.call(process, op(What::Succeed), || {
                (leader.succeed(mark, TERM, who), Ret::Said)
            }),
            Leading::Fails => {
                calls.call(process, op(What::Fail), || (leader.fail(who), Ret::Said));
            }
            Leading::IsDropped => {
                calls.call(process, op(What::Abandon), || (drop(leader), Ret::Said));
            }
        }
    }
}

fn said(turn: &Turn<'_, u8, Who>) -> Ret {
    match turn {
        Turn::Done => Ret::AlreadyDone,
        Turn::Lead(_) => Ret::Leads,
        Turn::Answer(from) => Ret::Answer(*from),
    }
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
