//! Epochs: the coordinator deals out, and brings each member there by itself (KIP-848). A member gives back what is to be another's
//! and says so; only then the other gets it, and only then its own epoch grows.

use super::{Identity, Member, Patience, Refused, Share, assign};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a member is told with each answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Who it is.
    pub member: Member,
    /// Its epoch.
    pub epoch: u64,
    /// All that it is to have. What it has beyond that it gives back.
    pub share: Share,
}

/// See the module.
#[derive(Debug)]
pub struct Broker {
    patience: Patience,
    partitions: u32,
    epoch: u64,
    members: BTreeMap<Member, Present>,
    last: Member,
    target: BTreeMap<Member, Share>,
}

#[derive(Debug)]
struct Present {
    heard: Duration,
    epoch: u64,
    /// The one before: its answer may have been lost.
    before: u64,
    share: Share,
    /// What it is to give back, and until when.
    gives: Share,
    until: Duration,
}

impl Broker {
    pub(super) fn new(patience: Patience, partitions: u32) -> Self {
        Self {
            patience,
            partitions,
            epoch: 0,
            members: BTreeMap::new(),
            last: 0,
            target: BTreeMap::new(),
        }
    }

    /// A sign of life of a member, and what it has, if it says so. Who is new comes without a name.
    ///
    /// # Errors
    ///
    /// When it is no member, or has an epoch that it cannot have.
    pub fn heartbeat(
        &mut self,
        now: Duration,
        who: Option<Identity>,
        has: Option<&Share>,
    ) -> Result<Told, Refused> {
        let member = match who {
            Some(who) => self.known(who, has)?,
            None => self.join(now),
        };
        self.reconcile(now, member, has);
        let present = self
            .members
            .get_mut(&member)
            .ok_or(Refused::UnknownMember)?;
        present.heard = now;
        Ok(Told {
            member,
            epoch: present.epoch,
            share: present.share.clone(),
        })
    }

    fn known(&mut self, who: Identity, has: Option<&Share>) -> Result<Member, Refused> {
        let present = (self.members.get(&who.member)).ok_or(Refused::UnknownMember)?;
        let is_late = who.generation == present.before
            && has.is_some_and(|has| has.is_subset(&present.share));
        if who.generation == present.epoch || is_late {
            return Ok(who.member);
        }
        Err(Refused::Stale)
    }

    fn join(&mut self, now: Duration) -> Member {
        self.last += 1;
        let present = Present {
            heard: now,
            epoch: 0,
            before: 0,
            share: Share::new(),
            gives: Share::new(),
            until: Duration::ZERO,
        };
        self.members.insert(self.last, present);
        self.deal();
        self.last
    }

    /// Brings a member as far as it can be brought.
    fn reconcile(&mut self, now: Duration, member: Member, has: Option<&Share>) {
        let others = self.members.iter().filter(|(other, _)| **other != member);
        let taken: Share = others
            .flat_map(|(_, other)| other.share.union(&other.gives))
            .copied()
            .collect();
        let (Some(present), Some(target)) =
            (self.members.get_mut(&member), self.target.get(&member))
        else {
            return;
        };
        if let Some(has) = has {
            present.gives.retain(|partition| has.contains(partition));
        }
        if !present.gives.is_empty() {
            return;
        }
        let gives: Share = present.share.difference(target).copied().collect();
        if !gives.is_empty() {
            present.share.retain(|partition| target.contains(partition));
            present.gives = gives;
            present.until = now + self.patience.rebalance;
            return;
        }
        if present.epoch != self.epoch {
            present.before = present.epoch;
            present.epoch = self.epoch;
        }
        present.share.extend(target.difference(&taken));
    }

    pub(super) fn admits_commit(&self, who: Identity) -> Result<(), Refused> {
        let present = (self.members.get(&who.member)).ok_or(Refused::UnknownMember)?;
        match who.generation == present.epoch {
            true => Ok(()),
            false => Err(Refused::Stale),
        }
    }

    pub(super) fn leave(&mut self, member: Member) {
        if self.members.remove(&member).is_some() {
            self.deal();
        }
    }

    pub(super) fn grow(&mut self, partitions: u32) {
        self.partitions = partitions;
        self.deal();
    }

    pub(super) fn advance(&mut self, now: Duration) {
        let session = self.patience.session;
        let before = self.members.len();
        self.members.retain(|_, present| {
            let is_late = !present.gives.is_empty() && present.until <= now;
            now < present.heard + session && !is_late
        });
        if self.members.len() < before {
            self.deal();
        }
    }

    pub(super) fn revive(&mut self, now: Duration) {
        for present in self.members.values_mut() {
            present.heard = now;
            present.until = now + self.patience.rebalance;
        }
    }

    pub(super) fn due(&self) -> Option<Duration> {
        let due = self.members.values().map(|present| {
            let silent = present.heard + self.patience.session;
            match present.gives.is_empty() {
                true => silent,
                false => silent.min(present.until),
            }
        });
        due.min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn is_settled(&self) -> bool {
        let mut members = self.members.iter();
        members.all(|(member, present)| {
            present.gives.is_empty() && self.target.get(member) == Some(&present.share)
        })
    }

    fn deal(&mut self) {
        self.epoch += 1;
        let has = |(member, present): (&Member, &Present)| {
            let before = self.target.get(member).cloned();
            (*member, before.unwrap_or_else(|| present.share.clone()))
        };
        let has = self.members.iter().map(has).collect();
        self.target = assign::sticky(&has, self.partitions);
    }
}
