//! Every model under every engine, by name: what the `verify` binary drives.

use crate::registry::{Depth, Model, Run, Site};
use crate::under_shuttle::engine::{SCHEDULERS, executions, explore_with};
use crate::{under_loom, under_shuttle, under_threads, weaken};

/// The engines that [`run`] knows: loom, each of shuttle's schedulers, plain threads.
pub const ENGINES: [&str; 6] = [
    "loom",
    "shuttle/random",
    "shuttle/pct2",
    "shuttle/pct3",
    "shuttle/urw",
    "threads",
];

/// Every model, protocol by protocol. Its body is loom's: to run it, [`run`] it by name.
pub fn models() -> impl Iterator<Item = &'static Model> {
    under_loom::MODELS.iter().copied().flatten()
}

/// Runs the model of `invariant` under `engine`, or `None` if there is no such model or engine.
/// Never panics and prints nothing of its own.
pub fn run(engine: &str, protocol: &str, invariant: &str, depth: Depth) -> Option<Run> {
    let find = |models: &[&'static [Model]]| {
        models
            .iter()
            .copied()
            .flatten()
            .find(|model| model.protocol == protocol && model.invariant == invariant)
    };
    match engine {
        "loom" => Some(under_loom::engine::explore(
            find(under_loom::MODELS)?,
            depth,
        )),
        "threads" => Some(under_threads::engine::explore(
            find(under_threads::MODELS)?,
            depth,
        )),
        _ => {
            let scheduler = SCHEDULERS.iter().find(|known| known.engine() == engine)?;
            let model = find(under_shuttle::MODELS)?;
            Some(explore_with(model, *scheduler, executions(depth)))
        }
    }
}

/// Every ordering above relaxed in the source of `protocol`, and whether a model needs it. Empty
/// if the protocol has none, or there is no such protocol.
pub fn orderings(protocol: &str) -> Vec<Site> {
    let models = under_loom::MODELS.iter().copied();
    models
        .filter(|models| models.iter().any(|model| model.protocol == protocol))
        .flat_map(weaken::orderings)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_runs_every_model_by_name() {
        let goals: &[&str] = under_loom::gate_model::MODELS[0].goals;
        for engine in ENGINES {
            let run = run(engine, "gate", "closed_admits_nobody", Depth::Quick)
                .unwrap_or_else(|| panic!("{engine} is not known"));
            assert_eq!((run.engine.as_str(), run.failure), (engine, None));
            assert!(run.executions > 1 && run.goals.len() == goals.len());
        }
        assert_eq!(run("loom", "gate", "no_such_invariant", Depth::Quick), None);
        assert_eq!(
            run("valgrind", "gate", "closed_admits_nobody", Depth::Quick),
            None
        );
    }

    #[test]
    fn the_three_worlds_have_the_same_models() {
        let names = |models: &[&'static [Model]]| -> Vec<String> {
            models.iter().copied().flatten().map(Model::name).collect()
        };
        let names = [
            names(under_loom::MODELS),
            names(under_shuttle::MODELS),
            names(under_threads::MODELS),
        ];
        assert_eq!(names[0], names[1]);
        assert_eq!(names[0], names[2]);
    }
}
