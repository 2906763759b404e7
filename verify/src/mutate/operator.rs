//! Operators: what is done to a source, each everywhere that it can be done.
//!
//! None of them weakens an ordering: that is done while loom runs, without another build.

mod lock;
mod notify;
mod recheck;
mod rmw;
mod swap;

use super::source::{Edit, Function, Source, edited};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What is done to a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// A read-modify-write becomes a load and a store.
    Split,
    /// A read-modify-write that changes nothing becomes a load.
    OnlyLoaded,
    /// A notify is left out.
    NotifyDropped,
    /// A notify comes before all that its block does.
    NotifyHoisted,
    /// A notify comes twice.
    NotifyDoubled,
    /// Who looks again goes by the first look; or who has locked or registered does not look.
    RecheckDropped,
    /// Two statements that stand one after the other change places.
    Swapped,
    /// A lock is given up on the way, and taken again if it is still needed.
    LockShortened,
}

impl Operator {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Split,
        Self::OnlyLoaded,
        Self::NotifyDropped,
        Self::NotifyHoisted,
        Self::NotifyDoubled,
        Self::RecheckDropped,
        Self::Swapped,
        Self::LockShortened,
    ];

    /// As it is told.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Split => "split",
            Self::OnlyLoaded => "only loaded",
            Self::NotifyDropped => "notify dropped",
            Self::NotifyHoisted => "notify hoisted",
            Self::NotifyDoubled => "notify doubled",
            Self::RecheckDropped => "recheck dropped",
            Self::Swapped => "swapped",
            Self::LockShortened => "lock shortened",
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One change to one place of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutant {
    /// `Gate::enter | split | <the line>`: what it is told by, also after the file was edited elsewhere.
    pub name: String,
    /// What was done.
    pub operator: Operator,
    /// Which function it is in, by its number in the source.
    pub(super) function: usize,
    pub(super) edits: Vec<Edit>,
}

impl Mutant {
    /// The source with it.
    pub fn applied(&self, source: &Source) -> String {
        edited(source.text(), &self.edits)
    }
}

/// A change that an operator has found: what to tell it by, and the edits.
struct Change {
    operator: Operator,
    place: String,
    edits: Vec<Edit>,
}

/// All mutants of a source, in the order of its functions. No two have the same text or name.
pub fn mutants(source: &Source) -> Vec<Mutant> {
    let find: [fn(&Source, &Function) -> Vec<Change>; 5] = [
        rmw::changes,
        notify::changes,
        recheck::changes,
        swap::changes,
        lock::changes,
    ];
    let mut texts = BTreeSet::from([source.text().to_owned()]);
    let mut names: BTreeMap<String, u32> = BTreeMap::new();
    let mut mutants = Vec::new();
    for (number, function) in source.functions().iter().enumerate() {
        for change in find.iter().flat_map(|find| find(source, function)) {
            if !texts.insert(edited(source.text(), &change.edits)) {
                continue;
            }
            let Change {
                operator,
                place,
                edits,
            } = change;
            let mut name = format!("{} | {operator} | {place}", function.name);
            let before = names.entry(name.clone()).or_default();
            *before += 1;
            if *before > 1 {
                name = format!("{name} #{before}");
            }
            mutants.push(Mutant {
                name,
                operator,
                function: number,
                edits,
            });
        }
    }
    mutants
}

#[cfg(test)]
mod tests;
