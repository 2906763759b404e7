//! `record`: a history that contradicts itself. The clock falls, one position holds two
//! envelopes, a key changes between publish and delivery. What cannot be sorted at all is found
//! while the index is built.

use super::index::Index;
use super::verdict::{About, Findings, Property};
use std::collections::HashMap;

pub(super) fn check(index: &Index<'_>, findings: &mut Findings) {
    clock(index, findings);
    positions(index, findings);
    keys(index, findings);
}

fn clock(index: &Index<'_>, findings: &mut Findings) {
    for pair in index.history.entries.windows(2) {
        let [above, below] = pair else { continue };
        if below.at < above.at {
            let what = format!(
                "the clock falls from {} to {}: lines were moved, or recorded without a lock",
                above.at, below.at
            );
            let lines = &[above.line, below.line];
            findings.add(
                Property::Record,
                what,
                About {
                    lines,
                    ..About::default()
                },
            );
        }
    }
}

/// In one life of a topic a position holds one envelope, whoever says so.
fn positions(index: &Index<'_>, findings: &mut Findings) {
    let acked = index.ops.iter().filter_map(|op| {
        let (line, acked) = op.acked()?;
        let life = index.life(op)?;
        let topic = op.invoke.topic.as_str();
        Some((
            (topic, acked.partition, acked.position, life),
            op.invoke.id.as_str(),
            line,
        ))
    });
    let delivered = index.deliveries.iter().filter_map(|delivery| {
        let deliver = delivery.deliver;
        let life = index.life_of(&deliver.topic, &deliver.id)?;
        let place = (
            deliver.topic.as_str(),
            deliver.partition,
            deliver.position,
            life,
        );
        Some((place, deliver.id.as_str(), delivery.line))
    });
    let mut held = HashMap::new();
    for (place, id, line) in acked.chain(delivered) {
        let &mut (other, first) = held.entry(place).or_insert((id, line));
        if other != id {
            let (topic, partition, position, _) = place;
            let what = format!("{topic}/{partition} holds two envelopes at {position}");
            let about = About {
                lines: &[first, line],
                ids: &[other, id],
                ops: &[],
            };
            findings.add(Property::Record, what, about);
        }
    }
}

fn keys(index: &Index<'_>, findings: &mut Findings) {
    for delivery in &index.deliveries {
        let deliver = delivery.deliver;
        let Some(op) = index.only_op(&deliver.topic, &deliver.id) else {
            continue;
        };
        if op.invoke.key != deliver.key {
            let what = format!(
                "published under the key {:?} and delivered under {:?}",
                op.invoke.key.as_deref().unwrap_or(""),
                deliver.key.as_deref().unwrap_or("")
            );
            let about = About {
                lines: &[op.line, delivery.line],
                ids: &[&deliver.id],
                ops: &[op.invoke.op],
            };
            findings.add(Property::Record, what, about);
        }
    }
}
