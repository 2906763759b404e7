//! One publish at a time, awaited: with the preset for it the broker is all that it waits for.

use crate::LINGER_MS;
use crate::client::{self, Futures};
use crate::common::median;
use crate::publishing::Sides;
use crate::turns;
use anyhow::Result;
use clearway::kafka::{Batching, Kafka, Options};
use clearway::{Bus, TopicConfig};
use rdkafka::producer::{FutureRecord, Producer as _};
use std::time::{Duration, Instant};

const TIMES: usize = 150;
const WARM_UP: usize = 20;
const PAYLOAD: &[u8] = &[b'.'; 256];

/// Who publishes.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    /// `FutureProducer` with no linger.
    Client,
    /// The bus with `Batching::LowLatency`.
    LowLatency,
    /// The bus as it is unless something else is said.
    Balanced,
}

impl Side {
    pub(crate) const ALL: [Self; 3] = [Self::Client, Self::LowLatency, Self::Balanced];
}

/// The median of a round in milliseconds.
pub(crate) async fn round(sides: &Sides, side: Side) -> Result<f64> {
    let topic = sides.fresh_topic(1).await?;
    let p50 = match side {
        Side::Client => by_client(sides.broker().bootstrap(), &topic).await?,
        Side::LowLatency => by_bus(&sides.broker().url(), Batching::LowLatency, &topic).await?,
        Side::Balanced => by_bus(&sides.broker().url(), Batching::Balanced, &topic).await?,
    };
    sides.delete(&topic).await?;
    Ok(p50)
}

async fn by_bus(url: &str, batching: Batching, topic: &str) -> Result<f64> {
    let options = Options::from_url(url)?.batching(batching);
    let bus = Bus::builder()
        .backend(Kafka::new(options))
        .topic(TopicConfig::new(topic).partitions(1));
    let bus = bus.connect().await?;
    let topic = bus.raw_topic(topic)?;
    let payload = bytes::Bytes::from_static(PAYLOAD);
    let p50 = timed(async || {
        topic.publish(&payload).await?;
        Ok(())
    });
    let p50 = p50.await;
    bus.close(Duration::from_secs(5)).await;
    p50
}

async fn by_client(bootstrap: &str, topic: &str) -> Result<f64> {
    let producer: Futures = client::producing(bootstrap, 0).create()?;
    client::see(producer.client(), topic, 1)?;
    timed(async || {
        let now = turns::unix_ms();
        let record = FutureRecord::<[u8], [u8]> {
            topic,
            partition: Some(0),
            payload: Some(PAYLOAD),
            key: None,
            timestamp: Some(now as i64),
            headers: Some(client::with_id(now)),
        };
        let sent = producer.send_result(record).map_err(|(error, _)| error)?;
        sent.await?.map_err(|(error, _)| error)?;
        Ok(())
    })
    .await
}

async fn timed(publish: impl AsyncFn() -> Result<()>) -> Result<f64> {
    for _ in 0..WARM_UP {
        publish().await?;
    }
    let mut took = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let begun = Instant::now();
        publish().await?;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    Ok(median(took))
}

/// What a publish would take that waits for the linger.
pub(crate) const STUCK_MS: f64 = LINGER_MS as f64;
