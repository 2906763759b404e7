//! Progress: how far a partition was settled, in the offsets that were delivered.
//!
//! Offsets have gaps: of compaction, of markers, of what was deleted. So nothing here counts on the next one being one more. What is
//! committed is the first offset that is not settled; when all are, the one behind the last.

use std::collections::VecDeque;

/// One partition under one epoch.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) epoch: u64,
    /// It was revoked, and is not released yet.
    pub(super) leaving: bool,
    /// Delivered and not below the frontier, in order, and whether it is settled.
    out: VecDeque<(u64, bool)>,
    /// How many of these are settled.
    settled: u64,
    /// Behind the last that was delivered, or where it began. `None`: nobody knows yet.
    next: Option<u64>,
    /// What the broker was told last.
    sent: Option<u64>,
    /// What the broker has confirmed.
    confirmed: Option<u64>,
    /// Settled, and the broker is to confirm it.
    to_confirm: Vec<u64>,
}

impl Progress {
    /// Begins at `start`, if that is known, and the broker has that as the group's commit if it `is_committed`.
    pub(super) fn new(epoch: u64, start: Option<u64>, is_committed: bool) -> Self {
        let committed = start.filter(|_| is_committed);
        Self {
            epoch,
            leaving: false,
            out: VecDeque::new(),
            settled: 0,
            next: start,
            sent: committed,
            confirmed: committed,
            to_confirm: Vec::new(),
        }
    }

    /// Counts a delivery. `false`: it was delivered before.
    pub(super) fn deliver(&mut self, offset: u64) -> bool {
        if self.out.back().is_some_and(|(last, _)| *last >= offset) {
            return false;
        }
        self.out.push_back((offset, false));
        self.next = Some(offset + 1);
        true
    }

    /// Nothing is left between `seen` and `offset`: what is there is no envelope. `false`: it does not count, because what was before
    /// `seen` was not delivered here, or not all of it.
    pub(super) fn end(&mut self, seen: Option<u64>, offset: u64) -> bool {
        let counts = !self.leaving && self.next == seen && seen.is_none_or(|seen| seen < offset);
        if counts {
            self.next = Some(offset);
        }
        counts
    }

    /// Settles a delivery. `false`: it is not out.
    pub(super) fn settle(&mut self, offset: u64) -> bool {
        let Ok(at) = self.out.binary_search_by_key(&offset, |(there, _)| *there) else {
            return false;
        };
        if std::mem::replace(&mut self.out[at].1, true) {
            return false;
        }
        self.settled += 1;
        while self.out.front().is_some_and(|(_, settled)| *settled) {
            self.out.pop_front();
            self.settled -= 1;
        }
        true
    }

    /// The first offset that is not settled.
    pub(super) fn frontier(&self) -> Option<u64> {
        self.out.front().map(|(offset, _)| *offset).or(self.next)
    }

    /// How many envelopes are not settled, in a partition whose log goes from `low` to `high`. Gaps count.
    pub(super) fn lag(&self, low: u64, high: u64) -> u64 {
        let from = self.frontier().map_or(low, |frontier| frontier.max(low));
        high.saturating_sub(from).saturating_sub(self.settled)
    }

    /// What the broker is to be told, if it has not been.
    pub(super) fn to_commit(&self) -> Option<u64> {
        let frontier = self.frontier()?;
        (self.sent != Some(frontier)).then_some(frontier)
    }

    /// The broker was told.
    pub(super) fn committing(&mut self, offset: u64) {
        self.sent = Some(offset);
    }

    /// The broker has confirmed all below `offset`.
    pub(super) fn committed(&mut self, offset: u64) {
        self.confirmed = self.confirmed.max(Some(offset));
    }

    /// The broker has not taken what it was told: it is told again.
    pub(super) fn commit_failed(&mut self) {
        self.sent = self.confirmed;
    }

    /// `offset` is to be confirmed.
    pub(super) fn confirm(&mut self, offset: u64) {
        self.to_confirm.push(offset);
    }

    /// Whether the broker has confirmed all that is settled.
    pub(super) fn is_committed(&self) -> bool {
        self.confirmed == self.frontier()
    }

    /// How many deliveries are not settled.
    pub(super) fn unanswered(&self) -> usize {
        self.out.len() - self.settled as usize
    }

    /// What was to be confirmed and is.
    pub(super) fn take_confirmed(&mut self) -> impl Iterator<Item = u64> + use<> {
        let confirmed = self.confirmed;
        let is_confirmed = |offset: &mut u64| confirmed.is_some_and(|below| *offset < below);
        let taken: Vec<_> = self.to_confirm.extract_if(.., is_confirmed).collect();
        taken.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_gap_does_not_stall() {
        let mut progress = Progress::new(1, Some(2), true);
        assert_eq!(progress.frontier(), Some(2));
        for offset in [5, 6, 8] {
            assert!(progress.deliver(offset));
        }
        assert_eq!(progress.to_commit(), Some(5));
        assert!(progress.settle(6) && progress.settle(5));
        assert_eq!(progress.frontier(), Some(8));
        assert!(progress.settle(8));
        assert_eq!(progress.frontier(), Some(9));
        assert!(progress.end(Some(9), 12));
        assert_eq!(progress.frontier(), Some(12));
        assert_eq!(progress.lag(0, 12), 0);
    }

    /// What is dropped because its partition is leaving is not skipped by the end behind it.
    #[test]
    fn an_end_counts_only_behind_the_last_delivery() {
        let mut progress = Progress::new(1, Some(0), true);
        assert!(progress.deliver(0) && progress.settle(0));
        assert!(!progress.end(Some(50), 51), "1 to 49 were not delivered");
        assert!(!progress.end(None, 51));
        assert_eq!(progress.frontier(), Some(1));
        progress.leaving = true;
        assert!(!progress.end(Some(1), 51), "who has it next finds the end");
        assert_eq!(progress.frontier(), Some(1));
        progress.leaving = false;
        assert!(progress.end(Some(1), 51));
        assert_eq!(progress.frontier(), Some(51));
        let mut unknown = Progress::new(1, None, true);
        assert!(unknown.end(None, 7));
        assert_eq!(unknown.frontier(), Some(7));
    }

    /// Members would disagree about where the group begins, if nobody told the broker.
    #[test]
    fn a_start_that_is_not_committed_is_committed_at_once() {
        let mut kept = Progress::new(1, Some(7), false);
        assert_eq!(kept.to_commit(), Some(7));
        assert!(!kept.is_committed());
        kept.committing(7);
        kept.committed(7);
        assert!(kept.to_commit().is_none() && kept.is_committed());
        assert_eq!(Progress::new(1, Some(7), true).to_commit(), None);
    }

    #[test]
    fn what_is_not_out_is_not_settled() {
        let mut progress = Progress::new(1, None, true);
        assert_eq!((progress.frontier(), progress.to_commit()), (None, None));
        assert!(!progress.settle(1));
        assert!(progress.deliver(1) && !progress.deliver(1));
        assert!(progress.settle(1) && !progress.settle(1));
    }

    #[test]
    fn a_commit_that_failed_is_told_again() {
        let mut progress = Progress::new(1, Some(0), true);
        progress.deliver(0);
        progress.settle(0);
        assert_eq!(progress.to_commit(), Some(1));
        progress.committing(1);
        assert_eq!(progress.to_commit(), None);
        progress.commit_failed();
        assert_eq!(progress.to_commit(), Some(1));
        progress.committing(1);
        progress.committed(1);
        progress.commit_failed();
        assert_eq!(progress.to_commit(), None, "it was confirmed");
    }

    #[test]
    fn what_is_below_a_commit_is_confirmed() {
        let mut progress = Progress::new(1, Some(0), true);
        for offset in 0..3 {
            progress.deliver(offset);
        }
        for offset in [0, 2] {
            progress.settle(offset);
            progress.confirm(offset);
        }
        progress.committed(1);
        assert_eq!(progress.take_confirmed().collect::<Vec<_>>(), [0]);
        assert!(
            progress.is_committed(),
            "all that is settled from the start"
        );
        progress.settle(1);
        assert!(!progress.is_committed());
        progress.committed(3);
        assert_eq!(progress.take_confirmed().collect::<Vec<_>>(), [2]);
    }

    proptest! {
        /// With any gaps and any order of answers: the frontier is the first that is not settled, and never goes back.
        #[test]
        fn the_frontier_is_the_first_that_is_not_settled(
            gaps in proptest::collection::vec(1_u64..5, 1..40),
            order in proptest::collection::vec(any::<proptest::sample::Index>(), 0..40),
        ) {
            let mut progress = Progress::new(1, Some(0), true);
            let mut offset = 0;
            let offsets: Vec<u64> = gaps.iter().map(|gap| { offset += gap; offset }).collect();
            for offset in &offsets {
                prop_assert!(progress.deliver(*offset));
            }
            let mut open: BTreeSet<u64> = offsets.iter().copied().collect();
            let mut before = progress.frontier();
            for pick in order {
                let offset = offsets[pick.index(offsets.len())];
                prop_assert_eq!(progress.settle(offset), open.remove(&offset));
                let wanted = open.first().copied().unwrap_or(offsets[offsets.len() - 1] + 1);
                prop_assert_eq!(progress.frontier(), Some(wanted));
                prop_assert!(progress.frontier() >= before);
                before = progress.frontier();
                let end = offsets[offsets.len() - 1] + 1;
                prop_assert!(progress.lag(0, end) >= open.len() as u64);
            }
        }
    }
}
