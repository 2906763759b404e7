//! A topic that is deleted under way.

use crate::scene::{GROUP, bus};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clearway::{BusEvent, Delivery, Ensure, HandlerError, Outcome, TopicConfig};
use clearway_integration::{
    KafkaBroker, KafkaOutside, Load, Manner, Member, Quota, Record, envelope, until,
};
use clearway_verify::history::Phase;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How soon a topic that is gone is missed, on a machine that has other work.
const SOON: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_topic_is_noticed_and_made_again_and_nothing_later_is_lost() -> Result<()> {
    let broker = KafkaBroker::any().await?;
    let outside = KafkaOutside::of(&broker)?;
    let load = Load {
        publishers: 4,
        each: 1_000,
        windows: &[16, 1, 16, 4],
        keys: 16,
        size: 64,
        seed: 25,
    };
    let workload = "4 publishers x 1000 envelopes; the topic is deleted in the middle";
    let record = Record::begin("kafka-deleted", &broker, workload, Some(load.seed))?;
    let config = TopicConfig::new(broker.fresh_name("deleted")).partitions(3);
    let name = config.name().to_owned();
    let builder = bus(&broker)?.topic(config);
    let member = Arc::new(Member::connect(&record, 0, builder).await?);
    let topic = member.bus.raw_topic(&name)?;
    let _runs_until_close = member.subscribe(&topic, GROUP, Manner::default()).await?;

    let quota = Quota::of(load.each / 2);
    let deletion = async {
        until("some are published", async || {
            Ok(member.bus.metrics().acked >= load.total() / 4)
        })
        .await?;
        let seen = member.seen();
        record.recorder().erased(&name, Phase::Begin);
        outside.delete(&name).await?;
        quota.raise(load.each);
        let gone = |event: &BusEvent| matches!(event, BusEvent::TopicMissing { topic } if **topic == *name);
        let made = |event: &BusEvent| matches!(event, BusEvent::TopicCreated { topic } if **topic == *name);
        member.until("the topic is missed", seen, gone).await?;
        member.until("the topic is made again", seen, made).await?;
        record.recorder().erased(&name, Phase::End);
        anyhow::Ok(())
    };
    let topics = [topic];
    let both = async {
        tokio::try_join!(
            async {
                load.run(&member, &topics, &quota).await;
                anyhow::Ok(())
            },
            deletion,
        )
    };
    let ended = tokio::time::timeout(Duration::from_secs(120), both).await;
    ended.context("it does not end")??;

    // What surely begins after the deletion is surely delivered.
    let publisher = member.publisher();
    for n in 0..50 {
        let sent = envelope(&topics[0], &format!("late-{}", n % 5), "late");
        // The client may not have heard yet that the topic is back: it says so, and that another try may do.
        until("it is published", async || {
            match publisher.publish(&topics[0], sent.clone()).await {
                Ok(_) => Ok(true),
                Err(error) if error.is_retryable() && !error.may_be_published() => Ok(false),
                Err(error) => panic!("{error}"),
            }
        })
        .await?;
    }
    outside.drained(&record, &name, GROUP).await?;
    drop((publisher, topics));
    let member = Arc::into_inner(member).context("a publisher still runs")?;
    member.leave(Duration::from_secs(10)).await?;
    let verdict = record.finish()?;
    let counts = &verdict.counts;
    ensure!(counts.acked >= 1_000 && counts.deliveries > 50, "{verdict}");
    outside.delete(&name).await
}

/// A publisher hears of it from nobody else, and the client waits for brokers to tell each other of a topic that it has known for a moment
/// only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_alone_misses_a_young_topic_soon() -> Result<()> {
    let broker = KafkaBroker::any().await?;
    let outside = KafkaOutside::of(&broker)?;
    let name = broker.fresh_name("young");
    let config = TopicConfig::new(name.clone()).partitions(1);
    let bus = bus(&broker)?.topic(config).connect().await?;
    let topic = bus.raw_topic(&name)?;
    topic.publish(&Bytes::from_static(b"old")).await?;
    outside.delete(&name).await?;
    let deleted = Instant::now();
    let payload = Bytes::from_static(b"new");
    until(
        "it is published to the topic made again",
        async || match topic.publish(&payload).await {
            Ok(receipt) => Ok(receipt.position < 100),
            Err(error) if error.is_retryable() || error.may_be_published() => Ok(false),
            Err(error) => panic!("{error}"),
        },
    )
    .await?;
    let took = deleted.elapsed();
    ensure!(took < SOON, "after {took:?}");
    drop(topic);
    bus.close(Duration::from_secs(10)).await;
    outside.delete(&name).await
}

/// While nothing is fetched nobody hears that the topic is another. Offsets begin again then, and higher ones are out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_topic_made_again_has_is_delivered_though_more_of_the_old_one_is_out() -> Result<()>
{
    const OLD: usize = 1_500;
    let broker = KafkaBroker::any().await?;
    let outside = KafkaOutside::of(&broker)?;
    let name = broker.fresh_name("again");
    outside.create(&name, 1, 1, &[]).await?;
    // One that is handled to the end of the test, far behind the beginning, and as many others as stop the fetching.
    let old: Vec<_> = (0..OLD)
        .map(|n| (if n == 1_000 { "slow" } else { "old" }, "x"))
        .collect();
    outside.publish(&name, &old).await?;

    let config = TopicConfig::new(name.clone()).ensure(Ensure::Skip);
    let bus = bus(&broker)?.topic(config).connect().await?;
    let (stage, now) = watch::channel(0);
    let begun: Arc<Mutex<BTreeSet<Bytes>>> = Arc::default();
    let told = begun.clone();
    let handler = move |delivery: Delivery<Bytes>| {
        let key = delivery.envelope.key.clone().unwrap_or_default();
        told.lock()
            .expect("nobody panics under it")
            .insert(key.clone());
        let (mut now, from) = (now.clone(), if *key == *b"slow" { 2 } else { 1 });
        async move {
            now.wait_for(|stage| *stage >= from).await?;
            Ok::<_, HandlerError>(Outcome::Ack)
        }
    };
    let topic = bus.raw_topic(&name)?;
    let _runs_until_close = topic.subscription(GROUP).handler(handler).await?;
    let has_begun = |key: &'static str| {
        let begun = begun.lock().expect("nobody panics under it");
        begun.contains(key.as_bytes())
    };
    until("deliveries come", async || Ok(has_begun("old"))).await?;

    outside.delete(&name).await?;
    until("it is made again", async || {
        Ok(outside.create(&name, 1, 1, &[]).await.is_ok())
    })
    .await?;
    let new = ["new-0", "new-1", "new-2"];
    outside.publish(&name, &new.map(|key| (key, "y"))).await?;
    stage.send_replace(1);
    until("what is new is delivered", async || {
        Ok(new.into_iter().all(has_begun))
    })
    .await?;
    stage.send_replace(2);
    drop(topic);
    bus.close(Duration::from_secs(10)).await;
    outside.delete(&name).await
}
