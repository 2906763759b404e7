//! Spec of `src/protocol/lane.rs`: a queue for each key, as if only one thread existed.
//!
//! To be done is two steps, first out of the lane and then back to the dispatcher: so it is two calls that last as long as
//! it does.

use super::subject::engine::{block_on, thread};
use super::subject::lane::{Back, Dispatcher, Full, Lanes, Run, lanes};
use clearway_verify::linear::Spec;
use clearway_verify::protocol::{CallOf, CallsOf, Checked, Protocol, explore};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::hash::{BuildHasherDefault, DefaultHasher};

/// The protocol's name.
pub const NAME: &str = "lane";

/// Runs `programs` generated programs against the lanes.
pub fn histories(programs: u32, seed: u64) -> Checked {
    explore::<LaneCalls>(programs, seed)
}

const WORKERS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    /// A message, and its key if it has one.
    Submit(u64, Option<u64>),
    Resume(u64),
    Remove(u64),
    Back,
    Stop,
    /// By a worker.
    Take,
    Done(u64),
    /// The end of one.
    Give(u64),
    Park(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ret {
    Ok,
    Full,
    Got(u64),
    Next(Option<u64>),
    /// Whether it is done.
    Was(u64, bool),
    Nothing,
}

#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct LaneSpec {
    rooms: usize,
    slots: usize,
    /// What is not done, the first in front.
    lanes: BTreeMap<u64, VecDeque<u64>>,
    /// Lanes that nobody runs and that somebody should.
    ready: VecDeque<u64>,
    running: BTreeSet<u64>,
    /// Done, and not given back.
    done: BTreeSet<u64>,
    /// Given back, and not taken by the dispatcher.
    given: Vec<(u64, bool)>,
    /// What the dispatcher has taken, all at once, and not looked at.
    came: Vec<(u64, bool)>,
    /// The lane of what is not back.
    out: BTreeMap<u64, u64>,
    stopped: bool,
}

impl LaneSpec {
    fn full(&self, lane: u64) -> bool {
        let busy: BTreeSet<u64> = self.out.values().copied().collect();
        self.out.len() == self.slots || (!busy.contains(&lane) && busy.len() == self.rooms)
    }

    fn submit(&mut self, message: u64, lane: u64) {
        self.out.insert(message, lane);
        let waiting = self.lanes.entry(lane).or_default();
        waiting.push_back(message);
        if waiting.len() == 1 {
            self.ready.push_back(lane);
        }
    }

    fn take(&mut self, message: u64) -> bool {
        let Some(lane) = self.ready.pop_front() else {
            return false;
        };
        self.running.insert(message);
        self.lanes[&lane].front() == Some(&message)
    }

    /// Takes the first of a lane out: the next, if it was the first.
    fn pop(&mut self, message: u64) -> Option<Option<u64>> {
        let lane = self.lanes.get_mut(self.out.get(&message)?)?;
        (lane.pop_front()? == message).then(|| lane.front().copied())
    }

    fn next_of(&self, message: u64) -> Option<u64> {
        self.clone().pop(message)?
    }

    fn runs(&mut self, message: u64, next: Option<u64>) -> bool {
        let legal = self.running.remove(&message) && self.pop(message) == Some(next);
        self.done.insert(message);
        self.running.extend(next);
        legal
    }

    fn remove(&mut self, message: u64) -> bool {
        let Some(next) = self.pop(message) else {
            return false;
        };
        let lane = self.out.remove(&message);
        self.ready.extend(next.and(lane));
        true
    }

    fn back(&mut self, message: u64, done: bool) -> bool {
        if done {
            self.out.remove(&message);
        }
        if self.came.is_empty() {
            self.came = std::mem::take(&mut self.given);
        }
        self.came.pop() == Some((message, done))
    }
}

/// A lane for each key, and one for each message without.
fn lane_of(message: u64, key: Option<u64>) -> u64 {
    key.unwrap_or(1_000 + message)
}

impl Spec for LaneSpec {
    type Op = Op;
    type Ret = Ret;

    fn step(&self, op: &Op, ret: Option<&Ret>) -> Option<Self> {
        let mut next = self.clone();
        let legal = match (*op, ret.copied()) {
            (Op::Submit(message, key), Some(Ret::Ok)) => {
                next.submit(message, lane_of(message, key));
                !self.full(lane_of(message, key))
            }
            (Op::Submit(message, key), Some(Ret::Full)) => self.full(lane_of(message, key)),
            (Op::Take, Some(Ret::Got(message))) => next.take(message),
            (Op::Take, Some(Ret::Nothing)) => self.stopped,
            (Op::Done(message), Some(Ret::Next(after))) => next.runs(message, after),
            (Op::Give(message), _) => {
                next.given.push((message, true));
                next.done.remove(&message)
            }
            (Op::Park(message), Some(Ret::Ok)) => {
                next.given.push((message, false));
                next.running.remove(&message)
            }
            (Op::Back, Some(Ret::Was(message, done))) => next.back(message, done),
            (Op::Back, Some(Ret::Nothing)) => self.given.is_empty() && self.came.is_empty(),
            (Op::Resume(message), Some(Ret::Ok)) => {
                next.ready.extend(self.out.get(&message));
                true
            }
            (Op::Remove(message), Some(Ret::Ok)) => next.remove(message),
            (Op::Stop, _) => {
                next.stopped = true;
                true
            }
            // Nobody heard what it said: a waiter that hangs changes nothing.
            (Op::Take | Op::Back, None) => true,
            _ => false,
        };
        legal.then_some(next)
    }

    fn promise(&self, op: &Op, ret: Option<&Ret>) -> &'static str {
        match (op, ret) {
            (Op::Submit(..), _) => "bounded",
            (Op::Take, Some(Ret::Got(message))) => {
                let lane = self.out.get(message);
                let beside = |other: &u64| self.out.get(other) == lane;
                match lane {
                    Some(_) if self.running.iter().any(beside) => "one_runner_per_key",
                    Some(_) => "first_in_first_out",
                    None => "every_submission_completes_once",
                }
            }
            (Op::Done(message), Some(Ret::Next(None))) if self.next_of(*message).is_some() => {
                "no_message_without_a_runner"
            }
            (Op::Done(_), _) => "first_in_first_out",
            _ => "every_submission_completes_once",
        }
    }
}

/// What the first runner of a message does with it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Done,
    /// Parked, and resumed.
    Parked,
    /// Its runner is gone, and it is taken out.
    Dropped,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Message {
    id: u64,
    fate: Fate,
    again: bool,
}

/// What is submitted, and to how much room.
#[derive(Clone, Debug)]
struct Plan {
    rooms: usize,
    slots: usize,
    /// The key of each, what becomes of it, and whether the dispatcher looks for what is back afterwards.
    messages: Vec<(Option<u64>, Fate, bool)>,
    /// How many are announced together.
    batch: u64,
}

struct LaneCalls;

impl Protocol for LaneCalls {
    const NAME: &'static str = NAME;
    const GOALS: &'static [&'static str] = &[
        "submitted",
        "refused, full",
        "taken",
        "went on with the next",
        "let go",
        "parked",
        "resumed",
        "taken out",
        "back",
        "nothing is back",
    ];
    const PANIC: &'static str = "every_submission_completes_once";
    type Spec = LaneSpec;
    type Program = Plan;

    fn programs() -> BoxedStrategy<Plan> {
        let key = prop_oneof![4 => (0..2u64).prop_map(Some), 1 => Just(None)];
        let fate =
            prop_oneof![4 => Just(Fate::Done), 1 => Just(Fate::Parked), 1 => Just(Fate::Dropped)];
        let messages = prop::collection::vec((key, fate, any::<bool>()), 1..6);
        (1..3usize, 1..5usize, messages, 1..4u64)
            .prop_map(|(rooms, slots, messages, batch)| Plan {
                rooms,
                slots,
                messages,
                batch,
            })
            .boxed()
    }

    fn start(plan: &Plan) -> LaneSpec {
        LaneSpec {
            rooms: plan.rooms,
            slots: plan.slots,
            ..LaneSpec::default()
        }
    }

    fn run(plan: &Plan, calls: &CallsOf<Self>) -> Result<(), String> {
        let hasher = BuildHasherDefault::default();
        let mut dispatcher: Dispatches = lanes(plan.rooms, plan.slots, WORKERS, hasher);
        let workers = [0, 1].map(|worker| {
            let (lanes, calls) = (dispatcher.shared().clone(), calls.clone());
            thread::spawn(move || work(&lanes, worker, &calls))
        });
        dispatch(plan, &mut dispatcher, calls)?;
        for worker in workers {
            worker
                .join()
                .map_err(|_| "every_submission_completes_once: a worker panicked".to_owned())?;
        }
        match dispatcher.busy() {
            0 => Ok(()),
            busy => Err(format!("bounded: {busy} lanes are busy without a message")),
        }
    }

    fn goal(call: &CallOf<Self>) -> Option<&'static str> {
        Some(match (call.op, call.end.as_ref()?.1) {
            (Op::Submit(..), Ret::Ok) => "submitted",
            (Op::Submit(..), _) => "refused, full",
            (Op::Take, Ret::Got(_)) => "taken",
            (Op::Done(_), Ret::Next(Some(_))) => "went on with the next",
            (Op::Done(_), _) => "let go",
            (Op::Park(_), _) => "parked",
            (Op::Resume(_), _) => "resumed",
            (Op::Remove(_), _) => "taken out",
            (Op::Back, Ret::Was(..)) => "back",
            (Op::Back, _) => "nothing is back",
            _ => return None,
        })
    }

    fn hang(_: &[CallOf<Self>]) -> &'static str {
        "no_message_without_a_runner"
    }
}

type Dispatches = Dispatcher<u64, Message, BuildHasherDefault<DefaultHasher>>;

/// Submits everything, waits until it is back, and stops.
fn dispatch(
    plan: &Plan,
    dispatcher: &mut Dispatches,
    calls: &CallsOf<LaneCalls>,
) -> Result<(), String> {
    for (id, (key, fate, looks)) in (0..).zip(&plan.messages) {
        let message = Message {
            id,
            fate: *fate,
            again: false,
        };
        while !submit(dispatcher, *key, message, calls)? {
            dispatcher.announce();
            back(dispatcher, true, calls);
        }
        if (id + 1) % plan.batch == 0 {
            dispatcher.announce();
        }
        if *looks {
            back(dispatcher, false, calls);
        }
    }
    dispatcher.announce();
    while dispatcher.out() > 0 {
        back(dispatcher, true, calls);
    }
    back(dispatcher, false, calls);
    calls.call(0, Op::Stop, || (dispatcher.stop(), Ret::Ok));
    Ok(())
}

/// Whether there was room.
fn submit(
    dispatcher: &mut Dispatches,
    key: Option<u64>,
    message: Message,
    calls: &CallsOf<LaneCalls>,
) -> Result<bool, String> {
    let all = Full { key, message };
    calls.call(0, Op::Submit(message.id, key), || {
        match dispatcher.submit(key, message) {
            Ok(()) => (Ok(true), Ret::Ok),
            Err(full) if full == all => (Ok(false), Ret::Full),
            Err(full) => {
                let words = format!("bounded: {full:?} was handed back, {all:?} was submitted");
                (Err(words), Ret::Full)
            }
        }
    })
}

/// Takes what is back, or waits for it; what was parked is resumed or taken out.
fn back(dispatcher: &mut Dispatches, waits: bool, calls: &CallsOf<LaneCalls>) {
    let parked = calls.call(0, Op::Back, || {
        let back = match waits {
            true => Some(block_on(poll_fn(|cx| dispatcher.poll_back(cx)))),
            false => dispatcher.take_back(),
        };
        match back {
            Some(Back::Done(message)) => (None, Ret::Was(message.id, true)),
            Some(Back::Parked(parked)) => {
                let id = parked.message.id;
                (Some(parked), Ret::Was(id, false))
            }
            None => (None, Ret::Nothing),
        }
    });
    let Some(mut parked) = parked else { return };
    let Message { id, fate, .. } = parked.message;
    match fate {
        Fate::Dropped => calls.call(0, Op::Remove(id), || {
            dispatcher.remove(parked);
            ((), Ret::Ok)
        }),
        _ => calls.call(0, Op::Resume(id), || {
            parked.message.again = true;
            (dispatcher.resume(parked), Ret::Ok)
        }),
    }
    dispatcher.announce();
}

/// A worker, until it is stopped.
fn work(lanes: &Lanes<Message>, worker: usize, calls: &CallsOf<LaneCalls>) {
    let process = worker + 1;
    let take = || {
        calls.call(process, Op::Take, || {
            match block_on(poll_fn(|cx| lanes.poll_run(worker, cx))) {
                Some(run) => {
                    let id = run.id;
                    (Some(run), Ret::Got(id))
                }
                None => (None, Ret::Nothing),
            }
        })
    };
    while let Some(first) = take() {
        let mut next = Some(first);
        while let Some(run) = next {
            next = run_one(run, process, calls);
        }
    }
}

fn run_one<'l>(
    run: Run<'l, Message>,
    process: usize,
    calls: &CallsOf<LaneCalls>,
) -> Option<Run<'l, Message>> {
    let Message { id, fate, again } = *run;
    if again || fate == Fate::Done {
        let begun = calls.begin(process, Op::Done(id));
        let next = run.done();
        let after = Ret::Next(next.as_ref().map(|next| next.id));
        calls.end_together(begun, after, [(Op::Give(id), Ret::Ok)]);
        return next;
    }
    calls.call(process, Op::Park(id), || {
        match fate {
            Fate::Dropped => drop(run),
            _ => run.park(),
        }
        ((), Ret::Ok)
    });
    None
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
