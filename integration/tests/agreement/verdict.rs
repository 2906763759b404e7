//! Many workloads on two sides, some at a time, and what came of it: a line, and the disagreements.

use super::facts::{Dialect, Disagreement, compare, facts};
use super::observed::Observation;
use super::workload::{Can, Workload};
use anyhow::{Context as _, Result, ensure};
use clearway_integration::say;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, thread};

/// Steps of a workload, about.
pub(crate) const STEPS: usize = 40;
/// Most of a step on a real server is waiting for its answers.
const AT_A_TIME: usize = 8;

/// Runs a workload on one side.
pub(crate) type Run<'a> = &'a (dyn Fn(&Workload) -> Result<Vec<Observation>> + Sync);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) workloads: usize,
    pub(crate) steps: usize,
    pub(crate) disagreements: usize,
    /// Of each workload that there is no agreement on.
    reports: Vec<String>,
}

/// The seeds of a run: so many, unless the environment says another number, or one.
pub(crate) fn seeds(usual: u64) -> Result<Vec<u64>> {
    let number = |name: &str| {
        let value = env::var(name).ok().filter(|value| !value.is_empty());
        value.map(|value| {
            value
                .parse::<u64>()
                .with_context(|| format!("{name}={value}"))
        })
    };
    if let Some(seed) = number("CLEARWAY_TEST_SEED").transpose()? {
        return Ok(vec![seed]);
    }
    let count = number("CLEARWAY_TEST_AGREEMENT").transpose()?;
    Ok((1..=count.unwrap_or(usual)).collect())
}

/// Compares what is seen of the workloads of these seeds.
pub(crate) fn compared(
    seeds: &[u64],
    can: Can,
    dialect: Dialect,
    sides: [Run<'_>; 2],
) -> Result<Verdict> {
    let (next, all) = (AtomicUsize::new(0), Mutex::new(Ok(Verdict::default())));
    let work = || {
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            let workload = Workload::draw(*seed, STEPS, can);
            let found = one(&workload, dialect, sides);
            let found = found.with_context(|| workload.to_string());
            let mut all = all.lock().expect("nobody panics with it");
            match (&mut *all, found) {
                (Ok(verdict), Ok((steps, found, report))) => {
                    verdict.workloads += 1;
                    verdict.steps += steps;
                    verdict.disagreements += found;
                    verdict.reports.extend(report);
                }
                (all @ Ok(_), Err(error)) => *all = Err(error),
                (Err(_), _) => return,
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME.min(seeds.len()) {
            scope.spawn(work);
        }
    });
    all.into_inner().expect("nobody panics with it")
}

/// How many steps were compared, on how much they do not agree, and what that is: of the first step only, since what follows
/// follows from that.
fn one(
    workload: &Workload,
    dialect: Dialect,
    [one, other]: [Run<'_>; 2],
) -> Result<(usize, usize, Option<String>)> {
    let (one, other) = (one(workload)?, other(workload)?);
    let steps = one.len().min(other.len());
    let facts = |observations: &[Observation]| facts(workload, dialect, observations);
    let mut found = compare(&facts(&one), &facts(&other));
    let first = found.iter().map(|found| found.step).min();
    found.retain(|found| Some(found.step) == first);
    let report = first.map(|first| report(workload, &one, &found, first));
    Ok((steps, found.len(), report))
}

/// The way to a disagreement, as the first side went it, and both sides of it.
fn report(
    workload: &Workload,
    observations: &[Observation],
    found: &[Disagreement],
    to: usize,
) -> String {
    let mut lines = vec![format!("{workload}: no agreement on step {to}")];
    let steps = workload.steps.iter().zip(observations).enumerate();
    for (number, (step, observation)) in steps.take(to + 1) {
        lines.push(format!("  {number:3} {step:?}: {}", observation.said));
    }
    for found in found {
        lines.push(format!("  {}", found.about));
        for (side, fact) in ["simulated", "real"].iter().zip(&found.sides) {
            let fact = fact.as_deref().unwrap_or("nothing");
            lines.push(format!("    {side:9} {fact}"));
        }
    }
    lines.join("\n")
}

impl Verdict {
    /// Says how it went, and fails if it did not go well.
    pub(crate) fn tell(&self, who: &str) -> Result<()> {
        for report in &self.reports {
            say(&report.to_string());
        }
        let Self {
            workloads,
            steps,
            disagreements,
            ..
        } = self;
        say(&format!(
            "agreement: {who}: {workloads} workloads, {steps} steps, {disagreements} disagreements"
        ));
        ensure!(
            *disagreements == 0,
            "{} of {workloads} workloads are not seen alike",
            self.reports.len()
        );
        Ok(())
    }
}
