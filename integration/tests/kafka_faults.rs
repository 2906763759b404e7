//! Kafka frozen: what a publish, a subscription and close make of a broker that is there and answers nothing.
//!
//! Each has a broker of its own, and one after the other: threads are counted.

use anyhow::{Result, bail, ensure};
use clearway::kafka::{Kafka as Backend, Options};
use clearway::{Bus, FailureKind, PublishError, TopicConfig};
use clearway_integration::{Kafka, KafkaBroker, until};
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
    let receipts = (0..4000).map(|n| raw.publish(&format!("{n}").into()).enqueue());
    let receipts: Vec<_> = receipts.collect::<Result<_, _>>()?;
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
    ensure!(unknown == 4000, "{unknown}");
    until("no thread of ours is left", async || {
        Ok(threads()? <= before)
    })
    .await?;
    println!("integration: kafka: closed in {took:.1?} with 4000 in flight and the broker gone");
    Ok(())
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
        let bus = Bus::builder()
            .backend(Backend::new(options))
            .connect()
            .await?;
        let topic = broker.fresh_name("frozen");
        bus.configure(TopicConfig::new(topic.as_str()).partitions(2))
            .await?;
        bus.publish(&topic, "one").await?;
        broker.node()?.pause().await?;
        Ok(Some(Self {
            bus,
            topic,
            _broker: broker,
        }))
    }
}
