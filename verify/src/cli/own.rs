//! The command line of a program with [protocols of its own](crate::own).

use super::{bugs, run};
use crate::child::Subject;
use crate::report::Report;
use crate::survey::{self, Depth};
use crate::tree::Tree;
use crate::work::Progress;
use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// Runs the models, specs, orderings and seeded bugs of some protocols, and writes the report.
#[derive(Debug, Parser)]
struct Arguments {
    /// How deep to go.
    #[arg(long, env = "DEPTH", value_enum, default_value_t = Depth::Standard)]
    depth: Depth,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The seeded bugs: who catches which. With a name, shows how it is caught.
    Bugs {
        /// The bug, or a protocol for all of its.
        name: Option<String>,
    },
}

pub(crate) fn main(folder: &Path, subjects: &[Subject]) -> ExitCode {
    let arguments = Arguments::parse();
    let tree = Tree::own(folder);
    let outcome = match &arguments.command {
        None => everything(&tree, subjects, arguments.depth),
        Some(Command::Bugs { name }) => {
            let scope = arguments.depth.scope();
            bugs::of_protocols(&tree, subjects, name.as_deref(), scope, &Progress::new())
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}

fn everything(tree: &Tree, subjects: &[Subject], depth: Depth) -> Result<ExitCode> {
    let started = Instant::now();
    let progress = Progress::new();
    let name = tree.root().file_name().unwrap_or_default();
    let mut report = Report::new(&name.to_string_lossy(), depth);
    let (surveyed, mut complaints) = survey::run(subjects, depth, &progress)?;
    report.protocols = surveyed;
    progress.step("seeded bugs");
    report.matrix = survey::matrix(tree, subjects, depth, &progress, &mut complaints);
    run::finish(report, complaints, started, tree)
}
