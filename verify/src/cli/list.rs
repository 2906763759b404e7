//! `verify list`: everything there is, by name.

use crate::bugs;
use crate::check::Property;
use crate::protocol::SPECS;
use crate::tree::Tree;
use anyhow::Result;
use clearway_models::{ENGINES, models};
use std::process::ExitCode;

pub(super) fn run() -> Result<ExitCode> {
    let bugs = bugs::load(&Tree::of_this_build())?;
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
    println!("\nengines: {}", ENGINES.join(", "));
    println!(
        "checks of a history: {}",
        Property::ALL.map(Property::name).join(", ")
    );
    println!(
        "{} seeded bugs, {} models, {} specs",
        bugs.len(),
        models().count(),
        SPECS.len()
    );
    Ok(ExitCode::SUCCESS)
}
