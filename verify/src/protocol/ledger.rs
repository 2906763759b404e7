//! Spec of `src/protocol/ledger.rs`: the ledger as if only one thread existed.

// By its path from here, for the generated crate compiles this file under another name.
#[path = "ledger/program.rs"]
mod program;

use super::subject::ledger::Outcome;
use clearway_verify::linear::Spec;
use clearway_verify::protocol::{Checked, explore};
use std::collections::VecDeque;

/// The protocol's name.
pub const NAME: &str = "ledger";

/// Runs `programs` generated programs against the ledger.
pub fn histories(programs: u32, seed: u64) -> Checked {
    explore::<program::LedgerCalls>(programs, seed)
}

/// How a publish ends, as far as the programs tell outcomes apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Acked,
    Rejected,
    Unknown,
    /// Not what anybody settled it with.
    Mixed,
}

impl Kind {
    fn outcome(self, n: usize) -> Outcome<usize> {
        match self {
            Self::Acked => Outcome::Acked {
                partition: 3,
                position: n as u64,
                duplicate: true,
            },
            Self::Rejected => Outcome::Rejected(n),
            Self::Unknown | Self::Mixed => Outcome::Unknown(REST),
        }
    }

    /// What `outcome` is to publish `n`.
    fn of(outcome: &Outcome<usize>, n: usize) -> Self {
        let known = [Self::Acked, Self::Rejected, Self::Unknown];
        known
            .into_iter()
            .find(|kind| kind.outcome(n) == *outcome)
            .unwrap_or(Self::Mixed)
    }
}

/// Why close settles what is left.
const REST: usize = usize::MAX;

/// What is called, and on which publish of the program.
///
/// To settle is an interval of three moments: one settler is chosen, the receipt can see the
/// outcome, the outcome is in line for the result reader. So it is three calls, which all last as
/// long as it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Open {
        n: usize,
        receipt: bool,
        results: bool,
    },
    Claim {
        n: usize,
        kind: Kind,
        rest: bool,
    },
    Show {
        n: usize,
    },
    Tell {
        n: usize,
    },
    /// Close settles the rest; what it settled is recorded as claims that last as long.
    Rest,
    AwaitReceipt {
        n: usize,
    },
    DropReceipt {
        n: usize,
    },
    NextResult,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ret {
    /// With a slot that was used before, or a fresh one.
    Opened {
        again: bool,
    },
    Full,
    /// The entry of this publish.
    Entry(usize),
    Late,
    Done,
    Was(Kind),
    Result(usize, Kind),
    /// There is no more to come.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Absent,
    Open,
    Claimed(Kind),
    Shown(Kind),
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Publish {
    stage: Stage,
    /// By the receipt, or nobody will.
    read: bool,
    /// To the result reader, or nobody will.
    told: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct LedgerSpec {
    capacity: usize,
    publishes: Vec<Publish>,
    results: VecDeque<usize>,
}

impl LedgerSpec {
    fn new(capacity: usize, publishes: usize) -> Self {
        let absent = Publish {
            stage: Stage::Absent,
            read: false,
            told: false,
        };
        Self {
            capacity,
            publishes: vec![absent; publishes],
            results: VecDeque::new(),
        }
    }

    fn in_use(&self) -> usize {
        let done = |publish: &Publish| {
            matches!(publish.stage, Stage::Shown(_)) && publish.read && publish.told
        };
        let used = |publish: &&Publish| publish.stage != Stage::Absent && !done(publish);
        self.publishes.iter().filter(used).count()
    }

    fn open(&mut self, n: usize, receipt: bool, results: bool) -> bool {
        let legal = self.in_use() < self.capacity && self.publishes[n].stage == Stage::Absent;
        self.publishes[n] = Publish {
            stage: Stage::Open,
            read: !receipt,
            told: !results,
        };
        legal
    }

    fn result(&mut self, id: usize, kind: Kind) -> bool {
        let legal =
            self.results.pop_front() == Some(id) && self.publishes[id].stage == Stage::Shown(kind);
        if let Some(publish) = self.publishes.get_mut(id) {
            publish.told = true;
        }
        legal
    }
}

impl Spec for LedgerSpec {
    type Op = Op;
    type Ret = Ret;

    fn step(&self, op: &Op, ret: Option<&Ret>) -> Option<Self> {
        let mut next = self.clone();
        let stage = |n: usize| {
            self.publishes
                .get(n)
                .map_or(Stage::Absent, |publish| publish.stage)
        };
        let legal = match (*op, *ret?) {
            (
                Op::Open {
                    n,
                    receipt,
                    results,
                },
                Ret::Opened { .. },
            ) => next.open(n, receipt, results),
            // Full is no promise: the free slots are looked at one stripe after the other.
            (Op::Open { .. }, Ret::Full) => true,
            (Op::Claim { n, .. }, Ret::Entry(id)) if id != n || n >= self.publishes.len() => false,
            (Op::Claim { n, kind, .. }, Ret::Entry(_)) => {
                next.publishes[n].stage = Stage::Claimed(kind);
                stage(n) == Stage::Open
            }
            // Close passes by what is not open yet.
            (Op::Claim { n, rest, .. }, Ret::Late) => {
                stage(n) != Stage::Open && (rest || stage(n) != Stage::Absent)
            }
            (Op::Show { n }, Ret::Done) => match stage(n) {
                Stage::Claimed(kind) => {
                    next.publishes[n].stage = Stage::Shown(kind);
                    true
                }
                _ => false,
            },
            (Op::Tell { n }, Ret::Done) => {
                if !self.publishes[n].told {
                    next.results.push_back(n);
                }
                matches!(stage(n), Stage::Shown(_))
            }
            (Op::Rest, Ret::Done) => true,
            (Op::AwaitReceipt { n }, Ret::Was(kind)) => {
                next.publishes[n].read = true;
                stage(n) == Stage::Shown(kind) && !self.publishes[n].read
            }
            (Op::DropReceipt { n }, Ret::Done) => {
                next.publishes[n].read = true;
                !self.publishes[n].read
            }
            (Op::NextResult, Ret::Result(id, kind)) => {
                id < self.publishes.len() && next.result(id, kind)
            }
            (Op::NextResult, Ret::End) => self.results.is_empty(),
            _ => false,
        };
        legal.then_some(next)
    }

    fn promise(&self, op: &Op, ret: Option<&Ret>) -> &'static str {
        match (*op, ret) {
            (Op::Claim { rest: true, .. }, Some(Ret::Late)) => "close_settles_the_rest_as_unknown",
            (Op::Claim { n, .. }, Some(Ret::Entry(id))) if *id != n => "stale_slot_is_ignored",
            (Op::Claim { .. }, Some(Ret::Entry(_))) => "late_answer_is_not_a_second_outcome",
            (Op::NextResult, Some(Ret::Result(_, Kind::Mixed))) => "one_outcome_each",
            (Op::NextResult, _) => "result_order_per_key",
            _ => "one_outcome_each",
        }
    }
}
