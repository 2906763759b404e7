//! Kafka frozen or gone: what a publish and close make of a broker that answers nothing, and what is held for it meanwhile,
//! and what close leaves behind.
//!
//! Each has a broker of its own, and one after the other: threads and memory are counted.

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use clearway::kafka::{Kafka as Backend, Options};
use clearway::{
    Bus, CloseReport, Delivery, FailureKind, HandlerError, PublishError, ReceiptFuture, TopicConfig,
};
use clearway_integration::{Kafka, KafkaBroker, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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

/// The client goes on with what is over for us. What it holds of that is bounded as what is in flight is, in bytes too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_broker_gone_memory_is_bounded_by_the_budget() -> Result<()> {
    const BUDGET: u64 = 8 << 20;
    const PAYLOAD: usize = 64 << 10;
    /// In flight, over and at the client, and as much again that is not given back to the system at once; then stacks and tables.
    const GROWS_MAX: u64 = 4 * BUDGET + (16 << 20);
    let _one = ONE.lock().await;
    let Some(broker) = KafkaBroker::own(Kafka::default()).await? else {
        return Ok(());
    };
    let options = Options::from_url(&broker.url())?.publish_timeout(Duration::from_millis(300));
    let builder = Bus::builder().backend(Backend::new(options));
    let bus = builder.in_flight(4096, BUDGET).connect().await?;
    let topic = broker.fresh_name("gone");
    bus.configure(TopicConfig::new(topic.as_str()).partitions(2))
        .await?;
    // The first publish to a broker that is new takes longer than the others.
    until("the broker takes envelopes", async || {
        Ok(bus.publish(&topic, "one").await.is_ok())
    })
    .await?;
    broker.node()?.kill().await?;
    let (raw, payload) = (bus.raw_topic(&topic)?, vec![b'.'; PAYLOAD].into());
    let (before, mut most, mut accepted) = (resident()?, 0, 0);
    let begun = Instant::now();
    while accepted < 24 * BUDGET {
        ensure!(
            begun.elapsed() < Duration::from_secs(60),
            "{accepted} bytes accepted"
        );
        match raw.publish(&payload).enqueue() {
            Ok(_nobody_waits) => accepted += PAYLOAD as u64,
            // There is room when the first of them are over.
            Err(_full) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
        most = most.max(resident()?);
    }
    let grown = most.saturating_sub(before);
    println!(
        "integration: kafka: {} MiB accepted with the broker gone and a budget of {} MiB: {} MiB more resident at most",
        accepted >> 20,
        BUDGET >> 20,
        grown >> 20
    );
    bus.close(Duration::ZERO).await;
    ensure!(grown <= GROWS_MAX, "{} MiB more are resident", grown >> 20);
    Ok(())
}

/// As many are in flight when it is closed.
const IN_FLIGHT: u64 = 10_000;

/// Consumers have half a second to say goodbye when the time is over, and the connection as long. The rest is the machine's.
const BEYOND: Duration = Duration::from_millis(2000);

/// With the broker there all of it is acknowledged, though the client would have waited for more, and for longer than the close may take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_with_ten_thousand_in_flight_drains_and_leaves_no_thread() -> Result<()> {
    let _one = ONE.lock().await;
    let before = threads()?;
    let Some(scene) = Full::new("200000").await? else {
        return Ok(());
    };
    let closed = scene.close(Duration::from_secs(20)).await?;
    ensure!(closed.report.drained, "{:?}", closed.report);
    ensure!(closed.acked == IN_FLIGHT, "{}", closed.acked);
    none_left(before).await?;
    println!(
        "integration: kafka: closed in {:.1?} with {IN_FLIGHT} in flight",
        closed.took
    );
    Ok(())
}

/// With the broker gone it ends in its time, and each publish has an outcome.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_with_ten_thousand_in_flight_and_the_broker_gone_ends_in_its_time() -> Result<()> {
    let _one = ONE.lock().await;
    for gone in [Gone::Frozen, Gone::Killed] {
        let before = threads()?;
        let Some(scene) = Full::new("200000").await? else {
            return Ok(());
        };
        match gone {
            Gone::Frozen => scene.broker.node()?.pause().await?,
            Gone::Killed => scene.broker.node()?.kill().await?,
        }
        let limit = Duration::from_secs(1);
        let closed = scene.close(limit).await?;
        ensure!(!closed.report.drained, "{gone:?}: {:?}", closed.report);
        ensure!(closed.acked == 0, "{gone:?}: {}", closed.acked);
        let took = closed.took;
        ensure!(took < limit + BEYOND, "{gone:?}: {took:?}");
        // Those that were let go end by themselves.
        none_left(before).await?;
        println!(
            "integration: kafka: closed in {took:.1?} with {IN_FLIGHT} in flight and the broker {gone:?}"
        );
    }
    Ok(())
}

/// What a handler is at then is dropped, listed and not acknowledged; what was handled and cannot be committed keeps nobody waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_with_a_frozen_broker_lists_what_handlers_are_at() -> Result<()> {
    let _one = ONE.lock().await;
    let before = threads()?;
    let Some(broker) = KafkaBroker::own(Kafka::default()).await? else {
        return Ok(());
    };
    let seldom = Options::from_url(&broker.url())?.commit_every(Duration::from_secs(600));
    let builder = Bus::builder().backend(Backend::new(seldom));
    let bus = builder.connect().await?;
    let topic = broker.fresh_name("at-work");
    bus.configure(TopicConfig::new(topic.as_str()).partitions(1))
        .await?;
    let raw = bus.raw_topic(&topic)?;
    for n in ["one", "two"] {
        raw.publish(&n.into()).await?;
    }
    let (handled, at_work) = (Arc::new(AtomicUsize::new(0)), Arc::new(()));
    let (counts, works) = (handled.clone(), at_work.clone());
    let handler = move |delivery: Delivery<Bytes>| {
        let (counts, _works) = (counts.clone(), works.clone());
        async move {
            counts.fetch_add(1, Ordering::Relaxed);
            match &delivery.value[..] {
                b"one" => Ok::<_, HandlerError>(()),
                _ => std::future::pending().await,
            }
        }
    };
    let subscription = raw.subscription("audit").handler(handler).await?;
    until("the second is at work", async || {
        let in_flight = subscription.status().await.in_flight;
        Ok(handled.load(Ordering::Relaxed) == 2 && in_flight == 1)
    })
    .await?;
    broker.node()?.pause().await?;
    let (limit, begun) = (Duration::from_secs(1), Instant::now());
    let report = bus.close(limit).await;
    let took = begun.elapsed();
    ensure!(took >= limit && took < limit + BEYOND, "{took:?}");
    ensure!(report.deliveries_left == 1, "{report:?}");
    let left: Vec<_> = report.subscriptions.values().collect();
    ensure!(left.len() == 1 && left[0].left.len() == 1, "{report:?}");
    ensure!(left[0].left[0].position.offset == 1, "{report:?}");
    ensure!(!left[0].drained && !left[0].blocked, "{report:?}");
    drop((raw, subscription, bus));
    ensure!(Arc::strong_count(&at_work) == 1, "a handler is there yet");
    none_left(before).await?;
    println!(
        "integration: kafka: closed in {took:.1?} with a handler at work and the broker frozen"
    );
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Gone {
    Frozen,
    Killed,
}

/// A bus with so many publishes in flight, and a subscription at work.
struct Full {
    bus: Bus,
    receipts: Vec<ReceiptFuture>,
    /// It ends with this.
    broker: KafkaBroker,
}

struct Closed {
    report: CloseReport,
    took: Duration,
    acked: u64,
}

impl Full {
    /// None is sent before so many milliseconds are over, so that all are in flight when it is closed.
    async fn new(linger: &str) -> Result<Option<Self>> {
        let Some(broker) = KafkaBroker::own(Kafka::default()).await? else {
            return Ok(None);
        };
        let options = Options::from_url(&broker.url())?
            .publish_timeout(Duration::from_secs(1000))
            .set("linger.ms", linger)?;
        let bus = Bus::builder()
            .backend(Backend::new(options))
            .in_flight(IN_FLIGHT, 1 << 30)
            .receipts_max(IN_FLIGHT as usize)
            .connect()
            .await?;
        let topic = broker.fresh_name("full");
        bus.configure(TopicConfig::new(topic.as_str()).partitions(2))
            .await?;
        let raw = bus.raw_topic(&topic)?;
        let handler = |_: Delivery<Bytes>| async { Ok::<_, HandlerError>(()) };
        let _runs_until_close = raw.subscription("audit").handler(handler).await?;
        ensure!(threads()? > 0, "they are counted by the wrong names");
        let receipts = (0..IN_FLIGHT).map(|n| raw.publish(&format!("{n}").into()).enqueue());
        let receipts = receipts.collect::<Result<_, _>>()?;
        let metrics = bus.metrics();
        ensure!(
            metrics.in_flight == IN_FLIGHT && metrics.acked == 0,
            "{metrics:?}"
        );
        Ok(Some(Self {
            bus,
            receipts,
            broker,
        }))
    }

    async fn close(self, limit: Duration) -> Result<Closed> {
        let begun = Instant::now();
        let report = self.bus.close(limit).await;
        let took = begun.elapsed();
        let mut acked = 0;
        for receipt in self.receipts {
            match receipt.await {
                Ok(_) => acked += 1,
                Err(PublishError::Unknown(_) | PublishError::Rejected(_)) => {}
                other => bail!("{other:?}"),
            }
        }
        Ok(Closed {
            report,
            took,
            acked,
        })
    }
}

async fn none_left(before: usize) -> Result<()> {
    let no_more = async || Ok(threads()? <= before);
    until("no thread of ours is left", no_more).await
}

/// Bytes of this process that are in memory.
fn resident() -> Result<u64> {
    let told = std::fs::read_to_string("/proc/self/status")?;
    let line = told.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.context("no VmRSS in /proc/self/status")? << 10)
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
