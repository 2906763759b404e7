//! Generations: all members join, one of them deals out, all hear what they have. Whoever is not there in time is put out.
//!
//! A join and a sync are answered when all have come: the answer is [taken](Classic::take) when it is there.

use super::{Identity, Member, Patience, Refused, Share};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What a member that waits is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// All have joined.
    Joined {
        /// From here on.
        generation: u64,
        /// What every member has, for the one that is to deal out.
        leads: Option<BTreeMap<Member, Share>>,
    },
    /// It was dealt out.
    Synced(Share),
    /// Others come or go: join.
    Again,
}

/// See the module.
#[derive(Debug)]
pub struct Classic {
    patience: Patience,
    state: State,
    generation: u64,
    members: BTreeMap<Member, Present>,
    /// Those in whose place another has come.
    fenced: BTreeSet<Member>,
    last: Member,
    leader: Option<Member>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Who has what is settled.
    Stable,
    /// Members are waited for.
    Joining { until: Duration },
    /// It is dealt out.
    Syncing { until: Duration },
}

/// Which answer a member waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Nothing,
    Joined,
    Synced,
}

#[derive(Debug)]
struct Present {
    instance: Option<Arc<str>>,
    heard: Duration,
    waits: Waits,
    told: Option<Told>,
    /// What it says it has, and of which generation that is.
    has: (u64, Share),
    share: Share,
}

impl Classic {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            patience,
            state: State::Stable,
            generation: 0,
            members: BTreeMap::new(),
            fenced: BTreeSet::new(),
            last: 0,
            leader: None,
        }
    }

    /// A member joins that has these partitions, dealt out in this generation. One without a name is given one; one that comes with the
    /// `instance` of another takes its place. Of what members have, only that of the latest generation counts (KIP-792): a generation that
    /// nobody was dealt anything in takes nothing from what was dealt before.
    ///
    /// # Errors
    ///
    /// When it has a name, and is no member.
    pub fn join(
        &mut self,
        now: Duration,
        member: Option<Member>,
        instance: Option<&Arc<str>>,
        has: (u64, Share),
    ) -> Result<Member, Refused> {
        if let Some(member) = member {
            let present = Self::present(&mut self.members, &self.fenced, member)?;
            present.heard = now;
            present.waits = Waits::Joined;
            present.told = None;
            present.has = has;
            self.rejoin(now);
            return Ok(member);
        }
        self.last += 1;
        let member = self.last;
        let replaced = (self.members.iter())
            .find(|(_, present)| instance.is_some() && present.instance.as_ref() == instance)
            .map(|(replaced, _)| *replaced);
        let mut present = Present {
            instance: instance.cloned(),
            heard: now,
            waits: Waits::Joined,
            told: None,
            has: (0, Share::new()),
            share: Share::new(),
        };
        let Some(replaced) = replaced else {
            self.members.insert(member, present);
            self.rejoin(now);
            return Ok(member);
        };
        self.fenced.insert(replaced);
        if let Some(before) = self.members.remove(&replaced) {
            present.share = before.share;
        }
        if self.leader == Some(replaced) {
            self.leader = Some(member);
        }
        if self.state == State::Stable {
            // Nothing changes hands.
            present.waits = Waits::Nothing;
            present.told = Some(Told::Joined {
                generation: self.generation,
                leads: None,
            });
        }
        self.members.insert(member, present);
        if self.state != State::Stable {
            self.rejoin(now);
        }
        Ok(member)
    }

    /// A member is ready to hear what it has; the one that leads says what each has.
    ///
    /// # Errors
    ///
    /// When it is no member, or of another generation, or others come or go.
    pub fn sync(
        &mut self,
        now: Duration,
        who: Identity,
        dealt: Option<BTreeMap<Member, Share>>,
    ) -> Result<(), Refused> {
        let generation = self.generation;
        let present = Self::present(&mut self.members, &self.fenced, who.member)?;
        if who.generation != generation {
            return Err(Refused::Stale);
        }
        present.heard = now;
        match self.state {
            State::Joining { .. } => Err(Refused::Rebalancing),
            State::Stable => {
                present.told = Some(Told::Synced(present.share.clone()));
                Ok(())
            }
            State::Syncing { .. } => {
                present.waits = Waits::Synced;
                if let Some(mut dealt) = dealt {
                    for (member, present) in &mut self.members {
                        present.share = dealt.remove(member).unwrap_or_default();
                        if present.waits == Waits::Synced {
                            present.waits = Waits::Nothing;
                            present.told = Some(Told::Synced(present.share.clone()));
                        }
                    }
                    self.state = State::Stable;
                }
                Ok(())
            }
        }
    }

    /// A sign of life.
    ///
    /// # Errors
    ///
    /// When it is no member, or of another generation, or is to join again.
    pub fn heartbeat(&mut self, now: Duration, who: Identity) -> Result<(), Refused> {
        let generation = self.generation;
        let present = Self::present(&mut self.members, &self.fenced, who.member)?;
        if who.generation != generation {
            return Err(Refused::Stale);
        }
        present.heard = now;
        match self.state {
            State::Joining { .. } => Err(Refused::Rebalancing),
            State::Stable | State::Syncing { .. } => Ok(()),
        }
    }

    pub(super) fn admits_commit(&mut self, now: Duration, who: Identity) -> Result<(), Refused> {
        let generation = self.generation;
        let present = Self::present(&mut self.members, &self.fenced, who.member)?;
        if who.generation != generation {
            return Err(Refused::Stale);
        }
        if matches!(self.state, State::Syncing { .. }) {
            return Err(Refused::Rebalancing);
        }
        present.heard = now;
        Ok(())
    }

    /// The answer that the member waits for, if it is there.
    ///
    /// # Errors
    ///
    /// When it is no member any more.
    pub fn take(&mut self, member: Member) -> Result<Option<Told>, Refused> {
        let present = Self::present(&mut self.members, &self.fenced, member)?;
        Ok(present.told.take())
    }

    pub(super) fn leave(&mut self, now: Duration, member: Member) {
        if self.members.remove(&member).is_some() {
            self.gone(now);
        }
    }

    pub(super) fn grow(&mut self, now: Duration) {
        if !self.members.is_empty() {
            self.rejoin(now);
        }
    }

    pub(super) fn advance(&mut self, now: Duration) {
        let session = self.patience.session;
        let before = self.members.len();
        // Who waits for an answer cannot give a sign.
        let lives = |present: &Present| now < present.heard + session;
        (self.members).retain(|_, present| present.waits != Waits::Nothing || lives(present));
        let late = match self.state {
            State::Joining { until } => (until <= now).then_some(Waits::Joined),
            State::Syncing { until } => (until <= now).then_some(Waits::Synced),
            State::Stable => None,
        };
        if let Some(in_time) = late {
            self.members.retain(|_, present| present.waits == in_time);
        }
        if self.members.len() < before || late.is_some() {
            self.gone(now);
        }
    }

    pub(super) fn revive(&mut self, now: Duration) {
        for present in self.members.values_mut() {
            present.heard = now;
            present.waits = Waits::Nothing;
            present.told = None;
        }
        let until = now + self.patience.rebalance;
        self.state = match self.state {
            State::Stable => State::Stable,
            State::Joining { .. } | State::Syncing { .. } => State::Joining { until },
        };
    }

    pub(super) fn due(&self) -> Option<Duration> {
        let silent = (self.members.values()).filter(|present| present.waits == Waits::Nothing);
        let silent = silent.map(|present| present.heard + self.patience.session);
        let until = match self.state {
            State::Joining { until } | State::Syncing { until } => Some(until),
            State::Stable => None,
        };
        silent.chain(until).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.state == State::Stable
    }

    fn present<'m>(
        members: &'m mut BTreeMap<Member, Present>,
        fenced: &BTreeSet<Member>,
        member: Member,
    ) -> Result<&'m mut Present, Refused> {
        members
            .get_mut(&member)
            .ok_or(match fenced.contains(&member) {
                true => Refused::Fenced,
                false => Refused::UnknownMember,
            })
    }

    /// Some are gone: the others join again.
    fn gone(&mut self, now: Duration) {
        if self.members.is_empty() {
            self.generation += 1;
            self.state = State::Stable;
            self.leader = None;
        } else {
            self.rejoin(now);
        }
    }

    /// All are to join again; when all have, they are told.
    fn rejoin(&mut self, now: Duration) {
        // Who waits to hear what it has is to join first.
        for present in self.members.values_mut() {
            if present.waits == Waits::Synced {
                present.waits = Waits::Nothing;
                present.told = Some(Told::Again);
            }
        }
        if !matches!(self.state, State::Joining { .. }) {
            let until = now + self.patience.rebalance;
            self.state = State::Joining { until };
        }
        let mut all = self.members.values();
        if all.all(|present| present.waits == Waits::Joined) {
            self.joined(now);
        }
    }

    fn joined(&mut self, now: Duration) {
        self.generation += 1;
        let latest = self.members.values().map(|present| present.has.0).max();
        let counts = |(of, has): &(u64, Share)| match Some(*of) == latest {
            true => has.clone(),
            false => Share::new(),
        };
        let has: BTreeMap<Member, Share> = (self.members.iter())
            .map(|(member, present)| (*member, counts(&present.has)))
            .collect();
        let leader = (self.leader).filter(|leader| self.members.contains_key(leader));
        let leader = leader.or_else(|| self.members.keys().next().copied());
        self.leader = leader;
        for (member, present) in &mut self.members {
            present.waits = Waits::Nothing;
            present.heard = now;
            present.told = Some(Told::Joined {
                generation: self.generation,
                leads: (leader == Some(*member)).then(|| has.clone()),
            });
        }
        let until = now + self.patience.rebalance;
        self.state = State::Syncing { until };
    }
}
