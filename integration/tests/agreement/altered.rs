//! What a comparison has to notice: a checker that finds nothing wrong with anything checks nothing. No broker is needed here.

use super::facts::{compare, facts};
use super::jetstream::{CAN, DIALECT, simulated};
use super::observed::{How, Observation};
use super::verdict::{STEPS, compared, seeds};
use super::workload::Workload;
use anyhow::{Result, ensure};
use clearway_verify::sim::fault::{Fault, Faults, Ratio};

/// Otherwise a disagreement would say nothing of the brokers.
#[test]
fn what_is_seen_does_not_hang_on_the_order_of_tasks() -> Result<()> {
    let verdict = compared(
        &seeds(100)?,
        CAN,
        DIALECT,
        [
            &|workload| simulated(workload, workload.seed, Faults::default()),
            &|workload| simulated(workload, workload.seed + 1_000_000, Faults::default()),
        ],
    )?;
    verdict.tell("JetStream simulated in two worlds")
}

#[test]
fn a_server_with_one_rule_bent_is_noticed() -> Result<()> {
    let always = Ratio(1_000_000);
    for bent in [Fault::OffsetGap, Fault::DropAfter, Fault::LostAnswer] {
        let mut faults = Faults::default();
        faults.set(bent, always);
        let verdict = compared(
            &[1, 2, 3],
            CAN,
            DIALECT,
            [
                &|workload| simulated(workload, workload.seed, Faults::default()),
                &|workload| simulated(workload, workload.seed, faults.clone()),
            ],
        )?;
        ensure!(
            verdict
                .tell(&format!("JetStream with {}", bent.name()))
                .is_err(),
            "{} is not noticed",
            bent.name()
        );
    }
    Ok(())
}

/// Alters one thing of what was seen, where there is such a thing.
type Alteration = fn(&mut [Observation]) -> Option<()>;

const ALTERATIONS: &[(&str, Alteration)] = &[
    ("what a call says", |seen| {
        seen.last_mut()?.said.push('!');
        Some(())
    }),
    ("an attempt", |seen| {
        seen.iter_mut()
            .flat_map(|of| &mut of.handled)
            .next_back()?
            .attempt += 1;
        Some(())
    }),
    ("a position", |seen| {
        let mut calls = seen.iter_mut().flat_map(|of| &mut of.handled);
        calls.find(|call| call.of.generation == 0)?.position += 1;
        Some(())
    }),
    ("how a call ends", |seen| {
        let mut calls = seen.iter_mut().flat_map(|of| &mut of.handled);
        calls.find(|call| call.how == How::Acked)?.how = How::Skipped;
        Some(())
    }),
    ("a call that is missing", |seen| {
        let mut steps = seen.iter_mut();
        steps.find_map(|of| of.handled.pop()).map(drop)
    }),
    ("an order within a lane", |seen| {
        for of in seen {
            for at in 1..of.handled.len() {
                let (one, other) = (&of.handled[at - 1], &of.handled[at]);
                if one.lane == other.lane && one.group == other.group && one.of != other.of {
                    of.handled.swap(at - 1, at);
                    return Some(());
                }
            }
        }
        None
    }),
    ("a lag", |seen| {
        let standings = seen.iter_mut().filter_map(|of| of.rest.as_mut().ok());
        let mut standings = standings.flat_map(|of| of.values_mut());
        *standings.find_map(|of| of.lag.values_mut().next())? += 1;
        Some(())
    }),
    ("what is in flight", |seen| {
        let standings = seen.iter_mut().filter_map(|of| of.rest.as_mut().ok());
        standings.flat_map(|of| of.values_mut()).next()?.in_flight += 1;
        Some(())
    }),
    ("a step that does not come to rest", |seen| {
        seen.last_mut()?.rest = Err("it does not end".into());
        Some(())
    }),
    ("a watermark", |seen| {
        // The first, before there is a second member or a redrive.
        let standings = seen.iter_mut().filter_map(|of| of.rest.as_mut().ok());
        let mut standings = standings.flat_map(|of| of.values_mut());
        *standings.find_map(|of| of.watermarks.values_mut().next())? += 1;
        Some(())
    }),
];

#[test]
fn whatever_is_altered_is_noticed() -> Result<()> {
    for (what, alter) in ALTERATIONS {
        let (mut altered, mut noticed) = (0, 0);
        for seed in 1..=20 {
            let workload = Workload::draw(seed, STEPS, CAN);
            let seen = simulated(&workload, seed, Faults::default())?;
            let mut other = seen.clone();
            if alter(&mut other).is_none() {
                continue;
            }
            altered += 1;
            let [one, other] = [&seen, &other].map(|seen| facts(&workload, DIALECT, seen));
            noticed += usize::from(!compare(&one, &other).is_empty());
        }
        // A watermark is not compared where it is the broker's choice.
        let all = *what == "a watermark" || noticed == altered;
        ensure!(
            altered > 0 && noticed > 0 && all,
            "{what}: {noticed} of {altered}"
        );
    }
    Ok(())
}
