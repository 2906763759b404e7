//! What two brokers have to agree on: of each step its facts, as text, with what each broker may choose left out.
//!
//! What is left out, and why:
//!
//! - The order of calls across lanes: they run side by side. Within a lane it is a fact.
//! - Where an envelope is that came back from the dead letters: letters of several keys come to their topic as their handlers
//!   end, and go back in that order. What is published after them is at the same place again.
//! - The watermark of a partition where it would be such a place, on a broker that numbers all partitions in one sequence.
//! - The watermark of a group that has had two members: it is that of the deliveries of one consumer, and who has which partition
//!   is the broker's or the group's to choose.

use super::observed::{Handled, Observation};
use super::workload::{Step, Workload};
use std::collections::{BTreeMap, BTreeSet};

/// What is so of a broker by its kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialect {
    /// All partitions of a topic are numbered together.
    pub(crate) one_sequence: bool,
}

/// The facts of one step, by what they are about.
pub(crate) type Facts = BTreeMap<String, String>;

/// Something that one broker does and another does not.
#[derive(Clone, Debug)]
pub(crate) struct Disagreement {
    pub(crate) step: usize,
    pub(crate) about: String,
    pub(crate) sides: [Option<String>; 2],
}

/// Of each step.
pub(crate) fn facts(
    workload: &Workload,
    dialect: Dialect,
    observations: &[Observation],
) -> Vec<Facts> {
    let mut members: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    let mut redriven = false;
    let steps = workload.steps.iter().zip(observations);
    steps
        .map(|(step, observation)| {
            match step {
                Step::Subscribe { member, group, .. } => {
                    members.entry(*group).or_default().insert(*member);
                }
                Step::Redrive => redriven = true,
                _ => {}
            }
            let alone = |group| members.get(&group).is_none_or(|of| of.len() < 2);
            let shows = |group| alone(group) && !(dialect.one_sequence && redriven);
            of_step(observation, shows)
        })
        .collect()
}

fn of_step(observation: &Observation, shows_watermarks: impl Fn(usize) -> bool) -> Facts {
    let mut facts = Facts::new();
    facts.insert("what the call says".into(), observation.said.clone());
    match &observation.rest {
        Ok(standings) => {
            for (group, standing) in standings {
                let fact = format!("lag {:?}, {} in flight", standing.lag, standing.in_flight);
                facts.insert(format!("how group {group} stands"), fact);
                if shows_watermarks(*group) {
                    let fact = format!("{:?}", standing.watermarks);
                    facts.insert(format!("the watermarks of group {group}"), fact);
                }
            }
        }
        Err(why) => {
            facts.insert("what does not come to rest".into(), why.clone());
        }
    }
    for call in &observation.handled {
        let about = format!("what group {} handles of {}", call.group, call.lane);
        let fact: &mut String = facts.entry(about).or_default();
        if !fact.is_empty() {
            fact.push_str("; ");
        }
        fact.push_str(&of_call(call));
    }
    facts
}

fn of_call(call: &Handled) -> String {
    let place = match call.of.generation {
        0 => format!("{} at {}", call.partition, call.position),
        _ => call.partition.to_string(),
    };
    let Handled {
        of,
        attempt,
        how,
        note,
        ..
    } = call;
    format!("{of} in {place}, attempt {attempt}, {how:?} ({note})")
}

/// What is not the same, and what does not come to rest: then there is nothing to compare.
pub(crate) fn compare(one: &[Facts], other: &[Facts]) -> Vec<Disagreement> {
    let mut found = Vec::new();
    let empty = Facts::new();
    for step in 0..one.len().max(other.len()) {
        let sides = [one, other].map(|side| side.get(step).unwrap_or(&empty));
        let about: BTreeSet<&String> = sides.iter().flat_map(|side| side.keys()).collect();
        for about in about {
            let both = sides.map(|side| side.get(about).cloned());
            if both[0] != both[1] || about == "what does not come to rest" {
                found.push(Disagreement {
                    step,
                    about: about.clone(),
                    sides: both,
                });
            }
        }
    }
    found
}
