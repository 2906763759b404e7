//! Producing: from the publisher's thread into the client's queue, and back by the one thread that takes its reports.
//!
//! A publisher hands its envelope to the client, which copies it and never waits; the slot goes along as the client's opaque. The
//! client's own threads batch, send and send again. One thread of ours takes the delivery reports and settles. Neither waits
//! for the other: the one lock on that way is taken by that thread only, unless the client refuses.
//!
//! The client has no time limit of its own ([`waiting`](super::waiting)): the thread settles what has waited long enough.

mod taker;

use super::codes;
use super::headers;
use super::log::{self, Trouble};
use super::native;
use super::options::Options;
use super::stranded::Stranded;
use super::threads::{self, Ends};
use super::waiting::{Most, Waiting};
use crate::backend::{self, Host, Slot, partition_of};
use crate::config::Durability;
use crate::envelope::Envelope;
use crate::error::{Failure, FailureKind};
use crate::metrics::ClientNumbers;
use crate::protocol::sync::{ArcCell, Mutex};
use crate::signal::Signal;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext, PurgeConfig};
use rdkafka::{ClientContext, Statistics};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use taker::Taker;

/// The client's opaque is as wide as a pointer, and a slot is 64 bits.
const _: () = assert!(
    usize::BITS >= 64,
    "the Kafka backend needs a 64-bit machine"
);

/// Between two looks at a topic that the client does not see yet.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How to produce to an ensured topic.
#[derive(Clone, Debug)]
pub struct Route {
    pub(super) topic: Arc<str>,
    pub(super) partitions: u32,
    pub(super) durability: Durability,
}

impl backend::Route for Route {
    fn durability(&self) -> Durability {
        self.durability
    }

    fn partitions(&self) -> u32 {
        self.partitions
    }
}

pub(super) type Client = BaseProducer<Reports>;

/// The producing half of a connection.
pub(super) struct Pipe {
    /// `None` once it has ended.
    client: Arc<ArcCell<Option<Client>>>,
    told: Arc<Mutex<Told>>,
    host: Arc<dyn Host>,
    ended: Arc<Signal<()>>,
    waiting: Arc<Waiting>,
    pub(super) state: Arc<State>,
}

/// What the thread is told.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    /// Nothing lingers any more.
    flush: bool,
    /// Until when to flush, and to end then.
    until: Option<Duration>,
}

/// What the client says of itself.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) trouble: Trouble,
    stranded: Stranded,
    numbers: Mutex<Option<ClientNumbers>>,
}

/// Where the client's reports go.
pub(super) struct Reports {
    host: Arc<dyn Host>,
    generation: u64,
    state: Arc<State>,
    waiting: Arc<Waiting>,
}

impl Pipe {
    /// Makes the client, and the thread that takes its reports. Connects to nothing yet.
    pub(super) fn start(
        options: &Options,
        host: Arc<dyn Host>,
        generation: u64,
    ) -> Result<Self, KafkaError> {
        let config = native::producer(options, host.slots());
        let state = Arc::new(State::default());
        let most = Most {
            slots: host.slots(),
            bytes: host.bytes(),
        };
        let waiting = Arc::new(Waiting::new(options.publish_timeout, most));
        let reports = Reports {
            host: host.clone(),
            generation,
            state: state.clone(),
            waiting: waiting.clone(),
        };
        let client = Arc::new(Some(Client::from_config_and_context(&config, reports)?));
        let pipe = Self {
            client: Arc::new(ArcCell::new(client.clone())),
            told: Arc::default(),
            host: host.clone(),
            ended: Arc::new(Signal::new()),
            waiting: waiting.clone(),
            state,
        };
        let thread = Taker {
            client,
            cell: pipe.client.clone(),
            told: pipe.told.clone(),
            waiting,
            host,
        };
        let ends = Ends(pipe.ended.clone());
        let spawned = threads::spawn("clearway-kafka-reports", move || {
            thread.run();
            drop(ends);
        });
        match spawned {
            Ok(_) => Ok(pipe),
            Err(failure) => Err(KafkaError::ClientCreation(failure.to_string())),
        }
    }

    /// Hands `envelope` to the client.
    pub(super) fn produce(
        &self,
        route: &Route,
        envelope: &Envelope,
        slot: Slot,
    ) -> Result<(), Failure> {
        let headers = headers::encode(envelope)?;
        let partition = match &envelope.key {
            Some(key) => partition_of(key, route.partitions),
            // The low bits of an id are random.
            None => (envelope.id.as_u128() as u32) % route.partitions.max(1),
        };
        let client = self.client.load();
        let Some(client) = client.as_ref() else {
            return Err(Failure::new(
                FailureKind::Disconnected,
                "the connection was closed",
            ));
        };
        let record = BaseRecord {
            topic: &route.topic,
            partition: Some(partition as i32),
            payload: Some(&envelope.payload[..]),
            key: envelope.key.as_deref(),
            timestamp: Some(envelope.time_ms as i64),
            headers: Some(headers),
            delivery_opaque: slot.to_bits() as usize,
        };
        // First: its report may come before `send` returns.
        let now = || self.host.runtime().now();
        self.waiting.given(slot, envelope.size() as u64, now);
        // Not taken: surely not sent.
        (client.send(record)).map_err(|(error, _)| {
            self.waiting.over(slot, now());
            let failure = codes::failure(&error);
            if failure.kind() == FailureKind::NoTopic {
                self.host.topic_missing(&route.topic);
            }
            failure
        })
    }

    /// Has the client look at a topic that is there, and waits until it sees it: one that it has missed would be refused until it looks
    /// by itself. Blocks. What is not seen within the limit is for the publishes to say.
    pub(super) fn see(client: &ArcCell<Option<Client>>, topic: &str, limit: Duration) {
        let client = client.load();
        let Some(client) = client.as_ref() else {
            return;
        };
        let is_there = |metadata: &Metadata| {
            let mut topics = metadata.topics().iter();
            topics.any(|at| at.name() == topic && at.error().is_none())
        };
        let tries = (limit.as_millis() / LOOK_EVERY.as_millis()).max(1);
        for _ in 0..tries {
            let metadata = client.client().fetch_metadata(Some(topic), limit);
            match metadata {
                Ok(metadata) if is_there(&metadata) => return,
                Ok(_) => thread::park_timeout(LOOK_EVERY),
                Err(_) => return,
            }
        }
    }

    /// For who looks or purges on a thread of its own.
    pub(super) fn client(&self) -> Arc<ArcCell<Option<Client>>> {
        self.client.clone()
    }

    /// Waits until a broker has answered, so long at most. Blocks.
    pub(super) fn reach(&self, limit: Duration) -> Result<(), Failure> {
        let client = self.client.load();
        let cluster =
            (client.as_ref().as_ref()).and_then(|client| client.client().fetch_cluster_id(limit));
        match cluster {
            Some(_) => {
                self.state.trouble.clear();
                Ok(())
            }
            None => {
                Err(self.state.trouble.last().unwrap_or_else(|| {
                    Failure::new(FailureKind::TimedOut, "no broker has answered")
                }))
            }
        }
    }

    /// Takes out what is in the client's queue or on its way: each gets its report. Blocks.
    pub(super) fn purge(client: &ArcCell<Option<Client>>) {
        if let Some(client) = client.load().as_ref() {
            client.purge(PurgeConfig::default().queue().inflight());
        }
    }

    /// Tells the thread that from here on nothing lingers.
    pub(super) fn flush(&self) {
        self.told.lock().flush = true;
    }

    /// Tells the thread to flush for `limit` and to end.
    pub(super) fn stop(&self, limit: Duration) {
        let until = self.host.runtime().now() + limit;
        let mut told = self.told.lock();
        told.until = Some(told.until.map_or(until, |told| told.min(until)));
    }

    /// Waits until the thread and the client have ended.
    pub(super) async fn ended(&self) {
        self.ended.heard().await;
    }
}

impl State {
    /// What the client said last, if it has.
    pub(super) fn numbers(&self) -> Option<ClientNumbers> {
        *self.numbers.lock()
    }
}

fn numbers_of(statistics: &Statistics) -> ClientNumbers {
    let mut numbers = ClientNumbers {
        queued: statistics.msg_cnt,
        queued_bytes: statistics.msg_size,
        sent: u64::try_from(statistics.txmsgs).unwrap_or(0),
        sent_bytes: u64::try_from(statistics.txmsg_bytes).unwrap_or(0),
        ..ClientNumbers::default()
    };
    // Sums and the slowest: in whatever order they come.
    for broker in statistics
        .brokers
        .values()
        .filter(|broker| broker.nodeid >= 0)
    {
        numbers.brokers += 1;
        numbers.brokers_connected += u64::from(broker.state == "UP");
        numbers.retries += broker.txretries;
        numbers.timeouts += broker.req_timeouts;
        let trip = broker.rtt.as_ref().filter(|trip| trip.cnt > 0);
        let trip = trip.map(|trip| Duration::from_micros(u64::try_from(trip.avg).unwrap_or(0)));
        numbers.round_trip = numbers.round_trip.max(trip);
    }
    numbers
}

impl Drop for Pipe {
    /// Without `close` it ends all the same, with nothing flushed.
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log::tell(level, facility, line);
    }

    fn stats(&self, statistics: Statistics) {
        *self.state.numbers.lock() = Some(numbers_of(&statistics));
        if let Some(failure) = self.state.stranded.look(&statistics) {
            self.host.lost(self.generation, failure);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.state.trouble.note(&error, reason);
        if error.rdkafka_error_code() == Some(Code::Fatal) {
            // This client sends nothing any more, whatever it is given: another takes its place.
            let failure = Failure::new(FailureKind::Broker, format!("Kafka, fatal: {reason}"));
            self.host.lost(self.generation, failure);
        }
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, report: &DeliveryResult<'_>, opaque: usize) {
        let outcome = match report {
            Ok(record) => codes::acked(record.partition(), record.offset()),
            Err((error, record)) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                let outcome = codes::outcome_of(code);
                if codes::kind_of(code) == FailureKind::NoTopic {
                    self.host.topic_missing(record.topic());
                }
                outcome
            }
        };
        let slot = Slot::from_bits(opaque as u64);
        self.waiting.over(slot, self.host.runtime().now());
        self.host.settle(slot, outcome);
    }
}

#[cfg(test)]
mod tests;
