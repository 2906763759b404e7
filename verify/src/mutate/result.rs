//! What came of the mutants, kept for the report.

use super::judge::Verdict;
use crate::tree::Tree;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::{fs, io};

/// One mutant and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MutantReport {
    /// Its name.
    pub name: String,
    /// What the judges said.
    pub verdict: Verdict,
    /// Why nobody can tell it from the original, as committed.
    pub reason: Option<String>,
}

impl MutantReport {
    /// Nobody noticed, and there is a reason.
    pub fn is_equivalent(&self) -> bool {
        self.is_left() && self.reason.is_some()
    }

    /// Nobody noticed, and there is no reason.
    pub fn is_survivor(&self) -> bool {
        self.is_left() && self.reason.is_none()
    }

    fn is_left(&self) -> bool {
        self.verdict.is_built() && !self.verdict.is_kill()
    }
}

/// The mutants of one protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtocolMutants {
    /// The protocol.
    pub protocol: String,
    /// Of everything that this depends on.
    pub checksum: String,
    /// In the order of the source.
    pub mutants: Vec<MutantReport>,
    /// Reasons that name no survivor.
    pub complaints: Vec<String>,
}

/// How many there are of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Score {
    /// That compile.
    pub mutants: usize,
    /// A judge noticed.
    pub killed: usize,
    /// Nobody did, with a reason.
    pub equivalent: usize,
    /// Nobody did.
    pub survived: usize,
    /// That do not compile.
    pub skipped: usize,
}

impl std::ops::AddAssign for Score {
    fn add_assign(&mut self, other: Self) {
        self.mutants += other.mutants;
        self.killed += other.killed;
        self.equivalent += other.equivalent;
        self.survived += other.survived;
        self.skipped += other.skipped;
    }
}

impl Score {
    /// The share of those that could be killed and were, in per cent, rounded down.
    pub fn percent(&self) -> usize {
        let could = self.killed + self.survived;
        (100 * self.killed).checked_div(could).unwrap_or(100)
    }
}

impl ProtocolMutants {
    /// What is wrong with a mutant of it: that it survived, and nobody knows why it may.
    pub fn complaint(&self, mutant: &MutantReport) -> Option<String> {
        let (protocol, name) = (&self.protocol, &mutant.name);
        (mutant.is_survivor()).then(|| format!("{protocol}: survived: {name}"))
    }

    /// What is wrong with no single one.
    pub fn other_complaints(&self) -> impl Iterator<Item = String> {
        let protocol = &self.protocol;
        self.complaints
            .iter()
            .map(move |c| format!("{protocol}: {c}"))
    }

    /// How many there are of each kind.
    pub fn score(&self) -> Score {
        let count = |is: fn(&MutantReport) -> bool| self.mutants.iter().filter(|m| is(m)).count();
        Score {
            mutants: count(|m| m.verdict.is_built()),
            killed: count(|m| m.verdict.is_kill()),
            equivalent: count(MutantReport::is_equivalent),
            survived: count(MutantReport::is_survivor),
            skipped: count(|m| !m.verdict.is_built()),
        }
    }
}

/// The mutants of all protocols that were run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mutants {
    /// Protocol by protocol.
    pub protocols: Vec<ProtocolMutants>,
}

impl Mutants {
    /// The sum over all protocols.
    pub fn score(&self) -> Score {
        let mut sum = Score::default();
        self.protocols.iter().for_each(|p| sum += p.score());
        sum
    }

    /// What is wrong, one line each.
    pub fn complaints(&self) -> Vec<String> {
        let of_protocol = |of: &ProtocolMutants| {
            let survivors = of.mutants.iter().filter_map(|mutant| of.complaint(mutant));
            survivors.chain(of.other_complaints()).collect::<Vec<_>>()
        };
        self.protocols.iter().flat_map(of_protocol).collect()
    }

    fn path(tree: &Tree) -> PathBuf {
        tree.out().join("mutants.json")
    }

    /// What earlier runs have found and still holds: of protocols whose source, judges and reasons
    /// are as they were.
    pub fn load(tree: &Tree) -> Self {
        let known = fs::read(Self::path(tree)).ok();
        let known = known.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut known: Self = known.unwrap_or_default();
        let holds = |of: &ProtocolMutants| of.checksum == super::cache::all(tree, &of.protocol);
        known.protocols.retain(holds);
        known
    }

    /// Keeps this beside what is known of other protocols.
    pub(super) fn save(&self, tree: &Tree) -> io::Result<()> {
        let mut all = Self::load(tree);
        let here = |of: &ProtocolMutants| self.protocols.iter().any(|p| p.protocol == of.protocol);
        all.protocols.retain(|of| !here(of));
        all.protocols.extend(self.protocols.iter().cloned());
        all.protocols.sort_by(|a, b| a.protocol.cmp(&b.protocol));
        fs::create_dir_all(tree.out())?;
        fs::write(Self::path(tree), serde_json::to_vec_pretty(&all)?)
    }
}
