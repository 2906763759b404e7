//! `lost`: acked, and not delivered when the group had caught up (G2). Where in the partition it
//! is missing says what to look for: a lost prefix is a late start or a wiped log, a lost postfix
//! an unflushed tail, a hole in the middle a skipped delivery.

use super::index::{Index, Op};
use super::verdict::{About, Findings, Property};
use crate::history::Acked;
use foldhash::HashMap;
use std::collections::BTreeSet;

pub(super) fn check(index: &Index<'_>, findings: &mut Findings) {
    let seen = Seen::new(index);
    let mut by_topic: HashMap<&str, Vec<&Op<'_>>> = HashMap::default();
    for op in &index.ops {
        by_topic.entry(&op.invoke.topic).or_default().push(op);
    }
    for &(topic, group) in index.drained.keys() {
        for op in by_topic.get(topic).into_iter().flatten() {
            let Some((acked_at, acked)) = op.acked() else {
                continue;
            };
            // The first time the group had caught up after the ack is when it must have seen it.
            let Some(drained) = index.drained_after(topic, group, acked_at) else {
                continue;
            };
            let first = seen.first(op, group);
            if first.is_some_and(|line| line < drained) || index.may_be_erased(op, drained) {
                continue;
            }
            let what = format!(
                "op {} was acked at {topic}/{} {} and {} group {group} before it had caught up \
                 ({})",
                op.invoke.op,
                acked.partition,
                acked.position,
                if first.is_some() {
                    "came too late to"
                } else {
                    "was never delivered to"
                },
                seen.place(topic, group, acked),
            );
            let mut lines = vec![op.line, acked_at, drained];
            lines.extend(first);
            let about = About {
                lines: &lines,
                ids: &[&op.invoke.id],
                ops: &[op.invoke.op],
            };
            findings.add(Property::Lost, what, about);
        }
    }
    not_judged(index, findings);
}

/// Silence about a topic nobody says to have drained would read as "nothing lost".
fn not_judged(index: &Index<'_>, findings: &mut Findings) {
    let judged: BTreeSet<_> = index.drained.keys().map(|&(topic, _)| topic).collect();
    let acked = index.ops.iter().filter(|op| op.acked().is_some());
    let topics: BTreeSet<_> = acked.map(|op| op.invoke.topic.as_str()).collect();
    for topic in topics.difference(&judged) {
        let what = format!("lost: no group is said to have caught up with topic {topic}");
        findings.not_judged.push(what);
    }
}

/// What each group saw of each partition, and when it first saw an envelope.
struct Seen<'h> {
    positions: HashMap<(&'h str, &'h str, u32), (u64, u64)>,
    first: HashMap<(&'h str, &'h str, &'h str), usize>,
}

impl<'h> Seen<'h> {
    fn new(index: &Index<'h>) -> Self {
        let mut positions: HashMap<_, (u64, u64)> = HashMap::default();
        let mut first = HashMap::default();
        for delivery in &index.deliveries {
            let deliver = delivery.deliver;
            let (topic, group) = (deliver.topic.as_str(), deliver.group.as_str());
            first
                .entry((topic, group, deliver.id.as_str()))
                .or_insert(delivery.line);
            let position = deliver.position;
            positions
                .entry((topic, group, deliver.partition))
                .and_modify(|seen| *seen = (seen.0.min(position), seen.1.max(position)))
                .or_insert((position, position));
        }
        Self { positions, first }
    }

    fn first(&self, op: &Op<'_>, group: &str) -> Option<usize> {
        self.first
            .get(&(op.invoke.topic.as_str(), group, op.invoke.id.as_str()))
            .copied()
    }

    fn place(&self, topic: &str, group: &str, acked: &Acked) -> &'static str {
        match self.positions.get(&(topic, group, acked.partition)) {
            None => "it saw nothing of the partition",
            Some(&(low, _)) if acked.position < low => "prefix of what it saw of the partition",
            Some(&(_, high)) if acked.position > high => "postfix of what it saw of the partition",
            Some(_) => "middle of what it saw of the partition",
        }
    }
}
