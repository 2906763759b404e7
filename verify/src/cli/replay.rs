//! `verify replay`: runs a counterexample that was kept, and shows what matters of it if it does not hold.

use super::found;
use crate::report;
use crate::sim::counterexample::{Counterexample, PlanError, Shrinking, Size};
use crate::sim::regressions::{HOLDS, OTHER, VIOLATED};
use crate::sim::run::Ran;
use crate::sim::timeline::Timeline;
use crate::tree::Tree;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// What cannot be read is neither right nor wrong.
const NO_PLAN: u8 = 2;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The file, or the plan itself as JSON.
    plan: String,
    /// Keeps the history of the run.
    #[arg(long)]
    history: bool,
    /// Keeps what was seen of a failing run beside the file, in `seen/`: for regressions, whose bug is gone.
    #[arg(long)]
    keep_seen: bool,
}

/// Succeeds if all holds; 1 if something does not, 2 if it is no plan.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let replayed = read(&arguments.plan)
        .map_err(anyhow::Error::from)
        .and_then(|kept| replay(arguments, &kept));
    replayed.unwrap_or_else(|error| {
        eprintln!("verify: {error:#}");
        ExitCode::from(NO_PLAN)
    })
}

fn read(plan: &str) -> Result<Counterexample, PlanError> {
    match plan.trim_start().starts_with('{') {
        true => Counterexample::parse(plan),
        false => Counterexample::read(plan),
    }
}

fn replay(arguments: &Arguments, kept: &Counterexample) -> Result<ExitCode> {
    let (plan, left_out) = kept.plan();
    for line in [&kept.from].into_iter().chain(&left_out) {
        println!("{line}");
    }
    println!("seed {} over {}: {plan}", plan.seed, kept.broker.name());
    let begun = Instant::now();
    let ran = kept.broker.run(&plan);
    let (lines, polls, hash) = (ran.counts.events, ran.polls, ran.hash);
    println!(
        "{lines} lines, {polls} polls, {:.1?} of virtual time, hash {hash:016x}; twice in {:.1?}",
        ran.took,
        begun.elapsed()
    );
    let tree = Tree::of_this_build();
    let name = name_of(arguments, kept, ran.plan.seed);
    if arguments.history {
        let path = found::write_history(&tree, &name, &ran)?;
        println!("history: {}", tree.show(&path));
    }
    if ran.violations.is_empty() {
        println!(
            "{HOLDS}{} is not violated, and nothing else is",
            kept.breaks
        );
        return Ok(ExitCode::SUCCESS);
    }
    if kept.is_broken_by(&ran) {
        println!("{VIOLATED}{}", kept.breaks);
    } else {
        let others: Vec<_> = ran.breaks.iter().map(|breaks| breaks.name()).collect();
        println!("{OTHER}{}, but {}", kept.breaks, others.join(", "));
    }
    show(arguments, kept, &ran, (&tree, &name))?;
    Ok(ExitCode::FAILURE)
}

/// The timeline, on the terminal and as a picture.
fn show(
    arguments: &Arguments,
    kept: &Counterexample,
    ran: &Ran,
    (tree, name): (&Tree, &str),
) -> Result<()> {
    let breaks = match kept.is_broken_by(ran) {
        true => kept.breaks,
        false => *ran.breaks.first().context("nothing is violated")?,
    };
    let Some(timeline) = Timeline::of(ran, breaks) else {
        println!("{}", ran.violations.join("\n"));
        return Ok(());
    };
    println!("{timeline}");
    let shrunk = kept.shrunk.map(|shrunk| Shrinking {
        after: Size::of(ran),
        ..shrunk
    });
    let page = report::picture(name, &timeline, shrunk.as_ref());
    let path = found::write(tree, &format!("{name}.html"), &page)?;
    println!("picture: {}", tree.show(&path));
    if arguments.keep_seen {
        let file = Path::new(&arguments.plan);
        let folder = file.parent().context("it is no file")?.join("seen");
        fs::create_dir_all(&folder)?;
        let path = folder.join(file.file_name().context("it is no file")?);
        fs::write(&path, timeline.to_text()).with_context(|| path.display().to_string())?;
        println!("seen: {}", path.display());
    }
    Ok(())
}

/// As what its files are kept.
fn name_of(arguments: &Arguments, kept: &Counterexample, seed: u64) -> String {
    let file = Path::new(&arguments.plan).file_stem();
    let file = file.and_then(|stem| stem.to_str());
    match arguments.plan.trim_start().starts_with('{') {
        true => format!("replay-{}-{seed}", kept.broker.name()),
        false => format!("replay-{}", file.unwrap_or("plan")),
    }
}
