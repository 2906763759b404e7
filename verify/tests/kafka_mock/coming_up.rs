//! Coming up: what a broker says in its first moments, or while it makes a group's coordinator, is no answer. The bus asks again, within
//! its limits, and nobody has to begin anew.
//!
//! The mock says these things when it is told to.

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use clearway::kafka::{Kafka, Options};
use clearway::{
    Bus, BusBuilder, BusEvent, Delivery, Ensure, HandlerError, Raw, Topic, TopicConfig,
};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Says};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

const TOPIC: &str = "orders";
const GROUP: &str = "audit";
/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);
const CLOSE: Duration = Duration::from_secs(10);
const REQUEST: Duration = Duration::from_millis(300);

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster() -> Result<Cluster> {
    let cluster = MockCluster::new(1)?;
    cluster.create_topic(TOPIC, 1, 1)?;
    Ok(cluster)
}

/// Options of a member that is missed soon.
fn options(cluster: &Cluster) -> Result<Options> {
    let url = format!("kafka://{}", cluster.bootstrap_servers());
    Ok(Options::from_url(&url)?.set("session.timeout.ms", "6000")?)
}

fn builder(options: Options) -> BusBuilder {
    Bus::builder().backend(Kafka::new(options))
}

async fn bus(cluster: &Cluster, request: Duration) -> Result<Bus> {
    let options = options(cluster)?.request_timeout(request);
    Ok(builder(options).connect().await?)
}

/// What others have made: nothing of it is compared.
fn theirs() -> TopicConfig {
    TopicConfig::new(TOPIC).ensure(Ensure::Skip)
}

/// Subscribes, and gives what is delivered.
async fn subscribed(topic: &Topic<Bytes, Raw>) -> Result<mpsc::UnboundedReceiver<Bytes>> {
    let (tell, told) = mpsc::unbounded_channel();
    let handler = move |delivery: Delivery<Bytes>| {
        let told = tell.send(delivery.value.clone());
        async move { Ok::<_, HandlerError>(told?) }
    };
    let _runs_until_close = topic.subscription(GROUP).handler(handler).await?;
    Ok(told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_without_a_leader_is_waited_for_as_long_as_ensuring_may_take() -> Result<()> {
    let cluster = cluster()?;
    let bus = bus(&cluster, REQUEST).await?;
    cluster.topic_error(TOPIC, Says::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE)?;
    let led = async {
        // For longer than one request may take.
        sleep(REQUEST * 4).await;
        cluster.topic_error(TOPIC, Says::RD_KAFKA_RESP_ERR_NO_ERROR)
    };
    let (configured, led) = tokio::join!(bus.configure(theirs()), led);
    led?;
    configured?;
    bus.close(CLOSE).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_waits_for_the_groups_coordinator() -> Result<()> {
    for says in [
        Says::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
        Says::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
        Says::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
    ] {
        let cluster = cluster()?;
        let bus = bus(&cluster, PATIENCE).await?;
        bus.configure(theirs()).await?;
        let topic = bus.raw_topic(TOPIC)?;
        // More than the client tries by itself.
        cluster.request_errors(RDKafkaApiKey::OffsetFetch, &[says; 8]);
        let mut told = subscribed(&topic).await?;
        topic.publish(&Bytes::from_static(b"one")).await?;
        ensure!(timeout(PATIENCE, told.recv()).await? == Some("one".into()));
        drop(topic);
        bus.close(CLOSE).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_cannot_be_told_its_place_yet_stays_in_its_group() -> Result<()> {
    // The first is an answer, the other none: the broker is gone each time, for longer than a request may take in all.
    stays(Says::RD_KAFKA_RESP_ERR_NOT_COORDINATOR, 3, PATIENCE).await?;
    stays(Says::RD_KAFKA_RESP_ERR__TRANSPORT, 12, REQUEST).await
}

async fn stays(says: Says, times: usize, request: Duration) -> Result<()> {
    let cluster = cluster()?;
    let bus = bus(&cluster, request).await?;
    bus.configure(theirs()).await?;
    let mut events = bus.events();
    let topic = bus.raw_topic(TOPIC)?;
    let mut told = subscribed(&topic).await?;
    // It joins now, and asks where it begins when it has.
    cluster.request_errors(RDKafkaApiKey::OffsetFetch, &vec![says; times]);
    topic.publish(&Bytes::from_static(b"one")).await?;
    ensure!(timeout(PATIENCE, told.recv()).await? == Some("one".into()));
    drop(topic);
    bus.close(CLOSE).await;
    while let Some(event) = events.next().await {
        if let BusEvent::ConsumerRestarted { reason, .. } = event {
            bail!("it began anew: {reason}");
        }
    }
    Ok(())
}

/// The broker takes no commit while members come and go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_closing_member_has_done_is_committed_though_its_group_rebalances() -> Result<()> {
    let cluster = cluster()?;
    // It commits when it has to, and only then.
    let seldom = options(&cluster)?.commit_every(PATIENCE * 10);
    let first = builder(seldom).connect().await?;
    first.configure(theirs()).await?;
    let topic = first.raw_topic(TOPIC)?;
    let mut told = subscribed(&topic).await?;
    topic.publish(&Bytes::from_static(b"one")).await?;
    ensure!(timeout(PATIENCE, told.recv()).await? == Some("one".into()));
    let says = Says::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS;
    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &[says; 4]);
    drop(topic);
    ensure!(first.close(CLOSE).await.drained);

    let next = bus(&cluster, PATIENCE).await?;
    next.configure(theirs()).await?;
    let topic = next.raw_topic(TOPIC)?;
    let mut told = subscribed(&topic).await?;
    topic.publish(&Bytes::from_static(b"two")).await?;
    ensure!(timeout(PATIENCE, told.recv()).await? == Some("two".into()));
    drop(topic);
    next.close(CLOSE).await;
    Ok(())
}
