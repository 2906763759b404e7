//! Assign: what is assigned, and where it begins.
//!
//! The broker says where, and may be away in that moment: just killed, or coming up. Then the assignment waits, unanswered, and the
//! thread goes on with all else. A consumer that was given up for it would leave its member behind, since nobody is there to take its
//! leave, and the group would stand still for as long as a session lasts, from each start of the broker anew.
//!
//! What waits is answered with nothing when it is over: another rebalance has come, or the end.

use super::{Assigned, News, Owned, Poller, begin, codes, next_epoch};
use crate::error::{Failure, FailureKind};
use rdkafka::consumer::{Consumer as _, RebalanceProtocol};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long the broker may take each time.
const LIMIT: Duration = Duration::from_secs(1);
/// Between two questions.
const AGAIN: Duration = Duration::from_millis(50);

/// Where an assigned partition begins.
enum Place {
    /// At the group's commit.
    Committed(i64),
    /// Where the group was told to, and the broker does not have it.
    Kept(i64),
    /// With the oldest that is kept.
    Beginning,
}

impl Place {
    fn start(&self) -> Option<i64> {
        match self {
            Self::Committed(offset) | Self::Kept(offset) => Some(*offset),
            Self::Beginning => None,
        }
    }

    fn offset(&self) -> Offset {
        self.start().map_or(Offset::Beginning, Offset::Offset)
    }
}

/// An assignment that is not answered yet.
pub(super) struct Waiting {
    partitions: Vec<i32>,
    /// When the broker is asked next.
    ask_at: Duration,
    /// Since when it has answered, and with something else.
    refused_since: Option<Duration>,
}

impl Waiting {
    /// Whether it is worth asking again after this answer, which came at `now`. A broker that is away is waited for as long as it takes, as
    /// the client does; one that refuses, for `limit`.
    fn goes_on(&mut self, failure: &Failure, now: Duration, limit: Duration) -> bool {
        self.ask_at = now + AGAIN;
        match failure.kind() {
            FailureKind::Disconnected | FailureKind::TimedOut => {
                self.refused_since = None;
                true
            }
            _ => {
                let since = *self.refused_since.get_or_insert(now);
                failure.is_retryable() && now < since + limit
            }
        }
    }
}

impl Poller {
    /// Takes what was assigned, as soon as the broker says where it begins.
    pub(super) fn assign(&mut self, partitions: Vec<i32>) {
        self.rebalances += 1;
        self.abandon_handovers();
        self.answer_with_nothing();
        self.assigning = Some(Waiting {
            partitions,
            ask_at: Duration::ZERO,
            refused_since: None,
        });
        self.attend_assignment();
    }

    /// Asks where what was assigned begins, if it is time to.
    pub(super) fn attend_assignment(&mut self) {
        let now = self.now();
        let Some(mut waiting) = self.assigning.take_if(|waiting| waiting.ask_at <= now) else {
            return;
        };
        match self.places(&waiting.partitions) {
            Ok(places) => self.begin_at(&waiting.partitions, &places),
            Err(failure) => {
                let (now, limit) = (self.now(), self.options.request_timeout);
                if waiting.goes_on(&failure, now, limit) {
                    tracing::debug!(topic = %self.topic, %failure, partitions = ?waiting.partitions, "an assignment waits");
                    self.assigning = Some(waiting);
                    return;
                }
                // Answered all the same: who goes on from a place that nobody knows leaves something out.
                self.assigning = Some(waiting);
                self.answer_with_nothing();
                self.not_taken(failure);
            }
        }
    }

    /// What was assigned and waits for its place is not taken any more.
    pub(super) fn answer_with_nothing(&mut self) {
        if self.assigning.take().is_some() {
            self.take_nothing();
        }
    }

    /// Takes nothing of what is assigned.
    pub(super) fn take_nothing(&mut self) {
        if let Err(error) = self.answer(&TopicPartitionList::new()) {
            self.not_taken(codes::failure(&error));
        }
    }

    fn not_taken(&mut self, failure: Failure) {
        tracing::error!(topic = %self.topic, %failure, "an assignment was not taken");
        self.fail(failure);
    }

    fn answer(&self, list: &TopicPartitionList) -> KafkaResult<()> {
        match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.consumer.incremental_assign(list),
            _ => self.consumer.assign(list),
        }
    }

    fn begin_at(&mut self, partitions: &[i32], places: &BTreeMap<i32, Place>) {
        let mut list = TopicPartitionList::new();
        for (partition, place) in places {
            let _ = list.add_partition_offset(&self.topic, *partition, place.offset());
            if !self.consumer.split(&self.topic, *partition) {
                let text = "the client has no queue for a partition";
                return self.not_taken(Failure::new(FailureKind::Broker, text));
            }
        }
        let answered = self.answer(&list);
        drop(list);
        if let Err(error) = answered {
            return self.not_taken(codes::failure(&error));
        }
        if partitions.is_empty() {
            return;
        }
        let epoch = next_epoch(&self.epochs);
        let start = |at: &i32| places.get(at).and_then(Place::start);
        let told = partitions.iter().map(|at| Assigned {
            partition: *at as u32,
            start: start(at).map(|start| start as u64),
            is_committed: matches!(places.get(at), Some(Place::Committed(_))),
        });
        let told = told.collect();
        for partition in partitions {
            let start = start(partition);
            let owned = Owned {
                epoch,
                start,
                next: start,
                seen_end: false,
                is_empty: false,
                anew: false,
            };
            self.owned.insert(*partition, owned);
            match places.get(partition) {
                Some(Place::Committed(_)) => self.committed.insert(*partition),
                _ => self.committed.remove(partition),
            };
        }
        // A pause outlives an assignment: what was paused when it went would stand still when it comes back.
        let _ = self.consumer.resume(&self.list(partitions));
        tracing::debug!(topic = %self.topic, ?partitions, epoch, "assigned");
        self.wire.tell(News::Assigned {
            epoch,
            partitions: told,
        });
    }

    /// Where each begins: at the group's commit, or where a new group was told to.
    fn places(&self, partitions: &[i32]) -> Result<BTreeMap<i32, Place>, Failure> {
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let limit = LIMIT.min(self.options.request_timeout);
        let committed = begin::committed(&self.consumer, &self.topic, partitions, limit)?;
        let place = |at: &i32| match (committed.get(at), self.starts.get(at)) {
            (Some(offset), _) => Place::Committed(*offset),
            (None, Some(offset)) => Place::Kept(*offset),
            // The topic has grown since the group began: all of it is new.
            (None, None) => Place::Beginning,
        };
        Ok(partitions.iter().map(|at| (*at, place(at))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_broker_that_is_away_is_waited_for_and_one_that_refuses_has_a_limit() {
        let mut waiting = Waiting {
            partitions: vec![0],
            ask_at: Duration::ZERO,
            refused_since: None,
        };
        let away = Failure::new(FailureKind::TimedOut, "away");
        let refuses = Failure::new(FailureKind::Broker, "unknown member");
        let never = Failure::new(FailureKind::Unauthorized, "not you");
        for now in [1, 100, 10_000] {
            assert!(waiting.goes_on(&away, at(now), at(5)));
            assert_eq!(waiting.ask_at, at(now) + AGAIN);
        }
        assert!(waiting.goes_on(&refuses, at(10_001), at(5)));
        assert!(waiting.goes_on(&away, at(10_004), at(5)), "away again");
        assert!(waiting.goes_on(&refuses, at(10_007), at(5)));
        assert!(waiting.goes_on(&refuses, at(10_011), at(5)));
        assert!(!waiting.goes_on(&refuses, at(10_012), at(5)));
        assert!(!waiting.goes_on(&never, at(10_013), at(5)));
    }
}
