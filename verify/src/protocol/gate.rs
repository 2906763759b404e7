//! Spec of `src/protocol/gate.rs`: the gate as if only one thread existed.

use super::subject::engine::{block_on, thread};
use super::subject::gate::Gate;
use clearway_verify::linear::Spec;
use clearway_verify::protocol::{CallOf, CallsOf, Checked, Protocol, explore};
use proptest::prelude::*;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Waker};

/// The protocol's name.
pub const NAME: &str = "gate";

/// Runs `programs` generated programs against the gate.
pub fn histories(programs: u32, seed: u64) -> Checked {
    explore::<GateCalls>(programs, seed)
}

/// What is called, and what it answers in [`Ret`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Enter,
    Leave,
    /// Close is an interval, for it shuts one stripe after the other: while it runs `enter` may
    /// be admitted or refused. So it is two calls, which both last as long as it does.
    CloseBegins,
    CloseEnds,
    /// One look.
    Look,
    /// Waiting until it is drained.
    Wait,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ret {
    Admitted,
    Refused,
    Drained,
    NotYet,
    Done,
}

#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct GateSpec {
    closing: u32,
    shut: bool,
    inside: u32,
}

impl Spec for GateSpec {
    type Op = Op;
    type Ret = Ret;

    fn step(&self, op: &Op, ret: Option<&Ret>) -> Option<Self> {
        let mut next = self.clone();
        let legal = match (op, ret) {
            (Op::Enter, Some(Ret::Admitted)) => {
                next.inside += 1;
                !self.shut
            }
            (Op::Enter, Some(Ret::Refused)) => self.shut || self.closing > 0,
            (Op::Leave, _) => {
                next.inside = next.inside.saturating_sub(1);
                self.inside > 0
            }
            (Op::CloseBegins, _) => {
                next.closing += 1;
                true
            }
            (Op::CloseEnds, _) => {
                next.closing = next.closing.saturating_sub(1);
                next.shut = true;
                self.closing > 0
            }
            // Ready is a promise that it is shut; a close that runs may have done its part.
            (Op::Look | Op::Wait, Some(Ret::Drained)) => {
                next.shut = true;
                (self.shut || self.closing > 0) && self.inside == 0
            }
            // Not yet is no promise: a refused caller on its way out may delay it.
            (Op::Look, Some(Ret::NotYet)) => true,
            // Nobody heard what it said: a waiter that hangs changes nothing.
            (Op::Look | Op::Wait | Op::Enter, None) => true,
            _ => false,
        };
        legal.then_some(next)
    }

    fn promise(&self, op: &Op, ret: Option<&Ret>) -> &'static str {
        match (op, ret) {
            (Op::Enter, Some(Ret::Admitted)) => "closed_admits_nobody",
            (Op::Enter, _) => "open_admits",
            (Op::Look | Op::Wait, Some(Ret::Drained)) => "drained_means_nobody_inside",
            _ => "every_closer_sees_the_same_end",
        }
    }
}

/// One thing a thread does.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// In and out again; the pass may go to another thread that leaves with it.
    Visit {
        handed_on: bool,
    },
    Close,
    CloseAndWait,
    Look,
}

struct GateCalls;

impl Protocol for GateCalls {
    const NAME: &'static str = NAME;
    const GOALS: &'static [&'static str] = &[
        "admitted",
        "refused",
        "drained at a look",
        "not drained yet",
        "waited until drained",
    ];
    const PANIC: &'static str = "drained_means_nobody_inside";
    type Spec = GateSpec;
    type Program = Vec<Vec<Act>>;

    fn programs() -> BoxedStrategy<Self::Program> {
        let act = prop_oneof![
            4 => any::<bool>().prop_map(|handed_on| Act::Visit { handed_on }),
            1 => Just(Act::Close),
            2 => Just(Act::CloseAndWait),
            2 => Just(Act::Look),
        ];
        let thread = prop::collection::vec(act, 1..4);
        prop::collection::vec(thread, 2..4).boxed()
    }

    fn start(_: &Self::Program) -> GateSpec {
        GateSpec::default()
    }

    fn run(program: &Self::Program, calls: &CallsOf<Self>) -> Result<(), String> {
        let gate = Arc::new(Gate::new());
        let threads: Vec<_> = (1..)
            .zip(program.clone())
            .map(|(process, acts)| {
                let (gate, calls) = (gate.clone(), calls.clone());
                thread::spawn(move || {
                    acts.iter()
                        .for_each(|act| step(&gate, *act, process, &calls))
                })
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| "a thread panicked".to_owned())?;
        }
        Ok(())
    }

    fn goal(call: &CallOf<Self>) -> Option<&'static str> {
        Some(match (call.op, call.end.as_ref()?.1) {
            (Op::Enter, Ret::Admitted) => "admitted",
            (Op::Enter, Ret::Refused) => "refused",
            (Op::Look, Ret::Drained) => "drained at a look",
            (Op::Look, Ret::NotYet) => "not drained yet",
            (Op::Wait, Ret::Drained) => "waited until drained",
            _ => return None,
        })
    }

    fn hang(calls: &[CallOf<Self>]) -> &'static str {
        let waits = || calls.iter().filter(|call| call.op == Op::Wait);
        let hanging = waits().filter(|call| call.end.is_none()).count();
        if hanging < waits().count() {
            // Another closer was told.
            "every_closer_sees_the_same_end"
        } else {
            "last_one_out_wakes"
        }
    }
}

fn step(gate: &Arc<Gate>, act: Act, process: usize, calls: &CallsOf<GateCalls>) {
    match act {
        Act::Visit { handed_on } => visit(gate, handed_on, process, calls),
        Act::Close => close(gate, process, calls),
        Act::CloseAndWait => {
            close(gate, process, calls);
            calls.call(process, Op::Wait, || {
                block_on(poll_fn(|cx| gate.poll_drained(cx)));
                ((), Ret::Drained)
            });
        }
        Act::Look => calls.call(process, Op::Look, || {
            let mut nobody = Context::from_waker(Waker::noop());
            let ready = gate.poll_drained(&mut nobody).is_ready();
            ((), if ready { Ret::Drained } else { Ret::NotYet })
        }),
    }
}

fn visit(gate: &Arc<Gate>, handed_on: bool, process: usize, calls: &CallsOf<GateCalls>) {
    let pass = calls.call(process, Op::Enter, || {
        let pass = gate.enter();
        let ret = if pass.is_some() {
            Ret::Admitted
        } else {
            Ret::Refused
        };
        (pass, ret)
    });
    let Some(pass) = pass else { return };
    // Stay for a moment, or nobody ever meets a pass.
    thread::yield_now();
    let leave = {
        let (gate, calls) = (gate.clone(), calls.clone());
        move || calls.call(process, Op::Leave, || (gate.leave(pass), Ret::Done))
    };
    if handed_on {
        // A thread that dies here fails the run by its own message.
        _ = thread::spawn(leave).join();
    } else {
        leave();
    }
}

fn close(gate: &Gate, process: usize, calls: &CallsOf<GateCalls>) {
    let begun = calls.begin(process, Op::CloseBegins);
    gate.close();
    calls.end_together(begun, Ret::Done, [(Op::CloseEnds, Ret::Done)]);
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
