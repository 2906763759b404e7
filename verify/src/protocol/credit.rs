//! Spec of `src/protocol/credit.rs`: the credit as if only one thread existed.
//!
//! Every poll of a waiter is a call of its own, so the line and who is in it is part of the
//! state: it is served, in order, whenever credit comes back.

use super::subject::credit::{Budget, Credit, Refused, Waiter};
use super::subject::engine::{block_on, thread};
use clearway_verify::linear::Spec;
use clearway_verify::protocol::{CallOf, CallsOf, Checked, Protocol, explore};
use proptest::prelude::*;
use std::collections::{BTreeSet, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

/// The protocol's name.
pub const NAME: &str = "credit";

/// Runs `programs` generated programs against the credit.
pub fn histories(programs: u32, seed: u64) -> Checked {
    explore::<CreditCalls>(programs, seed)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    TryTake {
        bytes: u64,
    },
    Poll {
        waiter: usize,
        bytes: u64,
    },
    Cancel {
        waiter: usize,
        bytes: u64,
    },
    Give {
        bytes: u64,
    },
    /// Close reaches one stripe after the other: while it runs the hot path may still give. So it
    /// is two calls, which both last as long as it does.
    CloseBegins,
    CloseEnds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ret {
    Taken,
    Full,
    TooLarge,
    Closed,
    InLine,
    Done,
}

impl Ret {
    fn of(answer: Result<(), Refused>) -> Self {
        match answer {
            Ok(()) => Self::Taken,
            Err(Refused::Full) => Self::Full,
            Err(Refused::TooLarge) => Self::TooLarge,
            Err(Refused::Closed) => Self::Closed,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct CreditSpec {
    limit: (u64, u64),
    free: (u64, u64),
    /// Who waits, and for how many bytes.
    line: VecDeque<(usize, u64)>,
    /// Who has been given credit and has not looked.
    served: BTreeSet<usize>,
    /// Who has been in line, so that a second look is not a second place.
    known: BTreeSet<usize>,
    closing: u32,
    closed: bool,
}

impl CreditSpec {
    fn fits(&self, bytes: u64) -> bool {
        self.free.0 >= 1 && self.free.1 >= bytes
    }

    fn take(&mut self, bytes: u64) -> bool {
        let fits = self.fits(bytes);
        if fits {
            self.free = (self.free.0 - 1, self.free.1 - bytes);
        }
        fits
    }

    fn give(&mut self, bytes: u64) -> bool {
        self.free = (self.free.0 + 1, self.free.1 + bytes);
        self.serve();
        self.free.0 <= self.limit.0 && self.free.1 <= self.limit.1
    }

    fn serve(&mut self) {
        while let Some(&(waiter, bytes)) = self.line.front() {
            if !self.take(bytes) {
                break;
            }
            self.line.pop_front();
            self.served.insert(waiter);
        }
    }

    fn refuses(&self) -> bool {
        self.closed || self.closing > 0
    }

    fn poll(&mut self, waiter: usize, bytes: u64, ret: Ret) -> bool {
        let known = self.known.contains(&waiter);
        match ret {
            Ret::Taken if known => self.served.remove(&waiter),
            Ret::Taken => !self.closed && self.line.is_empty() && self.take(bytes),
            Ret::InLine if known => self.line.iter().any(|&(waits, _)| waits == waiter),
            Ret::InLine => {
                let legal = !(self.refuses() || self.line.is_empty() && self.fits(bytes));
                self.known.insert(waiter);
                self.line.push_back((waiter, bytes));
                legal
            }
            Ret::Closed => self.refuses() && !self.served.contains(&waiter),
            _ => false,
        }
    }

    fn cancel(&mut self, waiter: usize, bytes: u64) -> bool {
        self.line.retain(|&(waits, _)| waits != waiter);
        if self.served.remove(&waiter) {
            return self.give(bytes);
        }
        self.serve();
        true
    }
}

impl Spec for CreditSpec {
    type Op = Op;
    type Ret = Ret;

    fn step(&self, op: &Op, ret: Option<&Ret>) -> Option<Self> {
        let mut next = self.clone();
        let legal = match (*op, *ret?) {
            (Op::TryTake { bytes } | Op::Poll { bytes, .. }, Ret::TooLarge) => bytes > self.limit.1,
            (Op::TryTake { bytes }, Ret::Taken) => {
                !self.closed && self.line.is_empty() && next.take(bytes)
            }
            (Op::TryTake { bytes }, Ret::Full) => {
                !self.refuses() && (!self.line.is_empty() || !self.fits(bytes))
            }
            (Op::TryTake { .. }, Ret::Closed) => self.refuses(),
            (Op::Poll { waiter, bytes }, ret) => next.poll(waiter, bytes, ret),
            (Op::Cancel { waiter, bytes }, Ret::Done) => next.cancel(waiter, bytes),
            (Op::Give { bytes }, Ret::Done) => next.give(bytes),
            (Op::CloseBegins, Ret::Done) => {
                next.closing += 1;
                next.line.clear();
                true
            }
            (Op::CloseEnds, Ret::Done) => {
                next.closing = next.closing.saturating_sub(1);
                next.closed = true;
                self.closing > 0
            }
            _ => false,
        };
        legal.then_some(next)
    }

    fn promise(&self, op: &Op, ret: Option<&Ret>) -> &'static str {
        match (*op, ret) {
            (Op::Give { .. } | Op::Cancel { .. }, _) => "every_credit_comes_back",
            (_, Some(Ret::Taken)) if self.closed => "close_wakes_all",
            (_, Some(Ret::Taken)) if !self.line.is_empty() => "waiters_in_order",
            (_, Some(Ret::Taken)) => "limit_holds",
            (_, Some(Ret::Full | Ret::InLine)) => "no_waiter_sleeps_on_free_credit",
            _ => "close_wakes_all",
        }
    }
}

/// One thing a thread does. What it takes it gives back before it does the next.
#[derive(Clone, Copy, Debug)]
enum Act {
    TryTake {
        bytes: u64,
    },
    Await {
        bytes: u64,
    },
    /// Looks once, and goes if it is put in line.
    Impatient {
        bytes: u64,
    },
    Close,
}

#[derive(Clone, Debug)]
struct Program {
    envelopes: u64,
    bytes: u64,
    threads: Vec<Vec<Act>>,
}

struct CreditCalls;

impl Protocol for CreditCalls {
    const NAME: &'static str = NAME;
    const GOALS: &'static [&'static str] = &[
        "taken at once",
        "full",
        "too large",
        "refused when closed",
        "waited in line",
        "taken by a waiter",
        "a waiter was sent home",
        "a waiter gave up",
    ];
    const PANIC: &'static str = "limit_holds";
    type Spec = CreditSpec;
    type Program = Program;

    fn programs() -> BoxedStrategy<Program> {
        let bytes = || 1..5_u64;
        let act = prop_oneof![
            4 => bytes().prop_map(|bytes| Act::TryTake { bytes }),
            5 => bytes().prop_map(|bytes| Act::Await { bytes }),
            3 => bytes().prop_map(|bytes| Act::Impatient { bytes }),
            1 => Just(Act::Close),
        ];
        let threads = prop::collection::vec(prop::collection::vec(act, 1..4), 2..4);
        (1..4_u64, 2..5_u64, threads)
            .prop_map(|(envelopes, bytes, threads)| Program {
                envelopes,
                bytes,
                threads,
            })
            .boxed()
    }

    fn start(program: &Program) -> CreditSpec {
        let all = (program.envelopes, program.bytes);
        CreditSpec {
            limit: all,
            free: all,
            line: VecDeque::new(),
            served: BTreeSet::new(),
            known: BTreeSet::new(),
            closing: 0,
            closed: false,
        }
    }

    fn run(program: &Program, calls: &CallsOf<Self>) -> Result<(), String> {
        let limit = Budget {
            envelopes: program.envelopes,
            bytes: program.bytes,
        };
        let scene = Arc::new(Scene {
            credit: Credit::new(limit),
            calls: calls.clone(),
            waiters: AtomicUsize::new(0),
        });
        let actors: Vec<_> = (1..)
            .zip(program.threads.clone())
            .map(|(process, acts)| {
                let scene = scene.clone();
                thread::spawn(move || acts.iter().for_each(|act| scene.act(process, *act)))
            })
            .collect();
        for actor in actors {
            actor
                .join()
                .map_err(|_| format!("{}: a thread panicked", Self::PANIC))?;
        }
        let free = scene.credit.free();
        if free == limit {
            Ok(())
        } else {
            Err(format!(
                "every_credit_comes_back: {free:?} of {limit:?} are free at the end"
            ))
        }
    }

    fn goal(call: &CallOf<Self>) -> Option<&'static str> {
        Some(match (call.op, call.end.as_ref()?.1) {
            (Op::TryTake { .. }, Ret::Taken) => "taken at once",
            (Op::TryTake { .. }, Ret::Full) => "full",
            (_, Ret::TooLarge) => "too large",
            (Op::TryTake { .. }, Ret::Closed) => "refused when closed",
            (Op::Poll { .. }, Ret::InLine) => "waited in line",
            (Op::Poll { .. }, Ret::Taken) => "taken by a waiter",
            (Op::Poll { .. }, Ret::Closed) => "a waiter was sent home",
            (Op::Cancel { .. }, _) => "a waiter gave up",
            _ => return None,
        })
    }

    fn hang(calls: &[CallOf<Self>]) -> &'static str {
        if calls.iter().any(|call| call.op == Op::CloseEnds) {
            "close_wakes_all"
        } else {
            "no_waiter_sleeps_on_free_credit"
        }
    }
}

struct Scene {
    credit: Credit,
    calls: CallsOf<CreditCalls>,
    waiters: AtomicUsize,
}

impl Scene {
    fn act(&self, process: usize, act: Act) {
        let (bytes, taken) = match act {
            Act::TryTake { bytes } => (bytes, self.try_take(process, bytes)),
            Act::Await { bytes } => (bytes, self.wait(process, bytes)),
            Act::Impatient { bytes } => (bytes, self.look(process, bytes)),
            Act::Close => return self.close(process),
        };
        if taken {
            // Hold it for a moment, or nobody ever finds it gone.
            thread::yield_now();
            self.calls.call(process, Op::Give { bytes }, || {
                (self.credit.give(bytes), Ret::Done)
            });
        }
    }

    fn try_take(&self, process: usize, bytes: u64) -> bool {
        self.calls.call(process, Op::TryTake { bytes }, || {
            let answer = self.credit.try_take(bytes);
            (answer.is_ok(), Ret::of(answer))
        })
    }

    fn wait(&self, process: usize, bytes: u64) -> bool {
        let (number, mut waiter) = self.waiter();
        let answer = block_on(poll_fn(|cx| {
            self.poll(process, number, &mut waiter, bytes, cx)
        }));
        answer.is_ok()
    }

    fn look(&self, process: usize, bytes: u64) -> bool {
        let (number, mut waiter) = self.waiter();
        let mut nobody = Context::from_waker(Waker::noop());
        match self.poll(process, number, &mut waiter, bytes, &mut nobody) {
            Poll::Ready(answer) => answer.is_ok(),
            Poll::Pending => {
                // Long enough that it may be served meanwhile.
                thread::yield_now();
                let op = Op::Cancel {
                    waiter: number,
                    bytes,
                };
                self.calls
                    .call(process, op, || (self.credit.cancel(&mut waiter), Ret::Done));
                false
            }
        }
    }

    fn poll(
        &self,
        process: usize,
        number: usize,
        waiter: &mut Waiter,
        bytes: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Refused>> {
        self.calls.call(
            process,
            Op::Poll {
                waiter: number,
                bytes,
            },
            || {
                let answer = self.credit.poll_take(waiter, bytes, cx);
                let ret = match answer {
                    Poll::Ready(answer) => Ret::of(answer),
                    Poll::Pending => Ret::InLine,
                };
                (answer, ret)
            },
        )
    }

    fn waiter(&self) -> (usize, Waiter) {
        (self.waiters.fetch_add(1, Relaxed), Waiter::default())
    }

    fn close(&self, process: usize) {
        let begun = self.calls.begin(process, Op::CloseBegins);
        self.credit.close();
        self.calls
            .end_together(begun, Ret::Done, [(Op::CloseEnds, Ret::Done)]);
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
