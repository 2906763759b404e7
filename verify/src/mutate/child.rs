//! The child's side: one mutant before one judge, in a process of its own.

use super::judge::Stage;
use crate::child::{Checker, Subject};
use clearway_models::registry::{Depth, Run, Verdict};
use serde::{Deserialize, Serialize};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};

static ACTIVE: AtomicU32 = AtomicU32::new(0);

/// The number of the mutant that runs; 0 is the original. What a woven file asks.
pub fn active() -> u32 {
    // Relaxed: written once, before anything runs.
    ACTIVE.load(Ordering::Relaxed)
}

/// What a judge said of a mutant.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Said {
    /// The first run that speaks against it.
    pub(super) against: Option<Against>,
    pub(super) executions: u64,
    /// A model that was not explored to its end.
    pub(super) truncated: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Against {
    pub(super) engine: String,
    pub(super) invariant: String,
    pub(super) message: String,
    pub(super) executions: u64,
}

/// Runs `<number> <stage>` and prints what came of it as one line of JSON.
pub fn serve(subject: &Subject, args: &[String]) -> ExitCode {
    let parsed = match args {
        [number, stage] => number.parse().ok().zip(Stage::named(stage)),
        _ => None,
    };
    let Some((number, stage)) = parsed else {
        eprintln!("expected: <number of the mutant> <stage>");
        return ExitCode::FAILURE;
    };
    // Relaxed: as in `active`.
    ACTIVE.store(number, Ordering::Relaxed);
    match serde_json::to_string(&judged(subject, stage)) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("the answer cannot be written: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Model by model, up to the first that complains.
fn judged(subject: &Subject, stage: Stage) -> Said {
    let (checker, depth) = match stage {
        Stage::Loom => (Checker::Loom, Depth::Quick),
        Stage::Shuttle => (Checker::Shuttle, Depth::Quick),
        Stage::Histories => (Checker::Histories, Depth::Quick),
        Stage::LoomFull => (Checker::Loom, Depth::Full),
        Stage::ShuttleFull => (Checker::Shuttle, Depth::Full),
    };
    let invariants: Vec<&str> = match checker {
        Checker::Histories => vec![crate::child::ALL],
        _ => subject.loom.iter().map(|model| model.invariant).collect(),
    };
    let mut said = Said {
        against: None,
        executions: 0,
        truncated: None,
    };
    for run in invariants
        .iter()
        .flat_map(|invariant| subject.run(checker, invariant, depth))
    {
        said.executions += run.executions;
        if run.verdict == Verdict::Truncated {
            said.truncated.get_or_insert(run.invariant);
        } else if let Some(message) = run.complaint() {
            let Run {
                engine,
                invariant,
                executions,
                ..
            } = run;
            said.against = Some(Against {
                engine,
                invariant,
                message,
                executions,
            });
            break;
        }
    }
    said
}
