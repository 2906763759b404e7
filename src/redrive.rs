//! Redrive: dead letters go back to the topic that they came from.

use crate::bus::Bus;
use crate::consume::options::Order;
use crate::envelope::Envelope;
use crate::error::{PublishError, SubscribeError};
use crate::middleware::dead_letter::{header, kept};
use crate::runtime::timeout;
use crate::stream::{Deliveries, StreamDelivery};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The group that redrives.
const GROUP: &str = "clearway-redrive";
/// How often the lag is looked at while nothing comes.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The header that names the envelope which a redriven one was.
const REDRIVEN: &str = "redrive-of";

/// What a redrive did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedriveReport {
    /// Envelopes that are back, by topic.
    pub moved: BTreeMap<Arc<str>, u64>,
    /// Envelopes that do not say which topic they came from, or came from none ([`Bus::raw_subscription`]): left where they are,
    /// for the next redrive to see.
    pub homeless: u64,
    /// Whether nothing was left to redrive.
    pub complete: bool,
}

impl Bus {
    /// Puts at most `limit` dead letters of `topic` back where they came from, and returns when there is none left or the limit is
    /// reached.
    ///
    /// Each goes back with its key and headers under a new id, so that no broker takes it for the one that it had, and with
    /// the one that it had first in the header `redrive-of`. A letter is acknowledged when its topic has it: redriven twice
    /// at the worst, lost never.
    ///
    /// # Errors
    ///
    /// When the dead letters cannot be subscribed to, or an envelope cannot be published: it stays, and so do those
    /// behind it.
    pub async fn redrive(&self, topic: &str, limit: u64) -> Result<RedriveReport, RedriveError> {
        let letters = self.raw_topic(topic).map_err(RedriveError::Publish)?;
        // One at a time, in the order of the log; and one that has to stay holds up none behind it.
        let subscription = letters.subscription(GROUP).order(Order::Unordered);
        let mut deliveries = subscription.concurrency(1).stream().await?;
        let report = self.put_all_back(&mut deliveries, limit).await;
        // What was handed out and not put back is left unanswered.
        deliveries.subscription().drain(Duration::ZERO).await;
        report
    }

    async fn put_all_back(
        &self,
        deliveries: &mut Deliveries<Bytes>,
        limit: u64,
    ) -> Result<RedriveReport, RedriveError> {
        let mut report = RedriveReport::default();
        let mut done = 0;
        while done < limit {
            let runtime = &self.core().shared.runtime;
            let next = timeout(runtime, LOOK_EVERY, deliveries.next()).await;
            match next {
                Some(Some(letter)) => {
                    self.put_back(letter, &mut report).await?;
                    done += 1;
                }
                Some(None) => break,
                None => {
                    let status = deliveries.subscription().status().await;
                    let lags: Vec<_> = status.partitions.values().map(|p| p.lag).collect();
                    let waiting = report.homeless;
                    if !lags.is_empty()
                        && lags.iter().copied().sum::<Option<u64>>() == Some(waiting)
                    {
                        report.complete = true;
                        break;
                    }
                }
            }
        }
        Ok(report)
    }

    async fn put_back(
        &self,
        letter: StreamDelivery<Bytes>,
        report: &mut RedriveReport,
    ) -> Result<(), RedriveError> {
        let from = letter.envelope.headers.first(header::TOPIC);
        // What was read from no topic has none to go back to: its subject may look like one.
        let from = from.filter(|_| letter.envelope.headers.first(header::FOREIGN).is_none());
        let Some(home) = from.and_then(|home| std::str::from_utf8(home).ok()) else {
            report.homeless += 1;
            letter.nack(Duration::MAX);
            return Ok(());
        };
        let topic = self.raw_topic(home).map_err(RedriveError::Publish)?;
        let runtime = &*self.core().shared.runtime;
        let mut envelope = Envelope::new(letter.envelope.payload.clone(), runtime);
        envelope.key = letter.envelope.key.clone();
        envelope.trace = letter.envelope.trace.clone();
        envelope.headers = kept(&letter.envelope);
        envelope
            .headers
            .add(REDRIVEN, letter.envelope.id.to_string());
        // How often it has been a dead letter stays with it: the next time counts on.
        if let Some(hops) = letter.envelope.headers.first(header::HOPS) {
            envelope.headers.add(header::HOPS, hops.clone());
        }
        topic
            .publish_envelope(envelope)
            .await
            .map_err(RedriveError::Publish)?;
        *report.moved.entry(home.into()).or_default() += 1;
        letter.ack();
        Ok(())
    }
}

/// Why a redrive stopped.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedriveError {
    /// The dead letters cannot be read.
    #[error("the dead letters cannot be read: {0}")]
    Subscribe(#[from] SubscribeError),
    /// An envelope could not be put back.
    #[error("an envelope could not be put back: {0}")]
    Publish(PublishError),
}
