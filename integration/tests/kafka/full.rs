//! A disk that is full: the broker stops, and no publish is silent about it.

use crate::setup::{CLOSE, builder, fresh_name};
use anyhow::{Result, ensure};
use clearway::kafka::Options;
use clearway::{PublishError, ReceiptFuture, TopicConfig};
use clearway_integration::{Kafka, KafkaBroker};
use std::time::{Duration, Instant};

const PUBLISH_LIMIT: Duration = Duration::from_secs(2);
const PAYLOAD: usize = 100_000;
/// More than the disk holds by far.
const ENOUGH: usize = 1_000;
const WINDOW: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_disk_is_full_each_publish_says_what_became_of_it() -> Result<()> {
    let small = Kafka::default()
        .small_disk(24 << 20)
        .setting("log.segment.bytes", "1048576");
    let Some(kafka) = KafkaBroker::own(small).await? else {
        return Ok(());
    };
    let options = Options::from_url(&kafka.url())?.publish_timeout(PUBLISH_LIMIT);
    let bus = builder(options).connect().await?;
    let topic = fresh_name("full");
    bus.configure(TopicConfig::new(topic.as_str()).partitions(1))
        .await?;
    let raw = bus.raw_topic(&topic)?;
    let payload = vec![b'x'; PAYLOAD].into();
    let (mut acked, mut unknown) = (0, 0);
    while kafka.node()?.is_running().await? {
        ensure!(acked < ENOUGH, "{ENOUGH} are stored, and it still runs");
        let window: Vec<ReceiptFuture> = (0..WINDOW)
            .map(|_| raw.publish(&payload).key("one").enqueue())
            .collect::<Result<_, _>>()?;
        let begun = Instant::now();
        for receipt in window {
            match receipt.await {
                Ok(_) if unknown == 0 => acked += 1,
                // It may have found room for one.
                Ok(_) => {}
                Err(PublishError::Unknown(_) | PublishError::Rejected(_)) => unknown += 1,
                Err(other) => return Err(other.into()),
            }
        }
        let took = begun.elapsed();
        ensure!(took < PUBLISH_LIMIT * 3, "{took:?}");
    }
    ensure!(acked > 0 && unknown > 0, "{acked} acked, {unknown} not");
    let log = kafka.node()?.log().await?;
    ensure!(log.contains("No space left on device"), "{log}");
    // Nobody is there any more: it is said soon, and the end comes in its time.
    let gone = bus.publish(&topic, "late").await;
    ensure!(matches!(gone, Err(PublishError::Unknown(_))), "{gone:?}");
    let begun = Instant::now();
    bus.close(CLOSE).await;
    ensure!(begun.elapsed() < CLOSE * 2, "{:?}", begun.elapsed());
    println!("integration: kafka: full disk: {acked} acked, {unknown} without, none silent");
    Ok(())
}
