//! What a consumer asks of the server: how durables stand, that they are made again, and deliveries.

use super::super::durable::{self, PRIORITY_GROUP};
use super::super::ensure;
use super::super::partition::{Partition, Phase};
use super::{NatsConsumer, disconnected};
use crate::backend::Incoming;
use crate::error::{Failure, FailureKind};
use bytes::Bytes;
use serde_json::json;
use std::time::Duration;

/// Between attempts to make a durable again.
pub(super) const REPAIR_EVERY: Duration = Duration::from_millis(500);

/// Why a partition of another's stream is broken.
const STREAM_GONE: &str = "the stream is gone";

impl NatsConsumer {
    /// Whether there is something to [attend](Self::attend) to.
    pub(super) fn is_to_attend(&self) -> bool {
        let company = self.company.as_ref();
        self.touched.first().is_some()
            || company.is_some_and(|company| company.members.is_due(self.woken))
    }

    /// Does what the touched partitions need of the server.
    pub(super) async fn attend(&mut self) -> Result<(), Failure> {
        self.keep_company().await?;
        while let Some(number) = self.touched.first() {
            let at = number as usize;
            if matches!(self.partitions[at].phase, Phase::Look { .. }) {
                self.look(at).await?;
            }
            let now = self.now();
            if matches!(&self.partitions[at].phase, Phase::Broken { again_at, .. } if *again_at <= now)
            {
                self.repair(at).await?;
            }
            self.watch(at).await?;
            self.speak_for(at).await?;
            self.acknowledge_again(at).await?;
            self.ask_back(at).await?;
            self.leave(at).await?;
            self.pull(at).await?;
            self.touched.done();
        }
        if self.in_doubt && !self.partitions.iter().any(|partition| partition.in_doubt) {
            self.in_doubt = false;
            self.sure = self.now();
        }
        Ok(())
    }

    /// Says of what is held ready that it is not forgotten: it would come again, and count as if a handler had tried it.
    async fn speak_for(&mut self, at: usize) -> Result<(), Failure> {
        let now = self.now();
        let waiting = self.partitions[at].to_speak_for(now, &self.pace);
        if waiting.is_empty() {
            return Ok(());
        }
        for reply in waiting {
            let progress = Bytes::from_static(b"+WPI");
            let sent = self.api.client.publish(reply, progress).await;
            sent.map_err(disconnected)?;
        }
        self.partitions[at].spoke_for(now);
        Ok(())
    }

    /// Asks how the durable stands.
    async fn look(&mut self, at: usize) -> Result<(), Failure> {
        let standing = self.partitions[at].durable.look(&self.api).await;
        let now = self.now();
        let partition = &mut self.partitions[at];
        match standing {
            Ok(Some(standing)) => {
                if !partition.on_standing(&standing, now, &self.pace) {
                    self.start_over(at);
                }
            }
            Ok(None) => {
                partition.phase = Phase::Broken {
                    reason: "the durable is gone".into(),
                    again_at: now,
                };
            }
            // No answer: the next tick looks again. If the connection is lost the inbox will say so.
            Err(error) => tracing::debug!(error = %error.into_failure(), "durable not seen"),
        }
        Ok(())
    }

    /// Asks back what is out and not ours. Dropped in the middle it goes on where it was; what is asked for twice comes once.
    async fn ask_back(&mut self, at: usize) -> Result<(), Failure> {
        let nak = Bytes::from_static(b"-NAK");
        while let Some((subject, last)) = self.partitions[at].ask() {
            let subject = subject.to_owned();
            if last {
                // The server answers when it has done all of them. If the answer does not come, some may be delivered twice:
                // that is all that happens.
                let _ = self.api.client.request(subject, nak.clone()).await;
            } else {
                let sent = self.api.client.publish(subject, nak.clone()).await;
                sent.map_err(disconnected)?;
            }
            self.partitions[at].asked();
        }
        Ok(())
    }

    /// Makes sure of the stream and the durable, and starts over.
    async fn repair(&mut self, at: usize) -> Result<(), Failure> {
        let repaired = self.make_again(at).await;
        let later = self.now() + REPAIR_EVERY;
        let partition = &mut self.partitions[at];
        let Phase::Broken { reason, again_at } = &mut partition.phase else {
            return Ok(());
        };
        match repaired {
            Ok(()) => {
                let reason = std::mem::take(reason);
                self.start_over(at);
                self.restarted(reason);
                Ok(())
            }
            Err(failure) if failure.is_retryable() => {
                tracing::debug!(%failure, "durable not made again yet");
                *again_at = later;
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    async fn make_again(&mut self, at: usize) -> Result<(), Failure> {
        let mut born = durable::born(&self.api, &self.stream)
            .await
            .map_err(|error| error.into_failure())?;
        if born.is_none() && self.request.foreign.is_some() {
            return Err(self.gone(at));
        }
        if born.is_none() {
            self.host.topic_missing(&self.request.topic.name);
            ensure::ensure(&self.api, &self.options, &*self.host, &self.request.topic)
                .await
                .map_err(|error| error.into_failure())?;
            born = durable::born(&self.api, &self.stream)
                .await
                .map_err(|error| error.into_failure())?;
        }
        let partition = &mut self.partitions[at];
        let born = born.unwrap_or_default();
        let begin = partition.resume_at(&born);
        let durable = &partition.durable;
        if partition.is_to_be_replaced {
            let deleted = durable.delete(&self.api).await;
            deleted.map_err(|error| error.into_failure())?;
            partition.is_to_be_replaced = false;
        }
        let durable = &partition.durable;
        let made = durable.ensure(&self.api, &self.options, begin, Some(begin));
        let made = made.await.map_err(|error| error.into_failure())?;
        if let Some(drift) = made.drift.filter(|drift| drift.foreign) {
            let number = partition.number;
            super::tell_drift(&*self.host, &self.request, number, &drift.what);
        }
        partition.made_again(born.clone());
        // In another stream the other durables are gone too, whether we have heard it or not.
        let now = self.now();
        for other in self.partitions.iter_mut().filter(|p| p.born != born) {
            other.break_down("the stream was made again", now);
            self.touched.insert(other.number);
        }
        Ok(())
    }

    /// The stream is gone, and not ours to make again: it is waited for. Said once.
    fn gone(&mut self, at: usize) -> Failure {
        if let Phase::Broken { reason, .. } = &mut self.partitions[at].phase
            && reason != STREAM_GONE
        {
            *reason = STREAM_GONE.into();
            self.host.topic_missing(&self.request.topic.name);
        }
        Failure::new(FailureKind::NoTopic, STREAM_GONE)
    }

    /// Ends the epoch of a partition and begins another.
    pub(super) fn start_over(&mut self, at: usize) {
        let Partition { number, epoch, .. } = self.partitions[at];
        self.news.push_back(Incoming::Revoked {
            partitions: vec![number],
            epoch,
        });
        self.begin_again(at);
    }

    /// Begins the next epoch of a partition whose last one is over.
    pub(super) fn begin_again(&mut self, at: usize) {
        self.epoch += 1;
        let partition = &mut self.partitions[at];
        let number = partition.number;
        self.unanswered -= partition.start_over(self.epoch);
        let name = partition.durable.name.clone();
        self.pins.remember(&self.stream, &name, None);
        self.news.push_back(Incoming::Assigned {
            partitions: vec![number],
            epoch: self.epoch,
        });
        self.touched.insert(number);
    }

    /// Asks for deliveries, if the partition wants some.
    pub(super) async fn pull(&mut self, at: usize) -> Result<(), Failure> {
        let now = self.now();
        let partition = &mut self.partitions[at];
        let Some(count) = partition.wants(now, &self.pace) else {
            return Ok(());
        };
        let mut body = json!({
            "batch": count,
            "expires": self.pace.expires.as_nanos() as u64,
            "idle_heartbeat": self.pace.heartbeat.as_nanos() as u64,
        });
        if partition.durable.pins {
            body["group"] = json!(PRIORITY_GROUP);
            if let Some(pin) = &partition.pin {
                body["id"] = json!(pin);
            }
        }
        let verb = format!(
            "CONSUMER.MSG.NEXT.{}.{}",
            self.stream, partition.durable.name
        );
        let inbox = format!(
            "{}{}.{}",
            self.prefix,
            partition.number,
            partition.next_pull()
        );
        let subject = self.api.subject(&verb);
        let body = Bytes::from(body.to_string());
        let sent = self.api.client.publish_with_reply(subject, inbox, body);
        sent.await.map_err(disconnected)?;
        partition.pulled(count, now);
        Ok(())
    }
}
