//! What can be done to a broker really happens, and ends.

use anyhow::{Context, Result, ensure};
use clearway_integration::{Fault, Kafka, KafkaBroker, KafkaOutside, Node, until, until_within};
use std::time::Duration;
use tokio::net::TcpStream;

/// A fault may need so long until clients see it, or no longer see it.
const SOON: Duration = Duration::from_secs(20);

async fn up(options: Kafka) -> Result<Option<(KafkaBroker, KafkaOutside)>> {
    let Some(kafka) = KafkaBroker::own(options).await? else {
        return Ok(None);
    };
    let outside = KafkaOutside::of(&kafka)?;
    let copies = kafka.nodes().len() as i32;
    outside.create("t", copies, copies, &[]).await?;
    outside.publish("t", &[("k", "before")]).await?;
    Ok(Some((kafka, outside)))
}

async fn payloads(outside: &KafkaOutside) -> Result<Vec<String>> {
    let stored = outside.stored("t").await?;
    let payload = |one: &clearway_integration::Stored| {
        String::from_utf8_lossy(one.payload.as_deref().unwrap_or_default()).into_owned()
    };
    Ok(stored.iter().map(payload).collect())
}

/// A broker that answers knows at least of itself.
async fn answers(outside: &KafkaOutside) -> bool {
    outside
        .brokers()
        .await
        .is_ok_and(|brokers| !brokers.is_empty())
}

/// What was stored is there, and it takes more.
async fn goes_on(outside: &KafkaOutside, how: &str) -> Result<()> {
    until_within(SOON, "what was stored is there", async || {
        Ok(payloads(outside).await?.contains(&"before".to_owned()))
    })
    .await?;
    outside.publish("t", &[("k", how)]).await?;
    ensure!(
        payloads(outside).await?.contains(&how.to_owned()),
        "after {how}"
    );
    Ok(())
}

async fn running(node: &Node) -> Result<bool> {
    node.is_running().await
}

#[tokio::test]
async fn killed_stopped_and_started_it_keeps_its_data_and_ports() -> Result<()> {
    let Some((kafka, outside)) = up(Kafka::default()).await? else {
        return Ok(());
    };
    let node = kafka.node()?;
    node.kill().await?;
    assert!(!running(node).await? && !answers(&outside).await);
    assert!(TcpStream::connect(node.address()).await.is_err());
    node.start_again().await?;
    goes_on(&outside, "after a kill").await?;

    node.stop().await?;
    assert!(!running(node).await? && !answers(&outside).await);
    // A kill gives it no time for this.
    assert_eq!(node.log().await?.matches("shut down completed").count(), 1);
    node.start_again().await?;
    goes_on(&outside, "after a stop").await
}

#[tokio::test]
async fn paused_or_cut_off_it_does_not_answer_and_goes_on_afterwards() -> Result<()> {
    let Some((kafka, outside)) = up(Kafka::default()).await? else {
        return Ok(());
    };
    let node = kafka.node()?;
    node.pause().await?;
    assert!(running(node).await? && !answers(&outside).await);
    node.unpause().await?;
    goes_on(&outside, "after a pause").await?;

    node.cut_off().await?;
    assert!(running(node).await? && !answers(&outside).await);
    node.connect().await?;
    until_within(SOON, "clients reach it", async || {
        Ok(answers(&outside).await)
    })
    .await?;
    goes_on(&outside, "after a cut").await
}

#[tokio::test]
async fn clients_come_through_the_proxy_and_lookers_on_do_not() -> Result<()> {
    let Some((kafka, outside)) = up(Kafka::default().proxied()).await? else {
        return Ok(());
    };
    let proxy = kafka.node()?.proxy()?;
    assert_eq!(kafka.bootstrap(), proxy.address().to_string());
    assert_eq!(proxy.accepted(), 0, "nobody has come that way");
    let producer = |payload: &'static str| {
        let mut config = outside.config();
        config
            .set("bootstrap.servers", kafka.bootstrap())
            .set("message.timeout.ms", "2000");
        tokio::task::spawn_blocking(move || -> Result<i32> {
            use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
            let producer: BaseProducer = config.create()?;
            let record = BaseRecord::to("t").key("k").payload(payload);
            producer.send(record).map_err(|(error, _)| error)?;
            producer.flush(Duration::from_secs(10))?;
            Ok(producer.in_flight_count())
        })
    };
    producer("through").await??;
    assert!(
        proxy.accepted() >= 2,
        "one to ask who leads, one to the leader"
    );
    assert!(payloads(&outside).await?.contains(&"through".to_owned()));

    // It tells clients of the proxy and of nothing else: with the door shut they cannot go round it.
    proxy.set(Fault::Refuse).await;
    producer("refused").await??;
    assert!(!payloads(&outside).await?.contains(&"refused".to_owned()));
    proxy.set(Fault::Pass).await;
    producer("again").await??;
    assert!(payloads(&outside).await?.contains(&"again".to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_full_disk_stops_it() -> Result<()> {
    let small = Kafka::default()
        .small_disk(24 << 20)
        .setting("log.segment.bytes", "1048576");
    let Some((kafka, outside)) = up(small).await? else {
        return Ok(());
    };
    let node = kafka.node()?;
    let (payload, mut published) = ("x".repeat(100_000), 0);
    while running(node).await? {
        ensure!(published < 1000, "100 MB and it still runs");
        let batch = [("k", payload.as_str()); 20];
        let one = tokio::time::timeout(SOON, outside.publish("t", &batch));
        tokio::select! {
            biased;
            () = ended(node) => break,
            _ = one => published += 20,
        }
    }
    let log = node.log().await?;
    assert!(log.contains("No space left on device"), "{log}");
    Ok(())
}

async fn ended(node: &Node) {
    while node.is_running().await.unwrap_or(true) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_cluster_loses_its_leader_and_then_its_quorum_and_comes_back() -> Result<()> {
    let Some((kafka, outside)) = up(Kafka::cluster()).await? else {
        return Ok(());
    };
    let first = kafka.leader("t", 0).await?;
    first.kill().await?;
    until("another leads", async || {
        Ok(outside
            .leaders("t")
            .await?
            .iter()
            .all(|leader| leader.is_some_and(|id| id != first.id())))
    })
    .await?;
    goes_on(&outside, "with two of three").await?;

    let second = kafka.leader("t", 0).await?;
    second.kill().await?;
    let config = outside.config();
    let stored = tokio::task::spawn_blocking(move || -> Result<usize> {
        use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
        let mut config = config;
        config.set("message.timeout.ms", "4000").set("acks", "all");
        let producer: ThreadedProducer<DefaultProducerContext> = config.create()?;
        let record = BaseRecord::<str, str>::to("t").key("k").payload("nobody");
        producer.send(record).map_err(|(error, _)| error)?;
        producer.flush(Duration::from_secs(10))?;
        Ok(producer.in_flight_count() as usize)
    })
    .await??;
    assert_eq!(stored, 0, "it was given up");

    // In the other order: the nodes swap addresses, and must find each other all the same.
    second.start().await?;
    first.start().await?;
    first.ready().await?;
    second.ready().await?;
    until("three of three", async || {
        Ok(outside.brokers().await?.len() == 3)
    })
    .await?;
    goes_on(&outside, "with three of three").await
}

#[tokio::test]
async fn a_node_cut_off_from_the_others_loses_what_it_leads() -> Result<()> {
    let Some((kafka, outside)) = up(Kafka::cluster()).await? else {
        return Ok(());
    };
    let leader = kafka.leader("t", 0).await?;
    leader.isolate().await?;
    let id = leader.id();
    let mut others = kafka.nodes().iter().filter(|node| node.id() != id);
    let other = others
        .next()
        .context("it is one of three")?
        .aside()
        .to_string();
    until("the others have another leader", async || {
        let seen = KafkaOutside::at(&other)?.leaders("t").await?;
        Ok(seen
            .iter()
            .all(|leader| leader.is_some_and(|leader| leader != id)))
    })
    .await?;
    leader.rejoin().await?;
    until("it is one of three again", async || {
        let seen = KafkaOutside::at(&leader.aside().to_string())?
            .leaders("t")
            .await?;
        Ok(seen.iter().all(|leader| *leader != Some(id)))
    })
    .await?;
    goes_on(&outside, "after a cut among the nodes").await
}
