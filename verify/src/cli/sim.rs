//! `verify sim`: the whole bus over a simulated broker, seed after seed.

use super::found;
use crate::sim::broker::SimBroker;
use crate::sim::broker::jetstream::JetStream;
use crate::sim::broker::kafka::Kafka;
use crate::sim::counterexample::Broker;
use crate::sim::fault::{Fault, Ratio};
use crate::sim::hunt;
use crate::sim::plan::Plan;
use crate::sim::run::Ran;
use crate::sim::seeds::{self, Sum};
use crate::tree::Tree;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The simulated broker.
    #[arg(long, env = "BROKER", default_value = "jetstream")]
    broker: String,
    /// How many seeds.
    #[arg(long, env = "SEEDS", default_value_t = 2000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, env = "FIRST", default_value_t = 0)]
    first: u64,
    /// This seed alone: the same run again, and its hash.
    #[arg(long, env = "SEED")]
    seed: Option<u64>,
    /// About so many envelopes are published in each run.
    #[arg(long, env = "ENVELOPES", default_value_t = 1000)]
    envelopes: u64,
    /// Stops at the first seed that fails.
    #[arg(long)]
    first_failure: bool,
    /// Says how many seeds it takes until something is found: for seeded bugs.
    #[arg(long)]
    hunt: bool,
    /// Without these faults, by name.
    #[arg(long, env = "WITHOUT", value_delimiter = ',')]
    without: Vec<String>,
}

/// Fails if a run does not hold, or if together they never came to what they have to.
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    match arguments.broker.as_str() {
        JetStream::NAME => over::<JetStream>(arguments),
        Kafka::NAME => over::<Kafka>(arguments),
        other => bail!("there is no simulated broker `{other}`"),
    }
}

fn over<B: SimBroker>(arguments: &Arguments) -> Result<ExitCode> {
    let mut sum = Sum::default();
    if arguments.hunt {
        println!("{}", hunt::hunt::<B>(arguments.seeds, arguments.envelopes));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(seed) = arguments.seed {
        let mut plan = Plan::draw(seed, arguments.envelopes);
        for name in &arguments.without {
            let fault = Fault::ALL.iter().find(|fault| fault.name() == name);
            let fault = fault.with_context(|| format!("there is no fault `{name}`"))?;
            plan.faults.set(*fault, Ratio::NEVER);
        }
        let ran = seeds::plan::<B>(&plan, &mut sum);
        let kept = keep::<B>(&ran)?;
        println!("seed {seed}: {}", ran.plan);
        println!(
            "{} lines, {} polls, {:.1?} of virtual time, hash {:016x}",
            ran.counts.events, ran.polls, ran.took, ran.hash
        );
        println!("history: {}", kept.display());
        return told::<B>(&ran, arguments);
    }
    let mut said = Instant::now();
    let seeds = arguments.first..arguments.first + arguments.seeds;
    for seed in seeds.clone() {
        let ran = seeds::seed::<B>(seed, arguments.envelopes, &mut sum);
        if !ran.violations.is_empty() {
            keep::<B>(&ran)?;
            told::<B>(&ran, arguments)?;
            if arguments.first_failure {
                break;
            }
        }
        if said.elapsed() > Duration::from_secs(5) {
            said = Instant::now();
            let failed = sum.failed.len();
            eprintln!(
                "sim: {} of {} seeds, {failed} with violations",
                sum.seeds, arguments.seeds
            );
        }
    }
    println!("{}", sum.table::<B>());
    let missed = sum.missed::<B>();
    for goal in &missed {
        println!("never reached: {goal}");
    }
    let holds = sum.failed.is_empty() && missed.is_empty();
    Ok(if holds {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Says what does not hold, makes it small, keeps that, and says the line that replays it.
fn told<B: SimBroker>(ran: &Ran, arguments: &Arguments) -> Result<ExitCode> {
    if ran.violations.is_empty() {
        println!("all holds");
        return Ok(ExitCode::SUCCESS);
    }
    println!("seed {}: {}", ran.plan.seed, ran.plan);
    for violation in &ran.violations {
        println!("{violation}");
    }
    let (seed, envelopes) = (ran.plan.seed, arguments.envelopes);
    let from = format!(
        "seed {seed} of about {envelopes} envelopes over {}",
        B::NAME
    );
    let broker = Broker::named(B::NAME).with_context(|| format!("no plan can name {}", B::NAME))?;
    found::keep(broker, ran, &from)?;
    Ok(ExitCode::FAILURE)
}

/// Keeps the history of a run beside the report.
fn keep<B: SimBroker>(ran: &Ran) -> Result<PathBuf> {
    let tree = Tree::of_this_build();
    found::write_history(&tree, &format!("sim-{}-{}", B::NAME, ran.plan.seed), ran)
}
