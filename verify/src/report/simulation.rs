//! The simulation in the report: the few seeds of a `verify run`, and what they came to. `verify sim` runs many more.

use super::terminal::thousands;
use crate::sim::broker::SimBroker;
use crate::sim::seeds::{self, Sum};
use maud::{Markup, html};
use serde::{Deserialize, Serialize};

/// As many seeds of each broker are run.
const SEEDS: u64 = 200;
/// With about so many envelopes each.
const ENVELOPES: u64 = 300;

/// The runs over one simulated broker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimReport {
    /// Which.
    pub broker: String,
    /// How many runs, each of a seed from 0 on.
    pub seeds: u64,
    /// Publishes of all.
    pub publishes: u64,
    /// Deliveries of all.
    pub deliveries: u64,
    /// Each fault, and in how many runs it struck.
    pub faults: Vec<(String, u64)>,
    /// What many runs have to come to, and how many of these did. That a few do not is no failure.
    pub goals: Vec<(String, u64)>,
    /// The seeds that do not hold.
    pub failed: Vec<u64>,
    /// How long they took.
    pub elapsed_ms: u64,
}

impl SimReport {
    /// Runs the seeds.
    pub fn run<B: SimBroker>() -> Self {
        let mut sum = Sum::default();
        for seed in 0..SEEDS {
            seeds::seed::<B>(seed, ENVELOPES, &mut sum);
        }
        let struck = |(fault, (runs, _)): (&crate::sim::fault::Fault, &(u64, u64))| {
            (fault.name().to_owned(), *runs)
        };
        Self {
            broker: B::NAME.to_owned(),
            seeds: sum.seeds,
            publishes: sum.ops,
            deliveries: sum.deliveries,
            faults: sum.struck.iter().map(struck).collect(),
            goals: sum.reached::<B>(),
            failed: sum.failed.clone(),
            elapsed_ms: sum.real_time.as_millis() as u64,
        }
    }

    fn goals_reached(&self) -> usize {
        self.goals.iter().filter(|(_, runs)| *runs > 0).count()
    }

    /// What is wrong: the seeds that do not hold, and how each is run again.
    pub fn complaints(&self) -> Vec<String> {
        self.failed.iter().map(|seed| self.again(*seed)).collect()
    }

    /// How a seed that does not hold is run again.
    pub(super) fn again(&self, seed: u64) -> String {
        let broker = &self.broker;
        format!("simulation: make sim BROKER={broker} SEED={seed} ENVELOPES={ENVELOPES}")
    }

    /// One line of a terminal.
    pub(super) fn line(&self) -> String {
        format!(
            "simulation         {} over {}: {} seeds, {} publishes, {} deliveries, {} faults; goals reached {}/{}; {} with violations\n",
            if self.failed.is_empty() {
                "holds"
            } else {
                "FAILS"
            },
            self.broker,
            self.seeds,
            thousands(self.publishes),
            thousands(self.deliveries),
            self.faults.len(),
            self.goals_reached(),
            self.goals.len(),
            self.failed.len(),
        )
    }
}

/// The section of the page.
pub(super) fn section(simulations: &[SimReport]) -> Markup {
    html! {
        section {
            h2 { "Simulation" }
            p { "Whole buses in virtual time, over simulated brokers that misbehave. A run is its seed; " code { "make sim" } " runs thousands." }
            @for of in simulations {
                h3 { (of.broker) }
                p .bad[!of.failed.is_empty()] {
                    (of.seeds) " seeds, " (thousands(of.publishes)) " publishes, " (thousands(of.deliveries)) " deliveries, goals reached "
                    (of.goals_reached()) "/" (of.goals.len()) ", " (of.failed.len()) " with violations, " (of.elapsed_ms / 1_000) " s"
                }
                details {
                    summary { "faults and goals, and in how many of the runs" }
                    (table("fault", &of.faults))
                    (table("goal", &of.goals))
                }
            }
        }
    }
}

fn table(what: &str, rows: &[(String, u64)]) -> Markup {
    html! {
        div .wide {
            table {
                thead { tr { th { (what) } th .n { "runs" } } }
                tbody { @for (name, runs) in rows { tr { td { (name) } td .n { (runs) } } } }
            }
        }
    }
}
