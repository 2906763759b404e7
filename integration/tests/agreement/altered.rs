//! What a comparison has to notice: a checker that finds nothing wrong with anything checks nothing. No broker is needed here.

use super::jetstream::{CAN, DIALECT, simulated};
use super::verdict::{compared, seeds};
use anyhow::Result;
use clearway_verify::sim::fault::Faults;

/// Otherwise a disagreement would say nothing of the brokers.
#[test]
fn what_is_seen_does_not_hang_on_the_order_of_tasks() -> Result<()> {
    let seeds = seeds(100)?;
    let verdict = compared(
        &seeds,
        CAN,
        DIALECT,
        [
            &|workload| simulated(workload, workload.seed, Faults::default()),
            &|workload| simulated(workload, workload.seed + 1_000_000, Faults::default()),
        ],
    )?;
    verdict.tell("JetStream simulated in two worlds")
}
