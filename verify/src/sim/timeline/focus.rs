//! Which lines of a history matter: those that the violation names, and what is near to them and about the same.
//!
//! Where no line shows the violation, those of what was begun and has no end.

use crate::check::Violation;
use crate::history::{Event, History, Settled};
use std::collections::{BTreeMap, BTreeSet};

/// As many lines are named at most.
const NAMED_MAX: usize = 12;

/// As many of each rank at most: of the same envelopes, faults, of the same key, of the same partition.
const RANKS: [usize; 4] = [12, 9, 4, 3];

/// So many lines before what is named is near, and so many behind.
const NEAR: (usize, usize) = (150, 4);

/// Of what is open as many envelopes are looked at.
const OPEN_MAX: usize = 3;

/// What a violation is about.
#[derive(Debug, Default)]
pub(super) struct Focus {
    lines: BTreeSet<usize>,
    ids: BTreeSet<String>,
    keys: BTreeSet<(String, String)>,
    partitions: BTreeSet<(String, u32)>,
    /// The ops of the envelopes, by which outcomes are told.
    ops: BTreeSet<u64>,
    /// The subscriptions that have handled them, by which ends are told.
    settles: BTreeSet<(u32, u32, u64)>,
}

impl Focus {
    /// Of a violation that names its lines.
    pub(super) fn of_violation(history: &History, violation: &Violation) -> Self {
        // Of many the first, and the last, which is where it was seen.
        let (lines, mut named) = (&violation.lines, BTreeSet::new());
        named.extend(lines.iter().take(NAMED_MAX - 1).chain(lines.last()));
        let mut ids: BTreeSet<String> = violation.ids.iter().take(NAMED_MAX).cloned().collect();
        for entry in &history.entries {
            match &entry.event {
                Event::Invoke(of) if violation.ops.contains(&of.op) => {
                    ids.insert(of.id.clone());
                }
                Event::Invoke(of) if ids.is_empty() && named.contains(&entry.line) => {
                    ids.insert(of.id.clone());
                }
                _ => {}
            }
        }
        Self::about(history, named, ids)
    }

    /// Of a violation that no line shows.
    pub(super) fn of_what_is_open(history: &History) -> Self {
        let mut open: BTreeMap<&str, usize> = BTreeMap::new();
        let mut ids_of = BTreeMap::new();
        let mut ids_at = BTreeMap::new();
        for entry in &history.entries {
            match &entry.event {
                Event::Invoke(of) => {
                    ids_of.insert(of.op, &*of.id);
                    open.insert(&of.id, entry.line);
                }
                Event::Rejected(of) => drop(ids_of.get(&of.op).and_then(|id| open.remove(id))),
                Event::Unknown(of) => drop(ids_of.get(&of.op).and_then(|id| open.remove(id))),
                Event::Deliver(of) => {
                    ids_at.insert((of.subscription, of.partition, of.position), &*of.id);
                    open.insert(&of.id, entry.line);
                }
                Event::Settle(of) if matches!(of.how, Settled::Ack | Settled::DeadLetter) => {
                    let at = (of.subscription, of.partition, of.position);
                    ids_at.get(&at).and_then(|id| open.remove(id));
                }
                _ => {}
            }
        }
        let mut oldest: Vec<_> = open.into_iter().map(|(id, line)| (line, id)).collect();
        oldest.sort_unstable();
        oldest.truncate(OPEN_MAX);
        if oldest.is_empty() {
            // All that was begun has ended: then what was handled last is as far as it got.
            let handled = history
                .entries
                .iter()
                .rev()
                .filter_map(|entry| match &entry.event {
                    Event::Deliver(of) => Some((entry.line, &*of.id)),
                    _ => None,
                });
            oldest.extend(handled.take(OPEN_MAX));
        }
        let ids = oldest.iter().map(|(_, id)| (*id).to_owned()).collect();
        let lines = oldest.iter().map(|(line, _)| *line).collect();
        Self::about(history, lines, ids)
    }

    /// Whether the violation names the line.
    pub(super) fn names(&self, line: usize) -> bool {
        self.lines.contains(&line)
    }

    /// The entries that are shown, in their order.
    pub(super) fn choose(&self, history: &History) -> Vec<usize> {
        let mut ranked: [Vec<(usize, usize)>; 4] = Default::default();
        let mut chosen = BTreeSet::new();
        let mut committed = BTreeMap::new();
        for (at, entry) in history.entries.iter().enumerate() {
            if let Event::Commit(of) = &entry.event
                && !self.names(entry.line)
            {
                // What was said before says nothing new.
                let of_it = (&*of.topic, of.partition, of.subscription);
                if committed.insert(of_it, of.position) == Some(of.position) {
                    continue;
                }
            }
            if self.names(entry.line) {
                chosen.insert(at);
            } else if let Some(rank) = self.rank(&entry.event)
                && (rank == 0 || self.is_near(entry.line))
            {
                let far = self.lines.iter().map(|line| line.abs_diff(entry.line));
                ranked[rank].push((far.min().unwrap_or_default(), at));
            }
        }
        for (mut of_rank, most) in ranked.into_iter().zip(RANKS) {
            of_rank.sort_unstable();
            chosen.extend(of_rank.into_iter().take(most).map(|(_, at)| at));
        }
        chosen.into_iter().collect()
    }

    fn is_near(&self, line: usize) -> bool {
        let first = self.lines.first().copied().unwrap_or_default();
        let last = self.lines.last().copied().unwrap_or_default();
        (first.saturating_sub(NEAR.0)..=last + NEAR.1).contains(&line)
    }

    fn about(history: &History, lines: BTreeSet<usize>, ids: BTreeSet<String>) -> Self {
        let mut focus = Self {
            lines,
            ids,
            ..Self::default()
        };
        for entry in &history.entries {
            match &entry.event {
                Event::Invoke(of) if focus.ids.contains(&of.id) => {
                    focus.ops.insert(of.op);
                    let key = of.key.clone().map(|key| (of.topic.clone(), key));
                    focus.keys.extend(key);
                }
                Event::Deliver(of) if focus.ids.contains(&of.id) => {
                    let place = (of.subscription, of.partition, of.position);
                    focus.settles.insert(place);
                    focus.partitions.insert((of.topic.clone(), of.partition));
                }
                Event::Commit(of) if focus.lines.contains(&entry.line) => {
                    focus.partitions.insert((of.topic.clone(), of.partition));
                }
                _ => {}
            }
        }
        focus
    }

    fn rank(&self, event: &Event) -> Option<usize> {
        let is_of_key = |topic: &str, key: &Option<String>| {
            let key = key.clone().map(|key| (topic.to_owned(), key));
            key.is_some_and(|key| self.keys.contains(&key))
        };
        let is_of_partition =
            |topic: &str, partition| self.partitions.contains(&(topic.to_owned(), partition));
        match event {
            Event::Invoke(of) => match self.ids.contains(&of.id) {
                true => Some(0),
                false => is_of_key(&of.topic, &of.key).then_some(2),
            },
            Event::Acked(of) => self.ops.contains(&of.op).then_some(0),
            Event::Rejected(of) => self.ops.contains(&of.op).then_some(0),
            Event::Unknown(of) => self.ops.contains(&of.op).then_some(0),
            Event::Resend(of) => {
                let id = of.id.as_ref();
                id.is_some_and(|id| self.ids.contains(id)).then_some(0)
            }
            Event::Deliver(of) if self.ids.contains(&of.id) => Some(0),
            Event::Deliver(of) if is_of_key(&of.topic, &of.key) => Some(2),
            Event::Deliver(of) => is_of_partition(&of.topic, of.partition).then_some(3),
            Event::Settle(of) => {
                let place = (of.subscription, of.partition, of.position);
                match self.settles.contains(&place) {
                    true => Some(0),
                    false => is_of_partition(&of.topic, of.partition).then_some(3),
                }
            }
            Event::Commit(of) => is_of_partition(&of.topic, of.partition).then_some(3),
            Event::Drained(_) => None,
            Event::Subscribe(_) | Event::Rebalance(_) | Event::Reconnect(_) | Event::Ended(_) => {
                Some(1)
            }
            Event::Disconnect(_) | Event::Frozen(_) | Event::Fault(_) => Some(1),
            Event::Erased(_) | Event::Close(_) => Some(1),
        }
    }
}
