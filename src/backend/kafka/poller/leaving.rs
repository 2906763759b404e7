//! Leaving: which partitions are on their way to others, and what each waits for. Decides only; it knows of no client.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What was revoked and is still assigned.
#[derive(Debug, Default)]
pub(super) struct Leaving(Vec<Handover>);

/// Partitions that go together.
#[derive(Debug)]
pub(super) struct Handover {
    /// Which rebalance revoked them. One that came later supersedes it.
    pub(super) rebalance: u64,
    /// All of them, and their epochs.
    pub(super) partitions: BTreeMap<i32, u64>,
    /// Those that the task has not released.
    pub(super) waiting: BTreeSet<i32>,
    /// What is to be committed before they go.
    committing: BTreeMap<i32, i64>,
    until: Duration,
}

impl Handover {
    pub(super) fn numbers(&self) -> Vec<i32> {
        self.partitions.keys().copied().collect()
    }
}

impl Leaving {
    /// These go once each is released, or when it is `until`.
    pub(super) fn begin(
        &mut self,
        rebalance: u64,
        partitions: BTreeMap<i32, u64>,
        until: Duration,
    ) {
        self.0.push(Handover {
            rebalance,
            waiting: partitions.keys().copied().collect(),
            partitions,
            committing: BTreeMap::new(),
            until,
        });
    }

    /// These go at once: nothing is waited for.
    pub(super) fn begin_of_nothing(&mut self, partitions: Vec<i32>) {
        self.0.push(Handover {
            rebalance: 0,
            partitions: partitions.into_iter().map(|at| (at, 0)).collect(),
            waiting: BTreeSet::new(),
            committing: BTreeMap::new(),
            until: Duration::ZERO,
        });
    }

    /// Nothing of the partition is handled here any more, and all before `commit` is settled. What is to be committed now: all of those that
    /// go together, once it was the last of them.
    pub(super) fn release(
        &mut self,
        partition: i32,
        epoch: u64,
        commit: Option<u64>,
    ) -> BTreeMap<i32, i64> {
        let mut handovers = self.0.iter_mut();
        let handover =
            handovers.find(|handover| handover.partitions.get(&partition) == Some(&epoch));
        let Some(handover) = handover else {
            return BTreeMap::new();
        };
        if !handover.waiting.remove(&partition) {
            return BTreeMap::new();
        }
        if let Some(offset) = commit {
            handover.committing.insert(partition, offset as i64);
        }
        if !handover.waiting.is_empty() {
            return BTreeMap::new();
        }
        std::mem::take(&mut handover.committing)
    }

    /// Takes out those that nobody waits for any more.
    pub(super) fn due(&mut self, now: Duration) -> Vec<Handover> {
        let is_due = |handover: &mut Handover| handover.waiting.is_empty() || handover.until <= now;
        self.0.extract_if(.., is_due).collect()
    }

    /// Takes out all of them.
    pub(super) fn all(&mut self) -> Vec<Handover> {
        std::mem::take(&mut self.0)
    }

    /// Whether what is settled of a partition under `epoch` may be committed: it is ours under that one, or on its way out under it.
    pub(super) fn is_current(&self, owned: Option<u64>, partition: i32, epoch: u64) -> bool {
        owned == Some(epoch) || self.has(partition, epoch)
    }

    /// Whether the partition is among them, of this epoch.
    pub(super) fn has(&self, partition: i32, epoch: u64) -> bool {
        let mut handovers = self.0.iter();
        handovers.any(|handover| handover.partitions.get(&partition) == Some(&epoch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);
    const NOTHING: BTreeMap<i32, i64> = BTreeMap::new();

    /// Partitions 1 and 2 of epoch 7 leave.
    fn two() -> Leaving {
        let mut leaving = Leaving::default();
        leaving.begin(3, BTreeMap::from([(1, 7), (2, 7)]), LIMIT);
        leaving
    }

    fn gone(leaving: &mut Leaving, now: Duration) -> Vec<Vec<i32>> {
        leaving.due(now).iter().map(Handover::numbers).collect()
    }

    #[test]
    fn it_waits_for_each_and_commits_what_all_have_settled() {
        let mut leaving = two();
        assert!(leaving.has(1, 7) && leaving.has(2, 7) && !leaving.has(3, 7));
        assert_eq!(leaving.release(1, 7, Some(5)), NOTHING, "2 is at work");
        assert!(gone(&mut leaving, Duration::ZERO).is_empty());
        assert_eq!(leaving.release(1, 7, Some(6)), NOTHING, "once");
        assert_eq!(
            leaving.release(2, 7, Some(9)),
            BTreeMap::from([(1, 5), (2, 9)])
        );
        assert_eq!(gone(&mut leaving, Duration::ZERO), [[1, 2]]);
        assert!(!leaving.has(1, 7) && gone(&mut leaving, LIMIT).is_empty());
    }

    /// A release comes late when the partition went, came back and leaves again.
    #[test]
    fn a_release_of_another_epoch_releases_nothing() {
        let mut leaving = two();
        assert_eq!(leaving.release(1, 6, Some(4)), NOTHING);
        assert_eq!(leaving.release(2, 6, Some(4)), NOTHING);
        assert!(!leaving.has(1, 6));
        assert!(gone(&mut leaving, Duration::ZERO).is_empty(), "both wait");
        assert_eq!(leaving.release(1, 7, None), NOTHING);
        assert_eq!(leaving.release(2, 7, Some(9)), BTreeMap::from([(2, 9)]));
    }

    #[test]
    fn what_is_settled_under_an_epoch_that_is_over_is_not_committed() {
        let leaving = two();
        assert!(leaving.is_current(None, 1, 7) && leaving.is_current(Some(8), 3, 8));
        assert!(!leaving.is_current(Some(8), 3, 7), "it went and came back");
        assert!(!leaving.is_current(None, 3, 7) && !leaving.is_current(None, 1, 6));
    }

    #[test]
    fn what_is_not_released_in_time_goes_all_the_same() {
        let mut leaving = two();
        assert_eq!(leaving.release(1, 7, Some(5)), NOTHING);
        assert!(gone(&mut leaving, LIMIT - Duration::from_millis(1)).is_empty());
        let due = leaving.due(LIMIT);
        assert_eq!(
            due.iter().map(Handover::numbers).collect::<Vec<_>>(),
            [[1, 2]]
        );
        assert_eq!(due[0].waiting, BTreeSet::from([2]), "it is said to be lost");
    }

    #[test]
    fn where_nothing_is_waited_for_all_go() {
        let mut leaving = two();
        leaving.begin_of_nothing(vec![4]);
        let all = leaving.all();
        let numbers: Vec<_> = all.iter().map(Handover::numbers).collect();
        assert_eq!(numbers, [vec![1, 2], vec![4]]);
        let waiting: Vec<_> = all.iter().map(|handover| handover.waiting.len()).collect();
        assert_eq!(waiting, [2, 0]);
        assert!(leaving.all().is_empty());
    }
}
