//! Taking what the inbox brings: deliveries, statuses of pulls, answers of the server.

use super::super::names;
use super::super::partition::{Fetched, Heard, Phase, REPLY, Reply};
use super::confirm::ACK;
use super::give_back::{FENCE, WORD};
use super::{GIVEN_UP, NatsConsumer, REPAIR_EVERY};
use async_nats::Message;
use async_nats::header::HeaderName;
use std::time::Duration;

/// The server's word in a delivery: whose the partition is.
const PIN: HeaderName = HeaderName::from_static("Nats-Pin-Id");

impl NatsConsumer {
    pub(super) fn take(&mut self, message: Message, now: Duration) {
        // Before its subject is looked at: what others publish may have any, also one of ours.
        if message
            .reply
            .as_ref()
            .is_some_and(|reply| reply.starts_with(REPLY))
        {
            self.take_delivery(message, now);
            return;
        }
        if let Some(token) = message.subject.strip_prefix(&*self.prefix) {
            let Some((Ok(number), of)) = token.split_once('.').map(|(n, of)| (n.parse(), of))
            else {
                return;
            };
            if let Some(of) = of.strip_prefix(ACK) {
                self.take_confirmation(number, of, &message);
                return;
            }
            match of {
                FENCE => return self.take_fence(number),
                WORD => return self.take_word(number),
                _ => {}
            }
            match of.parse() {
                Ok(pull) => self.take_status(number, pull, &message, now),
                Err(_) => self.take_answer(number, of, &message, now),
            }
            return;
        }
        if message.subject.starts_with(GIVEN_UP) {
            self.take_given_up(&message, now);
        }
    }

    fn take_delivery(&mut self, mut message: Message, now: Duration) {
        let topic = &self.request.topic.name;
        let number = match &self.request.foreign {
            None => names::partition_in(topic, &message.subject),
            // Its one durable reads all of it.
            Some(_) => Some(0),
        };
        let Some(number) = number else {
            return;
        };
        let Some(partition) = self.partitions.get_mut(number as usize) else {
            return;
        };
        let Some(subject) = message.reply.take() else {
            return;
        };
        let Some(reply) = Reply::parse(&subject) else {
            return;
        };
        if !reply.is_of(&partition.durable.name) {
            // Of another partition's durable, which somebody made read this one as well: its own brings it too.
            return;
        }
        let pin = match (&message.headers, partition.durable.pins) {
            // The last: an earlier one would be the publisher's.
            (Some(headers), true) => headers.get_last(PIN),
            _ => None,
        };
        // Almost always it is what we have.
        let pin = pin.filter(|pin| partition.pin.as_deref() != Some(pin.as_str()));
        let pin = pin.map(ToString::to_string);
        let sequence = reply.sequence;
        let fetched = Fetched {
            attempt: u32::try_from(reply.attempt).unwrap_or(u32::MAX),
            time_ms: reply.time_ns / 1_000_000,
            reply: subject,
            message,
        };
        if pin.is_some() {
            let name = &partition.durable.name;
            self.pins.remember(&self.stream, name, pin.as_deref());
        }
        partition.on_delivery(sequence, fetched, pin.as_deref(), now);
        if partition.wants_attention(&self.pace) {
            self.touched.insert(number);
        }
    }

    pub(super) fn take_status(&mut self, at: usize, pull: u64, message: &Message, now: Duration) {
        let Some(partition) = self.partitions.get_mut(at) else {
            return;
        };
        let code = message.status.map_or(0, |status| status.as_u16());
        let text = message.description.as_deref().unwrap_or_default();
        let left = message
            .headers
            .as_ref()
            .and_then(|headers| headers.get("Nats-Pending-Messages"))
            .and_then(|left| left.as_str().parse().ok())
            .unwrap_or(0);
        self.touched.insert(partition.number);
        match partition.on_status(code, text, left, pull, now) {
            Heard::Nothing => {}
            Heard::Restart(reason) => self.restarted(reason),
            Heard::Taken => self.start_over(at),
            Heard::Refused(reason) => {
                partition.phase = Phase::Broken {
                    reason,
                    again_at: now + REPAIR_EVERY,
                };
            }
        }
    }
}
