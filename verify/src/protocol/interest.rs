//! Spec of `src/protocol/interest.rs`: the interest as if only one thread existed.

// By its path from here, for the generated crate compiles this file under another name.
#[path = "interest/program.rs"]
mod program;

use super::subject::interest::Want;
use clearway_verify::linear::Spec;
use clearway_verify::protocol::{Checked, explore};
use std::collections::{BTreeMap, BTreeSet};

/// The protocol's name.
pub const NAME: &str = "interest";

/// Runs `programs` generated programs against the interest.
pub fn histories(programs: u32, seed: u64) -> Checked {
    explore::<program::InterestCalls>(programs, seed)
}

type Wants = BTreeMap<u8, Want>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Want(u8, Want),
    Withdraw(u8),
    Activate(u8),
    Changed,
    /// For something to apply, now.
    Look,
    /// For something to apply, as long as it takes.
    WaitForChange,
    Apply(u64),
    Lose,
    /// For a version to be applied, now.
    LookForApplied(u64),
    /// For a version to be applied, as long as it takes.
    WaitForApplied(u64),
    End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Ret {
    Version(u64),
    WasHeld(bool),
    Behind(bool),
    Given(u64, Wants),
    Nothing,
    /// Whether it is applied, or the consumer has ended.
    Applied(bool),
    Done,
}

#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct InterestSpec {
    known: BTreeSet<u8>,
    held: BTreeSet<u8>,
    paused: BTreeSet<u8>,
    version: u64,
    applied: u64,
    /// The version at which the last consumer was lost.
    lost: u64,
    ended: bool,
}

impl InterestSpec {
    fn wants(&self) -> Wants {
        let want = |key| match (self.held.contains(key), self.paused.contains(key)) {
            (true, _) => Want::Held,
            (false, true) => Want::Paused,
            (false, false) => Want::Active,
        };
        self.known.iter().map(|key| (*key, want(key))).collect()
    }

    /// A version more if that is something else than before.
    fn differs(mut self, before: &Self) -> Self {
        self.version += u64::from(self.wants() != before.wants());
        self
    }

    fn wanted(&self, key: u8, want: Want) -> Self {
        let mut next = self.clone();
        next.known.insert(key);
        match want {
            Want::Held => next.held.insert(key),
            Want::Paused => next.paused.insert(key),
            Want::Active => next.paused.remove(&key),
        };
        next.differs(self)
    }

    fn withdrawn(&self, key: u8) -> Self {
        let mut next = self.clone();
        for keys in [&mut next.known, &mut next.held, &mut next.paused] {
            keys.remove(&key);
        }
        next.differs(self)
    }

    fn activated(&self, key: u8) -> Self {
        let mut next = self.clone();
        next.held.remove(&key);
        next.differs(self)
    }

    /// Whatever a lost consumer says is of no account.
    fn says(&self, version: u64) -> Self {
        let heard = version >= self.lost && version > self.applied;
        let applied = if heard { version } else { self.applied };
        Self {
            applied,
            ..self.clone()
        }
    }

    fn loses(&self) -> Self {
        let version = self.version + 1;
        Self {
            version,
            applied: 0,
            lost: version,
            ..self.clone()
        }
    }

    fn is_behind(&self) -> bool {
        self.applied < self.version
    }
}

impl Spec for InterestSpec {
    type Op = Op;
    type Ret = Ret;

    fn step(&self, op: &Op, ret: Option<&Ret>) -> Option<Self> {
        let mut next = self.clone();
        let legal = match (*op, ret) {
            (Op::Want(key, want), Some(Ret::Version(version))) => {
                next = self.wanted(key, want);
                *version == next.version
            }
            (Op::Withdraw(key), Some(Ret::Version(version))) => {
                next = self.withdrawn(key);
                *version == next.version
            }
            (Op::Activate(key), Some(Ret::WasHeld(held))) => {
                next = self.activated(key);
                *held == self.held.contains(&key)
            }
            (Op::Changed, Some(Ret::Behind(behind))) => *behind == self.is_behind(),
            (Op::Look | Op::WaitForChange, Some(Ret::Given(version, wants))) => {
                self.is_behind() && *version == self.version && *wants == self.wants()
            }
            (Op::Look, Some(Ret::Nothing)) => !self.is_behind(),
            (Op::Apply(version), _) => {
                next = self.says(version);
                true
            }
            (Op::Lose, _) => {
                next = self.loses();
                true
            }
            (Op::LookForApplied(version) | Op::WaitForApplied(version), Some(ret)) => {
                match (self.applied >= version, self.ended) {
                    (true, _) => *ret == Ret::Applied(true),
                    (false, true) => *ret == Ret::Applied(false),
                    (false, false) => *op == Op::LookForApplied(version) && *ret == Ret::Nothing,
                }
            }
            (Op::End, _) => {
                next.ended = true;
                true
            }
            // Nobody heard what it said: a waiter that hangs changes nothing.
            (Op::WaitForChange | Op::WaitForApplied(_), None) => true,
            _ => false,
        };
        legal.then_some(next)
    }

    fn promise(&self, op: &Op, ret: Option<&Ret>) -> &'static str {
        match (op, ret) {
            (Op::Activate(_), _) => "held_until_activated",
            (Op::LookForApplied(_) | Op::WaitForApplied(_), _) => {
                "not_one_message_is_taken_while_held"
            }
            (_, Some(Ret::Given(_, wants)))
                if (self.held.iter()).any(|key| wants.get(key) == Some(&Want::Active)) =>
            {
                "held_until_activated"
            }
            _ if self.lost > 0 => "restore_converges_on_desired",
            _ => "consumed_becomes_desired",
        }
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
