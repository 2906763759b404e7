//! Kafka frozen: what a publish and close make of a broker that is there and answers nothing; and close with one that answers.
//!
//! Each has a broker of its own, and one after the other: threads are counted.

use anyhow::{Result, bail, ensure};
use clearway::kafka::{Kafka as Backend, Options};
use clearway::{Bus, FailureKind, PublishError, ReceiptFuture, TopicConfig};
use clearway_integration::{Kafka, KafkaBroker, RawTopic, until};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

static ONE: Mutex<()> = Mutex::const_new(());

/// The broker stores and its answer never comes: nobody can tell, and the publish says so in its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_answer_the_outcome_is_unknown_in_time() -> Result<()> {
    let _one = ONE.lock().await;
    let Some(scene) = Frozen::new().await? else {
        return Ok(());
    };
    let begun = Instant::now();
    let publish = scene
        .bus
        .raw_topic(&scene.topic)?
        .publish(&"two".into())
        .enqueue()?;
    let outcome = publish.await;
    let took = begun.elapsed();
    let Err(PublishError::Unknown(failure)) = outcome else {
        bail!("{outcome:?}");
    };
    ensure!(failure.kind() == FailureKind::TimedOut, "{failure:?}");
    ensure!(failure.to_string().contains("publish_timeout"), "{failure}");
    ensure!(took < Duration::from_secs(4), "{took:?}");
    scene.bus.close(Duration::from_secs(1)).await;
    Ok(())
}

/// Close with 10,000 in flight and the broker gone: it ends in its time, each publish has an outcome, and no thread is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_ends_in_its_time_with_the_broker_gone_and_leaves_no_thread() -> Result<()> {
    let _one = ONE.lock().await;
    let before = threads()?;
    let Some(scene) = Frozen::new().await? else {
        return Ok(());
    };
    let raw = scene.bus.raw_topic(&scene.topic)?;
    let receipts = enqueue_all(&raw)?;
    let begun = Instant::now();
    let report = scene.bus.close(Duration::from_secs(1)).await;
    let took = begun.elapsed();
    ensure!(!report.drained, "{report:?}");
    ensure!(took < Duration::from_secs(4), "{took:?}");
    let mut unknown = 0;
    for receipt in receipts {
        match receipt.await {
            Err(PublishError::Unknown(_) | PublishError::Rejected(_)) => unknown += 1,
            other => bail!("{other:?}"),
        }
    }
    ensure!(unknown == IN_FLIGHT, "{unknown}");
    until("no thread of ours is left", async || {
        Ok(threads()? <= before)
    })
    .await?;
    println!(
        "integration: kafka: closed in {took:.1?} with {IN_FLIGHT} in flight and the broker gone"
    );
    Ok(())
}

/// The same with a broker that answers: all that is in flight is stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_drains_ten_thousand_in_its_time_and_leaves_no_thread() -> Result<()> {
    let _one = ONE.lock().await;
    let before = threads()?;
    let broker = KafkaBroker::any().await?;
    // They wait for others, so that all are there when it is closed.
    let options = Options::from_url(&broker.url())?.set("linger.ms", "500")?;
    let (bus, topic) = scene(&broker, options).await?;
    let receipts = enqueue_all(&bus.raw_topic(&topic)?)?;
    let in_flight = bus.metrics().in_flight;
    let (begun, limit) = (Instant::now(), Duration::from_secs(5));
    let report = bus.close(limit).await;
    let took = begun.elapsed();
    ensure!(
        in_flight as usize > IN_FLIGHT / 2,
        "only {in_flight} were in flight"
    );
    ensure!(report.drained && took < limit, "{took:?}: {report:?}");
    for receipt in receipts {
        receipt.await?;
    }
    until("no thread of ours is left", async || {
        Ok(threads()? <= before)
    })
    .await?;
    println!("integration: kafka: closed in {took:.1?} with {in_flight} in flight, all stored");
    Ok(())
}

const IN_FLIGHT: usize = 10_000;

fn enqueue_all(topic: &RawTopic) -> Result<Vec<ReceiptFuture>> {
    let receipts = (0..IN_FLIGHT).map(|n| topic.publish(&format!("{n}").into()).enqueue());
    Ok(receipts.collect::<Result<_, _>>()?)
}

/// A bus with room for as many, and a topic that has one envelope.
async fn scene(broker: &KafkaBroker, options: Options) -> Result<(Bus, String)> {
    let builder = Bus::builder().backend(Backend::new(options));
    let builder = builder.in_flight(IN_FLIGHT as u64, 64 << 20);
    let bus = builder.receipts_max(2 * IN_FLIGHT).connect().await?;
    let topic = broker.fresh_name("frozen");
    bus.configure(TopicConfig::new(topic.as_str()).partitions(2))
        .await?;
    bus.publish(&topic, "one").await?;
    Ok((bus, topic))
}

/// The threads of this process whose names are the Kafka client's or ours.
fn threads() -> Result<usize> {
    let mut count = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let name = std::fs::read_to_string(task?.path().join("comm")).unwrap_or_default();
        count += usize::from(name.starts_with("rdk:") || name.starts_with("clearway-kafka"));
    }
    Ok(count)
}

/// A bus on a broker that is frozen.
struct Frozen {
    bus: Bus,
    topic: String,
    /// It ends with this.
    _broker: KafkaBroker,
}

impl Frozen {
    async fn new() -> Result<Option<Self>> {
        let Some(broker) = KafkaBroker::own(Kafka::default()).await? else {
            return Ok(None);
        };
        let options = Options::from_url(&broker.url())?.publish_timeout(Duration::from_secs(3));
        let (bus, topic) = scene(&broker, options).await?;
        broker.node()?.pause().await?;
        Ok(Some(Self {
            bus,
            topic,
            _broker: broker,
        }))
    }
}
