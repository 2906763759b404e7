//! Watching the durables: somebody may change one, or its settings may make the server give up what nobody has answered.
//!
//! Nothing here waits for the server: it is asked, and its answers come into the inbox like deliveries.

use super::super::api::code;
use super::super::drift::{self, Drift};
use super::super::durable::{self, Begin};
use super::super::partition::Phase;
use super::super::pins::Place;
use super::{NatsConsumer, disconnected};
use crate::backend::{Host, SubscribeRequest};
use crate::error::Failure;
use crate::events::BusEvent;
use async_nats::Message;
use bytes::Bytes;
use serde_json::Value;
use std::time::Duration;

/// Where the server says that it has given up a delivery: `<this>.<stream>.<durable>`.
pub(in super::super) const GIVEN_UP: &str = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES";

/// What the answers in the inbox are to.
const INFO: &str = "info";
const MEND: &str = "mend";

/// Says that a durable was not as it must be.
pub(in super::super) fn tell_drift(
    host: &dyn Host,
    request: &SubscribeRequest,
    partition: u32,
    what: &str,
) {
    let (topic, group) = (request.topic.name.clone(), request.group.clone());
    let what = format!("partition {partition}: {what}");
    tracing::warn!(%topic, %group, what, "somebody changed the durable");
    host.event(BusEvent::ConsumerDrifted { topic, group, what });
}

impl NatsConsumer {
    /// Asks how the durable is, when it is time, and puts right what is known to be wrong.
    pub(super) async fn watch(&mut self, at: usize) -> Result<(), Failure> {
        let now = self.now();
        if let Some(config) = self.partitions[at].mend.clone() {
            let durable = &self.partitions[at].durable;
            let (verb, body) = (durable.create_verb(), durable.create_body(config));
            self.ask(at, &verb, MEND, body.to_string().into()).await?;
            self.partitions[at].mend = None;
        }
        if self.partitions[at].is_to_be_watched(now, &self.pace) {
            let verb = self.partitions[at].durable.info_verb();
            self.ask(at, &verb, INFO, Bytes::new()).await?;
            self.partitions[at].watches(now);
        }
        Ok(())
    }

    async fn ask(&mut self, at: usize, verb: &str, of: &str, body: Bytes) -> Result<(), Failure> {
        let inbox = format!("{}{at}.{of}", self.prefix);
        let subject = self.api.subject(verb);
        let sent = self.api.client.publish_with_reply(subject, inbox, body);
        sent.await.map_err(disconnected)
    }

    /// The server has answered what `watch` asked.
    pub(super) fn take_answer(&mut self, at: usize, of: &str, message: &Message, now: Duration) {
        let answer = serde_json::from_slice::<Value>(&message.payload);
        // No answer worth the name: nobody was there. The next look will tell.
        let (Ok(answer), Some(partition)) = (answer, self.partitions.get_mut(at)) else {
            return;
        };
        // While it is made again, what was said before is of no interest.
        if matches!(partition.phase, Phase::Broken { .. }) {
            return;
        }
        self.touched.insert(partition.number);
        if let Some(error) = answer.get("error") {
            let is_gone =
                (error["err_code"].as_u64()).is_some_and(|c| code::NO_DURABLE.contains(&c));
            let text = error["description"].as_str().unwrap_or("no reason given");
            match of {
                _ if is_gone => drop(partition.break_down("the durable is gone", now)),
                MEND => drop(partition.break_down(&format!("not put right: {text}"), now)),
                _ => tracing::debug!(text, "durable not seen"),
            }
            return;
        }
        let wanted = partition.durable.config(&self.options, Begin::First);
        match drift::drift(&answer["config"], &wanted) {
            None => partition.on_watched(&durable::standing(&answer)),
            Some(drift) => self.put_right(at, &drift, &answer["config"], &wanted, now),
        }
    }

    fn put_right(
        &mut self,
        at: usize,
        drift: &Drift,
        there: &Value,
        wanted: &Value,
        now: Duration,
    ) {
        let partition = &mut self.partitions[at];
        if drift.misread {
            // Who makes it again tells what was wrong.
            let reason = format!("somebody changed what it reads: {}", drift.what);
            let _ = partition.break_down(&reason, now);
            return;
        }
        partition.mend = Some(drift::adapted(there, wanted));
        let number = partition.number;
        tell_drift(&*self.host, &self.request, number, &drift.what);
    }

    /// The server has given up a delivery, since somebody has given the durable a `max_deliver`. Ours have none: it is made again, and
    /// begins with what was given up.
    pub(super) fn take_given_up(&mut self, advisory: &Message, now: Duration) {
        let Ok(said) = serde_json::from_slice::<Value>(&advisory.payload) else {
            return;
        };
        let (Some(name), Some(sequence)) = (said["consumer"].as_str(), said["stream_seq"].as_u64())
        else {
            return;
        };
        // Whoever hears it: the owner may be the one that is gone.
        let partition =
            (self.partitions.iter_mut()).find(|partition| partition.durable.name == name);
        let Some(partition) = partition else {
            return;
        };
        let deliveries = said["deliveries"].as_u64().unwrap_or(0);
        let what = format!(
            "max_deliver: the server gave up position {sequence} after {deliveries} deliveries"
        );
        let first = partition.on_given_up(sequence, &what, now);
        let number = partition.number;
        if !first {
            return;
        }
        self.touched.insert(number);
        tell_drift(&*self.host, &self.request, number, &what);
    }

    /// Notes where each partition is, if another consumer takes the place of this one.
    pub(super) fn remember_places(&self) {
        for partition in &self.partitions {
            let place = match partition.resume_at(&partition.born) {
                Begin::At(sequence) if self.failed => Some(Place {
                    born: partition.born.clone(),
                    sequence,
                }),
                _ => None,
            };
            let name = &partition.durable.name;
            self.pins.remember_place(&self.stream, name, place);
        }
    }
}
