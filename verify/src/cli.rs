//! The command line of `verify`; the subcommands one file each.

mod bugs;
mod found;
pub mod history;
mod list;
mod mutate;
pub(crate) mod own;
mod replay;
mod run;
mod sim;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Proves what can be proved of Clearway without a broker, and says what was not.
#[derive(Debug, Parser)]
#[command(name = "verify", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs everything that needs no broker and writes the report.
    Run(run::Arguments),
    /// Judges a recorded history. Fails with 1 if something in it does not hold, with 2 if it is no history.
    History {
        /// The history, JSON lines.
        #[arg(required_unless_present = "format")]
        file: Option<PathBuf>,
        /// Instead: prints the format that it has to have.
        #[arg(long)]
        format: bool,
    },
    /// Runs the seeded bugs: who catches which. With a name, shows how it is caught.
    Bugs(bugs::Arguments),
    /// Runs the mutants that operators make of the protocols: which of them nobody notices.
    Mutate(mutate::Arguments),
    /// Runs the whole bus over a simulated broker, seed after seed.
    Sim(sim::Arguments),
    /// Runs a kept counterexample. Fails with 1 if it does not hold, with 2 if it cannot be read.
    Replay(replay::Arguments),
    /// Names every protocol, invariant, model, spec, bug and check.
    List,
    /// One check in a process of its own; what `run` starts.
    #[command(hide = true)]
    Child {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

/// What `main` does.
pub fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::List => list::run(),
        Command::History {
            file: Some(file),
            format: false,
        } => return history::run(&file),
        Command::History { .. } => return history::print_format(),
        Command::Sim(arguments) => sim::run(&arguments),
        Command::Replay(arguments) => return replay::run(&arguments),
        Command::Bugs(arguments) => bugs::run(&arguments),
        Command::Mutate(arguments) => mutate::run(&arguments),
        Command::Child { args } => Ok(crate::child::serve(&crate::child::originals(), &args)),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("verify: {error:#}");
        ExitCode::FAILURE
    })
}
