//! What a group had committed when a partition got a new owner, as far as anybody can tell: what the broker was seen to have, and what
//! held the commits back. Not a check: `duplicate` asks.
//!
//! Nothing here where nobody looks at commits: there each delivery is acknowledged by itself.

use super::index::{Delivery, Index};
use crate::history::Event;
use foldhash::{HashMap, HashSet};
use std::collections::BTreeMap;

/// Topic, group and partition.
type Log<'h> = (&'h str, &'h str, u32);

/// See the module.
pub(super) struct Committed<'h> {
    /// The lines at which the broker was seen to have a position.
    seen: HashMap<Log<'h>, Vec<(usize, u64)>>,
    /// By the epoch of the owner: the first position that was there, and not done when it began, or not by the owner before.
    gaps: HashMap<(Log<'h>, u64), u64>,
    /// By the epoch of the owner and the position: the line at which it had done all it had up to there.
    ready: HashMap<(Log<'h>, u64), Positions>,
}

fn log<'h>(delivery: &Delivery<'h>) -> Log<'h> {
    let deliver = delivery.deliver;
    (&deliver.topic, &deliver.group, deliver.partition)
}

impl<'h> Committed<'h> {
    pub(super) fn of(index: &Index<'h>) -> Self {
        let mut seen: HashMap<Log<'h>, Vec<_>> = HashMap::default();
        for entry in &index.history.entries {
            if let Event::Commit(commit) = &entry.event
                && commit.subscription.is_none()
            {
                let log = (&*commit.topic, &*commit.group, commit.partition);
                let seen = seen.entry(log).or_default();
                seen.push((entry.line, commit.position));
            }
        }
        let (gaps, ready) = (gaps(index, &seen), ready(index, &seen));
        Self { seen, gaps, ready }
    }

    /// Whether what is begun again was seen to be committed in between. `None`: nobody looks at commits there.
    pub(super) fn past(
        &self,
        index: &Index<'_>,
        before: &Delivery<'_>,
        now: &Delivery<'_>,
    ) -> Option<bool> {
        let deliver = now.deliver;
        let is_past = |&(line, position): &(usize, u64)| {
            position > deliver.position && !index.erased(&deliver.topic, line, now.line)
        };
        let seen = self.seen.get(&log(now))?;
        let from = seen.partition_point(|(line, _)| *line <= before.line);
        let between = seen[from..].iter().take_while(|(line, _)| *line < now.line);
        Some(between.into_iter().any(is_past))
    }

    /// The line at which its owner had done it and all it had before it, and so could commit it. `None`: it had not.
    pub(super) fn ready(&self, it: &Delivery<'_>) -> Option<usize> {
        let positions = self.ready.get(&(log(it), it.deliver.epoch))?;
        let at = positions.get(&it.deliver.position)?;
        Some(*at).filter(|at| *at != usize::MAX)
    }

    /// Whether it, or something before it, was there and not done when its owner began, or not by the owner before it: then what was
    /// done behind that could not be committed.
    pub(super) fn behind_a_gap(&self, now: &Delivery<'_>) -> bool {
        let gap = self.gaps.get(&(log(now), now.deliver.epoch));
        gap.is_some_and(|gap| *gap <= now.deliver.position)
    }
}

/// At each position the latest line of those up to there: a commit is a prefix.
fn ready<'h>(
    index: &Index<'h>,
    seen: &HashMap<Log<'h>, Vec<(usize, u64)>>,
) -> HashMap<(Log<'h>, u64), Positions> {
    let mut all: HashMap<_, Positions> = HashMap::default();
    for delivery in &index.deliveries {
        if seen.contains_key(&log(delivery)) {
            let owner = (log(delivery), delivery.deliver.epoch);
            let positions = all.entry(owner).or_default();
            let done = positions.entry(delivery.deliver.position);
            let done = done.or_insert(usize::MAX);
            *done = delivery.done().unwrap_or(usize::MAX).min(*done);
        }
    }
    for positions in all.values_mut() {
        let mut latest = 0;
        for done in positions.values_mut() {
            latest = latest.max(*done);
            *done = latest;
        }
    }
    all
}

/// Every position of a log that is known to be there, from the first that the group was given, and the line at which the group had
/// done it, if it has. What is before that is not the group's, and holds no commit back.
type Positions = BTreeMap<u64, usize>;

fn positions<'h>(
    index: &Index<'h>,
    seen: &HashMap<Log<'h>, Vec<(usize, u64)>>,
) -> HashMap<Log<'h>, Positions> {
    let mut all: HashMap<Log<'h>, Positions> = HashMap::default();
    let over = over(index);
    for delivery in &index.deliveries {
        if seen.contains_key(&log(delivery)) {
            // What is done when another has the partition already is void.
            let over = over[&(log(delivery), delivery.deliver.epoch)];
            let counts = delivery.done().filter(|done| *done < over);
            let positions = all.entry(log(delivery)).or_default();
            let done = positions.entry(delivery.deliver.position);
            let done = done.or_insert(usize::MAX);
            *done = counts.unwrap_or(usize::MAX).min(*done);
        }
    }
    let mut stored: HashMap<(&str, u32), Vec<u64>> = HashMap::default();
    for op in &index.ops {
        if let Some((_, acked)) = op.acked() {
            let place = (&*op.invoke.topic, acked.partition);
            stored.entry(place).or_default().push(acked.position);
        }
    }
    for ((topic, _, partition), positions) in &mut all {
        let first = positions.first_key_value().map_or(0, |(first, _)| *first);
        let stored = stored.get(&(*topic, *partition)).into_iter().flatten();
        for position in stored.filter(|position| **position >= first) {
            positions.entry(*position).or_insert(usize::MAX);
        }
    }
    all
}

/// The line at which each owner was an owner no more: a later one has begun.
fn over<'h>(index: &Index<'h>) -> HashMap<(Log<'h>, u64), usize> {
    let mut owners: HashMap<Log<'h>, BTreeMap<u64, usize>> = HashMap::default();
    for delivery in &index.deliveries {
        let owners = owners.entry(log(delivery)).or_default();
        owners
            .entry(delivery.deliver.epoch)
            .or_insert(delivery.line);
    }
    let mut over = HashMap::default();
    for (log, owners) in owners {
        let mut next = usize::MAX;
        for (epoch, begun) in owners.into_iter().rev() {
            over.insert((log, epoch), next);
            next = next.min(begun);
        }
    }
    over
}

fn gaps<'h>(
    index: &Index<'h>,
    seen: &HashMap<Log<'h>, Vec<(usize, u64)>>,
) -> HashMap<(Log<'h>, u64), u64> {
    let positions = positions(index, seen);
    let mut left: HashMap<_, _> = positions
        .iter()
        .map(|(log, positions)| (*log, positions.iter().peekable()))
        .collect();
    let (mut gaps, mut begun) = (HashMap::default(), HashSet::default());
    let mut owners: HashMap<Log<'h>, (u64, Positions)> = HashMap::default();
    for delivery in &index.deliveries {
        let (log, epoch) = (log(delivery), delivery.deliver.epoch);
        let Some(left) = left.get_mut(&log) else {
            continue;
        };
        let (owner, by_it) = owners.entry(log).or_insert((epoch, Positions::new()));
        if begun.insert((log, epoch)) {
            // What was done stays done: it is looked at once.
            while left.next_if(|(_, done)| **done < delivery.line).is_some() {}
            let of_all = left.peek().map(|(gap, _)| **gap);
            let of_owner = gap_of(&positions[&log], by_it, delivery.line);
            if let Some(gap) = of_all.into_iter().chain(of_owner).min() {
                gaps.insert((log, epoch), gap);
            }
            (*owner, *by_it) = (epoch, Positions::new());
        }
        if epoch == *owner {
            let done = by_it.entry(delivery.deliver.position);
            let done = done.or_insert(usize::MAX);
            *done = delivery.done().unwrap_or(usize::MAX).min(*done);
        }
    }
    gaps
}

/// The first position, from where an owner began, that it had not done itself at `line`. That a former owner had done it
/// and not committed it counts for nothing.
fn gap_of(there: &Positions, by_it: &Positions, line: usize) -> Option<u64> {
    let (begun, _) = by_it.first_key_value()?;
    let is_done = |position: &u64| by_it.get(position).is_some_and(|done| *done < line);
    let mut there = there.range(begun..).map(|(position, _)| *position);
    there.find(|position| !is_done(position))
}
