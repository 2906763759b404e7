//! Seeded bugs of a backend's stages: what no protocol has, and what no model sees.
//!
//! A bug is a patch against a file of the library, killed by tests that its header names:
//!
//! | catcher | is |
//! |---|---|
//! | `test path::of::the_test` | a unit test of the library, with the feature `kafka` |
//! | `broker target the_test` | a test of the integration package, against a real server: run only when brokers are asked for |
//! | `sim jetstream 300` | so many runs of the simulation at most, over a simulated broker |
//! | `regression acks-too-early` | a counterexample that is kept: it still shows the bug for which it is kept |
//!
//! One after the other, the bugs stand in a copy of the tree that is built there. A kill counts only when the named test fails by itself
//! and passes without the bug. What does not compile, crashes or does not end is no kill; what was not run is none either.

mod copy;
mod patch;
mod verdict;

pub use patch::{Catcher, StageBug, load};

use super::matrix::Cell;
use super::workshop::WorkshopError;
use crate::tree::Tree;
use crate::work::Progress;
use copy::Copy;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Instant;

/// Why a `broker` is not run.
pub const NO_BROKER: &str = "not run here: needs a broker";

/// One bug and what its catchers said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// The bug.
    pub bug: StageBug,
    /// In the order of its patch. [`Cell::NotRun`] is said of a broker that was not asked for, and of nothing else.
    pub cells: Vec<(Catcher, Cell)>,
}

/// What became of all of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stages {
    /// Bug by bug.
    pub bugs: Vec<StageReport>,
    /// Why catchers do not pass without a bug.
    pub controls: Vec<(Catcher, String)>,
    /// How long it took, builds included.
    pub elapsed_ms: u64,
}

impl StageReport {
    /// Whether somebody has caught it, and nobody who was asked has not.
    pub fn is_caught(&self) -> bool {
        let kills = self.cells.iter().filter(|(_, cell)| cell.is_kill()).count();
        kills > 0 && self.complaint().is_none()
    }

    /// Whether nobody was asked.
    pub fn is_not_run(&self) -> bool {
        self.cells.iter().all(|(_, cell)| *cell == Cell::NotRun)
    }

    /// Why this bug is a failure of the run.
    pub fn complaint(&self) -> Option<String> {
        self.cells.iter().find_map(|(catcher, cell)| {
            let why = match cell {
                Cell::Killed(_) | Cell::NotRun => return None,
                Cell::Survived { .. } => "it passes".to_owned(),
                Cell::Other { message } => format!("something else failed: {message}"),
                Cell::Broken { why } => format!("no verdict: {why}"),
            };
            Some(format!("`{catcher}` should catch it: {why}"))
        })
    }
}

impl Stages {
    /// What one said of a bug: what it says without one as well is nothing about the bug.
    fn judged(&self, catcher: &Catcher, cell: Cell) -> Cell {
        if cell.is_kill() && self.controls.iter().any(|(of, _)| of == catcher) {
            let why = "it does not pass without the bug".to_owned();
            return Cell::Broken { why };
        }
        cell
    }

    /// What is wrong, one line each.
    pub fn complaints(&self) -> Vec<String> {
        let controls = self.controls.iter();
        let controls = controls.map(|(catcher, why)| format!("without a bug, `{catcher}`: {why}"));
        let bugs = self.bugs.iter().filter_map(|report| {
            let complaint = report.complaint()?;
            Some(format!("bug {}: {complaint}", report.bug.name))
        });
        controls.chain(bugs).collect()
    }
}

/// Runs `bugs` before those that are to catch them; before brokers only if `brokers` are asked for.
pub fn run(
    tree: &Tree,
    bugs: &[&StageBug],
    brokers: bool,
    progress: &Progress,
) -> Result<Stages, WorkshopError> {
    let started = Instant::now();
    let copy = Copy::of(tree);
    let _alone = copy.lock(progress)?;
    copy.refresh()?;
    let is_asked = |catcher: &Catcher| brokers || !catcher.needs_broker();
    let mut stages = Stages::default();
    let all: BTreeSet<Catcher> = bugs.iter().flat_map(|bug| bug.caught_by.clone()).collect();
    let all: Vec<Catcher> = all.into_iter().filter(is_asked).collect();
    progress.step("the unpatched copy");
    let longest = longest(&all);
    for (asked, cell) in longest.iter().zip(copy.ask(&longest, progress)) {
        if let Some(why) = verdict::not_passed(&cell) {
            let of_it = all.iter().filter(|catcher| asked.covers(catcher));
            (stages.controls).extend(of_it.map(|catcher| (catcher.clone(), why.clone())));
        }
    }
    for (at, bug) in bugs.iter().enumerate() {
        progress.step(&format!("{} of {}: {}", at + 1, bugs.len(), bug.name));
        let asked: Vec<Catcher> = bug
            .caught_by
            .iter()
            .filter(|c| is_asked(c))
            .cloned()
            .collect();
        let mut said = before(tree, &copy, bug, &asked, progress)?.into_iter();
        let mut cell = |catcher: &Catcher| match is_asked(catcher) {
            true => stages.judged(catcher, said.next().unwrap_or(Cell::NotRun)),
            false => Cell::NotRun,
        };
        let cells = bug.caught_by.iter().map(|c| (c.clone(), cell(c))).collect();
        let bug = (*bug).clone();
        stages.bugs.push(StageReport { bug, cells });
    }
    stages.elapsed_ms = started.elapsed().as_millis() as u64;
    Ok(stages)
}

/// Those that have to pass without a bug: of several hunts over one broker the longest, which begins with what the others are.
fn longest(all: &[Catcher]) -> Vec<Catcher> {
    let is_covered = |one: &Catcher| all.iter().any(|other| other != one && other.covers(one));
    let longest = all.iter().filter(|catcher| !is_covered(catcher));
    longest.cloned().collect()
}

/// What each of `asked` says of the bug.
fn before(
    tree: &Tree,
    copy: &Copy,
    bug: &StageBug,
    asked: &[Catcher],
    progress: &Progress,
) -> Result<Vec<Cell>, WorkshopError> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let wrong = match bug.apply(tree) {
        Ok(wrong) => wrong,
        Err(why) => return Ok(vec![Cell::Broken { why }; asked.len()]),
    };
    copy.put(&bug.file, &wrong)?;
    let cells = copy.ask(asked, progress);
    copy.restore(&bug.file)?;
    Ok(cells)
}
