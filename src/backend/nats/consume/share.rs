//! Sharing: members of a group hear of each other, and who has too many partitions gives some up.
//!
//! A partition is given up as one is that is taken away: it is revoked, its handlers end, and when the intake has released it the pin goes
//! back, once the server knows every answer, behind a fence (see [`give_back`](super::give_back)) with all that was fetched. Nothing of it is begun here after the
//! revocation, and nothing of it comes to another before.

use super::super::durable::Durable;
use super::super::members::Members;
use super::super::partition::Phase;
use super::give_back::NAK;
use super::{NatsConsumer, disconnected};
use crate::backend::Incoming;
use crate::error::Failure;
use async_nats::Subscriber;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use std::time::Duration;

/// After so long the server is asked again whether all of a partition that is left is here.
const FENCE_AGAIN: Duration = Duration::from_secs(2);

/// The other members, and where they are heard.
pub(in super::super) struct Company {
    pub(in super::super) members: Members,
    pub(in super::super) beats: Subscriber,
    /// Where everybody's beats go.
    pub(in super::super) subject: String,
}

/// Where members of the group of `durable` hear each other. The domain is in it: the same names in another one are
/// others' streams.
pub(in super::super) fn subject(domain: Option<&str>, durable: &Durable) -> String {
    let domain = domain.unwrap_or("-");
    let of_all = durable.name.rsplit_once('~').map_or("", |(name, _)| name);
    format!("_CLEARWAY.MEMBERS.{domain}.{}.{of_all}", durable.stream)
}

impl NatsConsumer {
    /// Says that we are there, hears who else is, and acts on it. When it is time.
    pub(super) async fn keep_company(&mut self) -> Result<(), Failure> {
        let now = self.now();
        let Some(company) = &mut self.company else {
            return Ok(());
        };
        if !company.members.is_due(now) {
            return Ok(());
        }
        let beat = company.members.beat(false).into();
        let sent = (self.api.client).publish(company.subject.clone(), beat);
        sent.await.map_err(disconnected)?;
        company.members.said(now);
        while let Some(Some(beat)) = company.beats.next().now_or_never() {
            company.members.hear(&beat.payload, now);
        }
        if let Some(partition) = self.partitions.first() {
            company.members.made_again(&partition.born);
        }
        let owned = self.partitions.iter().filter(|p| p.is_owned()).count();
        let part = company.members.part(self.partitions.len(), owned, now);
        for partition in &mut self.partitions {
            if partition.asks_not && !part.is_full {
                self.touched.insert(partition.number);
            }
            partition.asks_not = part.is_full;
        }
        if part.gives_up {
            self.give_up_one();
        }
        Ok(())
    }

    /// Says that we leave, so that nobody waits for us.
    pub(super) async fn say_farewell(&mut self) {
        if let Some(company) = &self.company {
            let beat = company.members.beat(true).into();
            let sent = self.api.client.publish(company.subject.clone(), beat).await;
            // Then they miss our beats.
            drop(sent);
        }
    }

    /// Gives up the partition that has least to do; one at a time.
    fn give_up_one(&mut self) {
        let leaves = |phase: &Phase| matches!(phase, Phase::Yield | Phase::Leave { .. });
        if self
            .partitions
            .iter()
            .any(|partition| leaves(&partition.phase))
        {
            return;
        }
        let open = (self.partitions.iter_mut()).filter(|partition| partition.phase == Phase::Open);
        let Some(partition) = open.min_by_key(|partition| partition.burden()) else {
            return;
        };
        partition.phase = Phase::Yield;
        let (number, epoch) = (partition.number, partition.epoch);
        tracing::debug!(number, topic = %self.request.topic.name, "given up for another member");
        self.news.push_back(Incoming::Revoked {
            partitions: vec![number],
            epoch,
        });
    }

    /// The intake has nothing more of it at hand.
    pub(super) fn released(&mut self, number: u32, epoch: u64) {
        let Some(partition) = self.partitions.get_mut(number as usize) else {
            return;
        };
        if partition.phase == Phase::Yield && partition.epoch == epoch {
            partition.leave();
            self.touched.insert(number);
        }
    }

    /// Goes on with leaving a partition: the server's word, its pin, then the fence, then what is here.
    pub(super) async fn leave(&mut self, at: usize) -> Result<(), Failure> {
        let now = self.now();
        let partition = &self.partitions[at];
        let Phase::Leave {
            asked,
            known,
            fenced,
        } = partition.phase
        else {
            return Ok(());
        };
        if fenced {
            self.say_again(at).await?;
            for reply in self.partitions[at].unanswered() {
                let sent = self
                    .api
                    .client
                    .publish(reply, Bytes::from_static(NAK))
                    .await;
                sent.map_err(disconnected)?;
            }
            self.begin_again(at);
            return Ok(());
        }
        if asked.is_some_and(|asked| now < asked + FENCE_AGAIN) {
            return Ok(());
        }
        // Dropped in the middle it begins again: what is given back is not given back twice.
        if known {
            if let Some(pin) = &partition.pin {
                partition.durable.unpin(&self.api, Some(pin)).await;
            }
            self.ask_fence(at).await?;
        } else {
            self.say_again(at).await?;
            self.ask_word(at).await?;
        }
        self.partitions[at].phase = Phase::Leave {
            asked: Some(now),
            known,
            fenced,
        };
        Ok(())
    }

    /// The server has heard all that was said of deliveries of a partition that is left.
    pub(super) fn take_word(&mut self, at: usize) {
        if let Some(partition) = self.partitions.get_mut(at)
            && let Phase::Leave {
                asked,
                known: known @ false,
                ..
            } = &mut partition.phase
        {
            (*known, *asked) = (true, None);
            self.touched.insert(partition.number);
        }
    }

    /// All that was delivered of a partition that is left is here.
    pub(super) fn take_fence(&mut self, at: usize) {
        if let Some(partition) = self.partitions.get_mut(at)
            && let Phase::Leave { fenced, .. } = &mut partition.phase
        {
            *fenced = true;
            self.touched.insert(partition.number);
        }
    }
}
