//! Producing: an idempotent producer, as librdkafka's is. Each partition has a queue; a few requests of it are under way at once, and what
//! was not answered is sent again in order, under the numbers that it has.
//!
//! It never gives an envelope two numbers, and never says of one that was sent that it is surely not stored. A publish that has waited too
//! long is `Unknown`, and its envelope is sent on all the same: one that was taken out would leave a hole in the numbers.

mod queue;

use super::cluster::Place;
use super::net::Net;
use clearway::backend::{Host, Slot};
use clearway::{Envelope, Failure, FailureKind};
use parking_lot::Mutex;
use queue::Queue;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// What a producer says that has failed for good.
const FATAL: &str = "Kafka, fatal: the producer does not know what is stored";

/// The producing half of a connection.
pub(super) struct Pipe {
    net: Net,
    host: Arc<dyn Host>,
    producer: u64,
    generation: u64,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    queues: BTreeMap<Place, VecDeque<Sent>>,
    /// Queues whose task has not ended.
    at_work: usize,
    /// Until when to go on, once it is told to end.
    stop: Option<Duration>,
    /// It has failed for good.
    failed: bool,
}

/// A publish that has no outcome, or whose envelope is still to be stored.
#[derive(Clone)]
struct Sent {
    envelope: Envelope,
    slot: Slot,
    due: Duration,
}

impl Pipe {
    pub(super) fn new(
        net: Net,
        host: Arc<dyn Host>,
        (producer, generation): (u64, u64),
    ) -> Arc<Self> {
        Arc::new(Self {
            net,
            host,
            producer,
            generation,
            state: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Takes an envelope to its partition's queue.
    pub(super) fn produce(
        self: &Arc<Self>,
        place: Place,
        envelope: Envelope,
        slot: Slot,
    ) -> Result<(), Failure> {
        let mut state = self.state.lock();
        if state.stop.is_some() {
            let (kind, text) = match state.failed {
                true => (FailureKind::Broker, FATAL),
                false => (FailureKind::Disconnected, "the connection was closed"),
            };
            return Err(Failure::new(kind, text));
        }
        let due = self.net.now() + self.net.settings().publish_timeout;
        let sent = Sent {
            envelope,
            slot,
            due,
        };
        let is_new = !state.queues.contains_key(&place);
        (state.queues.entry(place.clone()).or_default()).push_back(sent);
        if is_new {
            state.at_work += 1;
            let pipe = self.clone();
            self.net.spawn("kafka-produce", async move {
                Queue::new(pipe, place).run().await;
            });
        }
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }

    /// Fails for good, as an idempotent producer does that cannot tell any more what is stored: it sends nothing from here on, and the
    /// bus makes another connection.
    pub(super) fn fail(&self) {
        let before = std::mem::replace(&mut self.state.lock().failed, true);
        if before {
            return;
        }
        // Nothing of it arrives behind what its successor sends.
        self.net.hang_up();
        self.stop(Duration::ZERO);
        let failure = Failure::new(FailureKind::Broker, FATAL);
        self.host.lost(self.generation, failure);
    }

    /// Whether it has failed for good.
    pub(super) fn has_failed(&self) -> bool {
        self.state.lock().failed
    }

    /// Is to flush for `limit`, and to end.
    pub(super) fn stop(&self, limit: Duration) {
        let until = self.net.now() + limit;
        let mut state = self.state.lock();
        state.stop = Some(state.stop.map_or(until, |told| told.min(until)));
        drop(state);
        self.changed.notify_waiters();
    }

    /// Flushes for `limit`, and ends.
    pub(super) async fn close(&self, limit: Duration) {
        self.stop(limit);
        loop {
            let mut changed = Box::pin(self.changed.notified());
            changed.as_mut().enable();
            if self.state.lock().at_work == 0 {
                return;
            }
            changed.await;
        }
    }
}
