//! The handler of a run: it writes down what it gets and how it ended, and does what the weather has for it.

use super::fault::{Fault, Weather};
use super::life::{Life, Publisher, RawTopic};
use super::record::Record;
use super::world::Process;
use crate::history::{Deliver, Settle, Settled};
use bytes::Bytes;
use clearway::{Delivery, Handler, HandlerError, Outcome, Runtime};
use std::sync::Arc;
use std::time::Duration;

/// What a handler panics with that was told to.
pub const PANIC: &str = "a handler that panics now and then";

/// See the module.
pub struct Witness {
    pub(super) record: Arc<Record>,
    pub(super) weather: Weather,
    pub(super) process: Process,
    /// Whose bus it is called from.
    pub(super) life: Arc<Life>,
    pub(super) subscription: u32,
    /// Topic and group.
    pub(super) place: (&'static str, &'static str),
    /// After so many of them it is given up.
    pub(super) attempts: Option<u32>,
    /// Where it publishes to, if it does.
    pub(super) echo: Option<(Arc<Publisher>, RawTopic)>,
}

impl Witness {
    fn begin(&self, delivery: &Delivery<Bytes>) -> Running<'_> {
        let envelope = &delivery.envelope;
        let key = envelope.key.as_deref();
        let id = envelope.id.to_string();
        self.record.deliver(Deliver {
            subscription: self.subscription,
            bus: self.process.number(),
            topic: delivery.topic.to_string(),
            group: self.place.1.to_owned(),
            partition: delivery.position.partition,
            position: delivery.position.offset,
            id: id.clone(),
            key: key.map(|key| String::from_utf8_lossy(key).into_owned()),
            attempt: Some(delivery.attempt),
            epoch: delivery.position.epoch,
        });
        Running {
            witness: self,
            id,
            attempt: delivery.attempt,
            topic: delivery.topic.to_string(),
            partition: delivery.position.partition,
            position: delivery.position.offset,
            // A panic and a time limit are attempts like others.
            how: match self.is_last(delivery) {
                true => Settled::DeadLetter,
                false => Settled::Cancelled,
            },
        }
    }

    /// Whether this attempt is the last before the dead letters.
    fn is_last(&self, delivery: &Delivery<Bytes>) -> bool {
        self.attempts
            .is_some_and(|attempts| delivery.attempt >= attempts)
    }

    async fn work(
        &self,
        delivery: &Delivery<Bytes>,
        running: &mut Running<'_>,
    ) -> Result<Outcome, HandlerError> {
        let weather = &self.weather;
        if weather.strikes(Fault::HandlerSlow) {
            self.process
                .sleep(Duration::from_millis(20 + weather.below(600)))
                .await;
        } else if weather.below(4) == 0 {
            self.process
                .sleep(Duration::from_micros(weather.below(3000)))
                .await;
        }
        if weather.strikes(Fault::HandlerPanic) {
            std::panic::panic_any(PANIC);
        }
        if weather.strikes(Fault::HandlerHang) {
            weather.goal("a handler cut off by its time limit");
            std::future::pending::<()>().await;
        }
        if weather.strikes(Fault::HandlerPublish) && self.publish(delivery).await {
            weather.goal("a handler that published");
        }
        if weather.strikes(Fault::HandlerSubscribe) {
            self.life.subscribe_within().await;
        }
        if weather.strikes(Fault::HandlerDrain) {
            self.life.drain_within(self.place).await;
        }
        if weather.strikes(Fault::HandlerClose) && self.life.close_within().await {
            // It is at work until it ends, and may publish as before.
            self.publish(delivery).await;
        }
        if weather.strikes(Fault::HandlerErr) {
            running.how = match self.is_last(delivery) {
                true => Settled::DeadLetter,
                false => Settled::Nack,
            };
            return Err("a handler that fails now and then".into());
        }
        if self.attempts.is_some()
            && weather.has(Fault::HandlerErr)
            && !weather.is_calm()
            && weather.below(200) == 0
        {
            running.how = Settled::DeadLetter;
            return Ok(Outcome::Reject("it will never be handled".into()));
        }
        running.how = Settled::Ack;
        Ok(Outcome::Ack)
    }
}

impl Witness {
    /// Publishes one of the same key, if there is anywhere to. Says whether the broker has it.
    async fn publish(&self, delivery: &Delivery<Bytes>) -> bool {
        let Some((publisher, echo)) = &self.echo else {
            return false;
        };
        let key = delivery.envelope.key.clone().unwrap_or_default();
        let key = String::from_utf8_lossy(&key).into_owned();
        publisher.publish(echo, &key).await.is_ok()
    }
}

impl Handler<Bytes> for Witness {
    async fn handle(&self, delivery: Delivery<Bytes>) -> Result<Outcome, HandlerError> {
        let mut running = self.begin(&delivery);
        self.work(&delivery, &mut running).await
    }
}

/// A handler at work. Written down when it ends, however it does.
struct Running<'w> {
    witness: &'w Witness,
    id: String,
    attempt: u32,
    topic: String,
    partition: u32,
    position: u64,
    how: Settled,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let record = &self.witness.record;
        if !self.witness.process.is_alive() {
            record.died();
            return;
        }
        let settle = Settle {
            subscription: self.witness.subscription,
            topic: std::mem::take(&mut self.topic),
            partition: self.partition,
            position: self.position,
            how: self.how,
            why: None,
        };
        let (_, group) = self.witness.place;
        record.settle(group, (&self.id, self.attempt), settle);
    }
}
