//! `commit`: a commit that says more than is true, or less than was said before (G2).
//!
//! All that was delivered below a committed position has to be done. What a group committed it does not take back, unless
//! the bus that committed was cut off and its last commit may not have arrived. What the broker itself said from outside is held
//! against what it said before: it has that, whoever is cut off, and only a topic that is made anew begins again.

use super::index::Index;
use super::verdict::{About, Findings, Property};
use crate::history::{Commit, Event};
use foldhash::HashMap;
use std::collections::BTreeMap;

/// Topic, group and partition.
type Log<'h> = (&'h str, &'h str, u32);

/// What was delivered of a position: the first line of it, the envelope, and the first line at which it was done.
type Delivered<'h> = BTreeMap<u64, (usize, &'h str, Option<usize>)>;

pub(super) fn check(index: &Index<'_>, findings: &mut Findings) {
    let mut delivered = delivered(index);
    // What subscriptions say and what the broker says, each against its own.
    let mut last: HashMap<(Log<'_>, bool), (usize, &Commit)> = HashMap::default();
    for entry in &index.history.entries {
        let Event::Commit(commit) = &entry.event else {
            continue;
        };
        let log = (&*commit.topic, &*commit.group, commit.partition);
        if let Some(delivered) = delivered.get_mut(&log) {
            unsettled(index, delivered, (entry.line, commit), findings);
        }
        if let Some((line, before)) =
            last.insert((log, commit.subscription.is_some()), (entry.line, commit))
        {
            back(index, (line, before), (entry.line, commit), findings);
        }
    }
}

fn delivered<'h>(index: &Index<'h>) -> HashMap<Log<'h>, Delivered<'h>> {
    let mut all: HashMap<Log<'h>, Delivered<'h>> = HashMap::default();
    for delivery in &index.deliveries {
        let deliver = delivery.deliver;
        let log = (&*deliver.topic, &*deliver.group, deliver.partition);
        let first = (delivery.line, &*deliver.id, delivery.done());
        let positions = all.entry(log).or_default();
        let (_, _, done) = positions.entry(deliver.position).or_insert(first);
        *done = (*done).into_iter().chain(delivery.done()).min();
    }
    all
}

/// The first delivered position below the commit that is not done. What is done stays done, and is looked at once.
fn unsettled(
    index: &Index<'_>,
    delivered: &mut Delivered<'_>,
    (line, commit): (usize, &Commit),
    findings: &mut Findings,
) {
    let below = delivered.range(..commit.position);
    let done = below.filter(|(_, (.., done))| done.is_some_and(|done| done <= line));
    let done: Vec<u64> = done.map(|(position, _)| *position).collect();
    for position in done {
        delivered.remove(&position);
    }
    let mut below = delivered.range(..commit.position);
    let early =
        below.find(|(_, (first, ..))| *first < line && !index.erased(&commit.topic, *first, line));
    if let Some((position, (first, id, _))) = early {
        let what = format!(
            "{}/{}: group {} commits {}, and {position} is not done",
            commit.topic, commit.partition, commit.group, commit.position
        );
        let about = About {
            lines: &[*first, line],
            ids: &[id],
            ops: &[],
        };
        findings.add(Property::Commit, what, about);
    }
}

fn back(
    index: &Index<'_>,
    (before, last): (usize, &Commit),
    (line, commit): (usize, &Commit),
    findings: &mut Findings,
) {
    let said_by = |subscription| index.cut(index.bus_of(subscription), before, line);
    let lost = last.subscription.is_some_and(said_by);
    if commit.position >= last.position || lost || index.erased(&commit.topic, before, line) {
        return;
    }
    let what = format!(
        "{}/{}: group {} commits {} after {}",
        commit.topic, commit.partition, commit.group, commit.position, last.position
    );
    let about = About {
        lines: &[before, line],
        ..About::default()
    };
    findings.add(Property::Commit, what, about);
}
