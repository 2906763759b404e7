//! Hand-over: what is revoked, and how long its end waits for handlers. What waits for what is decided in
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
use super::{News, Poller, codes};
use crate::events::BusEvent;
use rdkafka::consumer::{Consumer as _, RebalanceProtocol};
use rdkafka::error::KafkaError;
use std::collections::{BTreeMap, BTreeSet};

impl Poller {
    /// Gives back what was revoked, in its time.
    pub(super) fn revoke(&mut self, partitions: Vec<i32>, lost: bool) {
        self.rebalances += 1;
        // One that is unanswered was told of before.
        self.answer_with_nothing();
        let mut ours: BTreeMap<i32, u64> = BTreeMap::new();
        for partition in &partitions {
            self.consumer.forget(*partition);
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
        if partitions.is_empty() || self.is_let_go() {
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
