//! A hunt: how many seeds it takes until a run does not hold. What a seeded bug is judged by.

use super::broker::SimBroker;
use super::plan::Plan;
use super::run::{Ran, run};
use std::time::{Duration, Instant};

/// How the last line begins when every hunt has found something.
pub const FOUND: &str = "found: ";
/// How it begins when none has.
pub const NOTHING: &str = "nothing found: ";

/// As many hunts, each from seeds of its own.
const HUNTS: u64 = 3;

/// What all hunts say together, in one line: what was found, and after how many seeds and seconds, the median.
pub fn hunt<B: SimBroker>(seeds: u64, envelopes: u64) -> String {
    let mut found: Vec<(u64, Duration, String)> = Vec::new();
    for number in 0..HUNTS {
        let first = number * 1_000_000;
        let begun = Instant::now();
        let failing = (first..first + seeds).find_map(|seed| {
            let ran = run::<B>(&Plan::draw(seed, envelopes));
            (!ran.violations.is_empty()).then_some(ran)
        });
        if let Some(ran) = failing {
            let what = format!("seed {}: {}", ran.plan.seed, in_short(&ran));
            found.push((ran.plan.seed - first + 1, begun.elapsed(), what));
        }
    }
    if found.is_empty() {
        return format!("{NOTHING}{HUNTS} hunts of {seeds} seeds");
    }
    found.sort();
    let (median, took, what) = &found[found.len() / 2];
    let times = found.len();
    let said = format!(
        "by {times} of {HUNTS} hunts, after {median} seeds and {took:.1?} (median); {what}"
    );
    match times as u64 == HUNTS {
        true => format!("{FOUND}{said}"),
        false => format!("not always found: {said}"),
    }
}

/// The first thing that does not hold, in one line.
pub fn in_short(ran: &Ran) -> String {
    let first = ran
        .violations
        .first()
        .map(String::as_str)
        .unwrap_or_default();
    // Of a verdict, what it is about and not what was counted before.
    let told = first
        .lines()
        .find(|line| line.contains(" lines "))
        .or(first.lines().next());
    told.unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}
