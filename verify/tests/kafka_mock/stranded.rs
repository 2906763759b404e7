//! Stranded: a broker says for a moment that there are no brokers, and librdkafka lets go of those it knew. The bus goes on once there
//! are some again.

use crate::relay::Relay;
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use clearway::kafka::{Kafka, Options};
use clearway::{Bus, Delivery, Ensure, HandlerError, TopicConfig};
use rdkafka::mocking::MockCluster;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

pub(crate) const TOPIC: &str = "orders";
/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);
const CLOSE: Duration = Duration::from_secs(10);

fn options(address: impl ToString) -> Result<Options> {
    let url = format!("kafka://{}", address.to_string());
    let options = Options::from_url(&url)?
        .set("session.timeout.ms", "6000")?
        .set("topic.metadata.refresh.interval.ms", "200")?;
    Ok(options.statistics(Duration::from_millis(200)))
}

async fn bus(options: Options) -> Result<Bus> {
    let builder = Bus::builder().backend(Kafka::new(options));
    let bus = builder.connect().await?;
    let theirs = TopicConfig::new(TOPIC).ensure(Ensure::Skip);
    bus.configure(theirs).await?;
    Ok(bus)
}

/// Waits for a delivery. What came before may come again.
async fn comes(told: &mut mpsc::UnboundedReceiver<Bytes>, what: &'static str) -> Result<()> {
    while told.recv().await.context("the bus is closed")? != what {}
    Ok(())
}

/// It takes luck to fail: where questions without an answer do not change the client, two of eight do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_knew_no_brokers_for_a_moment_is_found_again() -> Result<()> {
    let cluster = MockCluster::new(1)?;
    cluster.create_topic(TOPIC, 1, 1)?;
    let relay = Relay::start(&cluster.bootstrap_servers()).await?;
    let through = bus(options(relay.address())?).await?;
    let outside = bus(options(cluster.bootstrap_servers())?).await?;
    let (tell, mut told) = mpsc::unbounded_channel();
    let handler = move |delivery: Delivery<Bytes>| {
        let told = tell.send(delivery.value.clone());
        async move { Ok::<_, HandlerError>(told?) }
    };
    let topic = through.raw_topic(TOPIC)?;
    let _runs_until_close = topic.subscription("audit").handler(handler).await?;
    topic.publish(&"before".into()).await?;
    ensure!(timeout(PATIENCE, told.recv()).await? == Some("before".into()));

    // Who of the clients hears it, and how often, is different each time.
    for times in 1..=8 {
        relay.knows_none(times);
        let said = async {
            while relay.left() > 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, said).await?;
        outside.raw_topic(TOPIC)?.publish(&"after".into()).await?;
        timeout(PATIENCE, comes(&mut told, "after")).await??;
        let published = async { while topic.publish(&"own".into()).await.is_err() {} };
        timeout(PATIENCE, published).await?;
        timeout(PATIENCE, comes(&mut told, "own")).await??;
    }
    outside.close(CLOSE).await;
    drop(topic);
    through.close(CLOSE).await;
    Ok(())
}
