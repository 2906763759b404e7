//! The seeded bugs as files: what can be said of them without running one. `verify bugs` runs them.

use clearway_models::models;
use clearway_verify::bugs::stages::{StageBug, StageReport, Stages};
use clearway_verify::bugs::{self, Bug, Cell, stages};
use clearway_verify::child::Checker;
use clearway_verify::protocol::SPECS;
use clearway_verify::report::{self, Report, terminal};
use clearway_verify::tree::Tree;
use std::collections::BTreeSet;
use std::fs;

fn seeded() -> Vec<Bug> {
    bugs::load(&Tree::of_this_build()).unwrap()
}

#[test]
fn every_patch_applies_to_the_source_that_ships() {
    let tree = Tree::of_this_build();
    for bug in seeded() {
        let source = fs::read_to_string(tree.source(&bug.protocol)).unwrap();
        if let Err(error) = bug.apply(&source) {
            panic!("{}: {error}", bug.name);
        }
    }
}

#[test]
fn every_patch_of_a_stage_applies_to_the_source_that_ships() {
    let tree = Tree::of_this_build();
    let seeded = stages::load(&tree).unwrap();
    assert!(!seeded.is_empty());
    for bug in seeded {
        if let Err(error) = bug.apply(&tree) {
            panic!("{}: {error}", bug.name);
        }
    }
}

#[test]
fn a_bug_breaks_what_a_model_checks() {
    for bug in seeded() {
        let checks = |invariant: &str| {
            models().any(|m| m.protocol == bug.protocol && m.invariant == invariant)
        };
        assert!(
            checks(&bug.breaks),
            "{}: nothing checks `{}`",
            bug.name,
            bug.breaks
        );
        let by_spec = bug.is_promised(Checker::Histories);
        let has_spec = SPECS.iter().any(|(name, _)| *name == bug.protocol);
        assert!(
            !by_spec || has_spec,
            "{}: {} has no spec",
            bug.name,
            bug.protocol
        );
        assert!(!bug.caught_by.is_empty(), "{}: who catches it?", bug.name);
    }
}

#[test]
fn every_invariant_is_broken_by_some_bug() {
    let broken: BTreeSet<_> = seeded()
        .into_iter()
        .map(|bug| (bug.protocol, bug.breaks))
        .collect();
    let idle: Vec<String> = models()
        .filter(|model| !broken.contains(&(model.protocol.to_owned(), model.invariant.to_owned())))
        .map(|model| model.name())
        .collect();
    assert!(
        idle.is_empty(),
        "no seeded bug shows that these models can fail: {idle:?}"
    );
}

/// Where bugs of stages are not run nobody takes them for killed.
#[test]
fn what_is_not_run_is_said_to_be_not_run() {
    let seeded = stages::load(&Tree::of_this_build()).unwrap();
    let elsewhere = terminal::elsewhere(&seeded);
    for bug in &seeded {
        let line = elsewhere.lines().find(|line| line.contains(&bug.name));
        let line = line.unwrap_or_else(|| panic!("{} is not listed", bug.name));
        assert!(line.contains("not run here: needs"), "{line}");
    }
    let broker = seeded.iter().find(|bug| bug.in_short().1);
    let bug = broker.expect("some need a broker").clone();
    let cells = bug.caught_by.iter().map(|c| (c.clone(), Cell::NotRun));
    let report = StageReport {
        cells: cells.collect(),
        bug,
    };
    assert!(report.is_not_run() && !report.is_caught() && report.complaint().is_none());
    let one = Stages {
        bugs: vec![report],
        ..Stages::default()
    };
    let told = terminal::stages(&one);
    assert!(
        told.contains(stages::NO_BROKER) && told.contains("0 of 1"),
        "{told}"
    );
    assert!(!told.contains("killed"), "{told}");
    let report = Report {
        elsewhere: seeded.iter().map(StageBug::in_short).collect(),
        ..Report::default()
    };
    let open = report::not_verified(&report);
    let said = open
        .iter()
        .find(|open| open.what == "seeded bugs of Kafka's stages");
    let why = &said.expect("the report says so").why;
    assert!(why.contains(&format!("{} patches", seeded.len())), "{why}");
}
