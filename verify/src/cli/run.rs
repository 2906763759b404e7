//! `verify run`: everything that needs no broker, and the report.

use crate::bugs::stages::{self, StageBug};
use crate::check::{self, Property};
use crate::child;
use crate::mutate::Mutants;
use crate::report::{
    self, CanaryReport, HotPath, HotRow, RegressionReport, Report, SimReport, terminal,
};
use crate::sim::broker::jetstream::JetStream;
use crate::sim::broker::kafka::Kafka;
use crate::survey::{self, Depth};
use crate::tree::Tree;
use crate::work::Progress;
use anyhow::{Context, Result};
use clap::Args;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// The hot path's test may have to be built first.
const HOT_PATH_LIMIT: Duration = Duration::from_secs(600);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How deep to go.
    #[arg(long, env = "DEPTH", value_enum, default_value_t = Depth::Standard)]
    depth: Depth,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let started = Instant::now();
    let depth = arguments.depth;
    let tree = Tree::of_this_build();
    let progress = Progress::new();

    let mut report = Report::new("Clearway", depth);
    let mut complaints = Vec::new();

    let subjects = child::originals();
    let (surveyed, silent) = survey::run(&subjects, depth, &progress)?;
    report.protocols = surveyed;
    complaints.extend(silent);
    progress.step("histories that the checker must refuse");
    report.canaries = canaries(&tree)?;
    progress.step("seeded bugs");
    report.matrix = survey::matrix(&tree, &subjects, depth, &progress, &mut complaints);
    match stages::load(&tree) {
        Ok(bugs) => report.elsewhere = bugs.iter().map(StageBug::in_short).collect(),
        Err(error) => complaints.push(error.to_string()),
    }
    report.mutants = Mutants::load(&tree);
    progress.step("a few seeds of the simulation");
    report.simulations = vec![SimReport::run::<JetStream>(), SimReport::run::<Kafka>()];
    progress.step("counterexamples that are kept");
    report.regressions = RegressionReport::run(&tree, &mut complaints);
    progress.step("locks and allocations on the hot path");
    report.hot_path = hot_path(&tree, &progress, &mut complaints);

    finish(report, complaints, started, &tree)
}

/// Writes the report, and says how it went.
pub(super) fn finish(
    mut report: Report,
    mut complaints: Vec<String>,
    started: Instant,
    tree: &Tree,
) -> Result<ExitCode> {
    report.elapsed_ms = started.elapsed().as_millis() as u64;
    complaints.extend(report.find_complaints());
    report.complaints = complaints;
    report.not_verified = report::not_verified(&report);
    let files = report::write(&report, &tree.out()).context("the report cannot be written")?;
    print!("{}", terminal::report(&report));
    for file in files {
        println!("{}", tree.show(&file));
    }
    Ok(if report.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Every canary and what the checker says of it.
fn canaries(tree: &Tree) -> Result<Vec<CanaryReport>> {
    let folder = tree.root().join("verify/canaries");
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "jsonl"));
    paths.sort();
    Ok(paths.iter().map(|path| canary(path)).collect())
}

fn canary(path: &Path) -> CanaryReport {
    let name = path
        .file_stem()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let begins = |property: &&str| {
        name.strip_prefix(*property)
            .is_some_and(|slug| slug.starts_with('-'))
    };
    let names = Property::ALL.map(Property::name);
    let expected = names
        .into_iter()
        .filter(begins)
        .max_by_key(|property| property.len());
    let (found, error) = match check::file(path) {
        Ok(verdict) => {
            let mut found: Vec<_> = verdict
                .violations
                .iter()
                .map(|v| v.property.name().to_owned())
                .collect();
            found.sort();
            found.dedup();
            (found, None)
        }
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    CanaryReport {
        name: name.to_owned(),
        expected: expected.map(str::to_owned),
        found,
        error,
    }
}

/// Runs the test that counts, and reads what it prints.
fn hot_path(tree: &Tree, progress: &Progress, complaints: &mut Vec<String>) -> HotPath {
    let not_run = |why: String| HotPath {
        not_run: Some(why),
        ..HotPath::default()
    };
    if !tree.root().join("verify/bus/hot_path.rs").exists() {
        return not_run("there is no test that counts yet".to_owned());
    }
    let cargo = |last: &[&str]| {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .current_dir(tree.root())
            .args(["test", "--quiet", "--test", "hot_path"]);
        if !cfg!(debug_assertions) {
            command.arg("--release");
        }
        command.args(last);
        child::run(&mut command, HOT_PATH_LIMIT)
    };
    progress.now("building the test that counts");
    let started = Instant::now();
    let built = cargo(&["--no-run"]);
    let build_ms = started.elapsed().as_millis() as u64;
    progress.now("counting");
    let ended = match built.and_then(|_| cargo(&["--", "--nocapture"])) {
        Ok(ended) => ended,
        Err(why) => {
            complaints.push(format!("hot path: {why}"));
            return not_run(why.to_string());
        }
    };
    let counts = HotPath {
        build_ms,
        ..read_hot_path(&ended.stdout)
    };
    if !ended.status.success() {
        let mut said = ended.stdout.lines().chain(ended.stderr.lines());
        let why = said.find(|line| line.contains("panicked") || line.contains("error"));
        let why = why.unwrap_or("its test failed");
        complaints.push(format!("hot path: {why} (cargo test --test hot_path)"));
    }
    if counts.rows.is_empty() {
        return not_run("its test prints no counts".to_owned());
    }
    counts
}

/// `hot path: <way>: 0 locks, 0 allocations (100 publishes)`, and what stands apart.
fn read_hot_path(output: &str) -> HotPath {
    let mut counts = HotPath::default();
    for line in output.lines() {
        // The harness prints its dots on the same line.
        if let Some(at) = line.find("hot path: ") {
            counts.rows.extend(read_row(&line[at..]));
        } else if let Some(at) = line.find("apart: ").or_else(|| line.find("control: ")) {
            counts.notes.push(line[at..].to_owned());
        }
    }
    counts.rows.sort_by(|a, b| a.way.cmp(&b.way));
    counts.notes.sort();
    counts
}

fn read_row(line: &str) -> Option<HotRow> {
    let (way, counted) = line.strip_prefix("hot path: ")?.rsplit_once(": ")?;
    let mut numbers = counted
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|word| word.parse().ok());
    Some(HotRow {
        way: way.to_owned(),
        locks: numbers.next()?,
        allocations: numbers.next()?,
        publishes: numbers.next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_the_hot_path_are_read() {
        let output = "running 9 tests\n\
            .hot path: publish by name, delayed answers: 0 locks, 2 allocations (400 publishes)\n\
            control: ordered handle: 100 locks seen (100 publishes)\n.\ntest result: ok.\n";
        let counts = read_hot_path(output);
        assert_eq!(
            counts.rows,
            [HotRow {
                way: "publish by name, delayed answers".to_owned(),
                locks: 0,
                allocations: 2,
                publishes: 400
            }]
        );
        assert_eq!(
            counts.notes,
            ["control: ordered handle: 100 locks seen (100 publishes)"]
        );
        assert_eq!(counts.complaints().len(), 1);
    }
}
