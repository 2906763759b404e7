//! `verify mutate`: every mutant of every protocol, or of one, and what came of them.

use crate::mutate::{self, MutantReport, Mutants, Options, Verdict};
use crate::report::terminal;
use crate::tree::Tree;
use crate::work::Progress;
use anyhow::{Result, bail};
use clap::Args;
use std::process::ExitCode;
use std::time::Instant;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Whose mutants. Without it: those of all protocols.
    protocol: Option<String>,
    /// Lists those that are left, with what is known of each; the equivalent ones with the reason.
    #[arg(long)]
    survivors: bool,
    /// Lists every mutant with its verdict.
    #[arg(long)]
    all: bool,
    /// Full depth also for those that have a reason.
    #[arg(long)]
    full: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let started = Instant::now();
    let tree = Tree::of_this_build();
    let mut protocols = mutate::protocols();
    if let Some(name) = &arguments.protocol {
        protocols.retain(|protocol| protocol == name);
        if protocols.is_empty() {
            bail!("there is no protocol `{name}`; `verify list` names them");
        }
    }
    let options = Options {
        full: arguments.full,
    };
    let found = mutate::run(&tree, &protocols, options, &Progress::new())?;
    list(&found, arguments);
    print!("{}", terminal::mutants(&found));
    println!("{} s, builds included", started.elapsed().as_secs());
    let complaints = found.complaints();
    for complaint in &complaints {
        println!("FAILED  {complaint}");
    }
    Ok(if complaints.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn list(found: &Mutants, arguments: &Arguments) {
    for of in &found.protocols {
        for mutant in &of.mutants {
            let left = mutant.is_survivor() || mutant.is_equivalent();
            if arguments.all || (arguments.survivors && left) {
                println!("{}: {}\n    {}", of.protocol, mutant.name, said(mutant));
            }
        }
    }
}

fn said(mutant: &MutantReport) -> String {
    let said = match &mutant.verdict {
        Verdict::Killed(kill) => format!(
            "killed by {} in execution {}: {}",
            kill.engine, kill.executions, kill.message
        ),
        Verdict::TimedOut {
            stage,
            seconds,
            original_ms,
        } => format!(
            "killed by the time limit: {stage} was not done after {seconds} s, the original takes {original_ms} ms"
        ),
        Verdict::Survived { executions, full } => {
            let depth = if *full {
                "full depth"
            } else {
                "two preemptions"
            };
            format!("survived {executions} executions, {depth}")
        }
        Verdict::Broken { why } => format!("no verdict: {why}"),
        Verdict::Unbuilt { error } => format!("does not compile: {error}"),
    };
    match &mutant.reason {
        Some(reason) => format!("{said}\n    equivalent: {reason}"),
        None => said,
    }
}
