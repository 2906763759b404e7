//! The workloads on NATS JetStream: the bus, and the client it is built on, which sends the same headers and has its deliveries pinned
//! and acknowledged one by one, as the bus has.

use crate::count::{Count, Wrongs, payload, warm_up};
use crate::journey::{self, Ran, until_complete, until_warm};
use crate::pace::{Pace, Paced};
use crate::turns;
use crate::{PACE, PACED_PARTITIONS, PACED_SIZE, Shape, Side, WARM_UP, key_of};
use anyhow::{Context as _, Result, ensure};
use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{AckPolicy, PriorityPolicy, pull};
use async_nats::jetstream::context::PublishAckFuture;
use bytes::Bytes;
use clearway::backend::partition_of;
use clearway::nats::Nats;
use clearway::{Bus, TopicConfig};
use clearway_integration::{Broker, Outside};
use futures_util::TryStreamExt;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Under which the bus sends a key.
const KEY: &str = "Clearway-Key";
const PIN_GROUP: &str = "work";
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct OnNats {
    broker: Broker,
    outside: Outside,
    client: Context,
    bus: Bus,
}

impl OnNats {
    pub(crate) async fn connect(broker: Broker) -> Result<Self> {
        // The client has a connection to itself, as the bus has.
        let mut client = Outside::of(&broker).await?.jetstream;
        client.set_timeout(PATIENCE);
        let bus = Bus::builder().backend(Nats::from_url(broker.url())?);
        Ok(Self {
            outside: Outside::of(&broker).await?,
            client,
            bus: bus.connect().await?,
            broker,
        })
    }

    /// A and B.
    pub(crate) async fn journey(&self, side: Side, shape: &Shape) -> Result<Ran> {
        let topics =
            journey::fresh_topics(&self.bus, shape, || self.broker.fresh_name("work")).await?;
        let ran = match side {
            Side::Client => self.by_client(&topics, shape).await?,
            Side::Bus => journey::by_bus(&self.bus, &topics, shape).await?,
        };
        let mut stored = 0;
        for topic in &topics {
            stored += self.outside.stored(topic).await?;
            self.outside.delete(topic).await?;
        }
        let sent = (shape.envelopes + shape.warm_ups() * shape.topics) as u64;
        ensure!(stored == sent, "{stored} are stored of {sent}");
        Ok(ran)
    }

    async fn by_client(&self, topics: &[String], shape: &Shape) -> Result<Ran> {
        let count = Arc::new(Count::of(shape.keys, shape.envelopes));
        let mut consuming = JoinSet::new();
        for topic in topics {
            for partition in 0..shape.partitions {
                let messages = self.pinned(topic, partition, shape.window).await?;
                consuming.spawn(consume(messages, count.clone()));
            }
            for n in 0..shape.warm_ups() {
                let subject = subject(topic, n as u32 % shape.partitions);
                let (payload, headers) = (warm_up(shape.size).into(), headers(None));
                let sent = self.client.publish_with_headers(subject, headers, payload);
                sent.await?.await?;
            }
        }
        until_warm(&count, shape.warm_ups() * shape.topics).await?;
        let begun = Instant::now();
        let publishing = tokio::spawn(publish(self.client.clone(), topics.to_vec(), *shape));
        let took = until_complete(&count, begun).await;
        publishing.await??;
        consuming.abort_all();
        while let Some(ended) = consuming.join_next().await {
            if let Ok(failed) = ended {
                failed?;
            }
        }
        let wrongs = count.wrongs();
        Ok(Ran { took, wrongs })
    }

    async fn pinned(&self, topic: &str, partition: u32, window: usize) -> Result<pull::Stream> {
        let durable = pull::Config {
            durable_name: Some(format!("work-{partition}")),
            filter_subject: subject(topic, partition),
            ack_policy: AckPolicy::Explicit,
            max_ack_pending: window as i64,
            priority_policy: PriorityPolicy::PinnedClient,
            priority_groups: vec![PIN_GROUP.to_owned()],
            priority_timeout: Duration::from_secs(30),
            ..pull::Config::default()
        };
        let stream = self.client.get_stream(topic).await?;
        let durable = stream.create_consumer(durable).await?;
        let messages = durable.stream().max_messages_per_batch(window);
        Ok(messages.group(PIN_GROUP).messages().await?)
    }

    /// C.
    pub(crate) async fn paced(&self, side: Side) -> Result<(Paced, Wrongs)> {
        let topic: Arc<str> = self.broker.fresh_name("paced").into();
        let config = TopicConfig::new(&*topic).partitions(PACED_PARTITIONS);
        self.bus.configure(config).await?;
        self.run(side, &topic, WARM_UP, |_, _| warm_up(PACED_SIZE))
            .await?;
        let one = |publisher, number| payload(publisher, number, PACED_SIZE);
        let paced = self.run(side, &topic, PACE, one).await?;
        let wrongs = self.read_back(&topic).await?;
        self.outside.delete(&topic).await?;
        Ok((paced, wrongs))
    }

    async fn run(
        &self,
        side: Side,
        topic: &Arc<str>,
        pace: Pace,
        one: fn(u32, u32) -> Vec<u8>,
    ) -> Result<Paced> {
        if matches!(side, Side::Bus) {
            let topic = self.bus.raw_topic(topic)?;
            let publish = move |publisher: usize, number| {
                let topic = topic.clone();
                async move {
                    let payload = Bytes::from(one(publisher as u32, number));
                    topic.publish(&payload).key(key_of(publisher)).await?;
                    Ok(())
                }
            };
            return pace.run(publish).await;
        }
        let (client, topic) = (self.client.clone(), topic.clone());
        let publish = move |publisher: usize, number| {
            let (client, topic) = (client.clone(), topic.clone());
            async move {
                let key = key_of(publisher);
                let subject = subject(&topic, partition_of(&key, PACED_PARTITIONS));
                let payload = one(publisher as u32, number).into();
                let sent = client.publish_with_headers(subject, headers(Some(&key)), payload);
                sent.await?.await?;
                Ok(())
            }
        };
        pace.run(publish).await
    }

    /// Whether the stream holds what was published, in order and once.
    async fn read_back(&self, topic: &str) -> Result<Wrongs> {
        let stored = self.outside.stored(topic).await?;
        let stream = self.client.get_stream(topic).await?;
        let check = pull::Config {
            ack_policy: AckPolicy::None,
            ..pull::Config::default()
        };
        let check = stream.create_consumer(check).await?;
        let mut messages = check
            .stream()
            .max_messages_per_batch(4096)
            .messages()
            .await?;
        let count = Count::of(PACE.publishers, PACE.total());
        for _ in 0..stored {
            let next = tokio::time::timeout(PATIENCE, messages.try_next()).await?;
            count.one(&next?.context("the stream has ended")?.payload)?;
        }
        Ok(count.wrongs())
    }

    pub(crate) async fn close(self) -> Broker {
        self.bus.close(PATIENCE).await;
        self.broker
    }
}

/// What the bus calls a partition.
fn subject(topic: &str, partition: u32) -> String {
    format!("{topic}.{partition}")
}

/// What the bus sends along.
fn headers(key: Option<&[u8]>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, turns::id(turns::unix_ms()).to_string());
    if let Some(key) = key {
        headers.insert(KEY, &*String::from_utf8_lossy(key));
    }
    headers
}

async fn consume(mut messages: pull::Stream, count: Arc<Count>) -> Result<()> {
    while let Some(message) = messages.try_next().await? {
        count.one(&message.payload)?;
        message.ack().await.map_err(anyhow::Error::from_boxed)?;
    }
    Ok(())
}

async fn publish(client: Context, topics: Vec<String>, shape: Shape) -> Result<()> {
    async fn acked(oldest: PublishAckFuture) -> Result<()> {
        oldest.await?;
        Ok(())
    }
    let mut under_way = VecDeque::with_capacity(shape.window);
    for n in 0..shape.envelopes {
        let (whose, number) = (n % shape.keys, n / shape.keys);
        if under_way.len() == shape.window
            && let Some(oldest) = under_way.pop_front()
        {
            acked(oldest).await?;
        }
        let key = key_of(whose);
        let topic = &topics[whose % topics.len()];
        let subject = subject(topic, partition_of(&key, shape.partitions));
        let payload = payload(whose as u32, number as u32, shape.size).into();
        let sent = client.publish_with_headers(subject, headers(Some(&key)), payload);
        under_way.push_back(sent.await?);
    }
    for oldest in under_way {
        acked(oldest).await?;
    }
    Ok(())
}
