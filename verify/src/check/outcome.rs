//! `outcome-missing`, `outcome-double`, `outcome-unsure`: every publish has exactly one outcome,
//! and "surely not stored" is only said when it is sure (G1).

use super::index::Index;
use super::verdict::{About, Findings, Property};

pub(super) fn check(index: &Index<'_>, findings: &mut Findings) {
    for op in &index.ops {
        let (ids, ops) = (&[op.invoke.id.as_str()][..], &[op.invoke.op][..]);
        if op.outcomes.is_empty() {
            let what = format!("op {} has no outcome", op.invoke.op);
            findings.add(
                Property::OutcomeMissing,
                what,
                About {
                    lines: &[op.line],
                    ids,
                    ops,
                },
            );
        }
        if op.outcomes.len() > 1 {
            let lines: Vec<_> = op.outcomes.iter().map(|&(line, _)| line).collect();
            let what = format!("op {} has {} outcomes", op.invoke.op, lines.len());
            findings.add(
                Property::OutcomeDouble,
                what,
                About {
                    lines: &lines,
                    ids,
                    ops,
                },
            );
        }
        if let (Some(rejected), Some(&resend)) = (op.rejected(), op.resends.first()) {
            let what = format!(
                "op {} is called surely not stored, and an attempt before had no answer",
                op.invoke.op
            );
            let lines = &[resend, rejected];
            findings.add(Property::OutcomeUnsure, what, About { lines, ids, ops });
        }
    }
}
