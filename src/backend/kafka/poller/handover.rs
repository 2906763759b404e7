//! Hand-over: what is assigned, what is revoked, and how long the one waits for the other. What waits for what is decided in
//! [`leaving`](super::leaving); here the client is told.
//!
//! A partition that is revoked stays assigned while handlers still have something of it: it is paused, what they answer is committed,
//! and when they are done, or the limit is over, it is un-assigned. Until then no other member has it. The thread polls all the
//! while.
//!
//! | what | in which order |
//! |---|---|
//! | revoked | pause, tell the task, wait for its release, commit and ask what the broker has, un-assign, whatever it has: what it does not have comes again |
//! | revoked, and the limit is over | void their answers, un-assign; what was answered is committed already |
//! | lost | void their answers, un-assign, and no commit: another may have it |
//! | assigned while a hand-over waits | the hand-over is superseded: un-assigned before the new assignment, never after |

use super::leaving::Handover;
use super::{Assigned, News, Owned, Poller, begin, codes, next_epoch};
use crate::error::Failure;
use crate::events::BusEvent;
use rdkafka::consumer::{Consumer as _, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};

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

impl Poller {
    /// Takes what was assigned.
    pub(super) fn assign(&mut self, partitions: &[i32]) {
        self.rebalances += 1;
        self.abandon_handovers();
        let protocol = self.consumer.rebalance_protocol();
        let cooperative = matches!(protocol, RebalanceProtocol::Cooperative);
        let (places, unknown) = match self.places(partitions) {
            Ok(places) => (places, None),
            // Answered all the same, with nothing: who goes on from a place that nobody knows leaves something out.
            Err(failure) => (BTreeMap::new(), Some(failure)),
        };
        let mut list = TopicPartitionList::new();
        for (partition, place) in &places {
            let _ = list.add_partition_offset(&self.topic, *partition, place.offset());
        }
        let assigned = if cooperative {
            self.consumer.incremental_assign(&list)
        } else {
            self.consumer.assign(&list)
        };
        drop(list);
        let refused = assigned.err().map(|error| codes::failure(&error));
        if let Some(failure) = unknown.or(refused) {
            tracing::error!(topic = %self.topic, %failure, ?partitions, "an assignment was not taken");
            return self.fail(failure);
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
                anew: false,
            };
            self.owned.insert(*partition, owned);
            match places.get(partition) {
                Some(Place::Committed(_)) => self.committed.insert(*partition),
                _ => self.committed.remove(partition),
            };
        }
        // A pause outlives an assignment: what was paused when it went would stand still when it comes back.
        let list = self.list(partitions);
        let _ = if self.paused {
            self.consumer.pause(&list)
        } else {
            self.consumer.resume(&list)
        };
        drop(list);
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
        let limit = self.options.request_timeout;
        let committed = begin::committed(&self.consumer, &self.topic, partitions, limit)?;
        let place = |at: &i32| match (committed.get(at), self.starts.get(at)) {
            (Some(offset), _) => Place::Committed(*offset),
            (None, Some(offset)) => Place::Kept(*offset),
            // The topic has grown since the group began: all of it is new.
            (None, None) => Place::Beginning,
        };
        Ok(partitions.iter().map(|at| (*at, place(at))).collect())
    }

    /// Gives back what was revoked, in its time.
    pub(super) fn revoke(&mut self, partitions: Vec<i32>, lost: bool) {
        self.rebalances += 1;
        let mut ours: BTreeMap<i32, u64> = BTreeMap::new();
        for partition in &partitions {
            if let Some(owned) = self.owned.remove(partition) {
                ours.insert(*partition, owned.epoch);
            }
        }
        let epochs: BTreeSet<u64> = ours.values().copied().collect();
        for epoch in epochs {
            let of_epoch = ours.iter().filter(|(_, of)| **of == epoch);
            let partitions = of_epoch.map(|(at, _)| *at as u32).collect();
            self.wire.tell(News::Revoked { epoch, partitions });
        }
        tracing::debug!(topic = %self.topic, ?partitions, lost, "revoked");
        if lost {
            self.tell_lost(ours.keys(), "the group took this member for gone");
        }
        if lost || ours.is_empty() {
            self.void(&ours);
            return self.unassign(&partitions);
        }
        let _ = self.consumer.pause(&self.list(&partitions));
        let until = self.now() + self.options.hand_over_limit;
        self.leaving.begin(self.rebalances, ours, until);
    }

    /// Nothing of it is handled here any more.
    pub(super) fn release(&mut self, partition: i32, epoch: u64, commit: Option<u64>) {
        let places = self.leaving.release(partition, epoch, commit);
        self.commit_places(&places);
    }

    /// Un-assigns what nobody waits for any more.
    pub(super) fn attend_handovers(&mut self) {
        for handover in self.leaving.due(self.now()) {
            self.give(&handover, "handlers were not done in time");
        }
    }

    /// An assignment has come, or the end: what was to be un-assigned later is un-assigned now, before it could take anything newer
    /// away.
    pub(super) fn abandon_handovers(&mut self) {
        for handover in self.leaving.all() {
            let (now, then) = (self.rebalances, handover.rebalance);
            tracing::debug!(topic = %self.topic, now, then, "a hand-over was superseded");
            self.give(
                &handover,
                "another assignment came before handlers were done",
            );
        }
    }

    /// Lets go of it. What has waited until now is lost, for this `reason`.
    fn give(&mut self, handover: &Handover, reason: &str) {
        self.tell_lost(&handover.waiting, reason);
        self.void(&handover.partitions);
        self.unassign(&handover.numbers());
    }

    pub(super) fn tell_lost<'p>(
        &self,
        partitions: impl IntoIterator<Item = &'p i32>,
        reason: &str,
    ) {
        let partitions: Vec<_> = partitions.into_iter().map(|at| *at as u32).collect();
        if partitions.is_empty() {
            return;
        }
        tracing::warn!(topic = %self.topic, ?partitions, reason, "lost: what was handled and not committed comes again");
        self.host.event(BusEvent::PartitionsLost {
            topic: self.topic.clone(),
            group: self.group.clone(),
            partitions,
            reason: reason.to_owned(),
        });
    }

    /// Answers of these are void from here on.
    fn void(&self, partitions: &BTreeMap<i32, u64>) {
        for (partition, epoch) in partitions {
            self.wire.tell(News::Gone {
                partition: *partition as u32,
                epoch: *epoch,
            });
        }
    }

    fn unassign(&mut self, partitions: &[i32]) {
        let done = match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.unassign_each(partitions),
            _ => self.consumer.unassign(),
        };
        if let Err(error) = done {
            tracing::error!(topic = %self.topic, %error, ?partitions, "un-assigning");
            self.fail(codes::failure(&error));
        }
    }

    /// Those of them that are assigned: a revocation that superseded another has met some that were gone.
    fn unassign_each(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        let assigned = self.consumer.assignment()?;
        let assigned: BTreeSet<i32> = assigned
            .elements()
            .iter()
            .map(|at| at.partition())
            .collect();
        let left = partitions.iter().copied();
        let left: Vec<i32> = left.filter(|at| assigned.contains(at)).collect();
        self.consumer.incremental_unassign(&self.list(&left))
    }
}
