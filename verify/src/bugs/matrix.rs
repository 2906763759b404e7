//! Every bug before every checker.

use super::cache::{Cache, Key};
use super::patch::Bug;
use super::workshop::{Workshop, WorkshopError};
use crate::child::{self, ALL, Checker, NoAnswer, ORIGINAL, Subject};
use crate::tree::Tree;
use crate::work::{self, Progress};
use clearway_models::registry::{Run, Step, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

/// One run of one bug takes seconds. Whatever takes this long will not come back.
const LIMIT: Duration = Duration::from_secs(90);

/// Which cells are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those that the patches promise.
    Promised,
    /// Those and every checker that is quick.
    Wide,
    /// All.
    Whole,
}

/// What one checker says of one bug.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// The named invariant failed.
    Killed(Kill),
    /// Everything passed.
    Survived {
        /// In so many executions.
        executions: u64,
    },
    /// Something failed, but not the named invariant.
    Other {
        /// What.
        message: String,
    },
    /// There was no verdict.
    Broken {
        /// Why.
        why: String,
    },
    /// Not asked for.
    NotRun,
}

/// How a bug was caught.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kill {
    /// The engine, or the scheduler of it.
    pub engine: String,
    /// What it said; it begins with the invariant's name, unless it is a test's.
    pub message: String,
    /// In which execution, from 1.
    pub executions: u64,
    /// The execution.
    pub timeline: Vec<Step>,
}

impl Cell {
    /// Whether it was caught.
    pub const fn is_kill(&self) -> bool {
        matches!(self, Self::Killed(_))
    }

    /// Whether it is worth remembering: the same run would say the same.
    pub(super) const fn is_verdict(&self) -> bool {
        matches!(
            self,
            Self::Killed(_) | Self::Survived { .. } | Self::Other { .. }
        )
    }

    /// What the runs of a bug say about `invariant`, or about any of the protocol's `promises`.
    ///
    /// A spec names the first promise that its search found broken, which may be a consequence of
    /// what the bug breaks. So it may name any invariant of the protocol, but it has to name one.
    fn judge(runs: Result<Vec<Run>, NoAnswer>, invariant: &str, promises: &[&str]) -> Self {
        let runs = match runs {
            Ok(runs) => runs,
            Err(none) => {
                return Self::Broken {
                    why: none.to_string(),
                };
            }
        };
        if runs.is_empty() {
            return Self::Broken {
                why: format!("nothing here checks `{invariant}`"),
            };
        }
        let named = |run: &Run, message: &str| {
            // A spec puts the protocol's name in front.
            let of_protocol = message
                .strip_prefix(&run.protocol)
                .and_then(|m| m.strip_prefix(": "));
            let name = of_protocol.unwrap_or(message).split(": ").next();
            let promised = name.is_some_and(|name| promises.contains(&name));
            name == Some(invariant) || (invariant == ALL && promised)
        };
        let failed = || {
            runs.iter()
                .filter_map(|run| Some((run, run.failure.as_ref()?)))
        };
        if let Some((run, failure)) = failed().find(|(run, f)| named(run, &f.message)) {
            return Self::Killed(Kill {
                engine: run.engine.clone(),
                message: failure.message.clone(),
                executions: run.executions,
                timeline: failure.timeline.clone(),
            });
        }
        if let Some((_, failure)) = failed().next() {
            return Self::Other {
                message: failure.message.clone(),
            };
        }
        if runs.iter().any(|run| run.verdict == Verdict::Truncated) {
            return Self::Broken {
                why: "truncated by its time limit".to_owned(),
            };
        }
        Self::Survived {
            executions: runs.iter().map(|run| run.executions).sum(),
        }
    }
}

/// The unpatched copy in the very run that judges a bug.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// The protocol.
    pub protocol: String,
    /// The invariant.
    pub invariant: String,
    /// The checker.
    pub checker: Checker,
    /// Why it did not pass.
    pub complaint: Option<String>,
    /// Whether that is from an earlier run of the same inputs.
    #[serde(default)]
    pub cached: bool,
}

impl Control {
    /// What is wrong, if it did not pass.
    pub fn complain(&self) -> Option<String> {
        let Self {
            protocol,
            invariant,
            checker,
            complaint,
            ..
        } = self;
        let complaint = complaint.as_ref()?;
        Some(format!(
            "the unpatched {protocol} under {checker}, {invariant}: {complaint}"
        ))
    }
}

/// One bug and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BugReport {
    /// The bug.
    pub bug: Bug,
    /// What each checker said, and whether that is from an earlier run of the same inputs.
    pub cells: Vec<(Checker, Cell, bool)>,
    /// Why this bug is a failure of the run: not caught by whom it should be, or by nobody.
    pub complaint: Option<String>,
}

impl BugReport {
    /// What `checker` said.
    pub fn cell(&self, checker: Checker) -> &Cell {
        let found = self.cells.iter().find(|(of, ..)| *of == checker);
        found.map_or(&Cell::NotRun, |(_, cell, _)| cell)
    }

    /// The first kill, in the order of the checkers.
    pub fn kill(&self) -> Option<(Checker, &Kill)> {
        self.cells.iter().find_map(|(checker, cell, _)| match cell {
            Cell::Killed(kill) => Some((*checker, kill)),
            _ => None,
        })
    }

    /// What is wrong, if it is not caught as its patch promises.
    pub fn complaint(&self) -> Option<String> {
        let complaint = self.complaint.as_ref()?;
        Some(format!("bug {}: {complaint}", self.bug.name))
    }

    fn complain(bug: &Bug, cells: &[(Checker, Cell, bool)]) -> Option<String> {
        for checker in &bug.caught_by {
            let cell = cells
                .iter()
                .find(|(of, ..)| of == checker)
                .map(|(_, cell, _)| cell);
            let why = match cell.unwrap_or(&Cell::NotRun) {
                Cell::Killed(_) => continue,
                Cell::Survived { executions } => {
                    format!("it survived {executions} executions")
                }
                Cell::Other { message } => {
                    format!("something else than `{}` failed: {message}", bug.breaks)
                }
                Cell::Broken { why } => format!("no verdict: {why}"),
                Cell::NotRun => "it was not run".to_owned(),
            };
            return Some(format!("{checker} should catch it: {why}"));
        }
        let caught = cells.iter().any(|(_, cell, _)| cell.is_kill());
        (!caught).then(|| "nobody catches it".to_owned())
    }
}

/// The kill matrix.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    /// Bug by bug.
    pub bugs: Vec<BugReport>,
    /// The unpatched copies.
    pub controls: Vec<Control>,
    /// How long it took, without the build.
    pub elapsed_ms: u64,
    /// How long the build took.
    pub build_ms: u64,
}

impl Matrix {
    /// What is wrong, one line each.
    pub fn complaints(&self) -> Vec<String> {
        let bugs = self.bugs.iter().filter_map(BugReport::complaint);
        let controls = self.controls.iter().filter_map(Control::complain);
        controls.chain(bugs).collect()
    }

    /// How many bugs of `protocol` are caught as promised, and how many there are.
    pub fn score(&self, protocol: &str) -> (usize, usize) {
        let of_it = self
            .bugs
            .iter()
            .filter(|report| report.bug.protocol == protocol);
        let (mut caught, mut all) = (0, 0);
        for report in of_it {
            all += 1;
            caught += usize::from(report.complaint.is_none());
        }
        (caught, all)
    }
}

/// One cell to be filled: a bug's, or the original's.
struct Job {
    name: String,
    protocol: String,
    invariant: String,
    checker: Checker,
    key: Key,
}

/// Runs those of `bugs` that are `wanted` before the checkers that `scope` asks for, with verdicts
/// of earlier runs where nothing has changed. `subjects` are the protocols as they ship.
pub fn run(
    tree: &Tree,
    subjects: &[Subject],
    bugs: &[Bug],
    wanted: impl Fn(&Bug) -> bool,
    scope: Scope,
    progress: &Progress,
) -> Result<Matrix, WorkshopError> {
    let workshop = Workshop::new(tree);
    let _alone = workshop.lock(progress)?;
    let mut cache = Cache::open(tree);
    let mut lost: BTreeMap<String, String> = BTreeMap::new();
    let mut patched = Vec::new();
    let mut jobs = Vec::new();
    for bug in bugs {
        let path = tree.source(&bug.protocol);
        let source = fs::read_to_string(&path).map_err(|e| WorkshopError::File(path, e))?;
        match bug.apply(&source) {
            Ok(wrong) => {
                let subject = subjects.iter().find(|s| s.protocol == bug.protocol);
                let has_spec = subject.is_some_and(|subject| subject.histories.is_some());
                let asked = wanted(bug).then(|| checkers(bug, has_spec, scope));
                for checker in asked.into_iter().flatten() {
                    jobs.push(job(&cache, tree, bug, checker, &bug.name, &wrong));
                    jobs.push(job(&cache, tree, bug, checker, ORIGINAL, &source));
                }
                patched.push((bug, wrong));
            }
            Err(what) => _ = lost.insert(bug.name.clone(), what),
        }
    }
    jobs.sort_by(|a, b| a.key.cmp(&b.key));
    jobs.dedup_by(|a, b| a.key == b.key);
    let open: Vec<&Job> = jobs
        .iter()
        .filter(|job| cache.find(&job.key).is_none())
        .collect();

    let started = Instant::now();
    if !open.is_empty() {
        let protocols: BTreeSet<&str> = open.iter().map(|job| job.protocol.as_str()).collect();
        let of_them = |(bug, _): &&(&Bug, String)| protocols.contains(bug.protocol.as_str());
        let patched: Vec<_> = patched.iter().filter(of_them).cloned().collect();
        let broken = workshop.build(&protocols, &patched, progress)?;
        let say = |(name, error)| (name, format!("it does not compile: {error}"));
        lost.extend(broken.into_iter().map(say));
    }
    let build_ms = started.elapsed().as_millis() as u64;

    let started = Instant::now();
    let open: Vec<&Job> = open
        .into_iter()
        .filter(|job| !lost.contains_key(&job.name))
        .collect();
    let name = |job: &&Job| format!("{} under {}", job.name, job.checker);
    let cells = work::all(&open, progress, name, |job| {
        let args = [&job.name, job.checker.name(), &job.protocol, &job.invariant];
        let runs = child::runs(&workshop.program(&job.protocol), &args, LIMIT);
        let of_it = subjects.iter().find(|s| s.protocol == job.protocol);
        let promises = of_it.map(Subject::invariants).unwrap_or_default();
        Cell::judge(runs, &job.invariant, &promises)
    });
    let mut fresh = BTreeMap::new();
    for (job, cell) in open.iter().zip(cells) {
        cache.remember(job.key.clone(), &cell);
        fresh.insert(job.key.clone(), cell);
    }
    let said = |job: &Job| match fresh.get(&job.key) {
        Some(cell) => (cell.clone(), false),
        None => (cache.find(&job.key).cloned().unwrap_or(Cell::NotRun), true),
    };
    let controls = controls(&jobs, said);
    // What the original fails as well says nothing about the bug.
    let judged = |job: &Job| match said(job) {
        (Cell::Killed(_), cached) if !passes(&controls, job) => {
            let why = "the unpatched copy fails the same run".to_owned();
            (Cell::Broken { why }, cached)
        }
        other => other,
    };
    let matrix = Matrix {
        bugs: bugs
            .iter()
            .filter(|bug| wanted(bug))
            .map(|bug| report(bug, &jobs, &lost, judged))
            .collect(),
        controls,
        elapsed_ms: started.elapsed().as_millis() as u64,
        build_ms,
    };
    // Verdicts that cannot be kept are run again next time.
    _ = cache.save();
    Ok(matrix)
}

fn job(cache: &Cache, tree: &Tree, bug: &Bug, checker: Checker, name: &str, source: &str) -> Job {
    // A spec judges the whole object at once.
    let invariant = match checker {
        Checker::Histories => ALL,
        _ => &bug.breaks,
    };
    Job {
        name: name.to_owned(),
        protocol: bug.protocol.clone(),
        invariant: invariant.to_owned(),
        checker,
        key: cache.key(tree, (name, &bug.protocol, invariant), checker, source),
    }
}

/// Who gets to see `bug`: always those it names.
fn checkers(bug: &Bug, has_spec: bool, scope: Scope) -> Vec<Checker> {
    let wide = |checker: Checker| match checker {
        Checker::Loom | Checker::Shuttle => scope != Scope::Promised,
        Checker::Histories => scope != Scope::Promised && has_spec,
        // Real threads sleep for long when a wake is lost.
        Checker::Threads => scope == Scope::Whole,
    };
    let wanted = |checker: &Checker| bug.is_promised(*checker) || wide(*checker);
    Checker::ALL.into_iter().filter(wanted).collect()
}

fn controls(jobs: &[Job], said: impl Fn(&Job) -> (Cell, bool)) -> Vec<Control> {
    let of_original = jobs.iter().filter(|job| job.name == ORIGINAL);
    let control = |job: &Job| {
        let (cell, cached) = said(job);
        Control {
            protocol: job.protocol.clone(),
            invariant: job.invariant.clone(),
            checker: job.checker,
            complaint: match cell {
                Cell::Survived { .. } => None,
                Cell::Killed(Kill { message, .. }) | Cell::Other { message } => Some(message),
                Cell::Broken { why } => Some(why),
                Cell::NotRun => Some("it was not run".to_owned()),
            },
            cached,
        }
    };
    of_original.map(control).collect()
}

/// Whether the original passes what `job` asks of a bug.
fn passes(controls: &[Control], job: &Job) -> bool {
    let same = |control: &&Control| {
        control.protocol == job.protocol
            && control.checker == job.checker
            && (control.invariant == job.invariant || control.invariant == ALL)
    };
    controls
        .iter()
        .filter(same)
        .all(|control| control.complaint.is_none())
}

fn report(
    bug: &Bug,
    jobs: &[Job],
    lost: &BTreeMap<String, String>,
    said: impl Fn(&Job) -> (Cell, bool),
) -> BugReport {
    if let Some(why) = lost.get(&bug.name) {
        let broken = |checker: &Checker| (*checker, Cell::Broken { why: why.clone() }, false);
        return BugReport {
            bug: bug.clone(),
            cells: bug.caught_by.iter().map(broken).collect(),
            complaint: Some(why.clone()),
        };
    }
    let of_it = jobs.iter().filter(|job| job.name == bug.name);
    let mut cells: Vec<_> = of_it
        .map(|job| {
            let (cell, cached) = said(job);
            (job.checker, cell, cached)
        })
        .collect();
    cells.sort_by_key(|(checker, ..)| *checker);
    let complaint = BugReport::complain(bug, &cells);
    BugReport {
        bug: bug.clone(),
        cells,
        complaint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clearway_models::registry::Failure;

    fn run(verdict: Verdict, message: Option<&str>) -> Run {
        Run {
            engine: "loom".to_owned(),
            protocol: "gate".to_owned(),
            invariant: "closed_admits_nobody".to_owned(),
            executions: 7,
            verdict,
            goals: Vec::new(),
            classes: None,
            failure: message.map(|message| Failure {
                message: message.to_owned(),
                timeline: Vec::new(),
            }),
            elapsed_ms: 0,
        }
    }

    fn judge(verdict: Verdict, message: Option<&str>) -> Cell {
        Cell::judge(Ok(vec![run(verdict, message)]), "closed_admits_nobody", &[])
    }

    #[test]
    fn only_the_named_invariant_is_a_kill() {
        let model = "closed_admits_nobody: admitted after close";
        assert!(judge(Verdict::Failed, Some(model)).is_kill());
        let spec = "gate: closed_admits_nobody: the calls have no order";
        assert!(judge(Verdict::Failed, Some(spec)).is_kill());
        for other in [
            "last_one_out_wakes: deadlock",
            "closed_admits_nobody_twice: no",
            "gate: last_one_out_wakes: no",
            "index out of bounds",
        ] {
            let cell = judge(Verdict::Failed, Some(other));
            assert!(matches!(cell, Cell::Other { .. }), "{other}: {cell:?}");
        }
    }

    #[test]
    fn a_spec_may_name_any_invariant_of_its_protocol_but_has_to_name_one() {
        let promises = ["closed_admits_nobody", "last_one_out_wakes"];
        let judge = |message| {
            Cell::judge(
                Ok(vec![run(Verdict::Failed, Some(message))]),
                ALL,
                &promises,
            )
        };
        assert!(judge("gate: last_one_out_wakes: calls that never return").is_kill());
        for other in [
            "gate: limit_holds: too much",
            "gate: index out of bounds",
            "gate: a: b",
        ] {
            assert!(matches!(judge(other), Cell::Other { .. }), "{other}");
        }
    }

    #[test]
    fn what_has_no_verdict_is_no_kill_and_no_survivor() {
        assert_eq!(
            judge(Verdict::Exhaustive, None),
            Cell::Survived { executions: 7 }
        );
        assert!(matches!(
            judge(Verdict::Truncated, None),
            Cell::Broken { .. }
        ));
        let late = Err(NoAnswer::TimedOut { seconds: 90 });
        assert!(matches!(
            Cell::judge(late, "closed_admits_nobody", &[]),
            Cell::Broken { .. }
        ));
        let nothing = Cell::judge(Ok(Vec::new()), "closed_admits_nobody", &[]);
        assert!(matches!(nothing, Cell::Broken { .. }));
    }

    #[test]
    fn a_promise_that_is_not_kept_is_a_complaint() {
        let text = "Breaks: closed_admits_nobody\nCaught by: loom gate, shuttle gate\n\
                    Tempting because: it is short\n\n--- src/protocol/gate.rs\n";
        let bug = Bug::parse("gate-short", text).unwrap();
        let kill = judge(Verdict::Failed, Some("closed_admits_nobody: no"));
        let cells = |second: Cell| {
            [
                (Checker::Loom, kill.clone(), false),
                (Checker::Shuttle, second, false),
            ]
        };
        assert_eq!(BugReport::complain(&bug, &cells(kill.clone())), None);
        let survived = cells(Cell::Survived { executions: 9 });
        let complaint = BugReport::complain(&bug, &survived).unwrap();
        assert_eq!(
            complaint,
            "shuttle should catch it: it survived 9 executions"
        );
        let only = [(Checker::Loom, kill.clone(), false)];
        assert!(
            BugReport::complain(&bug, &only)
                .unwrap()
                .contains("not run")
        );
    }
}
