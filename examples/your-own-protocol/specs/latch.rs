//! Spec of `src/protocol/latch.rs`: the latch as if there were one thread, and the programs that are run against it.

use super::subject::engine::thread;
use super::subject::latch::Latch;
use clearway_verify::linear::Spec;
use clearway_verify::protocol::{CallOf, CallsOf, Checked, Protocol, explore};
use proptest::prelude::*;
use std::sync::Arc;
use std::task::{Context, Waker};

/// Runs `programs` generated programs against the latch.
pub fn histories(programs: u32, seed: u64) -> Checked {
    explore::<LatchCalls>(programs, seed)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Arrive,
    Look,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ret {
    Done,
    Open,
    NotYet,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct LatchSpec {
    missing: usize,
}

impl Spec for LatchSpec {
    type Op = Op;
    type Ret = Ret;

    fn step(&self, op: &Op, ret: Option<&Ret>) -> Option<Self> {
        let missing = self.missing - usize::from(*op == Op::Arrive);
        let legal = match ret {
            Some(Ret::Open) => missing == 0,
            Some(Ret::NotYet) => missing > 0,
            Some(Ret::Done) | None => true,
        };
        legal.then_some(Self { missing })
    }

    fn promise(&self, op: &Op, ret: Option<&Ret>) -> &'static str {
        match (op, ret) {
            (Op::Look, Some(Ret::NotYet)) => "last_arrival_wakes",
            _ => "opens_after_all_arrived",
        }
    }
}

struct LatchCalls;

impl Protocol for LatchCalls {
    const NAME: &'static str = "latch";
    const GOALS: &'static [&'static str] = &["open", "not yet"];
    const PANIC: &'static str = "opens_after_all_arrived";
    type Spec = LatchSpec;
    /// How many arrive, each on a thread of its own, and how often the waiter looks.
    type Program = (usize, usize);

    fn programs() -> BoxedStrategy<Self::Program> {
        (1..4_usize, 1..4_usize).boxed()
    }

    fn start((arrivals, _): &Self::Program) -> LatchSpec {
        LatchSpec { missing: *arrivals }
    }

    fn run((arrivals, looks): &Self::Program, calls: &CallsOf<Self>) -> Result<(), String> {
        let latch = Arc::new(Latch::new(*arrivals));
        let others = (1..=*arrivals).map(|process| {
            let (latch, calls) = (latch.clone(), calls.clone());
            thread::spawn(move || {
                calls.call(process, Op::Arrive, || (latch.arrive(), Ret::Done));
            })
        });
        let others: Vec<_> = others.collect();
        let look = || {
            let open = latch.poll_open(&mut Context::from_waker(Waker::noop()));
            ((), if open.is_ready() { Ret::Open } else { Ret::NotYet })
        };
        for _ in 0..*looks {
            calls.call(0, Op::Look, look);
        }
        for other in others {
            other.join().map_err(|_| "a thread panicked".to_owned())?;
        }
        // All have arrived.
        calls.call(0, Op::Look, look);
        Ok(())
    }

    fn goal(call: &CallOf<Self>) -> Option<&'static str> {
        match call.end.as_ref()?.1 {
            Ret::Open => Some("open"),
            Ret::NotYet => Some("not yet"),
            Ret::Done => None,
        }
    }

    fn hang(_: &[CallOf<Self>]) -> &'static str {
        "last_arrival_wakes"
    }
}
