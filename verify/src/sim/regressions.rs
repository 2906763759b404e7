//! Counterexamples that are kept with the source: each violated something while a bug was in it, and holds without.
//!
//! `verify/regressions/NAME.json` is the plan, and `seen/NAME.json` what was seen of the run with the bug: on the true source it cannot
//! be seen any more. Which bug that is says the plan, by the name of its patch.

use super::breaks::Breaks;
use super::counterexample::{Counterexample, PlanError};
use super::run::Ran;
use super::timeline::Timeline;
use crate::bugs::stages::{Catcher, StageBug};
use crate::tree::Tree;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{fs, io};

/// How the line of a replay begins that says that all holds.
pub const HOLDS: &str = "holds: ";
/// How it begins when what it is kept for is violated.
pub const VIOLATED: &str = "violated: ";
/// How it begins when only something else is.
pub const OTHER: &str = "not what it is kept for: ";

/// See the module.
#[derive(Clone, Debug)]
pub struct Regression {
    /// The file's name without its ending.
    pub name: String,
    /// The plan.
    pub kept: Counterexample,
    /// What was seen of the run with the bug, if that is kept.
    pub seen: Option<Timeline>,
}

/// How one went on this source.
pub struct Replayed {
    /// The run.
    pub ran: Ran,
    /// How long it took, twice.
    pub took: Duration,
    /// What of the file was left out, a sentence each.
    pub left_out: Vec<String>,
}

impl Regression {
    /// All that are kept, by name. The first that cannot be read is the error.
    pub fn load(tree: &Tree) -> Result<Vec<Self>, PlanError> {
        let folder = tree.regressions();
        let failed = |error: io::Error| PlanError::new(format!("{}: {error}", folder.display()));
        let mut paths: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed)? {
            paths.push(entry.map_err(failed)?.path());
        }
        paths.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
        paths.sort();
        paths.into_iter().map(|path| Self::read(&path)).collect()
    }

    fn read(path: &std::path::Path) -> Result<Self, PlanError> {
        let name = path.file_stem().and_then(|stem| stem.to_str());
        let kept = Counterexample::read(path)?;
        let seen = path
            .with_file_name("seen")
            .join(path.file_name().unwrap_or_default());
        let seen = match seen.exists() {
            true => Some(Timeline::read(&seen)?),
            false => None,
        };
        Ok(Self {
            name: name.unwrap_or_default().to_owned(),
            kept,
            seen,
        })
    }

    /// Runs it.
    pub fn replay(&self) -> Replayed {
        let (plan, left_out) = self.kept.plan();
        let begun = Instant::now();
        let ran = self.kept.broker.run(&plan);
        Replayed {
            ran,
            took: begun.elapsed(),
            left_out,
        }
    }

    /// What is wrong with its file: that nobody can see it fail, or that what was seen is of something else.
    pub fn complaints(&self, tree: &Tree) -> Vec<String> {
        let name = &self.name;
        let mut complaints = Vec::new();
        match &self.kept.patch {
            None => complaints.push(format!(
                "regression {name}: names no patch with which it fails"
            )),
            Some(patch) => complaints.extend(self.unproven(tree, patch)),
        }
        if self.kept.from.trim().is_empty() {
            complaints.push(format!(
                "regression {name}: says nothing of where it is from"
            ));
        }
        let other = |seen: &&Timeline| seen.breaks != self.kept.breaks;
        if let Some(seen) = self.seen.as_ref().filter(other) {
            let (of, breaks): (Breaks, Breaks) = (seen.breaks, self.kept.breaks);
            complaints.push(format!(
                "regression {name}: what was seen is of {of}, and it is kept for {breaks}"
            ));
        }
        complaints
    }

    /// Why nobody sees it fail with its patch.
    fn unproven(&self, tree: &Tree, patch: &str) -> Option<String> {
        let name = &self.name;
        let Ok(text) = fs::read_to_string(tree.bugs().join(format!("{patch}.patch"))) else {
            return Some(format!("regression {name}: there is no patch `{patch}`"));
        };
        let catcher = Catcher::Regression(name.clone());
        match StageBug::parse(patch, &text) {
            Ok(bug) if bug.caught_by.contains(&catcher) => None,
            Ok(_) => Some(format!(
                "regression {name}: patch `{patch}` does not say `{catcher}` of who catches it"
            )),
            Err(why) => Some(format!("regression {name}: patch `{patch}`: {why}")),
        }
    }
}
