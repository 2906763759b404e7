//! `order`: what a key promises (G3).
//!
//! * An envelope acked before another of its key was published lies before it, whoever published.
//! * Publishes that were promised order among themselves keep it though both were under way.
//! * A key lives in one partition.
//! * A group sees a partition, or a key, in the order of its positions; what it sees again counts
//!   at its first time. An owner of a partition, who may begin further in front, keeps to that as well.
//! * What a handler gave back, or was cut off at, stops those behind it, until it has been delivered again. Unless a former owner had done
//!   it: its acknowledgement may have come to the broker after all, and then nothing comes again.

use super::index::{Delivery, Index, Op};
use super::verdict::{About, Findings, Property};
use crate::history::{Order, Settled};
use foldhash::{HashMap, HashSet};
use std::collections::BTreeMap;

pub(super) fn check(index: &Index<'_>, findings: &mut Findings) {
    let stored = stored(index);
    for key in stored.values() {
        one_partition(key, findings);
        acked_before_invoked(key, findings);
        pipelined(key, findings);
    }
    delivered(index, findings);
    overtaken(index, findings);
}

/// A publish of a key, and the place of its first copy as far as anybody saw one.
struct Stored<'i, 'h> {
    op: &'i Op<'h>,
    partition: u32,
    position: u64,
    /// The line that shows the place.
    line: usize,
}

/// Topic, key and life of the topic.
type Key<'h> = (&'h str, &'h str, usize);

fn stored<'i, 'h>(index: &'i Index<'h>) -> BTreeMap<Key<'h>, Vec<Stored<'i, 'h>>> {
    let mut keys: BTreeMap<Key<'h>, Vec<Stored<'i, 'h>>> = BTreeMap::new();
    for op in &index.ops {
        let (Some(key), Some(life)) = (&op.invoke.key, index.life(op)) else {
            continue;
        };
        let (topic, id) = (op.invoke.topic.as_str(), op.invoke.id.as_str());
        let acked = op
            .acked()
            .map(|(line, acked)| (acked.position, acked.partition, line));
        // Two publishes of one envelope: nobody can tell whose copy was delivered.
        let delivered = index
            .only_op(topic, id)
            .and(index.deliveries_by_id.get(&(topic, id)));
        let delivered = delivered.into_iter().flatten().map(|&place| {
            let Delivery { line, deliver, .. } = &index.deliveries[place];
            (deliver.position, deliver.partition, *line)
        });
        if let Some((position, partition, line)) = acked.into_iter().chain(delivered).min() {
            let stored = Stored {
                op,
                partition,
                position,
                line,
            };
            keys.entry((topic, key, life)).or_default().push(stored);
        }
    }
    for key in keys.values_mut() {
        key.sort_by_key(|stored| (stored.partition, stored.position));
    }
    keys
}

fn report(findings: &mut Findings, what: String, lines: &[usize], pair: [&Stored<'_, '_>; 2]) {
    let [first, second] = pair.map(|stored| stored.op.invoke);
    let about = About {
        lines,
        ids: &[&first.id, &second.id],
        ops: &[first.op, second.op],
    };
    findings.add(Property::Order, what, about);
}

fn one_partition(key: &[Stored<'_, '_>], findings: &mut Findings) {
    let mut partitions = HashSet::default();
    for stored in key {
        if partitions.insert(stored.partition) && partitions.len() > 1 {
            let invoke = stored.op.invoke;
            let what = format!(
                "key {:?} of topic {} is in partition {} and in partition {}",
                invoke.key.as_deref().unwrap_or(""),
                invoke.topic,
                key[0].partition,
                stored.partition
            );
            report(
                findings,
                what,
                &[key[0].line, stored.line],
                [&key[0], stored],
            );
        }
    }
}

/// From the highest position down: nothing above may have been acked before this one began.
fn acked_before_invoked(key: &[Stored<'_, '_>], findings: &mut Findings) {
    let mut earliest: Option<(usize, &Stored<'_, '_>)> = None;
    for (n, stored) in key.iter().enumerate().rev() {
        if key
            .get(n + 1)
            .is_some_and(|next| next.partition != stored.partition)
        {
            earliest = None;
        }
        if let Some((acked, above)) = earliest
            && acked < stored.op.line
        {
            let what = format!(
                "op {} was acked before op {} of its key began, and lies behind it ({} > {})",
                above.op.invoke.op, stored.op.invoke.op, above.position, stored.position
            );
            let lines = [acked, above.line, stored.op.line, stored.line];
            report(findings, what, &lines, [above, stored]);
        }
        if let Some((acked, _)) = stored.op.acked()
            && earliest.is_none_or(|(line, _)| acked < line)
        {
            earliest = Some((acked, stored));
        }
    }
}

/// Publishes of one process that were promised order: positions rise with their begin.
fn pipelined(key: &[Stored<'_, '_>], findings: &mut Findings) {
    let mut last: HashMap<(u32, u32), &Stored<'_, '_>> = HashMap::default();
    for stored in key.iter().filter(|stored| stored.op.invoke.ordered) {
        let place = (stored.op.invoke.process, stored.partition);
        if let Some(before) = last.insert(place, stored)
            && before.op.line > stored.op.line
        {
            let what = format!(
                "op {} began before op {} of its key and process, and lies behind it ({} > {})",
                stored.op.invoke.op, before.op.invoke.op, stored.position, before.position
            );
            let lines = [stored.op.line, before.op.line, stored.line, before.line];
            report(findings, what, &lines, [stored, before]);
        }
    }
}

/// What a group sees in order: topic, group, partition, key if the order is the key's, life.
pub(super) type Lane<'h> = (&'h str, &'h str, u32, Option<&'h str>, usize);

/// Which lane a delivery is of. `None`: of none that promises an order.
pub(super) fn lane<'h>(index: &Index<'h>, delivery: &Delivery<'h>) -> Option<Lane<'h>> {
    let deliver = delivery.deliver;
    let key = match index.order(deliver.subscription) {
        Order::Partition => None,
        Order::Key => Some(deliver.key.as_deref()?),
        Order::None => return None,
    };
    let life = index.life_of(&deliver.topic, &deliver.id)?;
    Some((&deliver.topic, &deliver.group, deliver.partition, key, life))
}

fn delivered(index: &Index<'_>, findings: &mut Findings) {
    let mut seen = HashSet::default();
    let mut highest: HashMap<_, &Delivery<'_>> = HashMap::default();
    for delivery in &index.deliveries {
        let deliver = delivery.deliver;
        let Some(lane) = lane(index, delivery) else {
            continue;
        };
        // For the group, and for this owner alone.
        let mut above = None;
        for epoch in [None, Some(deliver.epoch)] {
            if !seen.insert((lane, epoch, deliver.position)) {
                continue;
            }
            let highest = highest.entry((lane, epoch)).or_insert(delivery);
            if highest.deliver.position <= deliver.position {
                *highest = delivery;
            } else {
                above = above.or(Some(*highest));
            }
        }
        let Some(highest) = above else {
            continue;
        };
        let what = format!(
            "{}/{}: group {} sees {} for the first time after {}",
            deliver.topic,
            deliver.partition,
            deliver.group,
            deliver.position,
            highest.deliver.position
        );
        let lines = &[highest.line, delivery.line];
        let ids = &[&*highest.deliver.id, &*deliver.id];
        findings.add(
            Property::Order,
            what,
            About {
                lines,
                ids,
                ops: &[],
            },
        );
    }
}

/// Something is delivered while one before it, which its handler did not finish, waits.
fn overtaken(index: &Index<'_>, findings: &mut Findings) {
    let mut waiting: HashMap<Lane<'_>, BTreeMap<u64, &Delivery<'_>>> = HashMap::default();
    let mut done: HashMap<(Lane<'_>, u64), usize> = HashMap::default();
    for delivery in &index.deliveries {
        let deliver = delivery.deliver;
        let Some(of) = lane(index, delivery) else {
            continue;
        };
        if let Some(line) = delivery.done() {
            let first = done.entry((of, deliver.position)).or_insert(line);
            *first = (*first).min(line);
        }
        let lane = waiting.entry(of).or_default();
        let given_back = lane
            .range(..deliver.position)
            .map(|(_, &given_back)| given_back)
            .find(|given_back| {
                let by_a_former = done.get(&(of, given_back.deliver.position));
                given_back
                    .settled
                    .is_some_and(|(line, _)| line < delivery.line)
                    && by_a_former.is_none_or(|&line| line > delivery.line)
            });
        if let Some(given_back) = given_back {
            let what = format!(
                "{}/{}: group {} sees {} while {}, which was begun and not done, waits",
                deliver.topic,
                deliver.partition,
                deliver.group,
                deliver.position,
                given_back.deliver.position
            );
            let lines = &[given_back.line, delivery.line];
            let ids = &[&*given_back.deliver.id, &*deliver.id];
            findings.add(
                Property::Order,
                what,
                About {
                    lines,
                    ids,
                    ops: &[],
                },
            );
        }
        match delivery.settled {
            Some((_, Settled::Nack | Settled::Cancelled)) => {
                lane.insert(deliver.position, delivery)
            }
            _ => lane.remove(&deliver.position),
        };
    }
}
