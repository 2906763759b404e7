//! A look at a Kafka past the bus, with plain librdkafka: what is really there.
//!
//! Its calls block, so each runs on a thread for such.

use super::broker::KafkaBroker;
use crate::patience::until;
use crate::record::Record;
use anyhow::{Context, Result, anyhow, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::time::{Duration, Instant};
use tokio::task::spawn_blocking;

/// Somebody may be breaking the broker: no answer is "not yet", and soon.
const ANSWER: Duration = Duration::from_secs(3);
/// How long work that moves data may take.
const WORK: Duration = Duration::from_secs(30);

/// One who looks at the broker from outside.
pub struct Outside {
    config: ClientConfig,
}

/// What a topic holds at a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Of the topic.
    pub partition: i32,
    /// In the partition.
    pub offset: i64,
    /// As stored, if there is one.
    pub key: Option<Vec<u8>>,
    /// As stored. None is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// Names and values, in their order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Outside {
    /// Of `broker`, past its proxies, login and TLS if it is ours.
    pub fn of(broker: &KafkaBroker) -> Result<Self> {
        Self::at(&broker.aside())
    }

    /// Of the nodes at these addresses, of which one answers first: what it knows, others may not.
    pub fn at(bootstrap: &str) -> Result<Self> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", bootstrap)
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "200")
            .set("socket.timeout.ms", "3000");
        Ok(Self { config })
    }

    /// A client of the test's own, for what only one test needs.
    pub fn config(&self) -> ClientConfig {
        self.config.clone()
    }

    /// Numbers of the nodes that the cluster holds for alive.
    pub async fn brokers(&self) -> Result<Vec<u32>> {
        self.ask(|consumer| {
            let metadata = consumer.fetch_metadata(None, ANSWER)?;
            let brokers = metadata.brokers().iter().map(|broker| broker.id() as u32);
            Ok(brokers.collect())
        })
        .await
    }

    /// Who leads each partition of a topic; fails if it is not there.
    pub async fn leaders(&self, topic: &str) -> Result<Vec<Option<u32>>> {
        let topic = topic.to_owned();
        self.ask(move |consumer| {
            let metadata = consumer.fetch_metadata(Some(&topic), ANSWER)?;
            let found = &metadata.topics()[0];
            ensure!(found.error().is_none(), "{topic}: {:?}", found.error());
            let mut partitions: Vec<_> = found.partitions().iter().collect();
            partitions.sort_by_key(|partition| partition.id());
            let leader = |leader: i32| u32::try_from(leader).ok();
            Ok(partitions.iter().map(|p| leader(p.leader())).collect())
        })
        .await
    }

    /// First and next position of each partition, as a reader of committed transactions sees them: an open one hides
    /// what comes after it.
    pub async fn ends(&self, topic: &str) -> Result<Vec<(i64, i64)>> {
        self.ends_for(topic, "read_committed").await
    }

    async fn ends_for(&self, topic: &str, isolation: &str) -> Result<Vec<(i64, i64)>> {
        let partitions = self.leaders(topic).await?.len() as i32;
        let topic = topic.to_owned();
        let mut config = self.reader();
        config.set("isolation.level", isolation);
        ask(config, move |consumer| {
            (0..partitions)
                .map(|partition| Ok(consumer.fetch_watermarks(&topic, partition, ANSWER)?))
                .collect()
        })
        .await
    }

    /// Makes a topic and waits until every partition has a leader.
    pub async fn create(
        &self,
        topic: &str,
        partitions: i32,
        copies: i32,
        settings: &[(&str, &str)],
    ) -> Result<()> {
        let mut wanted = NewTopic::new(topic, partitions, TopicReplication::Fixed(copies));
        for (name, value) in settings {
            wanted = wanted.set(name, value);
        }
        let answers = self.admin()?.create_topics([&wanted], &options()).await?;
        each(answers)?;
        until(&format!("{topic} is led"), async || {
            let leaders = self.leaders(topic).await?;
            Ok(leaders.len() == partitions as usize && leaders.iter().all(Option::is_some))
        })
        .await
    }

    /// Deletes a topic, with all that is in it.
    pub async fn delete(&self, topic: &str) -> Result<()> {
        each(self.admin()?.delete_topics(&[topic], &options()).await?)
    }

    /// Deletes what lies before these positions of a topic: (partition, first to stay).
    pub async fn delete_records(&self, topic: &str, before: &[(i32, i64)]) -> Result<()> {
        let answers = {
            let mut offsets = TopicPartitionList::new();
            for &(partition, offset) in before {
                offsets.add_partition_offset(topic, partition, Offset::Offset(offset))?;
            }
            self.admin()?.delete_records(&offsets, &options()).await?
        };
        for element in answers.elements() {
            element.error()?;
        }
        Ok(())
    }

    /// Publishes (key, payload) one after the other and returns when all are stored.
    pub async fn publish(&self, topic: &str, all: &[(&str, &str)]) -> Result<()> {
        self.produce(topic, all, None).await
    }

    /// The same in a transaction, which is then committed or aborted. Either leaves a marker in the log, and it is
    /// there when this returns: the coordinator answers as soon as it has decided, and writes the markers afterwards.
    pub async fn transaction(&self, topic: &str, all: &[(&str, &str)], commit: bool) -> Result<()> {
        self.produce(topic, all, Some(commit)).await?;
        until("a transaction's marker is in the log", async || {
            let all = self.ends_for(topic, "read_uncommitted").await?;
            Ok(self.ends(topic).await? == all)
        })
        .await
    }

    async fn produce(
        &self,
        topic: &str,
        all: &[(&str, &str)],
        commits: Option<bool>,
    ) -> Result<()> {
        let mut config = self.config();
        config.set("message.timeout.ms", WORK.as_millis().to_string());
        if commits.is_some() {
            config.set("transactional.id", crate::container::unique("outside"));
        }
        let topic = topic.to_owned();
        let all: Vec<_> = all
            .iter()
            .map(|&(key, payload)| (key.to_owned(), payload.to_owned()))
            .collect();
        spawn_blocking(move || {
            let producer: BaseProducer = config.create()?;
            if commits.is_some() {
                producer.init_transactions(WORK)?;
                producer.begin_transaction()?;
            }
            for (key, payload) in &all {
                let record = BaseRecord::to(&topic).key(key).payload(payload);
                producer.send(record).map_err(|(error, _)| error)?;
            }
            producer.flush(WORK)?;
            match commits {
                Some(true) => producer.commit_transaction(WORK)?,
                Some(false) => producer.abort_transaction(WORK)?,
                None => {}
            }
            Ok(())
        })
        .await?
    }

    /// All that a topic holds and a reader of committed transactions sees, by partition and offset.
    pub async fn stored(&self, topic: &str) -> Result<Vec<Stored>> {
        let ends = self.ends(topic).await?;
        let topic = topic.to_owned();
        let mut stored = self
            .ask(move |consumer| read(consumer, &topic, &ends))
            .await?;
        stored.sort_by_key(|one| (one.partition, one.offset));
        Ok(stored)
    }

    /// What `group` has committed for each partition of a topic: the next position to read.
    pub async fn committed(&self, topic: &str, group: &str) -> Result<Vec<Option<i64>>> {
        let partitions = self.leaders(topic).await?.len() as i32;
        let mut config = self.config();
        config.set("group.id", group);
        let topic = topic.to_owned();
        ask(config, move |consumer| {
            let mut wanted = TopicPartitionList::new();
            for partition in 0..partitions {
                wanted.add_partition(&topic, partition);
            }
            // The list must be gone before the consumer is: the numbers are copied out.
            let committed = consumer.committed_offsets(wanted, ANSWER)?;
            let of = |partition| match committed.find_partition(&topic, partition)?.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            Ok((0..partitions).map(of).collect())
        })
        .await
    }

    /// Asks the same, and writes the answer down.
    pub async fn note_committed(&self, record: &Record, topic: &str, group: &str) -> Result<()> {
        let committed = self.committed(topic, group).await?;
        for (partition, position) in (0..).zip(committed) {
            if let Some(position) = position {
                let recorder = record.recorder();
                recorder.committed(topic, group, partition, position as u64);
            }
        }
        Ok(())
    }

    /// How far `group` is from the end of a topic, over all partitions. Nothing committed counts from the start.
    pub async fn left(&self, topic: &str, group: &str) -> Result<i64> {
        let committed = self.committed(topic, group).await?;
        let ends = self.ends(topic).await?;
        let left = |((low, high), committed): (&(i64, i64), &Option<i64>)| {
            high - committed.unwrap_or(*low).max(*low)
        };
        Ok(ends.iter().zip(&committed).map(left).sum())
    }

    /// Waits until the broker itself says that `group` has nothing left of `topic`, and writes it down.
    pub async fn drained(&self, record: &Record, topic: &str, group: &str) -> Result<()> {
        let what = format!("group {group} has nothing left of {topic}");
        until(&what, async || {
            let left = self.left(topic, group).await?;
            ensure!(left == 0, "{left} left");
            Ok(true)
        })
        .await?;
        record.recorder().drained(topic, group);
        Ok(())
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        Ok(self.config.create()?)
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&BaseConsumer) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        ask(self.reader(), question).await
    }

    fn reader(&self) -> ClientConfig {
        let mut config = self.config();
        // Librdkafka reads for nobody without a group; nothing is ever committed for it.
        config.set("group.id", "clearway-outside");
        config
    }
}

/// On a thread for what blocks, with a client that is gone when it returns.
async fn ask<T: Send + 'static>(
    mut config: ClientConfig,
    question: impl FnOnce(&BaseConsumer) -> Result<T> + Send + 'static,
) -> Result<T> {
    config.set("enable.auto.commit", "false");
    spawn_blocking(move || question(&config.create()?)).await?
}

fn read(consumer: &BaseConsumer, topic: &str, ends: &[(i64, i64)]) -> Result<Vec<Stored>> {
    let deadline = Instant::now() + WORK;
    let mut stored = Vec::new();
    {
        let mut all = TopicPartitionList::new();
        for (partition, (low, _)) in (0..).zip(ends) {
            all.add_partition_offset(topic, partition, Offset::Offset(*low))?;
        }
        consumer.assign(&all)?;
    }
    // By position and not by count: markers of transactions and what compaction took are never delivered.
    let mut last = None;
    while !at_end(consumer, topic, ends)? {
        ensure!(
            Instant::now() < deadline,
            "reading {topic} does not end: {last:?}"
        );
        let message = match consumer.poll(Duration::from_millis(50)) {
            None => continue,
            // A node that is gone is complained of, while another answers.
            Some(Err(error)) => {
                last = Some(error);
                continue;
            }
            Some(Ok(message)) => message,
        };
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            let one = |header: rdkafka::message::Header<'_, &[u8]>| {
                (
                    header.key.to_owned(),
                    header.value.unwrap_or_default().to_vec(),
                )
            };
            headers.iter().map(one).collect()
        });
        stored.push(Stored {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().map(<[u8]>::to_vec),
            headers,
        });
    }
    Ok(stored)
}

fn at_end(consumer: &BaseConsumer, topic: &str, ends: &[(i64, i64)]) -> Result<bool> {
    let positions = consumer.position()?;
    let at = |partition| match positions.find_partition(topic, partition)?.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    };
    Ok((0..)
        .zip(ends)
        .all(|(partition, (low, high))| low == high || at(partition).is_some_and(|at| at >= *high)))
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(WORK))
        .operation_timeout(Some(WORK))
}

fn each(answers: Vec<rdkafka::admin::TopicResult>) -> Result<()> {
    answers
        .into_iter()
        .try_for_each(|answer| {
            answer
                .map(drop)
                .map_err(|(topic, why)| anyhow!("{topic}: {why}"))
        })
        .context("an admin request was refused")
}
