//! `nonmonotonic-send`: what was acked before another publish began lies before it in their partition, whatever their keys and whoever
//! published (G3). Of one key it is `order` that says so.
//!
//! An ack for an envelope that the broker had already tells an older place, and does not count.

use super::index::{Index, Op};
use super::verdict::{About, Findings, Property};
use crate::history::Acked;
use std::collections::BTreeMap;

/// Topic, partition and life of the topic.
type Log<'h> = (&'h str, u32, usize);

/// A publish, and its ack.
type Placed<'i, 'h> = (&'i Op<'h>, usize, &'h Acked);

pub(super) fn check(index: &Index<'_>, findings: &mut Findings) {
    let mut logs: BTreeMap<Log<'_>, Vec<Placed<'_, '_>>> = BTreeMap::new();
    for op in &index.ops {
        let (Some((line, acked)), Some(life)) = (op.acked(), index.life(op)) else {
            continue;
        };
        if !acked.duplicate {
            let log = (op.invoke.topic.as_str(), acked.partition, life);
            logs.entry(log).or_default().push((op, line, acked));
        }
    }
    for log in logs.values_mut() {
        log.sort_by_key(|(_, _, acked)| acked.position);
        backwards(log, findings);
    }
}

fn key<'h>((op, ..): &Placed<'_, 'h>) -> Option<&'h str> {
    op.invoke.key.as_deref()
}

/// From the highest position down, with those above that were acked first: the first of all, and the first of another key.
fn backwards(log: &[Placed<'_, '_>], findings: &mut Findings) {
    let mut first: Option<&Placed<'_, '_>> = None;
    let mut of_another: Option<&Placed<'_, '_>> = None;
    for placed in log.iter().rev() {
        let mut earliest = first.into_iter().chain(of_another);
        let may_be = |above: &&Placed<'_, '_>| key(above).is_none() || key(above) != key(placed);
        let above = earliest.find(may_be);
        if let Some(above) = above
            && above.1 < placed.0.line
        {
            report(findings, above, placed);
        }
        match first {
            Some(sooner) if sooner.1 < placed.1 => {
                let is_another = key(sooner) != key(placed);
                if is_another && of_another.is_none_or(|other| placed.1 < other.1) {
                    of_another = Some(placed);
                }
            }
            before => {
                // What was first of all is now the first of another key, unless it is of the same.
                if before.is_some_and(|before| key(before) != key(placed)) {
                    of_another = before;
                }
                first = Some(placed);
            }
        }
    }
}

fn report(findings: &mut Findings, above: &Placed<'_, '_>, placed: &Placed<'_, '_>) {
    let ((first, acked, at), (second, line, below)) = (*above, *placed);
    let what = format!(
        "{}/{}: op {} was acked before op {} began, and lies behind it ({} > {})",
        first.invoke.topic,
        at.partition,
        first.invoke.op,
        second.invoke.op,
        at.position,
        below.position
    );
    let about = About {
        lines: &[acked, second.line, line],
        ids: &[&first.invoke.id, &second.invoke.id],
        ops: &[first.invoke.op, second.invoke.op],
    };
    findings.add(Property::NonmonotonicSend, what, about);
}
