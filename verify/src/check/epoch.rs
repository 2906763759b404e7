//! `retired-epoch`: a partition used in an epoch that was over (G6). An epoch is over when a later one of the same
//! partition and group shows: in a delivery, a commit, or a line that says who owns the partition now.

use super::index::Index;
use super::verdict::{About, Findings, Property};
use crate::history::Event;
use std::collections::HashMap;

pub(super) fn check(index: &Index<'_>, findings: &mut Findings) {
    let mut newest: HashMap<(&str, &str, u32), (u64, usize)> = HashMap::new();
    for entry in &index.history.entries {
        let line = entry.line;
        let (topic, group, partition, epoch, what, id) = match &entry.event {
            Event::Deliver(it) => {
                let id = Some(it.id.as_str());
                (
                    &it.topic,
                    &it.group,
                    it.partition,
                    it.epoch,
                    "begins a handler",
                    id,
                )
            }
            // Seen from outside, it is nobody's epoch.
            Event::Commit(it) if it.subscription.is_none() => continue,
            Event::Commit(it) => (
                &it.topic,
                &it.group,
                it.partition,
                it.epoch,
                "commits",
                None,
            ),
            Event::Rebalance(it) => {
                for &partition in &it.partitions {
                    let newest = newest.entry((&it.topic, &it.group, partition)).or_default();
                    *newest = (*newest).max((it.epoch, line));
                }
                continue;
            }
            _ => continue,
        };
        let newest = newest
            .entry((topic, group, partition))
            .or_insert((epoch, line));
        if epoch >= newest.0 {
            *newest = (epoch, line);
            continue;
        }
        let what = format!(
            "{topic}/{partition}: group {group} {what} in epoch {epoch}, and epoch {} has begun",
            newest.0
        );
        let about = About {
            lines: &[newest.1, line],
            ids: id.as_slice(),
            ops: &[],
        };
        findings.add(Property::RetiredEpoch, what, about);
    }
}
