//! What a run does not show, from what it ran.

use super::{HotPath, Report};
use clearway_models::registry::Verdict;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Something that nobody here has proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotVerified {
    /// What.
    pub what: String,
    /// Why not, and what is done instead.
    pub why: String,
}

/// What stays open after `report`'s run.
pub fn not_verified(report: &Report) -> Vec<NotVerified> {
    let mut open = Vec::new();
    let mut add = |what: &str, why: String| {
        open.push(NotVerified {
            what: what.to_owned(),
            why,
        });
    };
    let is_ours = report.hot_path != HotPath::default();
    let of_the_bus = if is_ours { OF_THE_BUS } else { &[] };
    for (what, why) in TRUSTED.iter().chain(of_the_bus) {
        add(what, (*why).to_owned());
    }
    if let Some(why) = bounded(report) {
        add("executions with more preemptions than loom's bound", why);
    }
    let sampled = executions(report, "shuttle");
    let classes = report
        .protocols
        .iter()
        .flat_map(|protocol| &protocol.models);
    let new = classes
        .flat_map(|m| m.of("shuttle"))
        .filter_map(|run| run.classes);
    let new = new.map(|classes| classes.next_is_new).fold(0.0, f64::max);
    add(
        "what shuttle did not draw",
        format!(
            "{sampled} executions are a sample, and sequentially consistent: it sees no stale value. \
             Over all models and schedulers the next execution is of a new class with probability \
             of up to {new:.2}."
        ),
    );
    let threads = executions(report, "threads");
    let race = match is_ours {
        true => "; `make race` runs them under ThreadSanitizer",
        false => "",
    };
    add(
        "real memory",
        format!("{threads} executions on plain threads are a stress, not a proof{race}."),
    );
    for protocol in &report.protocols {
        let name = &protocol.protocol;
        if protocol.histories.is_none() {
            add(
                &format!("histories of {name}"),
                "they were not run.".to_owned(),
            );
        }
        if protocol.orderings.is_none() {
            add(
                &format!("that {name} needs its orderings"),
                "this depth does not weaken them.".to_owned(),
            );
        }
    }
    let unseen = report.matrix.bugs.iter().flat_map(|bug| &bug.cells);
    let cached = unseen.filter(|(.., cached)| *cached).count();
    if cached > 0 {
        add(
            "some seeded bugs, this time",
            format!("{cached} verdicts are from an earlier run on the same inputs."),
        );
    }
    let mutated = &report.mutants.protocols;
    let fresh = |name: &str| mutated.iter().any(|of| of.protocol == name);
    let names = report.protocols.iter().map(|of| of.protocol.as_str());
    let stale: Vec<&str> = names.filter(|name| !fresh(name)).collect();
    if !is_ours {
        add(
            "mutants",
            "`verify mutate` makes them of Clearway's protocols only.".to_owned(),
        );
    } else if !stale.is_empty() {
        add(
            "mutants",
            format!(
                "not run since something changed: {}. `make mutate` runs them.",
                stale.join(", ")
            ),
        );
    }
    if !report.elsewhere.is_empty() {
        let brokers = report.elsewhere.iter().filter(|(_, broker)| *broker);
        add(
            "seeded bugs of Kafka's stages",
            format!(
                "{} patches, none of them run here: each takes a build of its own, and {} of them a broker. \
                 `make bugs-brokers` runs them, and `verify bugs sim` those that the simulation finds.",
                report.elsewhere.len(),
                brokers.count()
            ),
        );
    }
    if let Some(why) = &report.hot_path.not_run {
        add("what the hot path takes", why.clone());
    }
    open
}

/// What the bus uses and no model has.
const OF_THE_BUS: &[(&str, &str)] = &[
    (
        "tokio, and the stages between the protocols",
        "The protocols are explored one at a time; how the stages use them is for simulated runs (`make sim`) and tests, of which this run has a few seeds and nothing else.",
    ),
    (
        "async-nats",
        "Used as it is; only runs against a real server show how it behaves.",
    ),
    (
        "the brokers",
        "Nothing here starts one: see `make integration`, whose histories the same checker reads.",
    ),
];

/// What stands in the place of the real thing, whosever the protocols are.
const TRUSTED: &[(&str, &str)] = &[
    (
        "the inside of arc-swap",
        "Loom sees an index in its place; shuttle runs the real one as a single step. Trusted from 1.9.1 on.",
    ),
    (
        "the inside of atomic-waker and of parking_lot",
        "Under loom and shuttle a model stands in their place.",
    ),
    (
        "loom's blind spots",
        "A weak compare-and-exchange never fails without a reason, a load never sees a later store, \
         an atomic remembers its last few values only, and a model has at most four threads.",
    ),
    (
        "more threads and more operations than the models have",
        "Two or three threads with one to three operations each; the histories have a few more.",
    ),
];

fn executions(report: &Report, engine: &str) -> u64 {
    report
        .protocols
        .iter()
        .map(|protocol| protocol.executions(engine))
        .sum()
}

/// Which models are not explored to their end.
fn bounded(report: &Report) -> Option<String> {
    let mut by_bound: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let mut all = 0;
    for protocol in &report.protocols {
        for model in &protocol.models {
            for run in model.of("loom") {
                all += 1;
                if let Verdict::Bounded(preemptions) = run.verdict {
                    let name = format!("{}/{}", protocol.protocol, model.invariant);
                    by_bound.entry(preemptions).or_default().push(name);
                }
            }
        }
    }
    let one = |(bound, names): (&usize, &Vec<String>)| {
        let shown = names
            .iter()
            .take(6)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ");
        let more = names.len().saturating_sub(6);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        format!(
            "{} of {all} models at {bound} preemptions: {shown}{more}",
            names.len()
        )
    };
    let parts: Vec<_> = by_bound.iter().map(one).collect();
    (!parts.is_empty()).then(|| format!("{}.", parts.join("; ")))
}
