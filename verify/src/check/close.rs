//! `after-close`: once close has returned, nothing is admitted, delivered, settled or connected,
//! and every closer had the same answer (G4). The same of a subscription that has ended, and its deliveries.
//!
//! And what is published while a bus closes is taken by others: a bus that was told to close takes nothing more.

use super::index::{Delivery, Index};
use super::verdict::{About, Findings, Property};
use crate::history::{Deliver, Event};
use std::time::Duration;

/// A bus has heard by then that it is to close: its task has run.
const HEARD: Duration = Duration::from_secs(1);
/// The same where nothing but waiting takes time.
const HEARD_SIMULATED: Duration = Duration::from_millis(50);
/// However long its process stood still.
const ANY: Duration = Duration::from_secs(3600);

pub(super) fn check(index: &Index<'_>, findings: &mut Findings) {
    publishes(index, findings);
    handlers(index, findings);
    taken(index, findings);
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
        let place = || {
            let Deliver {
                topic,
                partition,
                position,
                ..
            } = deliver;
            format!("{topic}/{partition} at {position}")
        };
        if let Some(closed) = closed_before(index, deliver.bus, delivery.line) {
            let what = format!("{}: a handler began after close had returned", place());
            let about = About {
                lines: &[closed, delivery.line],
                ids: &[&deliver.id],
                ops: &[],
            };
            findings.add(Property::AfterClose, what, about);
        } else if let Some((settled, _)) = delivery.settled
            && let Some(closed) = closed_before(index, deliver.bus, settled)
        {
            let what = format!("{}: a handler still ran when close had returned", place());
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
            findings.add(Property::AfterClose, format!("{}: {what}", place()), about);
        }
    }
}

/// What was begun while the bus closed, and was not even published when it was told to.
fn taken(index: &Index<'_>, findings: &mut Findings) {
    let heard = match index.history.header.how.as_deref() {
        Some("simulated") => HEARD_SIMULATED,
        _ => HEARD,
    };
    for delivery in &index.deliveries {
        let deliver = delivery.deliver;
        let Some(&closing) = index.closing.get(&deliver.bus) else {
            continue;
        };
        let Some(op) = index.only_op(&deliver.topic, &deliver.id) else {
            continue;
        };
        let is_late = op.line > closing && index.at(op.line) > index.at(closing) + heard;
        if !is_late
            || closed_before(index, deliver.bus, delivery.line).is_some()
            || index.stood_still(deliver.bus, (closing, delivery.line), ANY)
        {
            continue;
        }
        let what = format!(
            "{}/{} at {}: published {heard:?} after close was called or later, and taken by the bus that closes",
            deliver.topic, deliver.partition, deliver.position
        );
        let about = About {
            lines: &[closing, op.line, delivery.line],
            ids: &[&deliver.id],
            ops: &[op.invoke.op],
        };
        findings.add(Property::AfterClose, what, about);
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
