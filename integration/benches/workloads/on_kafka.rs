//! The workloads on Kafka: the bus, and `ThreadedProducer` with `BaseConsumer`.

use crate::client::{self, Publisher, Record};
use crate::count::{Count, Wrongs, payload, warm_up};
use crate::journey::{self, Ran, until_complete, until_warm};
use crate::pace::{Pace, Paced};
use crate::seats::Seated;
use crate::{PACE, PACED_PARTITIONS, PACED_SIZE, Shape, Side, WARM_UP, key_of};
use anyhow::{Result, ensure};
use bytes::Bytes;
use clearway::backend::partition_of;
use clearway::kafka::{Kafka, Options};
use clearway::{Bus, TopicConfig};
use clearway_integration::{KafkaBroker, KafkaOutside};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Message, Offset, TopicPartitionList};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// The bus's, with the batching that it has unless something else is said.
const LINGER_MS: u32 = 5;
/// Of the paced publishers, who wait for each.
const PACED_LINGER_MS: u32 = 1;

pub(crate) struct OnKafka {
    broker: KafkaBroker,
    outside: KafkaOutside,
    bus: Bus,
    paced_bus: Bus,
    seated: Arc<Seated>,
}

impl OnKafka {
    pub(crate) async fn connect(broker: KafkaBroker) -> Result<Self> {
        let options = Options::from_url(&broker.url())?;
        let paced = (options.clone()).set("linger.ms", PACED_LINGER_MS.to_string())?;
        let bus = async |options| Bus::builder().backend(Kafka::new(options)).connect().await;
        let config = client::producing(broker.bootstrap(), PACED_LINGER_MS);
        Ok(Self {
            outside: KafkaOutside::of(&broker)?,
            bus: bus(options).await?,
            paced_bus: bus(paced).await?,
            seated: Arc::new(Seated::new(&config, PACE.publishers)?),
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
            let ends = self.outside.ends(topic).await?;
            stored += ends
                .iter()
                .map(|(low, high)| (high - low) as usize)
                .sum::<usize>();
            self.outside.delete(topic).await?;
        }
        let sent = shape.envelopes + shape.warm_ups() * shape.topics;
        ensure!(stored == sent, "{stored} are stored of {sent}");
        Ok(ran)
    }

    async fn by_client(&self, topics: &[String], shape: &Shape) -> Result<Ran> {
        let count = Arc::new(Count::of(shape.keys, shape.envelopes));
        let over = Arc::new(AtomicBool::new(false));
        let group = self.broker.fresh_name("journey");
        let config = client::consuming(self.broker.bootstrap(), &group);
        // One for each topic, as the bus has.
        let mut consuming = JoinSet::new();
        for topic in topics {
            let (topic, config) = (topic.clone(), config.clone());
            let (counted, ends) = (count.clone(), over.clone());
            consuming.spawn_blocking(move || consume(&config.create()?, &topic, &counted, &ends));
        }
        let mut publisher = Publisher::new(&client::producing(self.broker.bootstrap(), LINGER_MS))?;
        for topic in topics {
            publisher.see(topic, shape.partitions as usize)?;
            for n in 0..shape.warm_ups() {
                let payload = warm_up(shape.size);
                let record = Record {
                    topic,
                    partition: (n % shape.partitions as usize) as i32,
                    key: None,
                    payload: &payload,
                    bare: false,
                };
                publisher.send(record, shape.window).await?;
            }
        }
        publisher.settled().await?;
        until_warm(&count, shape.warm_ups() * shape.topics).await?;
        let begun = Instant::now();
        let publishing = tokio::spawn(publish(publisher, topics.to_vec(), *shape));
        let took = until_complete(&count, begun).await;
        publishing.await??;
        // Relaxed: as above.
        over.store(true, Ordering::Relaxed);
        while let Some(ended) = consuming.join_next().await {
            ended??;
        }
        let wrongs = count.wrongs();
        Ok(Ran { took, wrongs })
    }

    /// C.
    pub(crate) async fn paced(&self, side: Side) -> Result<(Paced, Wrongs)> {
        let topic: Arc<str> = self.broker.fresh_name("paced").into();
        let config = TopicConfig::new(&*topic).partitions(PACED_PARTITIONS);
        self.paced_bus.configure(config).await?;
        self.seated.see(&topic, PACED_PARTITIONS as usize)?;
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
            let topic = self.paced_bus.raw_topic(topic)?;
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
        let (seated, topic) = (self.seated.clone(), topic.clone());
        let publish = move |publisher: usize, number| {
            let (seated, topic) = (seated.clone(), topic.clone());
            async move {
                let (key, payload) = (key_of(publisher), one(publisher as u32, number));
                let partition = partition_of(&key, PACED_PARTITIONS) as i32;
                seated.send(publisher, (&topic, partition), Some(&key), &payload)?;
                seated.acked(publisher).await
            }
        };
        pace.run(publish).await
    }

    /// Whether the topic holds what was published, in order and once.
    async fn read_back(&self, topic: &str) -> Result<Wrongs> {
        let ends = self.outside.ends(topic).await?;
        let mut places = TopicPartitionList::new();
        for partition in 0..ends.len() {
            places.add_partition_offset(topic, partition as i32, Offset::Beginning)?;
        }
        let stored: usize = ends.iter().map(|(low, high)| (high - low) as usize).sum();
        let config = client::consuming(self.broker.bootstrap(), &self.broker.fresh_name("check"));
        tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = config.create()?;
            consumer.assign(&places)?;
            let count = Count::of(PACE.publishers, PACE.total());
            let begun = Instant::now();
            let mut read = 0;
            while read < stored {
                ensure!(
                    begun.elapsed() < Duration::from_secs(60),
                    "{read} of {stored}"
                );
                if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                    count.one(message?.payload().unwrap_or_default())?;
                    read += 1;
                }
            }
            Ok(count.wrongs())
        })
        .await?
    }

    pub(crate) async fn close(self) -> KafkaBroker {
        self.bus.close(Duration::from_secs(10)).await;
        self.paced_bus.close(Duration::from_secs(10)).await;
        self.broker
    }
}

fn consume(consumer: &BaseConsumer, topic: &str, count: &Count, over: &AtomicBool) -> Result<()> {
    consumer.subscribe(&[topic])?;
    // Relaxed: only ends the loop.
    while !over.load(Ordering::Relaxed) {
        if let Some(message) = consumer.poll(Duration::from_millis(50)) {
            count.one(message?.payload().unwrap_or_default())?;
        }
    }
    Ok(())
}

async fn publish(mut publisher: Publisher, topics: Vec<String>, shape: Shape) -> Result<()> {
    for n in 0..shape.envelopes {
        let (whose, number) = (n % shape.keys, n / shape.keys);
        let payload = payload(whose as u32, number as u32, shape.size);
        let key = key_of(whose);
        let record = Record {
            topic: &topics[whose % topics.len()],
            partition: partition_of(&key, shape.partitions) as i32,
            key: Some(&key),
            payload: &payload,
            bare: false,
        };
        publisher.send(record, shape.window).await?;
    }
    publisher.settled().await
}
