//! `verify list`: everything there is, by name.

use crate::bugs::{self, stages};
use crate::check::Property;
use crate::protocol::SPECS;
use crate::tree::Tree;
use anyhow::Result;
use clearway_models::{ENGINES, models};
use std::process::ExitCode;

pub(super) fn run() -> Result<ExitCode> {
    let tree = Tree::of_this_build();
    let bugs = bugs::load(&tree)?;
    let mut protocols: Vec<&str> = models().map(|model| model.protocol).collect();
    protocols.dedup();
    for protocol in protocols {
        let spec = SPECS.iter().any(|(name, _)| *name == protocol);
        let source = format!("src/protocol/{protocol}.rs");
        println!(
            "{protocol}  ({source}, {})",
            if spec {
                "with a spec"
            } else {
                "without a spec"
            }
        );
        for model in models().filter(|model| model.protocol == protocol) {
            let depth = model
                .bound
                .map_or("unbounded".to_owned(), |n| format!("bound {n}"));
            println!(
                "  {:42} {depth:10} goals: {}",
                model.invariant,
                model.goals.join(", ")
            );
            let broken_by = bugs
                .iter()
                .filter(|bug| bug.protocol == protocol && bug.breaks == model.invariant);
            for bug in broken_by {
                let checkers: Vec<_> = bug.caught_by.iter().map(|checker| checker.name()).collect();
                println!("    bug {:42} caught by {}", bug.name, checkers.join(", "));
            }
        }
    }
    println!("kafka  (the stages in src/backend/kafka and src/consume)");
    let of_stages = stages::load(&tree)?;
    for bug in &of_stages {
        let catchers: Vec<_> = bug.caught_by.iter().map(ToString::to_string).collect();
        let (name, breaks, catchers) = (&bug.name, &bug.breaks, catchers.join(", "));
        println!("    bug {name:42} breaks {breaks}, caught by {catchers}");
    }
    println!("\nengines: {}", ENGINES.join(", "));
    println!(
        "checks of a history: {}",
        Property::ALL.map(Property::name).join(", ")
    );
    println!(
        "{} seeded bugs of protocols and {} of stages, {} models, {} specs",
        bugs.len(),
        of_stages.len(),
        models().count(),
        SPECS.len()
    );
    Ok(ExitCode::SUCCESS)
}
