//! The client alone, as a careful service would use it: what it asks of the broker is what the bus asks.
//!
//! A producer is idempotent, waits for all copies in sync, and has the bus's limits of queue and batch. A record has the bus's
//! one header, an envelope's id, unless it is said to be bare.

use crate::turns;
use anyhow::{Result, bail};
use futures_util::task::AtomicWaker;
use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::client::{Client, DefaultClientContext};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, FutureProducer, Producer as _, ProducerContext, ThreadedProducer,
};
use rdkafka::util::AsyncRuntime;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};
use uuid::fmt::Hyphenated;

/// The bus's name of it.
const ID: &str = "clearway-id";
const SEEN_WITHIN: Duration = Duration::from_secs(10);

/// What every client here and the bus's are made with.
fn common(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("client.id", "bench")
        .set("allow.auto.create.topics", "false")
        .set("socket.keepalive.enable", "true")
        .set("statistics.interval.ms", "1000");
    config
}

/// A producer that lets records wait so many milliseconds for others.
pub(crate) fn producing(bootstrap: &str, linger_ms: u32) -> ClientConfig {
    let mut config = common(bootstrap);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("max.in.flight.requests.per.connection", "5")
        .set("message.timeout.ms", "0")
        .set("queue.buffering.max.messages", "16385")
        .set("queue.buffering.max.kbytes", i32::MAX.to_string())
        .set("message.max.bytes", "104857600")
        .set("linger.ms", linger_ms.to_string())
        .set("batch.size", "1000000");
    config
}

/// A consumer of a group that is new.
pub(crate) fn consuming(bootstrap: &str, group: &str) -> ClientConfig {
    let mut config = common(bootstrap);
    config
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("auto.commit.interval.ms", "1000")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("heartbeat.interval.ms", "1000")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "100")
        .set("queued.max.messages.kbytes", "16384");
    config
}

/// `FutureProducer`. It wants a runtime to wait on when its queue is full, which it never is here.
pub(crate) type Futures = FutureProducer<DefaultClientContext, OnTokio>;

pub(crate) struct OnTokio;

impl AsyncRuntime for OnTokio {
    type Delay = Pin<Box<tokio::time::Sleep>>;

    fn spawn<T: Future<Output = ()> + Send + 'static>(task: T) {
        tokio::spawn(task);
    }

    fn delay_for(length: Duration) -> Self::Delay {
        Box::pin(tokio::time::sleep(length))
    }
}

/// Waits until a producer sees a topic that was made a moment ago, with all its partitions. The bus does that when it ensures one.
pub(crate) fn see<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    partitions: usize,
) -> Result<()> {
    let begun = Instant::now();
    tokio::task::block_in_place(|| {
        while begun.elapsed() < SEEN_WITHIN {
            let metadata = client.fetch_metadata(Some(topic), SEEN_WITHIN)?;
            let mut topics = metadata.topics().iter();
            if topics.any(|at| at.error().is_none() && at.partitions().len() == partitions) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("{topic} is not seen")
    })
}

/// The one header that the bus gives a record.
pub(crate) fn with_id(unix_ms: u64) -> OwnedHeaders {
    let mut text = [0; Hyphenated::LENGTH];
    let id: &str = turns::id(unix_ms).as_hyphenated().encode_lower(&mut text);
    let header = Header {
        key: ID,
        value: Some(id),
    };
    OwnedHeaders::new_with_capacity(1).insert(header)
}

/// What became of the records of one publisher: how many have their report, and who waits for that.
#[derive(Default)]
pub(crate) struct Reports {
    acked: AtomicUsize,
    failed: OnceLock<KafkaError>,
    publisher: AtomicWaker,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, report: &DeliveryResult<'_>, (): ()) {
        match report {
            // Relaxed: the waker orders it.
            Ok(_) => _ = self.acked.fetch_add(1, Ordering::Relaxed),
            Err((error, _)) => _ = self.failed.set(error.clone()),
        }
        self.publisher.wake();
    }
}

impl Reports {
    /// Waits until no more than `open` of `sent` have no report.
    async fn until_open(&self, sent: usize, open: usize) -> Result<()> {
        poll_fn(|cx| {
            let is_there = || self.acked.load(Ordering::Relaxed) + open >= sent;
            if is_there() {
                return Poll::Ready(Ok(()));
            }
            self.publisher.register(cx.waker());
            match self.failed.get() {
                Some(error) => Poll::Ready(Err(error.clone().into())),
                None if is_there() => Poll::Ready(Ok(())),
                None => Poll::Pending,
            }
        })
        .await
    }
}

/// A record, and where it goes.
pub(crate) struct Record<'r> {
    pub(crate) topic: &'r str,
    pub(crate) partition: i32,
    pub(crate) key: Option<&'r [u8]>,
    pub(crate) payload: &'r [u8],
    pub(crate) bare: bool,
}

/// A producer of one publisher, and how many it has sent.
pub(crate) struct Publisher {
    producer: ThreadedProducer<Reports>,
    sent: usize,
}

impl Publisher {
    pub(crate) fn new(config: &ClientConfig) -> Result<Self> {
        Ok(Self {
            producer: config.create_with_context(Reports::default())?,
            sent: 0,
        })
    }

    /// Waits until it sees the topic.
    pub(crate) fn see(&self, topic: &str, partitions: usize) -> Result<()> {
        see(self.producer.client(), topic, partitions)
    }

    /// Sends one when fewer than `window` are under way.
    pub(crate) async fn send(&mut self, record: Record<'_>, window: usize) -> Result<()> {
        let reports = self.producer.context();
        reports.until_open(self.sent + 1, window).await?;
        let now = turns::unix_ms();
        let record = BaseRecord::<[u8], [u8], ()> {
            topic: record.topic,
            partition: Some(record.partition),
            payload: Some(record.payload),
            key: record.key,
            timestamp: Some(now as i64),
            headers: (!record.bare).then(|| with_id(now)),
            delivery_opaque: (),
        };
        self.producer.send(record).map_err(|(error, _)| error)?;
        self.sent += 1;
        Ok(())
    }

    /// Waits until all have been acknowledged.
    pub(crate) async fn settled(&self) -> Result<()> {
        self.producer.context().until_open(self.sent, 0).await
    }
}
