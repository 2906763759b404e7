//! `durability`: an ack that means less than was asked for (G1). No silent downgrade.

use super::index::Index;
use super::verdict::{About, Findings, Property};

pub(super) fn check(index: &Index<'_>, findings: &mut Findings) {
    let mut unsaid = 0_u64;
    for op in &index.ops {
        let wanted = op.invoke.durability.or(index.history.header.durability);
        let (Some(wanted), Some((line, acked))) = (wanted, op.acked()) else {
            continue;
        };
        let Some(stored) = acked.durability else {
            unsaid += 1;
            continue;
        };
        if stored < wanted {
            let what = format!(
                "op {} wanted {wanted} and was acked as {stored}",
                op.invoke.op
            );
            let about = About {
                lines: &[op.line, line],
                ids: &[&op.invoke.id],
                ops: &[op.invoke.op],
            };
            findings.add(Property::Durability, what, about);
        }
    }
    if unsaid > 0 {
        let what = format!("durability: {unsaid} acks do not say how the envelope is stored");
        findings.not_judged.push(what);
    }
}
