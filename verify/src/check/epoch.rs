//! `retired-epoch`: a partition used in an epoch that was over (G6). An epoch is over when a later one of the same
//! partition and group shows: in a delivery, a commit, or a line that says who owns the partition now.

use super::index::Index;
use super::verdict::{About, Findings, Property};
use crate::history::{Event, Phase};
use foldhash::HashMap;

pub(super) fn check(index: &Index<'_>, findings: &mut Findings) {
    let mut newest: HashMap<(&str, &str, u32, usize), (u64, usize)> = HashMap::default();
    let mut lives: HashMap<&str, usize> = HashMap::default();
    for entry in &index.history.entries {
        let line = entry.line;
        let (topic, group, partition, epoch, what, id) = match &entry.event {
            Event::Erased(it) => {
                *lives.entry(&it.topic).or_default() += usize::from(it.phase == Phase::End);
                continue;
            }
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
                let life = lives.get(it.topic.as_str()).copied().unwrap_or_default();
                for &partition in &it.partitions {
                    let log = (&*it.topic, &*it.group, partition, life);
                    let newest = newest.entry(log).or_default();
                    *newest = (*newest).max((it.epoch, line));
                }
                continue;
            }
            _ => continue,
        };
        // What was taken of a topic before it was destroyed may still be handled when another life of it has owners of its own.
        let life = match id {
            Some(id) => match index.life_of(topic, id) {
                Some(life) => life,
                None => continue,
            },
            None => lives.get(topic.as_str()).copied().unwrap_or_default(),
        };
        let newest = newest
            .entry((topic, group, partition, life))
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
