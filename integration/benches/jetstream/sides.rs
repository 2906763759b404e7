//! The three sides: who publishes a round, and what it took.

use crate::turns::{self, Figures, Moment};
use crate::{ENVELOPES, PAYLOAD, WINDOW};
use anyhow::{Result, ensure};
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::PublishAckFuture;
use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use clearway::nats::Nats;
use clearway::{Bus, ReceiptFuture, TopicConfig};
use clearway_integration::{Broker, Outside, RawTopic};
use std::collections::VecDeque;
use std::time::Duration;

/// Published before anything counts: connections, tables and the stream's first file.
const WARM_UP: usize = 5_000;
const PATIENCE: Duration = Duration::from_secs(10);

/// Who publishes.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    /// The client, without message ids.
    Raw,
    /// The client, with an id on every message.
    WithId,
    Bus,
}

/// A connection for each, and one to look at the server with.
pub(crate) struct Sides<'b> {
    broker: &'b Broker,
    outside: Outside,
    client: Context,
    bus: Bus,
}

impl Side {
    pub(crate) const ALL: [Self; 3] = [Self::Raw, Self::WithId, Self::Bus];
}

impl<'b> Sides<'b> {
    pub(crate) async fn connect(broker: &'b Broker) -> Result<Self> {
        // The client has a connection to itself, as the bus has.
        let mut client = Outside::of(broker).await?.jetstream;
        client.set_timeout(PATIENCE);
        let bus = Bus::builder().backend(Nats::from_url(broker.url())?);
        Ok(Self {
            broker,
            outside: Outside::of(broker).await?,
            client,
            bus: bus.connect().await?,
        })
    }

    /// One round of one side, in a stream of its own.
    pub(crate) async fn round(&self, side: Side) -> Result<Figures> {
        let name = self.broker.fresh_name("bench");
        self.bus
            .configure(TopicConfig::new(name.as_str()).partitions(1))
            .await?;
        self.publish(side, &name, WARM_UP).await?;
        let begun = Moment::now();
        self.publish(side, &name, ENVELOPES).await?;
        let figures = begun.until(Moment::now(), ENVELOPES);
        let stored = self.outside.stored(&name).await?;
        ensure!(
            stored == (WARM_UP + ENVELOPES) as u64,
            "{stored} of {} are stored in {name}",
            WARM_UP + ENVELOPES
        );
        self.outside.delete(&name).await?;
        Ok(figures)
    }

    /// Publishes `count` envelopes, as the bus does.
    pub(crate) async fn fill(&self, topic: &str, count: usize) -> Result<()> {
        self.publish(Side::Bus, topic, count).await
    }

    pub(crate) fn broker(&self) -> &Broker {
        self.broker
    }

    pub(crate) fn outside(&self) -> &Outside {
        &self.outside
    }

    pub(crate) fn client(&self) -> &Context {
        &self.client
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.bus
    }

    /// On a worker of the runtime, where a service would publish.
    async fn publish(&self, side: Side, topic: &str, count: usize) -> Result<()> {
        let payload = Bytes::from(vec![b'.'; PAYLOAD]);
        let client = self.client.clone();
        // What the bus calls the first partition.
        let subject = Subject::from(format!("{topic}.0"));
        let task = match side {
            Side::Raw => tokio::spawn(by_client(client, subject, payload, count, HeaderMap::new)),
            Side::WithId => tokio::spawn(by_client(client, subject, payload, count, with_id)),
            Side::Bus => {
                let topic = self.bus.raw_topic(topic)?;
                tokio::spawn(by_bus(topic, payload, count))
            }
        };
        task.await?
    }

    pub(crate) async fn close(self) {
        self.bus.close(PATIENCE).await;
    }
}

/// Publishes and takes the acknowledgements in a window, the oldest first.
async fn by_client(
    client: Context,
    subject: Subject,
    payload: Bytes,
    count: usize,
    headers: fn() -> HeaderMap,
) -> Result<()> {
    async fn acked(oldest: PublishAckFuture) -> Result<()> {
        let ack = oldest.await?;
        ensure!(!ack.duplicate, "{ack:?}");
        Ok(())
    }
    let mut under_way = VecDeque::with_capacity(WINDOW);
    for _ in 0..count {
        if under_way.len() == WINDOW
            && let Some(oldest) = under_way.pop_front()
        {
            acked(oldest).await?;
        }
        let (subject, payload) = (subject.clone(), payload.clone());
        let headers = headers();
        let sent = if headers.is_empty() {
            client.publish(subject, payload).await?
        } else {
            client
                .publish_with_headers(subject, headers, payload)
                .await?
        };
        under_way.push_back(sent);
    }
    for oldest in under_way {
        acked(oldest).await?;
    }
    Ok(())
}

/// The same with receipts.
async fn by_bus(topic: RawTopic, payload: Bytes, count: usize) -> Result<()> {
    async fn acked(oldest: ReceiptFuture) -> Result<()> {
        let receipt = oldest.await?;
        ensure!(!receipt.duplicate, "{receipt:?}");
        Ok(())
    }
    let mut under_way = VecDeque::with_capacity(WINDOW);
    for _ in 0..count {
        if under_way.len() == WINDOW
            && let Some(oldest) = under_way.pop_front()
        {
            acked(oldest).await?;
        }
        under_way.push_back(topic.publish(&payload).enqueue()?);
    }
    for oldest in under_way {
        acked(oldest).await?;
    }
    Ok(())
}

/// With an id of the kind that the bus gives an envelope.
fn with_id() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, turns::id(turns::unix_ms()).to_string());
    headers
}
