//! Committing: the broker is told, and asked what it has.
//!
//! The client sends a commit without waiting and tells nobody what became of it. So the group's place is asked for behind it, over the
//! same connection and with a limit: what counts is what the broker says it has. And what it had before is asked for first: nothing is committed to a topic that was
//! made again ([`gone`](super::gone)). That takes two round trips of the thread, once for each [`Options::commit_every`](crate::backend::kafka::Options::commit_every).

use super::begin;
use super::{Commit, News, Poller};
use crate::backend::kafka::codes;
use crate::error::{Failure, FailureKind};
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long the broker may take each time.
const LIMIT: Duration = Duration::from_secs(1);

impl Poller {
    /// Commits what is of an epoch that is not over.
    pub(super) fn commit(&mut self, commits: &[Commit]) {
        let places = self.current(commits);
        self.commit_places(&places);
    }

    /// What of it is of an epoch that is not over.
    pub(super) fn current(&self, commits: &[Commit]) -> BTreeMap<i32, i64> {
        let (current, over): (Vec<&Commit>, Vec<&Commit>) =
            commits.iter().partition(|commit| self.is_current(commit));
        if !over.is_empty() {
            let partitions = over.into_iter().map(|commit| commit.partition).collect();
            self.wire.tell(News::CommitFailed { partitions });
        }
        let places = current.into_iter();
        let places = places.map(|commit| (commit.partition as i32, commit.offset as i64));
        places.collect()
    }

    /// Commits, and tells the task what the broker has. Gives what it does not have.
    pub(super) fn commit_places(&mut self, places: &BTreeMap<i32, i64>) -> BTreeMap<i32, i64> {
        if places.is_empty() {
            return BTreeMap::new();
        }
        let numbers: Vec<_> = places.keys().copied().collect();
        let has = self.has_taken(places, &numbers);
        let (has, failure) = match has {
            Ok(has) => {
                let text = "the broker has not taken it";
                (has, Failure::new(FailureKind::Broker, text))
            }
            Err(failure) => (BTreeMap::new(), failure),
        };
        self.committed.extend(has.keys());
        let is_taken = |at: i32, offset: i64| has.get(&at).is_some_and(|has| *has >= offset);
        self.tell_committed(places, is_taken, &failure);
        let left = places
            .iter()
            .filter(|(at, offset)| !is_taken(**at, **offset));
        left.map(|(at, offset)| (*at, *offset)).collect()
    }

    /// Commits, and says what the broker has then.
    fn has_taken(
        &mut self,
        places: &BTreeMap<i32, i64>,
        numbers: &[i32],
    ) -> Result<BTreeMap<i32, i64>, Failure> {
        // Of another log it would be taken too, and what is before it there would be left out.
        self.group_has(numbers)?;
        let list = self.places_list(places);
        let sent = self.consumer.commit(&list, CommitMode::Async);
        drop(list);
        sent.map_err(|error| codes::failure(&error))?;
        begin::committed(&self.consumer, &self.topic, numbers, self.answer_limit())
    }

    fn places_list(&self, places: &BTreeMap<i32, i64>) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(places.len());
        for (partition, offset) in places {
            let _ = list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset));
        }
        list
    }

    fn tell_committed(
        &self,
        places: &BTreeMap<i32, i64>,
        taken: impl Fn(i32, i64) -> bool,
        failure: &Failure,
    ) {
        let mut failed = Vec::new();
        for (partition, offset) in places {
            if taken(*partition, *offset) {
                let (partition, offset) = (*partition as u32, *offset as u64);
                self.wire.tell(News::Committed { partition, offset });
            } else {
                failed.push(*partition as u32);
            }
        }
        if !failed.is_empty() {
            // Told again by the task, if they are still ours: nothing is forgotten.
            tracing::warn!(topic = %self.topic, %failure, ?failed, "a commit has failed");
            self.wire.tell(News::CommitFailed { partitions: failed });
        }
    }

    /// How long the broker may take to say what the group has.
    pub(super) fn answer_limit(&self) -> Duration {
        let left = |until: Duration| until.saturating_sub(self.now());
        self.until.map_or(LIMIT, |until| LIMIT.min(left(until)))
    }

    /// Whether it is of an epoch that is not over.
    pub(super) fn is_current(&self, commit: &Commit) -> bool {
        let partition = commit.partition as i32;
        let owned = self.owned.get(&partition).map(|owned| owned.epoch);
        (self.leaving).is_current(owned, partition, commit.epoch)
    }
}
