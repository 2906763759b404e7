//! Closing keeps its deadline, whatever the brokers do: what is left is listed, and said to be left. And it waits for no linger.

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use clearway::kafka::{Kafka, Options};
use clearway::{
    Bus, ConnectError, Delivery, Ensure, HandlerError, PublishError, Raw, Topic, TopicConfig,
};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::timeout;

const TOPIC: &str = "orders";
/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);
const CLOSE: Duration = Duration::from_secs(1);
/// What is left then may take half a second to say goodbye, and the connection as long; the rest is the machine's.
const CLOSED: Duration = Duration::from_millis(2500);
const IN_FLIGHT: u64 = 500;
/// Longer than anything lingers.
const LONG: Duration = Duration::from_secs(1000);

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster() -> Result<Cluster> {
    let cluster = MockCluster::new(1)?;
    cluster.create_topic(TOPIC, 2, 1)?;
    Ok(cluster)
}

fn options(cluster: &Cluster) -> Result<Options> {
    let url = format!("kafka://{}", cluster.bootstrap_servers());
    Ok(Options::from_url(&url)?.set("session.timeout.ms", "6000")?)
}

async fn bus(options: Options) -> Result<Bus> {
    let bus = Bus::builder()
        .backend(Kafka::new(options))
        .connect()
        .await?;
    bus.configure(TopicConfig::new(TOPIC).ensure(Ensure::Skip))
        .await?;
    Ok(bus)
}

/// From here on no request is answered, and connections stay.
fn freeze(cluster: &Cluster) -> Result<()> {
    Ok(cluster.broker_round_trip_time(1, Duration::from_secs(3600))?)
}

/// Subscribes, and has handled one.
async fn at_work(topic: &Topic<Bytes, Raw>, group: &str) -> Result<()> {
    let (tell, mut told) = mpsc::unbounded_channel();
    let handler = move |delivery: Delivery<Bytes>| {
        let told = tell.send(delivery.value.clone());
        async move { Ok::<_, HandlerError>(told?) }
    };
    let _runs_until_close = topic.subscription(group).handler(handler).await?;
    ensure!(timeout(PATIENCE, told.recv()).await?.is_some());
    Ok(())
}

/// Each consumer has something to commit and a group to leave, and nobody answers: they share the time that is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_frozen_broker_consumers_end_at_the_deadline() -> Result<()> {
    let cluster = cluster()?;
    let bus = bus(options(&cluster)?.commit_every(PATIENCE * 10)).await?;
    let topic = bus.raw_topic(TOPIC)?;
    topic.publish(&Bytes::from_static(b"one")).await?;
    for group in ["audit", "billing", "stock"] {
        at_work(&topic, group).await?;
    }
    freeze(&cluster)?;
    let begun = Instant::now();
    let report = bus.close(CLOSE).await;
    let took = begun.elapsed();
    ensure!(took < CLOSED, "{took:?}");
    ensure!(report.drained && report.deliveries_left == 0, "{report:?}");
    ensure!(
        report.subscriptions.is_empty(),
        "no handler is left: {report:?}"
    );
    println!("mock: closed in {took:.1?} with three consumers and a frozen broker");
    Ok(())
}

/// And a subscription that is closed by itself does too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_frozen_broker_publishes_are_left_at_the_deadline() -> Result<()> {
    let cluster = cluster()?;
    let bus = bus(options(&cluster)?).await?;
    let topic = bus.raw_topic(TOPIC)?;
    topic.publish(&Bytes::from_static(b"one")).await?;
    at_work(&topic, "audit").await?;
    freeze(&cluster)?;
    let receipts = (0..IN_FLIGHT).map(|n| topic.publish(&format!("{n}").into()).enqueue());
    let receipts = receipts.collect::<Result<Vec<_>, _>>()?;
    let begun = Instant::now();
    let report = bus.close(CLOSE).await;
    let took = begun.elapsed();
    ensure!(took < CLOSED, "{took:?}");
    ensure!(!report.drained, "{report:?}");
    ensure!(report.topics[TOPIC].unknown == IN_FLIGHT, "{report:?}");
    for receipt in receipts {
        let outcome = receipt.await;
        ensure!(
            matches!(outcome, Err(PublishError::Unknown(_))),
            "{outcome:?}"
        );
    }
    println!("mock: closed in {took:.1?} with {IN_FLIGHT} in flight and a frozen broker");
    Ok(())
}

/// They had no answer in their own time, which is over before that of the close.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishes_that_are_given_up_while_it_closes_are_not_drained() -> Result<()> {
    let cluster = cluster()?;
    let bus = bus(options(&cluster)?.publish_timeout(CLOSE / 2)).await?;
    let topic = bus.raw_topic(TOPIC)?;
    topic.publish(&Bytes::from_static(b"one")).await?;
    freeze(&cluster)?;
    let receipt = topic.publish(&Bytes::from_static(b"two")).enqueue()?;
    let report = bus.close(PATIENCE).await;
    let outcome = receipt.await;
    ensure!(
        matches!(outcome, Err(PublishError::Unknown(_))),
        "{outcome:?}"
    );
    ensure!(!report.drained, "{report:?}");
    // The first may be counted too: its receipt is told a moment before.
    ensure!(report.topics[TOPIC].ambiguous == 1, "{report:?}");
    Ok(())
}

/// The client would wait for company for longer than a publish may take, and longer than the close.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lingers_is_sent_when_it_closes() -> Result<()> {
    for linger in ["200000", "600000", "900000"] {
        let cluster = cluster()?;
        let options = options(&cluster)?.publish_timeout(LONG);
        let bus = bus(options.set("linger.ms", linger)?).await?;
        let topic = bus.raw_topic(TOPIC)?;
        let receipts = (0..IN_FLIGHT).map(|n| topic.publish(&format!("{n}").into()).enqueue());
        let receipts = receipts.collect::<Result<Vec<_>, _>>()?;
        ensure!(bus.metrics().acked == 0, "{:?}", bus.metrics());
        let report = bus.close(CLOSE * 8).await;
        println!(
            "mock: closed in {:.1?} with {IN_FLIGHT} that linger",
            report.took
        );
        ensure!(report.drained, "{report:?}");
        ensure!(report.took < CLOSE * 4, "{report:?}");
        for receipt in receipts {
            receipt.await?;
        }
    }
    Ok(())
}

/// And what a handler publishes meanwhile, and waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_handler_publishes_while_it_closes_does_not_linger() -> Result<()> {
    let cluster = cluster()?;
    cluster.create_topic("bills", 1, 1)?;
    let fed = bus(options(&cluster)?).await?;
    fed.raw_topic(TOPIC)?.publish(&"one".into()).await?;
    let options = options(&cluster)?.publish_timeout(LONG);
    let bus = bus(options.set("linger.ms", "200000")?).await?;
    bus.configure(TopicConfig::new("bills").ensure(Ensure::Skip))
        .await?;
    let (begins, mut begun) = mpsc::unbounded_channel();
    let (goes_on, go_on) = tokio::sync::watch::channel(false);
    let bills = bus.raw_topic("bills")?;
    let handler = move |_: Delivery<Bytes>| {
        let (begins, mut go_on, bills) = (begins.clone(), go_on.clone(), bills.clone());
        async move {
            begins.send(())?;
            go_on.wait_for(|go_on| *go_on).await?;
            bills.publish(&"bill".into()).await?;
            Ok::<_, HandlerError>(())
        }
    };
    let topic = bus.raw_topic(TOPIC)?;
    let _runs_until_close = topic.subscription("audit").handler(handler).await?;
    ensure!(timeout(PATIENCE, begun.recv()).await?.is_some());
    let closing = tokio::spawn(async move { bus.close(CLOSE * 8).await });
    while topic.publish(&"outside".into()).enqueue().is_ok() {
        tokio::task::yield_now().await;
    }
    goes_on.send_replace(true);
    let report = closing.await?;
    ensure!(report.drained && report.deliveries_left == 0, "{report:?}");
    ensure!(report.topics["bills"].drained == 1, "{report:?}");
    fed.close(CLOSE).await;
    Ok(())
}

/// The client takes no more than a quarter of an hour.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_linger_that_the_client_does_not_take_is_refused_by_name() -> Result<()> {
    let cluster = cluster()?;
    for name in ["linger.ms", "queue.buffering.max.ms"] {
        let options = options(&cluster)?.publish_timeout(LONG);
        let refused = match options.set(name, "900001") {
            Ok(options) => Bus::builder()
                .backend(Kafka::new(options))
                .connect()
                .await
                .err(),
            Err(refused) => Some(refused),
        };
        let Some(ConnectError::Config { .. }) = &refused else {
            bail!("{name}: {refused:?}");
        };
        let text = refused.map_or_else(String::new, |refused| refused.to_string());
        ensure!(text.starts_with(name) && text.contains("900000"), "{text}");
    }
    Ok(())
}
