//! A member that the broker deals out to: it says what it has with each sign of life, and goes by what it is told.

use super::{AGAIN, Client, Identity, Over, Refused, Share};

impl Client {
    /// One membership, to its end. From when it is told to end it gives nothing back before its last commit: the next one to have it would
    /// begin where the commit before was.
    pub(super) async fn be_dealt_to(&self) -> Over {
        let mut has = Share::new();
        while !self.has_committed() {
            if !self.is_closing() {
                has = self.has();
            }
            match self.dealt(has.clone()).await {
                Ok(Some(share)) if !self.is_closing() => {
                    if let Err(why) = self.go_by(&share).await {
                        return Over::Lost(why);
                    }
                }
                // It gives all back when it leaves.
                Ok(_) => {}
                Err(why) => return Over::Lost(why),
            }
        }
        Over::Closing
    }

    /// Gives a sign of life when it is time to, and hears what it is to have.
    async fn dealt(&self, has: Share) -> Result<Option<Share>, Refused> {
        let settings = self.net.settings();
        let before = self.state().identity;
        match self.say(before, has).await? {
            Some(share) => {
                let is_new = share != self.has();
                if !is_new || self.is_closing() {
                    let told = self.net.within(settings.heartbeat, self.ordered.notified());
                    let _ = told.await;
                }
                Ok(is_new.then_some(share))
            }
            None => {
                self.still_a_member()?;
                self.net.sleep(AGAIN).await;
                Ok(None)
            }
        }
    }

    /// Says what it has. `None`: nobody answers.
    async fn say(&self, who: Option<Identity>, has: Share) -> Result<Option<Share>, Refused> {
        let asked = self.ask_group(move |group, now| {
            let told = group.broker()?.heartbeat(now, who, Some(&has))?;
            Ok(told)
        });
        let Some(told) = self.answered(asked.await)? else {
            return Ok(None);
        };
        self.heard();
        self.state().identity = Some(Identity {
            member: told.member,
            generation: told.epoch,
        });
        Ok(Some(told.share))
    }

    async fn go_by(&self, share: &Share) -> Result<(), Refused> {
        let has = self.has();
        let gone: Share = has.difference(share).copied().collect();
        // Until they are given back it says that it has them.
        let beat = || async {
            let who = self.state().identity;
            self.say(who, has.clone()).await.map(drop)
        };
        if !gone.is_empty() {
            // What it is to have then is told with the next answer: it may be less by then.
            return self.revoke(&gone, beat).await;
        }
        let new: Share = share.difference(&has).copied().collect();
        self.assign(&new).await;
        Ok(())
    }
}
