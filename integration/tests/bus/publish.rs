//! What an answer, or none, means for one publish.

use crate::setup::{bus, options};
use anyhow::{Result, bail, ensure};
use clearway::{BusEvent, Ensure, FailureKind, PublishError, TopicConfig};
use clearway_integration::{Broker, Fault, Manner, Member, Outside, Record, envelope, until};
use clearway_verify::history::{Durability, Phase};
use std::time::Duration;

#[tokio::test]
async fn where_no_stream_listens_it_is_rejected_and_worth_a_retry() -> Result<()> {
    let broker = Broker::any().await?;
    let record = Record::begin(
        "no-responders",
        &broker,
        "publishes that no stream hears",
        None,
    )?;
    let config = TopicConfig::new(broker.fresh_name("nobody")).ensure(Ensure::Skip);
    let name = config.name().to_owned();
    let builder = bus(options(broker.url())?).topic(config);
    let member = Member::connect(&record, 0, builder).await?;
    let topic = member.bus.raw_topic(&name)?;
    let sent = envelope(&topic, "k", "one");
    // Nobody looked at the stream, so nobody knows how it stores.
    let publisher = member.publisher().content_with(Durability::Volatile);
    let refused = publisher.publish(&topic, sent.clone()).await;
    let Err(error @ PublishError::Rejected(failure)) = &refused else {
        bail!("{refused:?}");
    };
    ensure!(failure.kind() == FailureKind::NoTopic, "{failure:?}");
    ensure!(error.is_retryable() && !error.may_be_published(), "{error}");
    ensure!(
        error.to_string().contains(&name),
        "it names the topic: {error}"
    );

    // Somebody makes it: the same envelope is stored then, once.
    let maker = bus(options(broker.url())?).topic(TopicConfig::new(name.as_str()));
    maker.connect().await?.close(Duration::from_secs(5)).await;
    let receipt = publisher.publish(&topic, sent).await?;
    ensure!(receipt.position == 1 && !receipt.duplicate, "{receipt:?}");
    drop((publisher, topic));
    member.leave(Duration::from_secs(5)).await?;
    record.finish()?;
    Outside::of(&broker).await?.delete(&name).await
}

#[tokio::test]
async fn once_an_attempt_was_ambiguous_no_responders_is_unknown() -> Result<()> {
    let broker = Broker::any().await?;
    let (proxy, outside) = (broker.proxy().await?, Outside::of(&broker).await?);
    let record = Record::begin(
        "ambiguous",
        &broker,
        "stored, unanswered, sent again where nobody listens",
        None,
    )?;
    let config = TopicConfig::new(broker.fresh_name("ambiguous"));
    let name = config.name().to_owned();
    let patient = options(&broker.url_through(&proxy))?.publish_timeout(Duration::from_secs(20));
    let member = Member::connect(&record, 0, bus(patient).topic(config)).await?;
    let topic = member.bus.raw_topic(&name)?;
    let publisher = member.publisher();
    publisher
        .publish(&topic, envelope(&topic, "k", "before"))
        .await?;

    let window = record.recorder().fault("answers are held, the stream goes");
    proxy.set(Fault::HoldAnswers).await;
    let begun = publisher.begin(&topic, envelope(&topic, "k", "doubtful"), false);
    until("it is stored", async || {
        Ok(outside.stored(&name).await? == 2)
    })
    .await?;
    record.recorder().erased(&name, Phase::Begin);
    outside.delete(&name).await?;
    // Reset and open again: the bus sends once more, and no stream listens.
    proxy.set(Fault::Reset).await;
    proxy.set(Fault::Pass).await;
    drop(window);
    let outcome = publisher.end(begun).await;
    let Err(PublishError::Unknown(failure)) = &outcome else {
        bail!("{outcome:?}");
    };
    ensure!(
        failure.kind() == FailureKind::NoTopic,
        "not by its timeout: {failure:?}"
    );

    let missed = |event: &BusEvent| matches!(event, BusEvent::TopicMissing { .. });
    member.until("the topic is missed", 0, missed).await?;
    let receipt = publisher
        .publish(&topic, envelope(&topic, "k", "after"))
        .await?;
    record.recorder().erased(&name, Phase::End);
    ensure!(receipt.position == 1, "in a new stream: {receipt:?}");
    drop((publisher, topic));
    member.leave(Duration::from_secs(5)).await?;
    record.finish()?;
    outside.delete(&name).await
}

#[tokio::test]
async fn an_envelope_published_twice_is_stored_once() -> Result<()> {
    let broker = Broker::any().await?;
    let outside = Outside::of(&broker).await?;
    let record = Record::begin(
        "duplicate-window",
        &broker,
        "every envelope is published twice",
        None,
    )?;
    let config = TopicConfig::new(broker.fresh_name("twice")).partitions(3);
    let name = config.name().to_owned();
    let builder = bus(options(broker.url())?).topic(config);
    let member = Member::connect(&record, 0, builder).await?;
    let topic = member.bus.raw_topic(&name)?;
    let publisher = member.publisher();
    for n in 0..20 {
        let sent = envelope(&topic, &format!("k{n}"), "x");
        let first = publisher.publish(&topic, sent.clone()).await?;
        let second = publisher.publish(&topic, sent).await?;
        ensure!(!first.duplicate && second.duplicate, "{first:?} {second:?}");
        ensure!(
            (first.partition, first.position) == (second.partition, second.position),
            "{first:?} {second:?}"
        );
    }
    ensure!(
        member.bus.metrics().duplicates == 20,
        "{:?}",
        member.bus.metrics()
    );
    ensure!(outside.stored(&name).await? == 20, "stored once each");

    let _runs_until_close = member.subscribe(&topic, "audit", Manner::default()).await?;
    outside.drained(&record, &name, &name, "audit").await?;
    drop((publisher, topic));
    member.leave(Duration::from_secs(5)).await?;
    let verdict = record.finish()?;
    ensure!(
        verdict.counts.deliveries == 20 && verdict.counts.acked_again == 20,
        "{verdict}"
    );
    outside.delete(&name).await
}

/// A connection that is cut with answers under way: everything is sent again under its id, and nothing is stored twice.
#[tokio::test]
async fn what_is_sent_again_after_a_cut_is_recognised() -> Result<()> {
    let broker = Broker::any().await?;
    let (proxy, outside) = (broker.proxy().await?, Outside::of(&broker).await?);
    let record = Record::begin(
        "sent-again",
        &broker,
        "100 envelopes whose answers are lost",
        None,
    )?;
    let config = TopicConfig::new(broker.fresh_name("again"));
    let name = config.name().to_owned();
    let patient = options(&broker.url_through(&proxy))?.publish_timeout(Duration::from_secs(30));
    let member = Member::connect(&record, 0, bus(patient).topic(config)).await?;
    let topic = member.bus.raw_topic(&name)?;
    let publisher = member.publisher();

    let window = record.recorder().fault("answers are lost");
    proxy.set(Fault::HoldAnswers).await;
    let begun: Vec<_> = (0..100)
        .map(|n| publisher.begin(&topic, envelope(&topic, &format!("k{}", n % 9), "x"), false))
        .collect();
    until("all are stored", async || {
        Ok(outside.stored(&name).await? == 100)
    })
    .await?;
    proxy.set(Fault::Reset).await;
    proxy.set(Fault::Pass).await;
    drop(window);
    for begun in begun {
        let receipt = publisher.end(begun).await?;
        ensure!(receipt.duplicate, "{receipt:?}");
    }
    ensure!(outside.stored(&name).await? == 100, "stored once each");
    let _runs_until_close = member.subscribe(&topic, "audit", Manner::default()).await?;
    outside.drained(&record, &name, &name, "audit").await?;
    drop((publisher, topic));
    member.leave(Duration::from_secs(5)).await?;
    let verdict = record.finish()?;
    ensure!(
        verdict.counts.acked == 100 && verdict.counts.reconnects >= 1,
        "{verdict}"
    );
    outside.delete(&name).await
}
