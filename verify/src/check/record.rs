//! `record`: a history that contradicts itself. The clock falls, a key changes between publish and
//! delivery. What cannot be sorted at all is found while the index is built.

use super::index::Index;
use super::verdict::{About, Findings, Property};

pub(super) fn check(index: &Index<'_>, findings: &mut Findings) {
    clock(index, findings);
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
