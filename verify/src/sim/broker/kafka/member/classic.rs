//! A member of generations: joins, hears what it has, gives signs of life, and joins again whenever others come or go.

use super::{AGAIN, Client, Denied, Identity, Over, Rebalancing, Refused, Share};
use crate::sim::broker::kafka::group::assign;
use crate::sim::broker::kafka::group::classic::Told;

/// How a wait for the coordinator ended.
enum Heard {
    Told(Told),
    /// Join again.
    Again,
}

impl Client {
    /// One membership, to its end.
    pub(super) async fn join_in_turn(&self) -> Over {
        match self.generations().await {
            Ok(()) => Over::Closing,
            Err(why) => Over::Lost(why),
        }
    }

    /// Ends when it is told to, or is no member any more. Who has asked to join before it was told to goes on asking, as librdkafka's
    /// own thread does: without the answer it does not know its generation, and its last commit would be refused.
    async fn generations(&self) -> Result<(), Refused> {
        let eager = self.net.settings().rebalancing == Rebalancing::Eager;
        let mut is_joining = false;
        while !self.is_closing() || is_joining && !self.has_committed() {
            self.still_a_member()?;
            is_joining = true;
            let Some(share) = self.join(eager).await? else {
                self.net.sleep(AGAIN).await;
                continue;
            };
            is_joining = false;
            if self.is_closing() {
                return Ok(());
            }
            let has = self.has();
            let gone: Share = has.difference(&share).copied().collect();
            self.revoke(&gone, || self.beat()).await?;
            let new: Share = share.difference(&has).copied().collect();
            self.assign(&new).await;
            if !gone.is_empty() {
                // Others wait for what was given back.
                continue;
            }
            self.stay().await?;
            if eager {
                let all = self.has();
                self.revoke(&all, || self.beat()).await?;
            }
        }
        Ok(())
    }

    /// The coordinator has answered us.
    pub(super) fn heard(&self) {
        self.state().heard = self.net.now();
    }

    pub(super) fn has(&self) -> Share {
        self.state().owned.keys().copied().collect()
    }

    /// A member that heard nothing for as long as a session lasts takes itself for gone, as the coordinator does.
    pub(super) fn still_a_member(&self) -> Result<(), Refused> {
        let (identity, heard) = {
            let state = self.state();
            (state.identity, state.heard)
        };
        let session = self.net.settings().patience.session;
        match identity.is_some() && self.net.now() >= heard + session {
            true => Err(Refused::UnknownMember),
            false => Ok(()),
        }
    }

    /// Joins, and hears what it has. `None`: others come and go, or nobody answers.
    async fn join(&self, eager: bool) -> Result<Option<Share>, Refused> {
        let (before, dealt_in) = {
            let state = self.state();
            (state.identity, state.dealt_in)
        };
        let has = match (before, eager) {
            (Some(_), false) => (dealt_in, self.has()),
            _ => (0, Share::new()),
        };
        let name = before.map(|identity| identity.member);
        let asked = self.ask_group(move |group, now| {
            let member = group.classic()?.join(now, name, None, has)?;
            Ok((member, group.partitions()))
        });
        let Some((member, partitions)) = self.answered(asked.await)? else {
            return Ok(None);
        };
        self.heard();
        // So that it can leave.
        let generation = before.map_or(0, |identity| identity.generation);
        self.state().identity = Some(Identity { member, generation });
        let Heard::Told(Told::Joined { generation, leads }) = self.hear(member).await? else {
            return Ok(None);
        };
        self.heard();
        let identity = Identity { member, generation };
        self.state().identity = Some(identity);
        let dealt = leads.map(|leads| match eager {
            true => assign::by_turns(&leads, partitions),
            false => assign::cooperative(&leads, partitions),
        });
        let asked = self.ask_group(move |group, now| group.classic()?.sync(now, identity, dealt));
        if self.answered(asked.await)?.is_none() {
            return Ok(None);
        }
        let Heard::Told(Told::Synced(share)) = self.hear(member).await? else {
            return Ok(None);
        };
        self.heard();
        self.state().dealt_in = generation;
        Ok(Some(share))
    }

    /// Waits for what the coordinator has to tell.
    async fn hear(&self, member: u64) -> Result<Heard, Refused> {
        let hold = self.net.settings().patience.rebalance * 2;
        let (topic, id) = (self.request.topic.name.clone(), self.topic);
        let group = self.request.group.clone();
        let asked = self.net.ask_until(hold, move |cluster, _| {
            let group = match cluster.group(&topic, id, &group) {
                Ok(group) => group,
                Err(denied) => return Some(Err(denied)),
            };
            let told = group.classic().and_then(|classic| classic.take(member));
            told.map_err(Denied::Group).transpose()
        });
        // Whoever has committed for the last time does not wait for others.
        let asked = tokio::select! {
            biased;
            asked = asked => asked,
            () = self.told(Self::has_committed) => return Ok(Heard::Again),
        };
        let Some(told) = self.answered(asked.map(Option::transpose))? else {
            return Ok(Heard::Again);
        };
        self.heard();
        Ok(match told {
            Some(Told::Again) | None => Heard::Again,
            Some(told) => Heard::Told(told),
        })
    }

    pub(super) async fn closing(&self) {
        self.told(Self::is_closing).await;
    }

    /// Waits until it was told so.
    async fn told(&self, so: impl Fn(&Self) -> bool) {
        loop {
            let mut woken = Box::pin(self.woken.notified());
            woken.as_mut().enable();
            if so(self) {
                return;
            }
            woken.await;
        }
    }

    /// What a coordinator's answer means. `None`: there is none, or none yet.
    pub(super) fn answered<R>(
        &self,
        answer: Result<Result<R, Denied>, clearway::Failure>,
    ) -> Result<Option<R>, Refused> {
        match answer {
            Ok(Ok(answer)) => Ok(Some(answer)),
            Ok(Err(Denied::Group(Refused::Rebalancing))) | Err(_) => Ok(None),
            Ok(Err(Denied::Group(refused))) => {
                if matches!(refused, Refused::UnknownMember | Refused::Fenced) {
                    self.net.shared.weather.goal("a zombie woke");
                }
                Err(refused)
            }
            Ok(Err(_)) => {
                self.miss();
                Ok(None)
            }
        }
    }

    /// Gives signs of life until it is to join again.
    async fn stay(&self) -> Result<(), Refused> {
        loop {
            let every = self.net.settings().heartbeat;
            let _ = self.net.within(every, self.ordered.notified()).await;
            if self.is_closing() {
                return Ok(());
            }
            match self.beat().await {
                Ok(()) => {}
                Err(Refused::Rebalancing) => return Ok(()),
                Err(refused) => return Err(refused),
            }
        }
    }

    /// One sign of life.
    async fn beat(&self) -> Result<(), Refused> {
        let Some(identity) = self.state().identity else {
            return Err(Refused::UnknownMember);
        };
        let asked = self.ask_group(move |group, now| group.classic()?.heartbeat(now, identity));
        match asked.await {
            Ok(Err(Denied::Group(Refused::Rebalancing))) => {
                self.heard();
                Err(Refused::Rebalancing)
            }
            answer => {
                if self.answered(answer)?.is_some() {
                    self.heard();
                }
                self.still_a_member()
            }
        }
    }
}
