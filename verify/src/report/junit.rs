//! The report as JUnit XML, for the pages of whoever runs `verify` for every change: a suite for each section, a case for each thing that was
//! judged. A case fails where the report has a complaint and nowhere else; what was not run, or is known from an earlier run of the same
//! inputs, is skipped and never passed.

use super::terminal::cell;
use super::{
    CanaryReport, HotPath, HotRow, ModelReport, ProtocolReport, RegressionReport, Report,
    SimReport, of_site, of_spec,
};
use crate::bugs::{BugReport, Matrix};
use crate::mutate::{MutantReport, Mutants, ProtocolMutants};
use clearway_models::registry::{Run, Site};
use clearway_models::report::timeline;
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use std::time::Duration;

/// What is said of one thing.
enum Said {
    Holds,
    Fails(String),
    Skipped(String),
}

impl Said {
    fn by(complaint: Option<String>) -> Self {
        complaint.map_or(Self::Holds, Self::Fails)
    }

    /// The same, where it holds by an earlier run only.
    fn or_skipped(self, skipped: bool, why: &str) -> Self {
        match self {
            Self::Holds if skipped => Self::Skipped(why.to_owned()),
            other => other,
        }
    }
}

const EARLIER: &str = "from an earlier run of the same inputs";
const NOT_AT_THIS_DEPTH: &str = "not run at this depth";

/// The whole report.
pub(super) fn xml(report: &Report) -> Result<String, quick_junit::SerializeError> {
    let mut suites = Vec::new();
    for protocol in &report.protocols {
        suites.push(models(protocol));
        suites.push(orderings(protocol));
    }
    suites.push(suite("canaries", report.canaries.iter().map(canary)));
    suites.push(bugs(&report.matrix));
    suites.push(controls(&report.matrix));
    suites.push(suite("bugs of stages", report.elsewhere.iter().map(stage)));
    suites.push(mutants(&report.mutants));
    suites.extend(report.simulations.iter().map(simulation));
    suites.push(suite("regressions", report.regressions.iter().map(kept)));
    suites.push(hot_path(&report.hot_path));
    suites.push(suite("run", [the_run(report)]));
    suites.retain(|suite| suite.tests > 0);
    let mut all = quick_junit::Report::new(format!("verify {}", report.name));
    all.set_time(Duration::from_millis(report.elapsed_ms));
    all.add_test_suites(suites);
    all.to_string()
}

fn suite(name: &str, cases: impl IntoIterator<Item = TestCase>) -> TestSuite {
    let mut suite = TestSuite::new(name);
    for mut case in cases {
        case.set_classname(name);
        suite.add_test_case(case);
    }
    let times: Vec<Duration> = suite.test_cases.iter().filter_map(|c| c.time).collect();
    if !times.is_empty() {
        suite.set_time(times.iter().sum());
    }
    suite
}

fn case(name: impl Into<String>, said: Said) -> TestCase {
    let status = match said {
        Said::Holds => TestCaseStatus::success(),
        Said::Fails(why) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(why.lines().next().unwrap_or_default());
            status.set_description(why);
            status
        }
        Said::Skipped(why) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(why);
            status
        }
    };
    TestCase::new(name.into(), status)
}

/// Every run of every model, every goal of theirs, and the spec.
fn models(protocol: &ProtocolReport) -> TestSuite {
    let name = &protocol.protocol;
    let mut cases: Vec<TestCase> = Vec::new();
    for model in &protocol.models {
        cases.extend(model.runs.iter().map(|run| model_run(name, model, run)));
        cases.extend(model.judged_goals().map(|(engine, goal, reached)| {
            let complaint = (reached == 0).then(|| model.never_reached(name, engine, &goal));
            let invariant = &model.invariant;
            let of_it = format!("{invariant} under {engine} reaches \"{goal}\"");
            case(of_it, Said::by(complaint))
        }));
    }
    cases.push(match &protocol.histories {
        Some(checked) => {
            let mut case = case("histories", Said::by(of_spec(checked)));
            case.set_time(Duration::from_millis(checked.elapsed_ms));
            if checked.failure.is_some() {
                case.set_system_out(timeline(&checked.to_run()));
            }
            case
        }
        None => case("histories", Said::Skipped("not run".to_owned())),
    });
    suite(&format!("models of {name}"), cases)
}

fn model_run(protocol: &str, model: &ModelReport, run: &Run) -> TestCase {
    let name = format!("{} under {}", model.invariant, run.engine);
    let mut case = case(name, Said::by(model.of_run(protocol, run)));
    case.set_time(Duration::from_millis(run.elapsed_ms));
    if run.failure.is_some() {
        case.set_system_out(timeline(run));
    }
    case
}

fn orderings(protocol: &ProtocolReport) -> TestSuite {
    let site = |site: &Site| {
        let Site {
            file,
            line,
            operation,
            ordering,
            ..
        } = site;
        let name = format!("{file}:{line} {operation} needs {ordering}");
        case(name, Said::by(of_site(site)))
    };
    let cases = match &protocol.orderings {
        Some(sites) => sites.iter().map(site).collect(),
        None => vec![case("all", Said::Skipped(NOT_AT_THIS_DEPTH.to_owned()))],
    };
    suite(&format!("orderings of {}", protocol.protocol), cases)
}

fn canary(canary: &CanaryReport) -> TestCase {
    case(&canary.name, Said::by(canary.complaint()))
}

fn bugs(matrix: &Matrix) -> TestSuite {
    let bug = |report: &BugReport| {
        let cached = report.cells.iter().all(|(.., cached)| *cached);
        let said = Said::by(report.complaint()).or_skipped(cached, EARLIER);
        let mut case = case(&report.bug.name, said);
        let cells = report.cells.iter();
        let cells = cells.map(|(checker, said, _)| format!("{checker}: {}\n", cell(said)));
        case.set_system_out(cells.collect::<String>());
        case
    };
    let mut suite = suite("seeded bugs", matrix.bugs.iter().map(bug));
    suite.set_time(Duration::from_millis(matrix.elapsed_ms + matrix.build_ms));
    suite
}

fn controls(matrix: &Matrix) -> TestSuite {
    let control = |control: &crate::bugs::Control| {
        let name = format!(
            "{} under {}, {}",
            control.protocol, control.checker, control.invariant
        );
        let said = Said::by(control.complain()).or_skipped(control.cached, EARLIER);
        case(name, said)
    };
    suite("controls", matrix.controls.iter().map(control))
}

fn stage((name, needs_broker): &(String, bool)) -> TestCase {
    let why = match needs_broker {
        true => "not run here: needs a build of its own and a broker",
        false => "not run here: needs a build of its own",
    };
    case(name, Said::Skipped(why.to_owned()))
}

fn mutants(mutants: &Mutants) -> TestSuite {
    let of_it = |of: &ProtocolMutants, mutant: &MutantReport| {
        let said = Said::by(of.complaint(mutant)).or_skipped(true, "by an earlier `verify mutate`");
        case(format!("{}: {}", of.protocol, mutant.name), said)
    };
    let cases = mutants.protocols.iter().flat_map(|of| {
        let mutants = of.mutants.iter().map(|mutant| of_it(of, mutant));
        let others = of.other_complaints().map(|complaint| {
            case(
                format!("reasons of {}", of.protocol),
                Said::Fails(complaint),
            )
        });
        mutants.chain(others).collect::<Vec<_>>()
    });
    suite("mutants", cases)
}

fn simulation(simulation: &SimReport) -> TestSuite {
    let seed = |seed: u64| {
        let failed = simulation.failed.contains(&seed);
        let said = Said::by(failed.then(|| simulation.again(seed)));
        case(format!("seed {seed}"), said)
    };
    let name = format!("simulation over {}", simulation.broker);
    let mut suite = suite(&name, (0..simulation.seeds).map(seed));
    suite.set_time(Duration::from_millis(simulation.elapsed_ms));
    suite
}

fn kept(of: &RegressionReport) -> TestCase {
    let complaints = of.complaints();
    let said = Said::by((!complaints.is_empty()).then(|| complaints.join("\n")));
    let mut case = case(&of.name, said);
    case.set_time(Duration::from_millis(of.elapsed_ms));
    case
}

fn hot_path(counts: &HotPath) -> TestSuite {
    let row = |row: &HotRow| case(&row.way, Said::by(row.complaint()));
    let not_run = counts.not_run.iter();
    let not_run = not_run.map(|why| case("all", Said::Skipped(why.clone())));
    suite("hot path", counts.rows.iter().map(row).chain(not_run))
}

/// What is wrong and is said of no single thing: a part that gave no answer.
fn the_run(report: &Report) -> TestCase {
    let of_parts = report.find_complaints();
    let others = report.complaints.iter();
    let others: Vec<&str> = others
        .filter(|complaint| !of_parts.contains(complaint))
        .map(String::as_str)
        .collect();
    let said = Said::by((!others.is_empty()).then(|| others.join("\n")));
    case("every part gave an answer", said)
}
