//! A group: which member has which partition, what is out, and what comes again.

use super::log::PartitionLog;
use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;
use std::time::Duration;

/// The members of a group and where each partition stands.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) partitions: Vec<GroupPartition>,
    pub(super) members: BTreeMap<u64, Member>,
    epoch: u64,
}

/// One member: the consumer of one subscription.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) in_flight_max: usize,
    pub(super) waker: Option<Waker>,
}

/// Where a group stands in a partition.
#[derive(Debug)]
pub(super) struct GroupPartition {
    pub(super) owner: Option<u64>,
    /// It was taken from this member, who has not released it yet: nobody has it until then.
    held_by: Option<u64>,
    /// Who has it then.
    heir: Option<u64>,
    /// Under which the owner has it. Answers of another are void.
    pub(super) epoch: u64,
    next: u64,
    /// Delivered and unanswered, with the attempts so far.
    out: BTreeMap<u64, u32>,
    /// To be delivered again, with the attempts so far and not before when.
    again: BTreeMap<u64, (u32, Duration)>,
}

/// What a member may be given.
#[derive(Debug)]
pub(super) enum Next {
    /// This offset, for the so many'th time.
    Offset(u64, u32),
    /// Nothing before then.
    NotBefore(Duration),
    /// Nothing.
    Nothing,
}

impl Group {
    /// A group that begins at `starts`, one offset a partition.
    pub(super) fn new(starts: impl Iterator<Item = u64>) -> Self {
        let partitions = starts.map(GroupPartition::new).collect();
        Self {
            partitions,
            ..Self::default()
        }
    }

    /// Adds a member and spreads the partitions anew.
    pub(super) fn join(&mut self, id: u64, member: Member) {
        self.members.insert(id, member);
        self.rebalance();
    }

    /// Takes a member away; what it had out comes again, to others.
    pub(super) fn leave(&mut self, id: u64) {
        if self.members.remove(&id).is_some() {
            self.rebalance();
        }
    }

    /// Gives new partitions of a topic that grew a place.
    pub(super) fn grow(&mut self, partitions: usize) {
        while self.partitions.len() < partitions {
            self.partitions.push(GroupPartition::new(0));
        }
        self.rebalance();
    }

    /// The first offset of `partition` that the group may still need.
    pub(super) fn needed(&self, partition: usize) -> u64 {
        self.partitions
            .get(partition)
            .map_or(0, GroupPartition::needed)
    }

    /// Wakes who has `partition`.
    pub(super) fn take_waker(&mut self, partition: usize) -> Option<Waker> {
        let owner = self.partitions.get(partition)?.owner?;
        self.members.get_mut(&owner)?.waker.take()
    }

    /// How many deliveries a member has out.
    pub(super) fn out_of(&self, member: u64) -> usize {
        self.partitions
            .iter()
            .filter(|at| at.owner == Some(member))
            .map(|at| at.out.len())
            .sum()
    }

    /// The partitions that wait for `member` to release them, and their epochs.
    pub(super) fn taken_from(&self, member: u64) -> Vec<(u32, u64)> {
        let partitions = (0..).zip(&self.partitions);
        let taken = partitions.filter(|(_, at)| at.held_by == Some(member));
        taken.map(|(number, at)| (number, at.epoch)).collect()
    }

    /// `member` handles nothing of a partition any more that was taken from it: the heir gets it.
    pub(super) fn release(&mut self, member: u64, partition: usize, epoch: u64) {
        let Some(at) = self.partitions.get_mut(partition) else {
            return;
        };
        if at.held_by == Some(member) && at.epoch == epoch {
            self.epoch += 1;
            at.give(at.heir, self.epoch);
            self.wake_all();
        }
    }

    /// Round robin over the members. A partition that changes hands gets a new epoch, when the member that had it
    /// has released it or is gone.
    fn rebalance(&mut self) {
        self.epoch += 1;
        let members: Vec<u64> = self.members.keys().copied().collect();
        for (at, partition) in self.partitions.iter_mut().enumerate() {
            let heir = (!members.is_empty()).then(|| members[at % members.len()]);
            let had = partition.owner.or(partition.held_by);
            let stays = had.is_some_and(|had| members.contains(&had));
            if stays && partition.owner.is_some() && partition.owner == heir {
                continue;
            }
            if stays {
                partition.owner = None;
                partition.held_by = had;
                partition.heir = heir;
            } else {
                partition.give(heir, self.epoch);
            }
        }
        self.wake_all();
    }

    fn wake_all(&mut self) {
        for member in self.members.values_mut() {
            member.waker.take().into_iter().for_each(Waker::wake);
        }
    }
}

impl GroupPartition {
    fn new(next: u64) -> Self {
        Self {
            owner: None,
            held_by: None,
            heir: None,
            epoch: 0,
            next,
            out: BTreeMap::new(),
            again: BTreeMap::new(),
        }
    }

    /// Hands it to `heir`: what is out comes again, under a new epoch.
    fn give(&mut self, heir: Option<u64>, epoch: u64) {
        self.owner = heir;
        self.held_by = None;
        self.heir = None;
        self.epoch = epoch;
        self.out_comes_again();
    }

    /// Whether an answer of `member` counts.
    pub(super) fn is_answered_by(&self, member: u64) -> bool {
        self.owner == Some(member) || self.held_by == Some(member)
    }

    /// How many envelopes are not acknowledged.
    pub(super) fn lag(&self, log: &PartitionLog) -> u64 {
        log.end().saturating_sub(self.next.max(log.first()))
            + (self.out.len() + self.again.len()) as u64
    }

    /// What comes next: what has to come again first, so that nothing overtakes it.
    pub(super) fn next(&mut self, log: &PartitionLog, now: Duration) -> Next {
        while let Some((&offset, &(attempts, due))) = self.again.first_key_value() {
            if due > now {
                return Next::NotBefore(due);
            }
            self.again.remove(&offset);
            // Retention may have taken it away meanwhile.
            if log.at(offset).is_some() {
                self.out.insert(offset, attempts + 1);
                return Next::Offset(offset, attempts + 1);
            }
        }
        self.next = self.next.max(log.first());
        if self.next >= log.end() {
            return Next::Nothing;
        }
        let offset = self.next;
        self.next += 1;
        self.out.insert(offset, 1);
        Next::Offset(offset, 1)
    }

    /// Handled.
    pub(super) fn ack(&mut self, offset: u64) {
        self.out.remove(&offset);
    }

    /// Not handled: it, and what was delivered behind it, comes again in order.
    pub(super) fn nack(&mut self, offset: u64, due: Duration) {
        let behind: BTreeSet<u64> = self
            .out
            .range(offset..)
            .map(|(offset, _)| *offset)
            .collect();
        for offset in behind {
            if let Some(attempts) = self.out.remove(&offset) {
                self.again.insert(offset, (attempts, due));
            }
        }
    }

    fn needed(&self) -> u64 {
        let out = self.out.keys().next().copied().unwrap_or(self.next);
        let again = self.again.keys().next().copied().unwrap_or(self.next);
        out.min(again).min(self.next)
    }

    fn out_comes_again(&mut self) {
        let out = std::mem::take(&mut self.out);
        self.again.extend(
            out.into_iter()
                .map(|(offset, attempts)| (offset, (attempts, Duration::ZERO))),
        );
    }
}
