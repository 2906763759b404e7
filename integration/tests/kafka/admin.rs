//! Topics: made, compared and changed as their policy says.

use crate::setup::{self, CLOSE};
use anyhow::{Result, bail, ensure};
use clearway::{BusEvent, ConfigureError, Ensure, Mismatch, Retention, TopicConfig};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_made_compared_and_changed_by_its_policy() -> Result<()> {
    let bus = setup::bus().await?;
    let name = setup::fresh_name("policy");
    let topic = |partitions| TopicConfig::new(name.as_str()).partitions(partitions);

    let missing = bus.configure(topic(2).ensure(Ensure::ValidateOnly)).await;
    ensure!(
        matches!(missing, Err(ConfigureError::Missing { .. })),
        "{missing:?}"
    );

    let age = |seconds| Retention {
        age: Some(Duration::from_secs(seconds)),
        ..Retention::default()
    };
    bus.configure(topic(2).retention(age(3600))).await?;
    bus.configure(topic(2).retention(age(3600)).ensure(Ensure::ValidateOnly))
        .await?;

    let differs = bus.configure(topic(4).retention(age(60))).await;
    let Err(ConfigureError::Mismatch { differences, .. }) = differs else {
        bail!("{differs:?}");
    };
    ensure!(
        differences == "partitions: wanted 4, found 2; retention by age: wanted 60s, found 3600s",
        "{differences}"
    );
    // Used as it is, and said so.
    let mut events = bus.events();
    bus.configure(topic(4).on_mismatch(Mismatch::Warn)).await?;
    let told = events.next().await;
    ensure!(
        matches!(told, Some(BusEvent::TopicMismatch { .. })),
        "{told:?}"
    );

    bus.configure(topic(4).retention(age(60)).ensure(Ensure::CreateOrUpdate))
        .await?;
    bus.configure(topic(4).retention(age(60)).ensure(Ensure::ValidateOnly))
        .await?;
    // What was not asked about is as it was.
    let fewer = bus.configure(topic(3).ensure(Ensure::CreateOrUpdate)).await;
    ensure!(
        matches!(fewer, Err(ConfigureError::Mismatch { .. })),
        "{fewer:?}"
    );
    bus.close(CLOSE).await;
    Ok(())
}

/// Changing one setting leaves the topic's others alone, though the request says them all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_leaves_the_other_settings_of_a_topic_alone() -> Result<()> {
    let name = setup::fresh_name("settings");
    let all = |seconds| {
        TopicConfig::new(name.as_str()).retention(Retention {
            age: Some(Duration::from_secs(seconds)),
            bytes: Some(1 << 30),
            envelopes: None,
        })
    };
    let strict = setup::builder(setup::options()?.in_sync_min(1))
        .connect()
        .await?;
    strict.configure(all(3600)).await?;
    let other = setup::bus().await?;
    let only_age = TopicConfig::new(name.as_str()).retention(Retention {
        age: Some(Duration::from_secs(60)),
        ..Retention::default()
    });
    other
        .configure(only_age.ensure(Ensure::CreateOrUpdate))
        .await?;
    strict
        .configure(all(60).ensure(Ensure::ValidateOnly))
        .await?;
    strict.close(CLOSE).await;
    other.close(CLOSE).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_that_make_one_topic_at_once_all_have_it() -> Result<()> {
    let name = setup::fresh_name("together");
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let name = name.clone();
        all.spawn(async move {
            let bus = setup::bus().await?;
            bus.configure(TopicConfig::new(name.as_str()).partitions(3))
                .await?;
            let receipt = bus
                .raw_topic(&name)?
                .publish(&"one".into())
                .key("k")
                .await?;
            bus.close(CLOSE).await;
            Ok::<_, anyhow::Error>(receipt.partition)
        });
    }
    let places: Vec<_> = all.join_all().await.into_iter().collect::<Result<_>>()?;
    ensure!(places.iter().all(|place| *place == places[0]), "{places:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kafka_cannot_do_is_refused_by_name() -> Result<()> {
    let bus = setup::bus().await?;
    let name = setup::fresh_name("refused");
    let many = bus
        .configure(TopicConfig::new(name.as_str()).replicas(7))
        .await;
    let Err(ConfigureError::Unsupported(refused)) = many else {
        bail!("{many:?}");
    };
    ensure!(refused.to_string().contains("wanted 7"), "{refused}");
    let counted = TopicConfig::new(name.as_str()).retention(Retention {
        envelopes: Some(7),
        ..Retention::default()
    });
    let refused = bus.configure(counted).await;
    ensure!(
        matches!(refused, Err(ConfigureError::Unsupported(_))),
        "{refused:?}"
    );
    let refused = bus.configure(TopicConfig::new("a b")).await;
    ensure!(
        matches!(refused, Err(ConfigureError::InvalidTopic(_))),
        "{refused:?}"
    );
    bus.close(CLOSE).await;
    Ok(())
}

/// Publishing to a topic that is not there and may not be made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_topic_that_may_not_be_made_is_a_typed_refusal() -> Result<()> {
    let bus = setup::bus().await?;
    let name = setup::fresh_name("unknown");
    let config = TopicConfig::new(name.as_str()).ensure(Ensure::ValidateOnly);
    let refused = bus.configure(config).await;
    let Err(ConfigureError::Missing { policy, .. }) = refused else {
        bail!("{refused:?}");
    };
    ensure!(policy == "validate only", "{policy}");
    bus.close(CLOSE).await;
    Ok(())
}
