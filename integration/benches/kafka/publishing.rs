//! Rows 11 and 12: who publishes a round with a window, in a topic of its own, and what it took.

use crate::client::{self, Futures, Publisher, Record};
use crate::turns::{self, Figures, Moment};
use crate::{ENVELOPES, LINGER_MS, PARTITIONS, PAYLOAD, WINDOW};
use anyhow::{Result, ensure};
use bytes::Bytes;
use clearway::kafka::{Kafka, Options};
use clearway::{Bus, ReceiptFuture, TopicConfig};
use clearway_integration::{KafkaBroker, KafkaOutside, RawTopic};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureRecord, Producer as _};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Published before anything counts: the connection, the producer's number and the topic's first segments.
const WARM_UP: usize = 5_000;
const PATIENCE: Duration = Duration::from_secs(10);

/// Who publishes.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    /// `ThreadedProducer`, records without a header: the broker stores less.
    Bare,
    /// `ThreadedProducer`, with the bus's header on each.
    Threaded,
    /// `FutureProducer`, with the same header, its futures awaited in a window.
    Future,
    Bus,
}

/// A connection for each, and one to look at the broker with.
pub(crate) struct Sides {
    broker: KafkaBroker,
    outside: KafkaOutside,
    publisher: Arc<Mutex<Publisher>>,
    future: Futures,
    bus: Bus,
}

impl Side {
    pub(crate) const ALL: [Self; 4] = [Self::Bare, Self::Threaded, Self::Future, Self::Bus];
}

impl Sides {
    pub(crate) async fn connect(broker: KafkaBroker) -> Result<Self> {
        let config = client::producing(broker.bootstrap(), LINGER_MS);
        // Its batching is as it is unless something else is said: `LINGER_MS` is that.
        let bus = Bus::builder().backend(Kafka::new(Options::from_url(&broker.url())?));
        // More than the window: a receipt is told before its credit is given back, a moment later and by the client's thread. Who publishes again at once
        // upon it, with `enqueue`, which waits for nothing, finds one too few now and then. Awaited, it would be waited for.
        let bus = bus.in_flight(2 * WINDOW as u64, 64 << 20);
        Ok(Self {
            outside: KafkaOutside::of(&broker)?,
            publisher: Arc::new(Mutex::new(Publisher::new(&config)?)),
            future: config.create()?,
            bus: bus.receipts_max(4 * WINDOW).connect().await?,
            broker,
        })
    }

    pub(crate) fn broker(&self) -> &KafkaBroker {
        &self.broker
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.bus
    }

    /// A topic that nobody else has.
    pub(crate) async fn fresh_topic(&self, partitions: u32) -> Result<String> {
        let name = self.broker.fresh_name("bench");
        let config = TopicConfig::new(name.as_str()).partitions(partitions);
        self.bus.configure(config).await?;
        Ok(name)
    }

    pub(crate) async fn delete(&self, topic: &str) -> Result<()> {
        self.outside.delete(topic).await
    }

    /// One round of one side.
    pub(crate) async fn round(&self, side: Side) -> Result<Figures> {
        let topic = self.fresh_topic(PARTITIONS).await?;
        match side {
            Side::Bare | Side::Threaded => self
                .publisher
                .lock()
                .await
                .see(&topic, PARTITIONS as usize)?,
            Side::Future => client::see(self.future.client(), &topic, PARTITIONS as usize)?,
            Side::Bus => {}
        }
        self.publish(side, &topic, WARM_UP).await?;
        let begun = Moment::now();
        self.publish(side, &topic, ENVELOPES).await?;
        let figures = begun.until(Moment::now(), ENVELOPES);
        let ends = self.outside.ends(&topic).await?;
        let stored: i64 = ends.iter().map(|(low, high)| high - low).sum();
        let sent = (WARM_UP + ENVELOPES) as i64;
        ensure!(stored == sent, "{stored} of {sent} are stored in {topic}");
        self.delete(&topic).await?;
        Ok(figures)
    }

    /// On a worker of the runtime, where a service would publish.
    pub(crate) async fn publish(&self, side: Side, topic: &str, count: usize) -> Result<()> {
        let (name, payload) = (topic.to_owned(), Bytes::from(vec![b'.'; PAYLOAD]));
        let task = match side {
            Side::Bare | Side::Threaded => {
                let (publisher, bare) = (self.publisher.clone(), matches!(side, Side::Bare));
                tokio::spawn(async move {
                    let mut publisher = publisher.lock().await;
                    by_threaded(&mut publisher, bare, &name, &payload, count).await
                })
            }
            Side::Future => tokio::spawn(by_future(self.future.clone(), name, payload, count)),
            Side::Bus => tokio::spawn(by_bus(self.bus.raw_topic(topic)?, payload, count)),
        };
        task.await?
    }

    pub(crate) async fn close(self) -> KafkaBroker {
        self.bus.close(PATIENCE).await;
        self.broker
    }
}

/// As the bus spreads envelopes without a key.
fn any_partition() -> i32 {
    fastrand::i32(0..PARTITIONS as i32)
}

async fn by_threaded(
    publisher: &mut Publisher,
    bare: bool,
    topic: &str,
    payload: &[u8],
    count: usize,
) -> Result<()> {
    for _ in 0..count {
        let record = Record {
            topic,
            partition: any_partition(),
            key: None,
            payload,
            bare,
        };
        publisher.send(record, WINDOW).await?;
    }
    publisher.settled().await
}

async fn by_future(producer: Futures, topic: String, payload: Bytes, count: usize) -> Result<()> {
    async fn acked(oldest: DeliveryFuture) -> Result<()> {
        oldest.await?.map_err(|(error, _)| error)?;
        Ok(())
    }
    let mut under_way = VecDeque::with_capacity(WINDOW);
    for _ in 0..count {
        if under_way.len() == WINDOW
            && let Some(oldest) = under_way.pop_front()
        {
            acked(oldest).await?;
        }
        let now = turns::unix_ms();
        let record = FutureRecord::<[u8], [u8]> {
            topic: &topic,
            partition: Some(any_partition()),
            payload: Some(&payload),
            key: None,
            timestamp: Some(now as i64),
            headers: Some(client::with_id(now)),
        };
        let sent = producer.send_result(record);
        under_way.push_back(sent.map_err(|(error, _)| error)?);
    }
    for oldest in under_way {
        acked(oldest).await?;
    }
    Ok(())
}

async fn by_bus(topic: RawTopic, payload: Bytes, count: usize) -> Result<()> {
    let mut under_way: VecDeque<ReceiptFuture> = VecDeque::with_capacity(WINDOW);
    for _ in 0..count {
        if under_way.len() == WINDOW
            && let Some(oldest) = under_way.pop_front()
        {
            oldest.await?;
        }
        under_way.push_back(topic.publish(&payload).enqueue()?);
    }
    for oldest in under_way {
        oldest.await?;
    }
    Ok(())
}
