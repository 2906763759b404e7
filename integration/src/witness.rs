//! A handler that writes down what it gets and how it ended, and fails as often as it was told to.

use crate::member::key_of;
use crate::record::Record;
use bytes::Bytes;
use clearway::{Delivery, Handler, HandlerError, Order, Outcome, Retry};
use clearway_verify::history::{Deliver, Settle, Settled};
use fastrand::Rng;
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::sleep;

/// How a handler works, and what its subscription does about it.
#[derive(Clone, Debug)]
pub struct Manner {
    /// What runs one after the other.
    pub order: Order,
    /// How many deliveries may be taken and not settled.
    pub in_flight: u64,
    /// How long a handler may take.
    pub limit: Option<Duration>,
    /// What is done about one that failed.
    pub retry: Retry,
    /// How long each delivery takes it.
    pub takes: Duration,
    /// It fails one time in so many. 0: never.
    pub fails_every: u64,
    /// What goes wrong by chance.
    pub mishaps: Mishaps,
}

/// How often something goes wrong: parts of one. Drawn for each attempt anew.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mishaps {
    /// It returns an error.
    pub errors: f64,
    /// It panics.
    pub panics: f64,
    /// It does not end by itself.
    pub hangs: f64,
    /// Of the chance.
    pub seed: u64,
}

/// What went wrong, as the history has it.
pub const MISHAPS: [&str; 3] = ["error", "panic", "hang"];

/// What a handler says that panics because it was told to.
pub const PANIC: &str = "a handler that panics now and then";

impl Default for Manner {
    fn default() -> Self {
        Self {
            order: Order::ByPartition,
            in_flight: 64,
            limit: None,
            retry: Retry::new(),
            takes: Duration::ZERO,
            fails_every: 0,
            mishaps: Mishaps::default(),
        }
    }
}

/// See the module.
pub(crate) struct Witness {
    record: Record,
    bus: u32,
    subscription: u32,
    group: String,
    manner: Manner,
    handled: AtomicU64,
    chance: Mutex<Rng>,
}

impl Witness {
    pub(crate) fn new(
        record: &Record,
        (bus, subscription): (u32, u32),
        group: &str,
        manner: Manner,
    ) -> Self {
        Self {
            record: record.clone(),
            bus,
            subscription,
            group: group.to_owned(),
            chance: Mutex::new(Rng::with_seed(manner.mishaps.seed)),
            manner,
            handled: AtomicU64::new(0),
        }
    }

    /// What goes wrong this time, if anything.
    fn mishap(&self) -> Option<&'static str> {
        let chance = self
            .chance
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .f64();
        let Mishaps {
            errors,
            panics,
            hangs,
            ..
        } = self.manner.mishaps;
        let mut below = 0.0;
        for (part, what) in [errors, panics, hangs].into_iter().zip(MISHAPS) {
            below += part;
            if chance < below {
                return Some(what);
            }
        }
        None
    }

    fn begin(&self, delivery: &Delivery<Bytes>) -> Running<'_> {
        let envelope = &delivery.envelope;
        self.record.deliver(Deliver {
            subscription: self.subscription,
            bus: self.bus,
            topic: delivery.topic.to_string(),
            group: self.group.clone(),
            partition: delivery.position.partition,
            position: delivery.position.offset,
            id: envelope.id.to_string(),
            key: key_of(envelope),
            attempt: Some(delivery.attempt),
            epoch: delivery.position.epoch,
        });
        Running {
            witness: self,
            topic: delivery.topic.clone(),
            partition: delivery.position.partition,
            position: delivery.position.offset,
            how: Settled::Cancelled,
            why: None,
        }
    }
}

impl Handler<Bytes> for Witness {
    async fn handle(&self, delivery: Delivery<Bytes>) -> Result<Outcome, HandlerError> {
        let mut running = self.begin(&delivery);
        if !self.manner.takes.is_zero() {
            sleep(self.manner.takes).await;
        }
        running.why = self.mishap();
        match running.why {
            Some("panic") => std::panic::panic_any(PANIC),
            Some("hang") => pending().await,
            _ => {}
        }
        let handled = self.handled.fetch_add(1, Ordering::Relaxed) + 1;
        let fails = self.manner.fails_every;
        if running.why.is_some() || (fails > 0 && handled.is_multiple_of(fails)) {
            running.how = Settled::Nack;
            return Err("a handler that fails now and then".into());
        }
        running.how = Settled::Ack;
        Ok(Outcome::Ack)
    }
}

/// A handler at work. Written down when it ends, however it does.
struct Running<'w> {
    witness: &'w Witness,
    topic: Arc<str>,
    partition: u32,
    position: u64,
    how: Settled,
    why: Option<&'static str>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.witness.record.recorder().record(Settle {
            subscription: self.witness.subscription,
            topic: self.topic.to_string(),
            partition: self.partition,
            position: self.position,
            how: self.how,
            why: self.why.map(str::to_owned),
        });
    }
}
