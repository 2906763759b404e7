//! A stream that is deleted under way.

use crate::setup::{bus, options};
use anyhow::{Context, Result, bail, ensure};
use clearway::{BusEvent, FailureKind, PublishError, TopicConfig};
use clearway_integration::{Broker, Load, Manner, Member, Outside, Quota, Record, envelope, until};
use clearway_verify::history::Phase;
use std::sync::Arc;
use std::time::Duration;

const GROUP: &str = "audit";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_deleted_stream_is_noticed_and_made_again_and_nothing_later_is_lost() -> Result<()> {
    let broker = Broker::any().await?;
    let outside = Outside::of(&broker).await?;
    let load = Load {
        publishers: 4,
        each: 1_000,
        windows: &[16, 1, 16, 4],
        keys: 16,
        size: 64,
        seed: 5,
    };
    let workload = "4 publishers x 1000 envelopes; the stream is deleted twice";
    let record = Record::begin("deleted", &broker, workload, Some(load.seed))?;
    let config = TopicConfig::new(broker.fresh_name("deleted")).partitions(3);
    let name = config.name().to_owned();
    let builder = bus(options(broker.url())?).topic(config);
    let member = Arc::new(Member::connect(&record, 0, builder).await?);
    let topic = member.bus.raw_topic(&name)?;
    let _runs_until_close = member.subscribe(&topic, GROUP, Manner::default()).await?;

    let quota = Quota::of(load.each / 3);
    let deletions = async {
        for n in 1..=2 {
            let mark = (2 * n - 1) * load.total() / 6;
            until("some are published", async || {
                Ok(member.bus.metrics().acked >= mark / 2)
            })
            .await?;
            let seen = member.seen();
            record.recorder().erased(&name, Phase::Begin);
            outside.delete(&name).await?;
            quota.raise(load.each * (n + 1) / 3);
            let gone = |event: &BusEvent| matches!(event, BusEvent::TopicMissing { topic } if **topic == *name);
            let made = |event: &BusEvent| matches!(event, BusEvent::TopicCreated { topic } if **topic == *name);
            let noticed = member.until("the topic is missed", seen, gone).await;
            let again = member.until("the topic is made again", seen, made).await;
            record.recorder().erased(&name, Phase::End);
            // Whatever went wrong, the publishers are let go.
            if noticed.is_err() || again.is_err() {
                quota.raise(load.each);
            }
            noticed?;
            again?;
        }
        anyhow::Ok(())
    };
    let topics = [topic];
    let ((), deleted) = tokio::join!(load.run(&member, &topics, &quota), deletions);
    deleted?;

    // What surely begins after the last deletion is surely delivered.
    let publisher = member.publisher();
    for n in 0..50 {
        let sent = envelope(&topics[0], &format!("late-{}", n % 5), "late");
        publisher.publish(&topics[0], sent).await?;
    }
    outside.drained(&record, &name, &name, GROUP).await?;
    let again = |event: &BusEvent| matches!(event, BusEvent::ConsumerRestarted { .. });
    member
        .until("the consumer was made again", 0, again)
        .await?;
    drop((publisher, topics));
    let member = Arc::into_inner(member).context("a publisher still runs")?;
    member.leave(Duration::from_secs(5)).await?;
    let verdict = record.finish()?;
    ensure!(
        verdict.counts.acked >= 1_000 && verdict.counts.deliveries > 50,
        "{verdict}"
    );
    outside.delete(&name).await
}

/// Nobody consumes: the publishes themselves have to notice it.
#[tokio::test]
async fn publishing_alone_notices_that_the_stream_is_gone() -> Result<()> {
    let broker = Broker::any().await?;
    let outside = Outside::of(&broker).await?;
    let workload = "10 envelopes, the stream is deleted, 10 more; then somebody reads";
    let record = Record::begin("deleted-unread", &broker, workload, None)?;
    let config = TopicConfig::new(broker.fresh_name("unread")).partitions(2);
    let name = config.name().to_owned();
    let builder = bus(options(broker.url())?).topic(config);
    let member = Member::connect(&record, 0, builder).await?;
    let topic = member.bus.raw_topic(&name)?;
    let publisher = member.publisher();
    for n in 0..10 {
        publisher
            .publish(&topic, envelope(&topic, &format!("k{n}"), "early"))
            .await?;
    }

    let seen = member.seen();
    record.recorder().erased(&name, Phase::Begin);
    outside.delete(&name).await?;
    record.recorder().erased(&name, Phase::End);
    let refused = publisher
        .publish(&topic, envelope(&topic, "k", "refused"))
        .await;
    let Err(error @ PublishError::Rejected(failure)) = &refused else {
        bail!("{refused:?}");
    };
    ensure!(
        failure.kind() == FailureKind::NoTopic && error.is_retryable(),
        "{error}"
    );
    for n in 0..10 {
        publisher
            .publish(&topic, envelope(&topic, &format!("k{n}"), "late"))
            .await?;
    }
    let gone = |event: &BusEvent| matches!(event, BusEvent::TopicMissing { .. });
    let made = |event: &BusEvent| matches!(event, BusEvent::TopicCreated { .. });
    member.until("the topic is missed", seen, gone).await?;
    member.until("the topic is made again", seen, made).await?;
    let subjects = outside.stream(&name).await?.subjects;
    ensure!(subjects.len() == 2, "as it was configured: {subjects:?}");

    let _runs_until_close = member.subscribe(&topic, GROUP, Manner::default()).await?;
    outside.drained(&record, &name, &name, GROUP).await?;
    drop((publisher, topic));
    member.leave(Duration::from_secs(5)).await?;
    let verdict = record.finish()?;
    ensure!(
        verdict.counts.acked == 20 && verdict.counts.deliveries == 10,
        "{verdict}"
    );
    outside.delete(&name).await
}
