//! Publishing: what the broker has, what it surely does not have, and what nobody can tell.

use crate::setup::{self, CLOSE, PATIENCE};
use anyhow::{Result, bail, ensure};
use clearway::kafka::{Batching, Compression};
use clearway::{FailureKind, PublishError, TopicConfig};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Reads a topic from its begin with a client that is not ours: partition, offset, key, payload, names of headers.
fn read(topic: &str, partitions: i32, count: usize) -> Result<Vec<Read>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", setup::broker()?)
        .set("group.id", setup::fresh_name("reader"))
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    drop(list);
    let (mut all, until) = (Vec::new(), Instant::now() + PATIENCE);
    while all.len() < count && Instant::now() < until {
        if let Some(record) = consumer.poll(Duration::from_millis(100)) {
            let record = record?;
            let headers = record
                .headers()
                .into_iter()
                .flat_map(|headers| headers.iter());
            all.push(Read {
                partition: record.partition(),
                offset: record.offset(),
                key: record.key().map(<[u8]>::to_vec),
                payload: record.payload().unwrap_or_default().to_vec(),
                headers: headers.map(|header| header.key.to_owned()).collect(),
            });
        }
    }
    Ok(all)
}

struct Read {
    partition: i32,
    offset: i64,
    key: Option<Vec<u8>>,
    payload: Vec<u8>,
    headers: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_client_reads_what_was_acknowledged_where_the_receipt_says() -> Result<()> {
    let bus = setup::bus().await?;
    let topic = setup::fresh_name("receipts");
    bus.configure(TopicConfig::new(topic.as_str()).partitions(4))
        .await?;
    let raw = bus.raw_topic(&topic)?;
    let mut wanted = BTreeMap::new();
    for n in 0..40 {
        let key = format!("key-{}", n % 7);
        let payload = format!("payload {n}");
        let publish = raw.publish(&payload.clone().into()).key(key.clone());
        let receipt = publish.header("x", "1").await?;
        wanted.insert(
            (receipt.partition as i32, receipt.position as i64),
            (key, payload),
        );
    }
    bus.close(CLOSE).await;
    let found = read(&topic, 4, 40)?;
    ensure!(found.len() == 40, "{}", found.len());
    let mut partitions: BTreeMap<Vec<u8>, i32> = BTreeMap::new();
    for record in found {
        let Some((key, payload)) = wanted.remove(&(record.partition, record.offset)) else {
            bail!(
                "nothing was acknowledged at {} {}",
                record.partition,
                record.offset
            );
        };
        ensure!(record.payload == payload.as_bytes());
        ensure!(record.key.as_deref() == Some(key.as_bytes()));
        ensure!(
            record.headers == ["clearway-id", "x"],
            "{:?}",
            record.headers
        );
        let there = partitions
            .entry(record.key.unwrap_or_default())
            .or_insert(record.partition);
        ensure!(*there == record.partition, "a key in two partitions");
    }
    Ok(())
}

/// librdkafka's own partitioner, which is Kafka's, puts a key where ours does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_where_kafkas_own_clients_put_it() -> Result<()> {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    let bus = setup::bus().await?;
    let topic = setup::fresh_name("partitioner");
    bus.configure(TopicConfig::new(topic.as_str()).partitions(5))
        .await?;
    let raw = bus.raw_topic(&topic)?;
    let other: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", setup::broker()?)
        .set("partitioner", "murmur2_random")
        .create()?;
    for n in 0..50 {
        let key = format!("key-{n}");
        raw.publish(&"ours".into()).key(key.clone()).await?;
        let record = BaseRecord::to(&topic).key(&key).payload("theirs");
        other.send(record).map_err(|(error, _)| error)?;
    }
    other.flush(Duration::from_secs(10))?;
    bus.close(CLOSE).await;
    let found = read(&topic, 5, 100)?;
    ensure!(found.len() == 100, "{}", found.len());
    let mut places: BTreeMap<Vec<u8>, Vec<i32>> = BTreeMap::new();
    for record in found {
        places
            .entry(record.key.unwrap_or_default())
            .or_default()
            .push(record.partition);
    }
    for (key, places) in places {
        ensure!(
            places.len() == 2 && places[0] == places[1],
            "{key:?}: {places:?}"
        );
    }
    Ok(())
}

/// Pipelined: a window of many, each with its own outcome, in the order of its key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_in_flight_are_acknowledged_in_order() -> Result<()> {
    let options = setup::options()?
        .batching(Batching::Throughput)
        .compression(Compression::Lz4);
    let bus = setup::builder(options).connect().await?;
    let topic = setup::fresh_name("pipelined");
    bus.configure(TopicConfig::new(topic.as_str()).partitions(1))
        .await?;
    let raw = bus.raw_topic(&topic)?;
    let mut receipts = std::collections::VecDeque::new();
    let mut last = None;
    for n in 0..10_000_u32 {
        let publish = raw.publish(&n.to_le_bytes().to_vec().into()).key("one");
        receipts.push_back(publish.enqueue()?);
        if receipts.len() >= 4000 {
            let next = receipts
                .pop_front()
                .expect("there are many")
                .await?
                .position;
            ensure!(last.is_none_or(|last| last < next), "{last:?} {next}");
            last = Some(next);
        }
    }
    for receipt in receipts {
        let next = receipt.await?.position;
        ensure!(last.is_none_or(|last| last < next), "{last:?} {next}");
        last = Some(next);
    }
    ensure!(last == Some(9_999), "{last:?}");
    bus.close(CLOSE).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn low_latency_does_not_wait_for_others() -> Result<()> {
    let options = setup::options()?.batching(Batching::LowLatency);
    let bus = setup::builder(options).connect().await?;
    let topic = setup::fresh_name("prompt");
    bus.configure(TopicConfig::new(topic.as_str()).partitions(1))
        .await?;
    bus.publish(&topic, "warm").await?;
    let mut took = Vec::new();
    for _ in 0..51 {
        let begun = Instant::now();
        bus.publish(&topic, "one").await?;
        took.push(begun.elapsed());
    }
    took.sort();
    println!(
        "integration: kafka: one awaited publish at a time, p50 {:?}, slowest {:?}",
        took[25], took[50]
    );
    ensure!(took[25] < Duration::from_millis(5), "p50 {:?}", took[25]);
    bus.close(CLOSE).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_for_the_broker_is_rejected_and_names_the_setting() -> Result<()> {
    let bus = setup::bus().await?;
    let topic = setup::fresh_name("large");
    bus.configure(
        TopicConfig::new(topic.as_str())
            .partitions(1)
            .size_limit(8 << 20),
    )
    .await?;
    // The limit was made to fit.
    bus.publish(&topic, vec![7; 3 << 20]).await?;
    let there = setup::fresh_name("small");
    bus.configure(TopicConfig::new(there.as_str()).partitions(1))
        .await?;
    match bus.publish(&there, vec![7; 3 << 20]).await {
        Err(PublishError::TooLarge { .. }) => {}
        Err(PublishError::Rejected(failure)) => {
            ensure!(failure.kind() == FailureKind::TooLarge, "{failure:?}");
            ensure!(
                failure.to_string().contains("max.message.bytes"),
                "{failure}"
            );
        }
        other => bail!("{other:?}"),
    }
    bus.close(CLOSE).await;
    Ok(())
}
