//! `verify bugs`: the kill matrix, or one bug and how it is caught.

use crate::bugs::stages::{self, StageBug, Stages};
use crate::bugs::{self, Bug, BugReport, Cell, Scope, Workshop};
use crate::child::{Checker, Subject, originals};
use crate::tree::Tree;
use crate::work::Progress;
use anyhow::{Result, bail};
use clap::Args;
use clearway_models::registry::{Failure, Run, Verdict};
use clearway_models::report;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The bug, as in `gate-check-then-act`, or a protocol, for all of its. `kafka`: those of Kafka's stages; `sim`: those that the
    /// simulation finds, `sim-close` those of them that begin so. Without it: those of all protocols.
    name: Option<String>,
    /// Those of Kafka's stages that need a real server, too.
    #[arg(long)]
    brokers: bool,
    /// Every bug before every checker, also where its patch promises nothing.
    #[arg(long)]
    whole: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let tree = Tree::of_this_build();
    let progress = Progress::new();
    let of_stages = stages::load(&tree)?;
    if let Some(name) = &arguments.name {
        let all = format!("{name}-");
        let named = |bug: &&StageBug| bug.name == *name || bug.name.starts_with(&all);
        let named: Vec<&StageBug> = of_stages.iter().filter(named).collect();
        if !named.is_empty() {
            return run_stages(&tree, &named, arguments.brokers, &progress);
        }
    }
    let scope = if arguments.whole {
        Scope::Whole
    } else {
        Scope::Wide
    };
    let name = arguments.name.as_deref();
    let outcome = of_protocols(&tree, &originals(), name, scope, &progress)?;
    if name.is_none() {
        print!("{}", crate::report::terminal::elsewhere(&of_stages));
    }
    Ok(outcome)
}

/// The matrix of all protocols' bugs or of one protocol's, or one bug and how it is caught.
pub(super) fn of_protocols(
    tree: &Tree,
    subjects: &[Subject],
    name: Option<&str>,
    scope: Scope,
    progress: &Progress,
) -> Result<ExitCode> {
    let seeded = bugs::load(tree)?;
    let named = |bug: &Bug| name.is_none_or(|name| name == bug.name || name == bug.protocol);
    if let (Some(name), false) = (name, seeded.iter().any(named)) {
        bail!(
            "there is no seeded bug `{name}`, and no protocol of that name has one; `verify list` names them all"
        );
    }
    let matrix = bugs::run(tree, subjects, &seeded, named, scope, progress)?;
    match (name, &matrix.bugs[..]) {
        (Some(name), [report]) if report.bug.name == name => show(tree, report),
        _ => print!("{}", crate::report::terminal::matrix(&matrix)),
    }
    Ok(finish(&matrix.complaints()))
}

/// Those of stages, each in a build of its own.
fn run_stages(
    tree: &Tree,
    named: &[&StageBug],
    brokers: bool,
    progress: &Progress,
) -> Result<ExitCode> {
    let stages: Stages = stages::run(tree, named, brokers, progress)?;
    if let [report] = &stages.bugs[..] {
        let bug = &report.bug;
        let StageBug {
            name,
            file,
            breaks,
            tempting,
            diff,
            ..
        } = bug;
        println!("{name}\n  breaks {breaks} in {file}\n  {tempting}\n\n{diff}");
    }
    print!("{}", crate::report::terminal::stages(&stages));
    Ok(finish(&stages.complaints()))
}

fn finish(complaints: &[String]) -> ExitCode {
    for complaint in complaints {
        println!("FAILED  {complaint}");
    }
    if complaints.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// One bug: what it is, what each checker says, and the execution that shows it.
fn show(tree: &Tree, report: &BugReport) {
    let bug = &report.bug;
    println!(
        "{}\n  breaks {}/{}\n  {}\n",
        bug.name, bug.protocol, bug.breaks, bug.tempting
    );
    println!("{}", bug.diff);
    for (checker, cell, cached) in &report.cells {
        let from = if *cached {
            " (from an earlier run of the same inputs)"
        } else {
            ""
        };
        println!("{checker:10} {}{from}", crate::report::terminal::cell(cell));
    }
    let kills = report
        .cells
        .iter()
        .filter_map(|(checker, cell, _)| match cell {
            Cell::Killed(kill) => Some((*checker, kill)),
            _ => None,
        });
    // The shortest counterexample says most; real threads record none.
    let shortest = kills
        .filter(|(_, k)| !k.timeline.is_empty())
        .min_by_key(|(_, k)| k.timeline.len());
    let Some((checker, kill)) = shortest else {
        return;
    };
    println!(
        "\nThe counterexample of {} (execution {}):\n",
        kill.engine, kill.executions
    );
    let run = Run {
        engine: kill.engine.clone(),
        protocol: bug.protocol.clone(),
        invariant: bug.breaks.clone(),
        executions: kill.executions,
        verdict: Verdict::Failed,
        goals: Vec::new(),
        classes: None,
        failure: Some(Failure {
            message: kill.message.clone(),
            timeline: kill.timeline.clone(),
        }),
        elapsed_ms: 0,
    };
    println!("{}\n{}", report::timeline(&run), kill.message);
    println!("\nAgain:  {}", reproduce(tree, bug, checker));
}

/// The command that shows a kill again.
pub(crate) fn reproduce(tree: &Tree, bug: &Bug, checker: Checker) -> String {
    let program = Workshop::new(tree).program(&bug.protocol);
    let program = tree.show(&program).to_string();
    format!(
        "{program} {} {checker} {} {} --show",
        bug.name, bug.protocol, bug.breaks
    )
}
