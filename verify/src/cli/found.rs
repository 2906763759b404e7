//! What is done about a run that does not hold: it is made small and kept, and the line that replays it is said.

use crate::sim::breaks::Breaks;
use crate::sim::broker::jetstream::JetStream;
use crate::sim::broker::kafka::Kafka;
use crate::sim::counterexample::{Broker, Counterexample, Shrinking, Size};
use crate::sim::run::{Ran, run};
use crate::sim::shrink::{Limits, shrink};
use crate::tree::Tree;
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// So much may be spent on making one small.
const LIMITS: Limits = Limits {
    tries: 1000,
    time: Duration::from_secs(120),
};

/// A plan of so many characters is short enough for a command line.
const INLINE_MAX: usize = 400;

/// How `verify` is called.
const VERIFY: &str = "cargo run --release -p clearway-verify --bin verify --";

/// Makes the plan of a failing run small, keeps it below the tree's place for such, and prints what it came to.
pub(super) fn keep(broker: Broker, ran: &Ran, from: &str) -> Result<()> {
    let breaks = *ran.breaks.first().context("nothing is violated")?;
    println!("violated: {breaks}; made small, it must violate that again");
    let again = |plan: &_| match (broker, breaks) {
        (_, Breaks::Again) => broker.run(plan),
        (Broker::Jetstream, _) => run::<JetStream>(plan),
        (Broker::Kafka, _) => run::<Kafka>(plan),
    };
    let shrunk = shrink(&ran.plan, breaks, again, LIMITS);
    let small = shrunk.ran.as_ref().unwrap_or(ran);
    let mut kept = Counterexample::new(broker, breaks, &small.plan, from);
    let shrinking = Shrinking {
        before: Size::of(ran),
        after: Size::of(small),
        tries: shrunk.tries as u64,
        seconds: (shrunk.took.as_secs_f64() * 10.0).round() / 10.0,
    };
    kept.shrunk = Some(shrinking);
    println!("{shrinking}\nsmaller, and fails as well: {}", small.plan);
    let tree = Tree::of_this_build();
    let name = format!("sim-{}-{}.json", broker.name(), ran.plan.seed);
    let path = write(&tree, &name, &kept.to_text())?;
    println!("replay: {VERIFY} replay {}", tree.show(&path));
    let inline = kept.in_short();
    if inline.len() <= INLINE_MAX {
        println!("or:     {VERIFY} replay '{inline}'");
    }
    Ok(())
}

/// Keeps the history of a run beside the report.
pub(super) fn write_history(tree: &Tree, name: &str, ran: &Ran) -> Result<PathBuf> {
    let text = ran.history.as_ref().map(|history| history.to_text());
    write(tree, &format!("{name}.jsonl"), &text.unwrap_or_default())
}

/// Writes a file beside the report.
pub(super) fn write(tree: &Tree, name: &str, text: &str) -> Result<PathBuf> {
    let folder = tree.out();
    fs::create_dir_all(&folder)?;
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| path.display().to_string())?;
    Ok(path)
}
