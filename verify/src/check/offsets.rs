//! `inconsistent-offsets`: a position that holds two envelopes, whoever says so; and an envelope that is delivered at a position
//! where none of its publishes was acked, though each was and none was sent twice (G1).

use super::index::{Index, Op};
use super::verdict::{About, Findings, Property};
use crate::history::Acked;
use foldhash::{HashMap, HashSet};

pub(super) fn check(index: &Index<'_>, findings: &mut Findings) {
    positions(index, findings);
    elsewhere(index, findings);
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
    let mut held = HashMap::default();
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
            findings.add(Property::InconsistentOffsets, what, about);
        }
    }
}

/// Where all copies of an envelope are known, it is delivered at one of them.
fn elsewhere(index: &Index<'_>, findings: &mut Findings) {
    for delivery in &index.deliveries {
        let deliver = delivery.deliver;
        let name = (&*deliver.topic, &*deliver.id);
        let ops = index.ops_by_id.get(&name).map_or(&[][..], Vec::as_slice);
        let ops: Vec<&Op<'_>> = ops.iter().map(|&op| &index.ops[op]).collect();
        let acked: Vec<_> = ops.iter().filter_map(|op| op.acked()).collect();
        let copies: usize = ops.iter().map(|op| op.copies()).sum();
        let is_there = |&(_, acked): &(_, &Acked)| {
            (acked.partition, acked.position) == (deliver.partition, deliver.position)
        };
        // One of unknown outcome may be anywhere.
        if acked.is_empty() || copies > acked.len() || acked.iter().any(is_there) {
            continue;
        }
        // More places than copies are for `duplicate` to say.
        let all = index.deliveries_by_id[&name].iter();
        let all = all.map(|&place| index.deliveries[place].deliver);
        let of_group = all.filter(|other| other.group == deliver.group);
        let places: HashSet<_> = of_group.map(|of| (of.partition, of.position)).collect();
        if places.len() > copies {
            continue;
        }
        let (line, first) = acked[0];
        let what = format!(
            "{}/{} at {}: delivered to group {}, and acked at {}/{} {}",
            deliver.topic,
            deliver.partition,
            deliver.position,
            deliver.group,
            deliver.topic,
            first.partition,
            first.position
        );
        let ops: Vec<_> = ops.iter().map(|op| op.invoke.op).collect();
        let about = About {
            lines: &[line, delivery.line],
            ids: &[&deliver.id],
            ops: &ops,
        };
        findings.add(Property::InconsistentOffsets, what, about);
    }
}
