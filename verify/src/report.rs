//! What a run of `verify` found: first as data, then for the terminal, as JSON, as one page and as JUnit XML.

mod files;
mod html;
mod junit;
mod regressions;
mod simulation;
pub mod terminal;
mod unverified;

pub use files::write;
pub use regressions::RegressionReport;
pub use simulation::SimReport;
pub use unverified::{NotVerified, not_verified};

use crate::bugs::Matrix;
use crate::mutate::Mutants;
use crate::protocol::Checked;
use crate::sim::counterexample::Shrinking;
use crate::sim::timeline::Timeline;
use crate::survey::Depth;
use crate::work;
use clearway_models::registry::{Run, Site, Verdict};
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

/// The version of the JSON report, its field `version`. It changes when a field goes or changes its meaning; a new field changes nothing.
pub const VERSION: u32 = 1;

/// What matters of a failing run of the simulation, as a page that needs nothing else.
pub fn picture(name: &str, timeline: &Timeline, shrunk: Option<&Shrinking>) -> String {
    html::lanes::page(name, timeline, shrunk)
}

/// Everything a run found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`] when it was made.
    pub version: u32,
    /// Whose protocols they are: `Clearway`, or a name of [somebody else's](crate::own).
    pub name: String,
    /// How deep it went: `quick`, `standard`, `deep`.
    pub depth: String,
    /// When, in seconds since 1970.
    pub at: u64,
    /// On how many cores.
    pub cores: usize,
    /// How long it took, building included.
    pub elapsed_ms: u64,
    /// Protocol by protocol.
    pub protocols: Vec<ProtocolReport>,
    /// The histories that the checker must refuse, or accept.
    pub canaries: Vec<CanaryReport>,
    /// The seeded bugs.
    pub matrix: Matrix,
    /// The seeded bugs of stages: by name, and whether only a broker shows them. They are run elsewhere.
    pub elsewhere: Vec<(String, bool)>,
    /// What `verify mutate` has found and still holds: it is not run here.
    #[serde(default)]
    pub mutants: Mutants,
    /// A few seeds of the simulation, broker by broker.
    #[serde(default)]
    pub simulations: Vec<SimReport>,
    /// The counterexamples that are kept.
    #[serde(default)]
    pub regressions: Vec<RegressionReport>,
    /// What the hot path takes.
    pub hot_path: HotPath,
    /// What this run does not show.
    pub not_verified: Vec<NotVerified>,
    /// What is wrong, one line each. Empty: everything holds.
    pub complaints: Vec<String>,
}

/// One protocol under every engine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProtocolReport {
    /// The protocol.
    pub protocol: String,
    /// Its models, one for each invariant.
    pub models: Vec<ModelReport>,
    /// Its spec.
    pub histories: Option<Checked>,
    /// Its orderings, each weakened in turn; `None` if that was not run.
    pub orderings: Option<Vec<Site>>,
}

/// One model under every engine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelReport {
    /// The invariant.
    pub invariant: String,
    /// Its runs: loom, each of shuttle's schedulers, plain threads.
    pub runs: Vec<Run>,
}

/// One canary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryReport {
    /// The file's name without its ending.
    pub name: String,
    /// The property that must be refused, or `None` for a history that must be accepted.
    pub expected: Option<String>,
    /// The properties that were found broken.
    pub found: Vec<String>,
    /// Why the file is no history.
    pub error: Option<String>,
}

impl CanaryReport {
    /// Whether the checker said what it had to, and nothing else.
    pub fn is_right(&self) -> bool {
        self.error.is_none() && self.found.iter().eq(self.expected.iter())
    }

    /// What is wrong with it.
    fn complaint(&self) -> Option<String> {
        let Self {
            name,
            expected,
            found,
            error,
        } = self;
        let expected = expected.as_deref().unwrap_or("nothing");
        (!self.is_right()).then(|| match error {
            Some(error) => format!("canary {name}: {error}"),
            None => format!("canary {name}: expected {expected}, found {found:?}"),
        })
    }
}

/// The counts of the hot path's test.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotPath {
    /// What was counted for a publish, one row for each way.
    pub rows: Vec<HotRow>,
    /// What stands beside it: the share of others, and the controls that must be seen.
    pub notes: Vec<String>,
    /// Why there are no counts.
    pub not_run: Option<String>,
    /// How long the test took to build.
    pub build_ms: u64,
}

/// One way to publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotRow {
    /// How.
    pub way: String,
    /// Locks of ours that were taken, over all publishes.
    pub locks: u64,
    /// Allocations, over all publishes.
    pub allocations: u64,
    /// How many publishes were counted.
    pub publishes: u64,
}

impl ModelReport {
    /// The runs of one engine: `loom`, `shuttle` (all schedulers), `threads`.
    pub fn of<'r>(&'r self, engine: &'r str) -> impl Iterator<Item = &'r Run> {
        let family = |run: &&Run| run.engine.split('/').next() == Some(engine);
        self.runs.iter().filter(family)
    }

    /// Its goals under one engine, and how often each was reached in all of that engine's runs.
    pub fn goals(&self, engine: &str) -> Vec<(String, u64)> {
        let mut sums: Vec<(String, u64)> = Vec::new();
        for (goal, reached) in self.of(engine).flat_map(|run| &run.goals) {
            match sums.iter_mut().find(|(name, _)| name == goal) {
                Some((_, sum)) => *sum += reached,
                None => sums.push((goal.clone(), *reached)),
            }
        }
        sums
    }

    /// What speaks against it. A goal counts as reached if one of an engine's schedulers reached
    /// it; real threads meet too rarely to be asked.
    pub fn complaints(&self, protocol: &str) -> Vec<String> {
        let of_runs = self
            .runs
            .iter()
            .filter_map(|run| self.of_run(protocol, run));
        let of_goals = self.judged_goals().filter_map(|(engine, goal, reached)| {
            (reached == 0).then(|| self.never_reached(protocol, engine, &goal))
        });
        of_runs.chain(of_goals).collect()
    }

    /// What speaks against one run of it.
    fn of_run(&self, protocol: &str, run: &Run) -> Option<String> {
        let (name, engine) = (format!("{protocol}/{}", self.invariant), &run.engine);
        match &run.failure {
            Some(failure) => Some(format!("{name} under {engine}: {}", failure.message)),
            None if run.verdict == Verdict::Truncated => Some(format!(
                "{name} under {engine}: truncated after {}",
                run.executions
            )),
            None => None,
        }
    }

    /// Engine, goal and how often it was reached, where that is judged: what fails stops on the way to its goals.
    fn judged_goals(&self) -> impl Iterator<Item = (&'static str, String, u64)> {
        let judged = |engine: &&str| self.of(engine).all(|run| run.failure.is_none());
        let engines = ["loom", "shuttle"].into_iter().filter(judged);
        engines.flat_map(|engine| {
            let goals = self.goals(engine).into_iter();
            goals.map(move |(goal, reached)| (engine, goal, reached))
        })
    }

    fn never_reached(&self, protocol: &str, engine: &str, goal: &str) -> String {
        let invariant = &self.invariant;
        format!("{protocol}/{invariant} under {engine}: never reached \"{goal}\"")
    }
}

impl ProtocolReport {
    /// All executions of one engine.
    pub fn executions(&self, engine: &str) -> u64 {
        self.models
            .iter()
            .flat_map(|model| model.of(engine))
            .map(|run| run.executions)
            .sum()
    }

    /// The weakest verdict of loom's: what can be said of the whole protocol.
    pub fn loom_verdict(&self) -> Option<Verdict> {
        let rank = |verdict: &Verdict| match verdict {
            Verdict::Exhaustive => (0, 0),
            Verdict::Bounded(preemptions) => (1, usize::MAX - preemptions),
            Verdict::Sampled => (2, 0),
            Verdict::Truncated => (3, 0),
            Verdict::Failed => (4, 0),
        };
        let runs = self.models.iter().flat_map(|model| model.of("loom"));
        runs.map(|run| run.verdict).max_by_key(rank)
    }

    /// Goals reached and goals there are, over the models under loom and shuttle and the spec.
    pub fn goals(&self) -> (usize, usize) {
        let engines = ["loom", "shuttle"];
        let of_models = self
            .models
            .iter()
            .flat_map(|m| engines.map(|engine| m.goals(engine)));
        let mut all: Vec<u64> = of_models.flatten().map(|goal| goal.1).collect();
        let of_spec = self.histories.iter().flat_map(|checked| &checked.goals);
        all.extend(of_spec.map(|goal| goal.1));
        (
            all.iter().filter(|reached| **reached > 0).count(),
            all.len(),
        )
    }

    /// What is wrong with it.
    pub fn complaints(&self) -> Vec<String> {
        let name = &self.protocol;
        let mut complaints: Vec<String> = self
            .models
            .iter()
            .flat_map(|model| model.complaints(name))
            .collect();
        complaints.extend(self.histories.as_ref().and_then(of_spec));
        complaints.extend(self.orderings.iter().flatten().filter_map(of_site));
        complaints
    }
}

/// What is wrong with what a spec was run against.
fn of_spec(checked: &Checked) -> Option<String> {
    Some(format!("histories of {}", checked.complaint()?))
}

/// What is wrong with an ordering: that it is stronger than anybody needs.
fn of_site(site: &Site) -> Option<String> {
    let Site {
        file,
        line,
        operation,
        ordering,
        weakened_to,
        ..
    } = site;
    (!site.needed).then(|| {
        format!("{file}:{line} {operation}: no model needs {ordering}, {weakened_to} will do")
    })
}

impl HotRow {
    /// What is wrong with it.
    fn complaint(&self) -> Option<String> {
        let Self {
            way,
            locks,
            allocations,
            publishes,
        } = self;
        (locks + allocations > 0).then(|| {
            format!("{way}: {locks} locks, {allocations} allocations in {publishes} publishes")
        })
    }
}

impl HotPath {
    /// What is wrong with it. That it was not run is not wrong, but said.
    pub fn complaints(&self) -> Vec<String> {
        self.rows.iter().filter_map(HotRow::complaint).collect()
    }
}

impl Report {
    /// A report of nothing yet, on the protocols of `name`.
    pub fn new(name: &str, depth: Depth) -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            version: VERSION,
            name: name.to_owned(),
            depth: depth.name().to_owned(),
            at: since_1970.map_or(0, |since| since.as_secs()),
            cores: work::workers(),
            ..Self::default()
        }
    }

    /// Everything that is wrong, part by part.
    pub fn find_complaints(&self) -> Vec<String> {
        let mut complaints: Vec<String> = self
            .protocols
            .iter()
            .flat_map(ProtocolReport::complaints)
            .collect();
        complaints.extend(self.canaries.iter().filter_map(CanaryReport::complaint));
        complaints.extend(self.matrix.complaints());
        complaints.extend(self.mutants.complaints());
        complaints.extend(self.simulations.iter().flat_map(SimReport::complaints));
        complaints.extend((self.regressions.iter()).flat_map(RegressionReport::complaints));
        complaints.extend(self.hot_path.complaints());
        complaints
    }

    /// How much of the time went into building.
    pub fn build_ms(&self) -> u64 {
        self.matrix.build_ms + self.hot_path.build_ms
    }

    /// Whether everything holds.
    pub fn is_ok(&self) -> bool {
        self.complaints.is_empty()
    }
}
