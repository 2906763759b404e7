//! `phantom`: delivered, and never published, not published yet, or surely rejected (G1).

use super::index::{Index, Op};
use super::verdict::{About, Findings, Property};

pub(super) fn check(index: &Index<'_>, findings: &mut Findings) {
    for delivery in &index.deliveries {
        let deliver = delivery.deliver;
        let name = (deliver.topic.as_str(), deliver.id.as_str());
        let publishes = index.ops_by_id.get(&name).map_or(&[][..], Vec::as_slice);
        let publishes: Vec<&Op<'_>> = publishes.iter().map(|&op| &index.ops[op]).collect();
        let mut lines = vec![delivery.line];
        let what = if publishes.is_empty() {
            "was never published"
        } else if publishes.iter().all(|op| op.line > delivery.line) {
            lines.extend(publishes.iter().map(|op| op.line));
            "was not published yet"
        } else if publishes.iter().all(|op| op.rejected().is_some()) {
            lines.extend(publishes.iter().filter_map(|op| op.rejected()));
            "was surely not stored"
        } else {
            continue;
        };
        let what = format!(
            "{}/{} at {}: delivered to group {}, and {what}",
            deliver.topic, deliver.partition, deliver.position, deliver.group
        );
        let ops: Vec<_> = publishes.iter().map(|op| op.invoke.op).collect();
        let about = About {
            lines: &lines,
            ids: &[&deliver.id],
            ops: &ops,
        };
        findings.add(Property::Phantom, what, about);
    }
}
