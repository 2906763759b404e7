//! `left-out` and `stuck`: what was begun and never done (G2, G4).
//!
//! * A subscription that ends has settled what it began, or lists it as left. What another owner took over before, or what
//!   was void because the session was lost or the topic destroyed, is not its to list.
//! * A group that has caught up has done all it was given: an envelope that it only failed on, and that the broker does not
//!   hold for it any more, was acknowledged by nobody.

use super::index::{Delivery, Index};
use super::verdict::{About, Findings, Property};
use foldhash::{HashMap, HashSet};
use std::collections::BTreeMap;

pub(super) fn check(index: &Index<'_>, findings: &mut Findings) {
    left_out(index, findings);
    stuck(index, findings);
}

fn left_out(index: &Index<'_>, findings: &mut Findings) {
    let mut done = HashSet::default();
    let mut last = BTreeMap::new();
    let mut epochs: HashMap<_, u64> = HashMap::default();
    for delivery in &index.deliveries {
        let deliver = delivery.deliver;
        let Some(&(end, _)) = index.ended.get(&deliver.subscription) else {
            continue;
        };
        if delivery.line > end {
            continue;
        }
        let place = (deliver.subscription, deliver.partition, deliver.position);
        if delivery.done().is_some() {
            done.insert(place);
        }
        last.insert(place, delivery);
    }
    for delivery in &index.deliveries {
        let deliver = delivery.deliver;
        let log = (&*deliver.topic, &*deliver.group, deliver.partition);
        let newest = epochs.entry(log).or_default();
        *newest = (*newest).max(deliver.epoch);
    }
    for (place, delivery) in last {
        let deliver = delivery.deliver;
        let (end, ended) = index.ended[&deliver.subscription];
        let listed = ended.left.contains(&(deliver.partition, deliver.position));
        let log = (&*deliver.topic, &*deliver.group, deliver.partition);
        let void = index.cut(deliver.bus, delivery.line, end)
            || epochs[&log] > deliver.epoch
            || index.erased(&deliver.topic, delivery.line, end);
        if done.contains(&place) || listed || void {
            continue;
        }
        let what = format!(
            "subscription {} ended, and says nothing of {}",
            deliver.subscription,
            told(delivery)
        );
        add(findings, Property::LeftOut, what, delivery, end);
    }
}

fn stuck(index: &Index<'_>, findings: &mut Findings) {
    let mut first = BTreeMap::new();
    let mut done = HashMap::default();
    for delivery in &index.deliveries {
        let deliver = delivery.deliver;
        let (topic, group) = (&*deliver.topic, &*deliver.group);
        let copy = (
            topic,
            group,
            deliver.partition,
            deliver.position,
            &*deliver.id,
        );
        first.entry(copy).or_insert(delivery);
        if let Some(line) = delivery.done() {
            done.entry(copy).or_insert(line);
        }
    }
    for (copy, delivery) in first {
        let (topic, group, ..) = copy;
        let Some(drained) = index.drained_after(topic, group, delivery.line) else {
            continue;
        };
        let settled = done.get(&copy).is_some_and(|&line| line < drained);
        // One that was fetched before its topic was erased may be given afterwards, and is nowhere any more.
        let op = index.only_op(topic, &delivery.deliver.id);
        let from = op.map_or(delivery.line, |op| op.line.min(delivery.line));
        if settled || index.erased(topic, from, drained) {
            continue;
        }
        let what = format!(
            "group {group} has caught up, and has never done {}",
            told(delivery)
        );
        add(findings, Property::Stuck, what, delivery, drained);
    }
}

fn told(delivery: &Delivery<'_>) -> String {
    let deliver = delivery.deliver;
    format!(
        "{}/{} at {}, which it was given",
        deliver.topic, deliver.partition, deliver.position
    )
}

fn add(
    findings: &mut Findings,
    property: Property,
    what: String,
    delivery: &Delivery<'_>,
    end: usize,
) {
    let settled = delivery.settled.map(|(line, _)| line);
    let lines: Vec<_> = [delivery.line, end].into_iter().chain(settled).collect();
    let about = About {
        lines: &lines,
        ids: &[&delivery.deliver.id],
        ops: &[],
    };
    findings.add(property, what, about);
}
