//! The thread that takes the client's reports: it polls, settles what has waited long enough, flushes and ends the client.
//!
//! It never waits for a publisher, nor longer than for a poll before it looks at what it is told.

use super::{Client, Told, Waiting, codes};
use crate::backend::{Host, Outcome};
use crate::protocol::sync::{ArcCell, Mutex};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::{Producer as _, PurgeConfig};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How long the thread waits for reports at a time. So long it may take to hear that it is to end. Not a whole number of milliseconds: the client
/// waits for whole ones only and looks again and again for the rest, which with 25 ms was almost one of them each time, so 4 % of a core with
/// nothing to do.
const POLL: Duration = Duration::from_micros(25_050);
/// How long the client's threads are told not to linger, at a time.
const PUSH: Duration = Duration::from_millis(2);
/// How long reports of what was taken out of the queue may take to come.
const PURGE_LIMIT: Duration = Duration::from_millis(500);

/// The thread that takes reports.
pub(super) struct Taker {
    pub(super) client: Arc<Option<Client>>,
    pub(super) cell: Arc<ArcCell<Option<Client>>>,
    pub(super) told: Arc<Mutex<Told>>,
    pub(super) waiting: Arc<Waiting>,
    pub(super) host: Arc<dyn Host>,
}

impl Taker {
    pub(super) fn run(self) {
        let Some(client) = self.client.as_ref() else {
            return;
        };
        let until = loop {
            client.poll(POLL);
            self.expire(client);
            let told = *self.told.lock();
            if let Some(until) = told.until {
                break until;
            }
            if told.flush {
                self.push(client);
            }
        };
        while client.in_flight_count() > 0 && self.host.runtime().now() < until {
            self.push(client);
            client.poll(POLL);
        }
        if client.in_flight_count() > 0 {
            client.purge(PurgeConfig::default().queue().inflight());
            if let Err(error) = client.flush(PURGE_LIMIT) {
                tracing::warn!(target: "clearway::kafka", %error, "reports have not come; their publishes end as unknown");
            }
        }
        self.cell.store(Arc::new(None));
        self.destroy();
    }

    /// Has the client's threads send what lingers. It does not linger while somebody flushes, and a flush over this interface ends at once: they
    /// have to be at work in that moment. So it is asked again and again for a while, which takes no longer than a request.
    fn push(&self, client: &Client) {
        let until = self.host.runtime().now() + PUSH;
        while client.in_flight_count() > 0 && self.host.runtime().now() < until {
            let _still_some = client.flush(Duration::ZERO);
        }
    }

    /// Settles what has waited long enough, and takes all out of the client when that is too much or too old.
    fn expire(&self, client: &Client) {
        let now = self.host.runtime().now();
        while let Some(slot) = self.waiting.expire(now) {
            let failure = codes::failure_of(Code::MessageTimedOut);
            self.host.settle(slot, Outcome::Unknown(failure));
        }
        if self.waiting.is_too_late(now) {
            tracing::warn!(target: "clearway::kafka", "what was not acknowledged for long is taken back, and all that is under way with it");
            client.purge(PurgeConfig::default().queue().inflight());
        }
    }

    /// Ends the client here, where it may block: a publisher that is still in `produce` has it for a moment.
    fn destroy(mut self) {
        for _ in 0..1000 {
            match Arc::try_unwrap(self.client) {
                Ok(client) => return drop(client),
                Err(shared) => self.client = shared,
            }
            thread::park_timeout(Duration::from_millis(1));
        }
    }
}
