//! `after-close`: once close has returned, nothing is admitted, delivered, settled or connected,
//! and every closer had the same answer (G4). The same of a subscription that has ended, and its deliveries.

use super::index::{Delivery, Index};
use super::verdict::{About, Findings, Property};
use crate::history::Event;

pub(super) fn check(index: &Index<'_>, findings: &mut Findings) {
    publishes(index, findings);
    handlers(index, findings);
    sessions(index, findings);
    answers(index, findings);
}

/// The line of the first return of close, if it is above `line`.
fn closed_before(index: &Index<'_>, bus: u32, line: usize) -> Option<usize> {
    let first = index.closed.get(&bus)?.first()?.line;
    (first < line).then_some(first)
}

fn publishes(index: &Index<'_>, findings: &mut Findings) {
    for op in &index.ops {
        let Some(closed) = closed_before(index, op.invoke.bus, op.line) else {
            continue;
        };
        // What began before may be told its answer later: the caller was slow, not the bus.
        if let (None, Some(&(line, _))) = (op.rejected(), op.outcomes.first()) {
            let what = format!(
                "op {} began after close had returned, and was admitted",
                op.invoke.op
            );
            let about = About {
                lines: &[closed, op.line, line],
                ids: &[&op.invoke.id],
                ops: &[op.invoke.op],
            };
            findings.add(Property::AfterClose, what, about);
        }
    }
}

fn handlers(index: &Index<'_>, findings: &mut Findings) {
    for delivery in &index.deliveries {
        let deliver = delivery.deliver;
        let place = format!(
            "{}/{} at {}",
            deliver.topic, deliver.partition, deliver.position
        );
        if let Some(closed) = closed_before(index, deliver.bus, delivery.line) {
            let what = format!("{place}: a handler began after close had returned");
            let about = About {
                lines: &[closed, delivery.line],
                ids: &[&deliver.id],
                ops: &[],
            };
            findings.add(Property::AfterClose, what, about);
        } else if let Some((settled, _)) = delivery.settled
            && let Some(closed) = closed_before(index, deliver.bus, settled)
        {
            let what = format!("{place}: a handler still ran when close had returned");
            let lines = &[delivery.line, closed, settled];
            findings.add(
                Property::AfterClose,
                what,
                About {
                    lines,
                    ids: &[&deliver.id],
                    ops: &[],
                },
            );
        } else if let Some(what) = after_end(index, delivery) {
            let (end, _) = index.ended[&deliver.subscription];
            let settled = delivery.settled.map_or(end, |(line, _)| line);
            let about = About {
                lines: &[end, delivery.line, settled],
                ids: &[&deliver.id],
                ops: &[],
            };
            findings.add(Property::AfterClose, format!("{place}: {what}"), about);
        }
    }
}

/// What a subscription did after its end, which is earlier than that of its bus.
fn after_end(index: &Index<'_>, delivery: &Delivery<'_>) -> Option<&'static str> {
    let &(end, ended) = index.ended.get(&delivery.deliver.subscription)?;
    if delivery.line > end {
        Some("a handler began after its subscription had ended")
    } else if !ended.blocked && delivery.settled.is_some_and(|(line, _)| line > end) {
        Some("a handler still ran when its subscription had ended")
    } else {
        None
    }
}

fn sessions(index: &Index<'_>, findings: &mut Findings) {
    for entry in &index.history.entries {
        let Event::Reconnect(reconnect) = &entry.event else {
            continue;
        };
        if let Some(closed) = closed_before(index, reconnect.bus, entry.line) {
            let what = format!(
                "session {} was put in use after close had returned",
                reconnect.generation
            );
            let lines = &[closed, entry.line];
            findings.add(
                Property::AfterClose,
                what,
                About {
                    lines,
                    ..About::default()
                },
            );
        }
    }
}

fn answers(index: &Index<'_>, findings: &mut Findings) {
    for returns in index.closed.values() {
        let said = returns.iter().filter(|close| close.report.is_some());
        let Some((first, others)) = said
            .collect::<Vec<_>>()
            .split_first()
            .map(|(a, b)| (*a, b.to_vec()))
        else {
            continue;
        };
        for other in others.iter().filter(|other| other.report != first.report) {
            let what = "two closers had different answers".to_owned();
            let lines = &[first.line, other.line];
            findings.add(
                Property::AfterClose,
                what,
                About {
                    lines,
                    ..About::default()
                },
            );
        }
    }
}
