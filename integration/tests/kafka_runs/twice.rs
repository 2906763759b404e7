//! What the broker has stored and not acknowledged is not stored once more, though an older publish is given up meanwhile.

use crate::scene::bus;
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clearway::TopicConfig;
use clearway_integration::{Fault, Kafka, KafkaBroker, KafkaOutside, until};
use std::time::Duration;
use tokio::time::sleep;

/// Between two publishes: less than the time limit of one.
const APART: Duration = Duration::from_millis(2_500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_that_is_given_up_does_not_have_the_one_behind_it_stored_twice() -> Result<()> {
    let Some(broker) = KafkaBroker::own(Kafka::default().proxied()).await? else {
        return Ok(());
    };
    let outside = KafkaOutside::of(&broker)?;
    let config = TopicConfig::new("orders").partitions(1);
    let bus = bus(&broker)?.topic(config).connect().await?;
    let topic = bus.raw_topic("orders")?;
    let payload = |text: &'static str| Bytes::from_static(text.as_bytes());
    let copies = async |text: &str| {
        let stored = outside.stored("orders").await?;
        let same = stored
            .iter()
            .filter(|one| one.payload.as_deref() == Some(text.as_bytes()));
        anyhow::Ok(same.count())
    };
    topic.publish(&payload("before")).await?;

    let proxy = broker.node()?.proxy()?;
    proxy.set(Fault::HoldAnswers).await;
    let older = topic.publish(&payload("older")).enqueue()?;
    until("the older is stored", async || {
        Ok(copies("older").await? == 1)
    })
    .await?;
    // So that the older is given up while the other still waits.
    sleep(APART).await;
    let newer = topic.publish(&payload("newer")).enqueue()?;
    until("the newer is stored", async || {
        Ok(copies("newer").await? == 1)
    })
    .await?;
    let given_up = older.await.err().context("no answer came")?;
    ensure!(given_up.may_be_published(), "{given_up}");
    // What was held is lost.
    proxy.cut().await;
    proxy.set(Fault::Pass).await;
    let receipt = newer.await?;
    topic.publish(&payload("after")).await?;
    drop(topic);
    let report = bus.close(Duration::from_secs(10)).await;
    ensure!(report.drained, "{report:?}");
    let [older, newer] = [copies("older").await?, copies("newer").await?];
    ensure!(
        (older, newer) == (1, 1),
        "older: {older} copies, newer: {newer} copies, acknowledged at {}",
        receipt.position
    );
    Ok(())
}
