//! The coordinator of one group: who is a member, who has which partitions, and what the group has committed.
//!
//! Decides only, at the times it is told; whoever carries its answers may lose or delay them. It never takes a commit of who is no
//! member any more, or of an assignment that is over, and never says of one partition that two members have it.
//!
//! | file | what |
//! |---|---|
//! | `classic` | members join and sync in generations; one of them deals out: eager and cooperative |
//! | `broker` | the coordinator deals out, member by member, in epochs (KIP-848) |
//! | `assign` | who gets what |

pub mod assign;
pub mod broker;
pub mod classic;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Names a member. One that was put out comes back under another.
pub type Member = u64;

/// Partitions.
pub type Share = BTreeSet<u32>;

/// How the members of a group share partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rebalancing {
    /// Everybody gives back everything, then it is dealt out anew.
    Eager,
    /// Only what changes hands is given back.
    Cooperative,
    /// The broker deals out (KIP-848).
    Broker,
}

/// How long a coordinator waits.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a sign of life of a member.
    pub session: Duration,
    /// For a member to do what a rebalance asks of it.
    pub rebalance: Duration,
}

/// Why a coordinator does not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is no member, or not any more.
    UnknownMember,
    /// Another has come under its name.
    Fenced,
    /// Its generation, or epoch, is over.
    Stale,
    /// Members come and go: again, when it has joined.
    Rebalancing,
    /// The members of the group share in another way.
    Inconsistent,
}

/// Who commits.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The member.
    pub member: Member,
    /// Its generation, or epoch.
    pub generation: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Group {
    protocol: Protocol,
    patience: Patience,
    partitions: u32,
    committed: BTreeMap<u32, u64>,
}

#[derive(Debug)]
enum Protocol {
    Classic(classic::Classic),
    Broker(broker::Broker),
}

impl Group {
    /// A group without members over so many partitions.
    pub fn new(rebalancing: Rebalancing, patience: Patience, partitions: u32) -> Self {
        Self {
            protocol: Protocol::new(rebalancing, patience, partitions),
            patience,
            partitions,
            committed: BTreeMap::new(),
        }
    }

    /// The coordinator of members that share so. A group without members changes to it.
    ///
    /// # Errors
    ///
    /// When its members share in another way.
    pub fn classic(&mut self) -> Result<&mut classic::Classic, Refused> {
        if matches!(self.protocol, Protocol::Broker(_)) && self.is_empty() {
            let (patience, partitions) = (self.patience, self.partitions);
            self.protocol = Protocol::new(Rebalancing::Eager, patience, partitions);
        }
        match &mut self.protocol {
            Protocol::Classic(classic) => Ok(classic),
            Protocol::Broker(_) => Err(Refused::Inconsistent),
        }
    }

    /// The same for members that the broker deals out to.
    ///
    /// # Errors
    ///
    /// As [`classic`](Self::classic).
    pub fn broker(&mut self) -> Result<&mut broker::Broker, Refused> {
        if matches!(self.protocol, Protocol::Classic(_)) && self.is_empty() {
            let (patience, partitions) = (self.patience, self.partitions);
            self.protocol = Protocol::new(Rebalancing::Broker, patience, partitions);
        }
        match &mut self.protocol {
            Protocol::Broker(broker) => Ok(broker),
            Protocol::Classic(_) => Err(Refused::Inconsistent),
        }
    }

    /// Takes a commit of a member, or of somebody outside if there are no members.
    ///
    /// # Errors
    ///
    /// When it is none, or not now.
    pub fn commit(
        &mut self,
        now: Duration,
        who: Option<Identity>,
        places: &BTreeMap<u32, u64>,
    ) -> Result<(), Refused> {
        match who {
            None if self.is_empty() => {}
            None => return Err(Refused::UnknownMember),
            Some(who) => match &mut self.protocol {
                Protocol::Classic(classic) => classic.admits_commit(now, who)?,
                Protocol::Broker(broker) => broker.admits_commit(who)?,
            },
        }
        self.committed.extend(places);
        Ok(())
    }

    /// What the group has committed.
    pub fn committed(&self) -> &BTreeMap<u32, u64> {
        &self.committed
    }

    /// The topic is another from here on: what was committed for the old one is nothing.
    pub fn forget(&mut self) {
        self.committed.clear();
    }

    /// The coordinator has come up again: it counts from now on, and who waited asks again.
    pub fn revive(&mut self, now: Duration) {
        match &mut self.protocol {
            Protocol::Classic(classic) => classic.revive(now),
            Protocol::Broker(broker) => broker.revive(now),
        }
    }

    /// Puts out who was waited for long enough.
    pub fn advance(&mut self, now: Duration) {
        match &mut self.protocol {
            Protocol::Classic(classic) => classic.advance(now),
            Protocol::Broker(broker) => broker.advance(now),
        }
    }

    /// When there is somebody to put out, if nothing happens.
    pub fn due(&self) -> Option<Duration> {
        match &self.protocol {
            Protocol::Classic(classic) => classic.due(),
            Protocol::Broker(broker) => broker.due(),
        }
    }

    /// The member goes.
    pub fn leave(&mut self, now: Duration, member: Member) {
        match &mut self.protocol {
            Protocol::Classic(classic) => classic.leave(now, member),
            Protocol::Broker(broker) => broker.leave(member),
        }
    }

    /// The topic has so many partitions now.
    pub fn grow(&mut self, now: Duration, partitions: u32) {
        self.partitions = partitions;
        match &mut self.protocol {
            Protocol::Classic(classic) => classic.grow(now),
            Protocol::Broker(broker) => broker.grow(partitions),
        }
    }

    /// How many partitions there are to share.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// Whether it has no members.
    pub fn is_empty(&self) -> bool {
        match &self.protocol {
            Protocol::Classic(classic) => classic.is_empty(),
            Protocol::Broker(broker) => broker.is_empty(),
        }
    }

    /// Whether nobody is about to give or get anything.
    pub fn is_settled(&self) -> bool {
        match &self.protocol {
            Protocol::Classic(classic) => classic.is_settled(),
            Protocol::Broker(broker) => broker.is_settled(),
        }
    }
}

impl Protocol {
    fn new(rebalancing: Rebalancing, patience: Patience, partitions: u32) -> Self {
        match rebalancing {
            Rebalancing::Eager | Rebalancing::Cooperative => {
                Self::Classic(classic::Classic::new(patience))
            }
            Rebalancing::Broker => Self::Broker(broker::Broker::new(patience, partitions)),
        }
    }
}

#[cfg(test)]
mod tests;
