//! `poll-skip`: an owner of a partition goes past an envelope of a lane that is known to be there and that the group has not done (G2).
//!
//! * Between what an owner has begun lies nothing that the group is never given. It is known to be there by its ack, or because
//!   another group was given it. Where a group has caught up behind that ack, `lost` says so.
//! * What a former owner has still at work, cut off or standing still, is begun anew before anything behind it is: nobody
//!   takes the answer of the former. If the former is neither, `overlap` says so. Unless one before it had done it: that answer may have come.
//!
//! What is begun later than what is behind it is for `order` to say.

use super::index::{Delivery, Index};
use super::order::{Lane, lane};
use super::overlap::outlived;
use super::verdict::{About, Findings, Property};
use foldhash::{HashMap, HashSet};
use std::collections::BTreeMap;

pub(super) fn check(index: &Index<'_>, findings: &mut Findings) {
    never_given(index, findings);
    still_at_work(index, findings);
}

/// Topic, partition, life of the topic, and a key if an order is the key's.
type Log<'h> = (&'h str, u32, usize, Option<&'h str>);

/// An envelope that is surely there: a line that says so, its id, and the line of its ack.
struct Known<'h> {
    line: usize,
    id: &'h str,
    acked: Option<usize>,
}

fn known<'h>(index: &Index<'h>) -> HashMap<Log<'h>, BTreeMap<u64, Known<'h>>> {
    let mut all: HashMap<Log<'h>, BTreeMap<u64, Known<'h>>> = HashMap::default();
    let mut note = |log: (&'h str, u32, usize), key: Option<&'h str>, position, line, id, acked| {
        let keys = [None, key];
        for key in &keys[..1 + usize::from(key.is_some())] {
            let positions = all.entry((log.0, log.1, log.2, *key)).or_default();
            let known = Known { line, id, acked };
            positions.entry(position).or_insert(known);
        }
    };
    for op in &index.ops {
        if let (Some((line, acked)), Some(life)) = (op.acked(), index.life(op)) {
            let log = (op.invoke.topic.as_str(), acked.partition, life);
            let (key, id) = (op.invoke.key.as_deref(), op.invoke.id.as_str());
            note(log, key, acked.position, line, id, Some(line));
        }
    }
    for delivery in &index.deliveries {
        let deliver = delivery.deliver;
        if let Some(life) = index.life_of(&deliver.topic, &deliver.id) {
            let log = (deliver.topic.as_str(), deliver.partition, life);
            let (key, id) = (deliver.key.as_deref(), deliver.id.as_str());
            note(log, key, deliver.position, delivery.line, id, None);
        }
    }
    all
}

fn never_given(index: &Index<'_>, findings: &mut Findings) {
    let known = known(index);
    let given: HashSet<_> = (index.deliveries.iter())
        .map(|delivery| {
            let deliver = delivery.deliver;
            (&*deliver.topic, &*deliver.group, &*deliver.id)
        })
        .collect();
    // Where an owner has begun in a partition, and how far it is in each lane of it.
    let mut begun: HashMap<_, u64> = HashMap::default();
    let mut passed: HashMap<(Lane<'_>, u64), &Delivery<'_>> = HashMap::default();
    for delivery in &index.deliveries {
        let Some(lane) = lane(index, delivery) else {
            continue;
        };
        let deliver = delivery.deliver;
        let (topic, group, partition, key, life) = lane;
        let owner = (topic, group, partition, life, deliver.epoch);
        let begun = *begun.entry(owner).or_insert(deliver.position);
        let before = passed.get(&(lane, deliver.epoch));
        let from = before.map_or(begun, |before| before.deliver.position);
        if deliver.position <= from {
            passed.entry((lane, deliver.epoch)).or_insert(delivery);
            continue;
        }
        passed.insert((lane, deliver.epoch), delivery);
        let Some(positions) = known.get(&(topic, partition, life, key)) else {
            continue;
        };
        for (position, known) in positions.range(from + 1..deliver.position) {
            let acked = known.acked;
            let told =
                acked.is_some_and(|acked| index.drained_after(topic, group, acked).is_some());
            if told || given.contains(&(topic, group, known.id)) {
                continue;
            }
            let lines = [known.line, delivery.line];
            report(
                findings,
                delivery,
                *position,
                (known.id, &lines),
                "is there and was never given to it",
            );
        }
    }
}

fn still_at_work(index: &Index<'_>, findings: &mut Findings) {
    let mut begun: HashMap<Lane<'_>, BTreeMap<u64, Vec<&Delivery<'_>>>> = HashMap::default();
    let mut done: HashMap<(Lane<'_>, u64), usize> = HashMap::default();
    for delivery in &index.deliveries {
        let Some(of) = lane(index, delivery) else {
            continue;
        };
        let (line, deliver) = (delivery.line, delivery.deliver);
        if let Some(line) = delivery.done() {
            let first = done.entry((of, deliver.position)).or_insert(line);
            *first = (*first).min(line);
        }
        let lane = begun.entry(of).or_default();
        // What nobody has at work any more is not looked at again.
        lane.retain(|_, all| all.iter().any(|of| end(of) > line));
        for (position, all) in lane.range(..deliver.position) {
            let is_done = done.get(&(of, *position)).is_some_and(|&done| done < line);
            let is_ours = all.iter().any(|of| of.deliver.epoch == deliver.epoch);
            let former = all.iter().find(|of| {
                end(of) > line && of.settled.is_some() && outlived(index, of, end(of), delivery)
            });
            if let Some(former) = former
                && !is_done
                && !is_ours
            {
                let about = (&*former.deliver.id, &[former.line, line][..]);
                report(
                    findings,
                    delivery,
                    *position,
                    about,
                    "is at work at a former owner only",
                );
            }
        }
        lane.entry(deliver.position).or_default().push(delivery);
    }
}

/// The line at which a handler ended.
fn end(delivery: &Delivery<'_>) -> usize {
    delivery.settled.map_or(usize::MAX, |(line, _)| line)
}

fn report(
    findings: &mut Findings,
    delivery: &Delivery<'_>,
    skipped: u64,
    (id, lines): (&str, &[usize]),
    why: &str,
) {
    let deliver = delivery.deliver;
    let what = format!(
        "{}/{}: an owner in group {} goes on to {}, and {skipped} {why}",
        deliver.topic, deliver.partition, deliver.group, deliver.position
    );
    let about = About {
        lines,
        ids: &[id, &deliver.id],
        ops: &[],
    };
    findings.add(Property::PollSkip, what, about);
}
