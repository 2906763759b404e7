//! `close-report`: what a close answered is not what it did (G4).
//!
//! What was drained has its outcome, and only the end of the time that it was given makes a close give publishes up. The deliveries that
//! it left are those that its subscriptions list. Fields that a report does not have are not looked at.

use super::index::{CloseLine, Index};
use super::verdict::{About, Findings, Property};
use serde_json::Value;

pub(super) fn check(index: &Index<'_>, findings: &mut Findings) {
    for (bus, returns) in &index.closed {
        for close in returns {
            let Some(report) = close.report else {
                continue;
            };
            for what in [publishes(report), deliveries(index, *bus, close, report)] {
                let Some(what) = what else {
                    continue;
                };
                let closing = index.closing.get(bus).copied().unwrap_or(close.line);
                let about = About {
                    lines: &[closing, close.line],
                    ..About::default()
                };
                findings.add(Property::CloseReport, what, about);
            }
        }
    }
}

fn publishes(report: &Value) -> Option<String> {
    let topics = report.get("topics")?.as_object()?;
    let number = |of: &Value, name: &str| of.get(name).and_then(Value::as_u64);
    let given_up: u64 = (topics.values())
        .flat_map(|topic| [number(topic, "unknown"), number(topic, "unsent")])
        .flatten()
        .sum();
    if given_up == 0 {
        return None;
    }
    if report.get("drained").and_then(Value::as_bool) == Some(true) {
        return Some(format!(
            "it says that all was drained, and that {given_up} publishes were given up"
        ));
    }
    let (took, limit) = (number(report, "took_ns")?, number(report, "limit_ns")?);
    (took < limit).then(|| {
        format!("{given_up} publishes were given up after {took} ns, and it had {limit} ns")
    })
}

fn deliveries(
    index: &Index<'_>,
    bus: u32,
    close: &CloseLine<'_>,
    report: &Value,
) -> Option<String> {
    let says = report.get("deliveries_left")?.as_u64()?;
    let begun = *index.closing.get(&bus)?;
    let mut listed = 0;
    for subscription in index.subscriptions_of(bus) {
        let (line, ended) = index.ended.get(&subscription)?;
        // One that ended by itself is none of the close's.
        if *line < begun {
            continue;
        }
        if *line > close.line {
            return None;
        }
        listed += ended.left.len() as u64;
    }
    (says != listed).then(|| {
        format!("it says that {says} deliveries were left, and its subscriptions list {listed}")
    })
}
