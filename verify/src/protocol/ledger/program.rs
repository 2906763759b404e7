//! The programs: publishers, answers from elsewhere, late answers, close, a reader of results.

use super::super::subject::engine::{block_on, thread};
use super::super::subject::ledger::{Audience, Entry, Ledger, ResultReader, Slot};
use super::{Kind, LedgerSpec, NAME, Op, REST, Ret};
use clearway_verify::protocol::{CallOf, CallsOf, Protocol};
use proptest::prelude::*;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

pub(super) struct LedgerCalls;

/// What becomes of a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receipt {
    None,
    Awaited,
    Dropped,
}

/// One thing a thread does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    /// Opens a slot, and maybe has its answer at once.
    Publish {
        receipt: Receipt,
        results: bool,
        answer: Option<Kind>,
    },
    /// An answer comes for the n-th publish of the program, if it has been sent by now.
    Answer { n: usize, kind: Kind },
    /// Close settles the rest.
    Rest,
}

#[derive(Clone, Debug)]
pub(super) struct Program {
    capacity: usize,
    threads: Vec<Vec<Act>>,
}

impl Program {
    fn publishes(&self) -> usize {
        let acts = self.threads.iter().flatten();
        acts.filter(|act| matches!(act, Act::Publish { .. }))
            .count()
    }
}

impl Protocol for LedgerCalls {
    const NAME: &'static str = NAME;
    const GOALS: &'static [&'static str] = &[
        "opened",
        "a slot used again",
        "full",
        "settled",
        "too late to settle",
        "settled by close",
        "receipt awaited",
        "receipt dropped",
        "result read",
    ];
    const PANIC: &'static str = "one_outcome_each";
    type Spec = LedgerSpec;
    type Program = Program;

    fn programs() -> BoxedStrategy<Program> {
        let kind = prop_oneof![Just(Kind::Acked), Just(Kind::Rejected)];
        let receipt = prop_oneof![
            2 => Just(Receipt::Awaited),
            1 => Just(Receipt::Dropped),
            2 => Just(Receipt::None),
        ];
        let publish = (
            receipt,
            prop::bool::weighted(0.4),
            prop::option::of(kind.clone()),
        )
            .prop_map(|(receipt, results, answer)| Act::Publish {
                receipt,
                results,
                answer,
            });
        let answer = (0..3_usize, kind).prop_map(|(n, kind)| Act::Answer { n, kind });
        let act = prop_oneof![4 => publish, 3 => answer, 1 => Just(Act::Rest)];
        let threads = prop::collection::vec(prop::collection::vec(act, 1..5), 2..4);
        (1..3_usize, threads)
            .prop_map(|(capacity, threads)| Program { capacity, threads })
            .boxed()
    }

    fn start(program: &Program) -> LedgerSpec {
        LedgerSpec::new(program.capacity, program.publishes())
    }

    fn run(program: &Program, calls: &CallsOf<Self>) -> Result<(), String> {
        let stage = Arc::new(Scene {
            ledger: Ledger::new(program.capacity),
            calls: calls.clone(),
            sent: Mutex::new(vec![None; program.publishes()]),
            left: AtomicUsize::new(program.threads.len() + 1),
            unread: AtomicUsize::new(0),
        });
        stage.play(program)?;
        stage.curtain(program.capacity)
    }

    fn goal(call: &CallOf<Self>) -> Option<&'static str> {
        Some(match (call.op, call.end.as_ref()?.1) {
            (Op::Open { .. }, Ret::Opened { again: false }) => "opened",
            (Op::Open { .. }, Ret::Opened { again: true }) => "a slot used again",
            (Op::Open { .. }, Ret::Full) => "full",
            (Op::Claim { rest: false, .. }, Ret::Entry(_)) => "settled",
            (Op::Claim { rest: false, .. }, Ret::Late) => "too late to settle",
            (Op::Claim { rest: true, .. }, Ret::Entry(_)) => "settled by close",
            (Op::AwaitReceipt { .. }, _) => "receipt awaited",
            (Op::DropReceipt { .. }, _) => "receipt dropped",
            (Op::NextResult, Ret::Result(..)) => "result read",
            _ => return None,
        })
    }

    fn hang(calls: &[CallOf<Self>]) -> &'static str {
        let settled = |n: usize| {
            let got = |call: &CallOf<Self>| {
                matches!(call.end, Some((_, Ret::Entry(id))) if id == n)
                    && matches!(call.op, Op::Claim { .. })
            };
            calls.iter().any(got)
        };
        let mut waiting = calls.iter().filter(|call| call.end.is_none());
        let unsettled = |call: &CallOf<Self>| match call.op {
            Op::AwaitReceipt { n } => !settled(n),
            _ => false,
        };
        if waiting.clone().any(unsettled) {
            "close_settles_the_rest_as_unknown"
        } else if waiting.any(|call| matches!(call.op, Op::AwaitReceipt { .. })) {
            "no_receipt_sleeps_on_an_outcome"
        } else {
            "result_order_per_key"
        }
    }
}

/// What the threads of a run share.
struct Scene {
    ledger: Ledger<usize>,
    calls: CallsOf<LedgerCalls>,
    /// The tokens, once they are out.
    sent: Mutex<Vec<Option<Slot>>>,
    /// Threads that may still publish or settle, the last close included.
    left: AtomicUsize,
    /// Publishes opened for the result reader and not read.
    unread: AtomicUsize,
}

impl Scene {
    fn play(self: &Arc<Self>, program: &Program) -> Result<(), String> {
        let gone = |_| "a thread panicked".to_owned();
        let reader = self
            .ledger
            .result_reader()
            .ok_or("result_order_per_key: no reader")?;
        let scene = self.clone();
        let reader = thread::spawn(move || scene.read(reader));
        let (mut actors, mut first) = (Vec::new(), 0);
        for (process, acts) in (1..).zip(program.threads.clone()) {
            let (scene, from) = (self.clone(), first);
            first += acts
                .iter()
                .filter(|act| matches!(act, Act::Publish { .. }))
                .count();
            actors.push(thread::spawn(move || scene.act(process, from, &acts)));
        }
        let mut waiters = Vec::new();
        for actor in actors {
            waiters.extend(actor.join().map_err(gone)?);
        }
        // Whatever nobody answered: without this the receipts would wait for ever.
        self.rest(0);
        self.leave();
        for waiter in waiters {
            waiter.join().map_err(gone)?;
        }
        reader.join().map_err(gone)
    }

    /// At the end every slot is free again, and nothing is left to tell.
    fn curtain(&self, capacity: usize) -> Result<(), String> {
        let nobody = Audience {
            receipt: false,
            results: false,
        };
        let free = (0..capacity)
            .filter(|_| self.ledger.open(entry(0), nobody).is_some())
            .count();
        if free < capacity {
            return Err(format!(
                "one_outcome_each: {free} of {capacity} slots came back"
            ));
        }
        match self.ledger.open(entry(0), nobody) {
            Some(_) => Err("one_outcome_each: more slots came back than there are".to_owned()),
            None => Ok(()),
        }
    }

    fn act(self: &Arc<Self>, process: usize, mut n: usize, acts: &[Act]) -> Vec<Waiter> {
        let mut waiters = Vec::new();
        for act in acts {
            match *act {
                Act::Publish {
                    receipt,
                    results,
                    answer,
                } => {
                    waiters.extend(self.publish(process, n, receipt, results, answer));
                    n += 1;
                }
                Act::Answer { n, kind } => {
                    let sent = self.sent().get(n).copied().flatten();
                    if let Some(slot) = sent {
                        self.settle(process, n, slot, kind);
                    }
                }
                Act::Rest => self.rest(process),
            }
        }
        self.leave();
        waiters
    }

    fn publish(
        self: &Arc<Self>,
        process: usize,
        n: usize,
        receipt: Receipt,
        results: bool,
        answer: Option<Kind>,
    ) -> Option<Waiter> {
        let audience = Audience {
            receipt: receipt != Receipt::None,
            results,
        };
        // Before it is told, so that the reader does not leave in between.
        self.unread.fetch_add(usize::from(results), Relaxed);
        let op = Op::Open {
            n,
            receipt: audience.receipt,
            results,
        };
        let slot = self
            .calls
            .call(process, op, || match self.ledger.open(entry(n), audience) {
                Some(slot) => (
                    Some(slot),
                    Ret::Opened {
                        again: slot.to_bits() >> 32 > 1,
                    },
                ),
                None => (None, Ret::Full),
            });
        let Some(slot) = slot else {
            self.unread.fetch_sub(usize::from(results), Relaxed);
            return None;
        };
        self.sent()[n] = Some(slot);
        let waiter = (receipt == Receipt::Awaited).then(|| self.wait(n, slot));
        if let Some(kind) = answer {
            self.settle(process, n, slot, kind);
        }
        if receipt == Receipt::Dropped {
            self.calls.call(process, Op::DropReceipt { n }, || {
                (self.ledger.drop_receipt(slot), Ret::Done)
            });
        }
        waiter
    }

    /// A thread that waits for a receipt. It is process 100 and up.
    fn wait(self: &Arc<Self>, n: usize, slot: Slot) -> Waiter {
        let scene = self.clone();
        thread::spawn(move || {
            scene.calls.call(100 + n, Op::AwaitReceipt { n }, || {
                let outcome = block_on(poll_fn(|cx| scene.ledger.poll_receipt(slot, cx)));
                ((), Ret::Was(Kind::of(&outcome, n)))
            });
        })
    }

    fn settle(&self, process: usize, n: usize, slot: Slot, kind: Kind) {
        let begun = self.calls.begin(
            process,
            Op::Claim {
                n,
                kind,
                rest: false,
            },
        );
        match self.ledger.settle(slot, kind.outcome(n)) {
            Some(entry) => {
                let moments = [(Op::Show { n }, Ret::Done), (Op::Tell { n }, Ret::Done)];
                self.calls
                    .end_together(begun, Ret::Entry(number_of(entry)), moments);
            }
            None => self.calls.end(begun, Ret::Late),
        }
    }

    /// Close settles what is open: of every publish sent by now it must either get the entry or
    /// be too late. Of one sent meanwhile it may do both, which is not worth a call.
    fn rest(&self, process: usize) {
        let sent: Vec<bool> = self.sent().iter().map(Option::is_some).collect();
        let claim = |n| Op::Claim {
            n,
            kind: Kind::Unknown,
            rest: true,
        };
        let begun = self.calls.begin(process, Op::Rest);
        let mut entries = Vec::new();
        self.ledger
            .settle_rest(&REST, |entry| entries.push(number_of(entry)));
        let mut moments = Vec::new();
        for &n in &entries {
            let shown = [Op::Show { n }, Op::Tell { n }].map(|op| (op, Ret::Done));
            moments.push((claim(n), Ret::Entry(n)));
            moments.extend(shown);
        }
        let late = (0..sent.len()).filter(|n| sent[*n] && !entries.contains(n));
        moments.extend(late.map(|n| (claim(n), Ret::Late)));
        self.calls.end_together(begun, Ret::Done, moments);
    }

    /// Reads results until nobody can settle any more and all is read. It is process 99.
    fn read(&self, mut reader: ResultReader) {
        loop {
            let result = self.calls.call(99, Op::NextResult, || {
                let result = block_on(poll_fn(|cx| self.poll_next(&mut reader, cx)));
                let ret = result.map_or(Ret::End, |(n, kind)| Ret::Result(n, kind));
                (result, ret)
            });
            if result.is_none() {
                return;
            }
            self.unread.fetch_sub(1, Relaxed);
        }
    }

    fn poll_next(
        &self,
        reader: &mut ResultReader,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(usize, Kind)>> {
        match self.ledger.poll_result(reader, cx) {
            Poll::Ready((entry, outcome)) => {
                let n = number_of(entry);
                Poll::Ready(Some((n, Kind::of(&outcome, n))))
            }
            Poll::Pending if self.left.load(Relaxed) == 0 && self.unread.load(Relaxed) == 0 => {
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// One thread fewer that may settle. The reader is told after the last, but only if there is
    /// nothing to read: otherwise it is the ledger that has to wake it.
    fn leave(&self) {
        if self.left.fetch_sub(1, Relaxed) == 1 && self.unread.load(Relaxed) == 0 {
            self.ledger.wake_reader();
        }
    }

    fn sent(&self) -> std::sync::MutexGuard<'_, Vec<Option<Slot>>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Waiter = thread::JoinHandle<()>;

/// Every field says which publish it is of, so that a mixture shows.
fn entry(n: usize) -> Entry {
    Entry {
        pass: n as u8,
        marks: n as u8 + 1,
        topic: n as u32 + 2,
        bytes: n as u64 + 3,
        id: (n as u128 + 4) << 64 | n as u128,
        opened_at: n as u64 + 5,
    }
}

/// The publish an entry is of; one that is of two is of none.
fn number_of(found: Entry) -> usize {
    let n = usize::from(found.pass);
    if found == entry(n) { n } else { usize::MAX }
}

#[cfg(test)]
mod tests {
    use super::super::histories;

    #[test]
    fn every_history_has_a_sequential_explanation() {
        let checked = histories(150, 1);
        assert_eq!(checked.complaint(), None, "{checked:#?}");
    }
}
