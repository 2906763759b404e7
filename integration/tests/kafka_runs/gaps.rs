//! Positions that nobody is ever given: what was aborted, markers of transactions, deleted and compacted records.
//! Commits go over them, and the lag becomes nothing.

use crate::scene::{GROUP, bus};
use anyhow::{Result, ensure};
use bytes::Bytes;
use clearway::{Delivery, Ensure, HandlerError, Outcome, TopicConfig};
use clearway_integration::{KafkaBroker, KafkaOutside, until};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Handles all of a topic that others made and wrote, and returns the positions it was given when the broker says that
/// the group has nothing left.
async fn handled(broker: &KafkaBroker, outside: &KafkaOutside, topic: &str) -> Result<Vec<u64>> {
    let config = TopicConfig::new(topic).ensure(Ensure::Skip);
    let bus = bus(broker)?.topic(config).connect().await?;
    let given = Arc::new(Mutex::new(Vec::new()));
    let taken = given.clone();
    let handler = move |delivery: Delivery<Bytes>| {
        let position = delivery.position.offset;
        taken.lock().expect("nobody panics under it").push(position);
        async { Ok::<_, HandlerError>(Outcome::Ack) }
    };
    let handle = bus.raw_topic(topic)?;
    let _runs_until_close = handle.subscribe(GROUP, handler).await?;
    let nothing = until("nothing is left", async || {
        let left = outside.left(topic, GROUP).await?;
        ensure!(left == 0, "{left} left");
        Ok(true)
    });
    nothing.await?;
    let report = bus.close(Duration::from_secs(10)).await;
    ensure!(report.drained && report.deliveries_left == 0, "{report:?}");
    let mut given = given.lock().expect("nobody panics under it").clone();
    given.sort_unstable();
    Ok(given)
}

async fn begun(broker: &KafkaBroker, settings: &[(&str, &str)]) -> Result<(KafkaOutside, String)> {
    let outside = KafkaOutside::of(broker)?;
    let topic = broker.fresh_name("gaps");
    outside.create(&topic, 1, 1, settings).await?;
    Ok((outside, topic))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_aborted_is_not_handled_and_markers_are_gone_over() -> Result<()> {
    let broker = KafkaBroker::any().await?;
    let (outside, topic) = begun(&broker, &[]).await?;
    outside
        .transaction(&topic, &[("a", "0"), ("b", "1")], false)
        .await?;
    outside
        .transaction(&topic, &[("a", "3"), ("c", "4")], true)
        .await?;
    outside.publish(&topic, &[("d", "6")]).await?;
    outside.transaction(&topic, &[("a", "7")], true).await?;
    outside.transaction(&topic, &[("a", "9")], false).await?;
    // 2, 5, 8 and 10 are markers, and the last two are nobody's.
    assert_eq!(outside.ends(&topic).await?, [(0, 11)]);
    assert_eq!(handled(&broker, &outside, &topic).await?, [3, 4, 6, 7]);
    outside.delete(&topic).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_records_are_gone_over() -> Result<()> {
    let broker = KafkaBroker::any().await?;
    let (outside, topic) = begun(&broker, &[]).await?;
    outside.publish(&topic, &[("k", "x"); 10]).await?;
    outside.delete_records(&topic, &[(0, 7)]).await?;
    assert_eq!(handled(&broker, &outside, &topic).await?, [7, 8, 9]);

    // Once more, below what the group has still to read.
    outside.publish(&topic, &[("k", "x"); 10]).await?;
    outside.delete_records(&topic, &[(0, 15)]).await?;
    let rest: Vec<u64> = (15..20).collect();
    assert_eq!(handled(&broker, &outside, &topic).await?, rest);
    outside.delete(&topic).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compacted_records_are_gone_over() -> Result<()> {
    let broker = KafkaBroker::any().await?;
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("max.compaction.lag.ms", "100"),
    ];
    let (outside, topic) = begun(&broker, &settings).await?;
    until("a key's older values are gone", async || {
        let all = [("a", "old"), ("b", "old"), ("a", "new")];
        outside.publish(&topic, &all).await?;
        let (_, next) = outside.ends(&topic).await?[0];
        Ok(outside.stored(&topic).await?.len() + 3 < next as usize)
    })
    .await?;
    let given = handled(&broker, &outside, &topic).await?;
    // More may have been compacted by now, and nothing less.
    let stored = outside.stored(&topic).await?;
    for one in &stored {
        ensure!(given.contains(&(one.offset as u64)), "{one:?} of {given:?}");
    }
    let (_, next) = outside.ends(&topic).await?[0];
    ensure!(given.len() < next as usize, "no gap in {given:?}");
    outside.delete(&topic).await
}
