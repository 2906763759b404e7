//! The handler of a run: it writes down what it gets and how it ended, and does what the weather has for it.

use super::fault::{Fault, Weather};
use super::life::{Publisher, RawTopic};
use super::plan::{GROUP, Plan};
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
    pub(super) plan: Arc<Plan>,
    pub(super) process: Process,
    pub(super) subscription: u32,
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
            group: GROUP.to_owned(),
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
        self.plan
            .attempts
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
        if let Some((publisher, echo)) = &self.echo
            && weather.strikes(Fault::HandlerPublish)
        {
            let key = delivery.envelope.key.clone().unwrap_or_default();
            let key = String::from_utf8_lossy(&key).into_owned();
            if publisher.publish(echo, &key).await.is_ok() {
                weather.goal("a handler that published");
            }
        }
        if weather.strikes(Fault::HandlerErr) {
            running.how = match self.is_last(delivery) {
                true => Settled::DeadLetter,
                false => Settled::Nack,
            };
            return Err("a handler that fails now and then".into());
        }
        if self.plan.attempts.is_some()
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
        record.settle((&self.id, self.attempt), settle);
    }
}
