//! Durability, ensure policies and mismatches, as the server has them.

use crate::setup::{bus, options};
use anyhow::{Context, Result, bail, ensure};
use async_nats::jetstream::stream::{Config, StorageType};
use clearway::{
    Bus, BusEvent, ConfigureError, ConnectError, Durability, Ensure, Mismatch, PublishError,
    Retention, TopicConfig,
};
use clearway_integration::{Broker, Outside, PATIENCE};
use std::time::Duration;

struct Scene {
    broker: Broker,
    outside: Outside,
    bus: Bus,
    topic: String,
}

impl Scene {
    async fn open() -> Result<Self> {
        let broker = Broker::any().await?;
        Ok(Self {
            outside: Outside::of(&broker).await?,
            bus: bus(options(broker.url())?).connect().await?,
            topic: broker.fresh_name("policy"),
            broker,
        })
    }

    fn config(&self) -> TopicConfig {
        TopicConfig::new(self.topic.as_str())
    }

    async fn refused(&self, config: TopicConfig) -> Result<ConfigureError> {
        let outcome = self.bus.configure(config).await;
        outcome.err().context("it was taken")
    }

    async fn end(self) -> Result<()> {
        self.bus.close(Duration::from_secs(5)).await;
        // Some tests never make it.
        let _ = self.outside.delete(&self.topic).await;
        drop(self.broker);
        Ok(())
    }
}

#[tokio::test]
async fn synced_is_refused_and_stored_is_what_it_says() -> Result<()> {
    let scene = Scene::open().await?;
    let error = scene
        .refused(scene.config().durability(Durability::Synced))
        .await?;
    ensure!(matches!(error, ConfigureError::Unsupported(_)), "{error:?}");
    ensure!(
        error.to_string().contains("Synced") && error.to_string().contains("Stored"),
        "{error}"
    );
    ensure!(
        scene.outside.stream(&scene.topic).await.is_err(),
        "it was made all the same"
    );
    let builder = bus(options(scene.broker.url())?);
    let error = builder
        .topic(scene.config().durability(Durability::Synced))
        .connect()
        .await;
    ensure!(
        matches!(
            error,
            Err(ConnectError::Config { .. } | ConnectError::Unsupported(_))
        ),
        "{error:?}"
    );

    scene
        .bus
        .configure(scene.config().durability(Durability::Stored))
        .await?;
    let topic = scene.bus.raw_topic(&scene.topic)?;
    ensure!(
        topic.durability() == Some(Durability::Stored),
        "{:?}",
        topic.durability()
    );
    ensure!(
        scene.outside.stream(&scene.topic).await?.storage == StorageType::File,
        "in files"
    );
    drop(topic);
    scene.end().await
}

#[tokio::test]
async fn what_is_kept_in_memory_is_not_called_stored() -> Result<()> {
    let scene = Scene::open().await?;
    scene
        .bus
        .configure(scene.config().durability(Durability::Volatile))
        .await?;
    ensure!(
        scene.outside.stream(&scene.topic).await?.storage == StorageType::Memory,
        "in memory"
    );
    // Another bus, which wants more than is there.
    let other = bus(options(scene.broker.url())?).connect().await?;
    let error = other
        .configure(scene.config().durability(Durability::Stored))
        .await;
    let Err(ConfigureError::Mismatch { differences, .. }) = &error else {
        bail!("{error:?}");
    };
    ensure!(
        differences == "durability: wanted Stored, found Volatile",
        "{differences}"
    );
    // Asked for nothing, it gets what is there and is told so.
    other.configure(scene.config()).await?;
    ensure!(
        other.raw_topic(&scene.topic)?.durability() == Some(Durability::Volatile),
        "as it is"
    );
    other.close(Duration::from_secs(5)).await;
    scene.end().await
}

#[tokio::test]
async fn validate_only_makes_nothing() -> Result<()> {
    let scene = Scene::open().await?;
    let error = scene
        .refused(scene.config().ensure(Ensure::ValidateOnly))
        .await?;
    ensure!(
        matches!(&error, ConfigureError::Missing { .. }),
        "{error:?}"
    );
    ensure!(
        scene.outside.stream(&scene.topic).await.is_err(),
        "it was made"
    );
    // There once somebody else has made it.
    let other = bus(options(scene.broker.url())?).connect().await?;
    other.configure(scene.config().partitions(2)).await?;
    other.close(Duration::from_secs(5)).await;
    scene
        .bus
        .configure(scene.config().ensure(Ensure::ValidateOnly))
        .await?;
    scene.bus.publish(&scene.topic, "one").await?;
    scene.end().await
}

#[tokio::test]
async fn create_or_update_lets_partitions_grow_and_never_shrink() -> Result<()> {
    let scene = Scene::open().await?;
    let mut events = scene.bus.events();
    scene.bus.configure(scene.config().partitions(2)).await?;
    for n in 0..20 {
        let topic = scene.bus.raw_topic(&scene.topic)?;
        topic
            .publish(&format!("{n}").into())
            .key(format!("k{n}"))
            .await?;
    }
    let growing = || scene.config().ensure(Ensure::CreateOrUpdate);
    scene.bus.configure(growing().partitions(5)).await?;
    let subjects = scene.outside.stream(&scene.topic).await?.subjects;
    let wanted: Vec<_> = (0..5).map(|n| format!("{}.{n}", scene.topic)).collect();
    assert_eq!(subjects, wanted);
    assert_eq!(
        scene.outside.stored(&scene.topic).await?,
        20,
        "what was there is there"
    );
    let mut used = 0;
    for n in 0..40 {
        let topic = scene.bus.raw_topic(&scene.topic)?;
        let receipt = topic.publish(&"x".into()).key(format!("k{n}")).await?;
        used = used.max(receipt.partition);
    }
    ensure!(used > 1 && used < 5, "the new ones are used: {used}");

    let error = scene.refused(growing().partitions(3)).await?;
    let ConfigureError::Mismatch { differences, .. } = &error else {
        bail!("{error:?}");
    };
    ensure!(
        differences == "partitions: wanted 3, found 5",
        "{differences}"
    );
    assert_eq!(scene.outside.stream(&scene.topic).await?.subjects, wanted);

    let mut told = Vec::new();
    while told.len() < 2 {
        match tokio::time::timeout(PATIENCE, events.next()).await? {
            Some(event @ (BusEvent::TopicCreated { .. } | BusEvent::TopicUpdated { .. })) => {
                told.push(event)
            }
            Some(_) => {}
            None => bail!("the events ended: {told:?}"),
        }
    }
    ensure!(
        matches!(&told[1], BusEvent::TopicUpdated { differences, .. } if differences == "partitions: wanted 5, found 2"),
        "{told:?}"
    );
    scene.end().await
}

#[tokio::test]
async fn a_mismatch_names_every_difference_and_changes_nothing() -> Result<()> {
    let scene = Scene::open().await?;
    let there = Config {
        name: scene.topic.clone(),
        subjects: vec![format!("{}.0", scene.topic)],
        storage: StorageType::Memory,
        max_age: Duration::from_secs(3600),
        description: Some("somebody else's".into()),
        ..Config::default()
    };
    scene.outside.jetstream.create_stream(there).await?;
    let before = scene.outside.stream(&scene.topic).await?;
    let retention = Retention {
        age: Some(Duration::from_secs(60)),
        bytes: Some(1 << 20),
        ..Retention::default()
    };
    let wanted = || {
        scene
            .config()
            .partitions(3)
            .durability(Durability::Stored)
            .retention(retention)
    };
    let error = scene.refused(wanted()).await?;
    let ConfigureError::Mismatch { differences, .. } = &error else {
        bail!("{error:?}");
    };
    for difference in [
        "partitions: wanted 3, found 1",
        "durability: wanted Stored, found Volatile",
        "retention by age: wanted 60s, found 3600s",
        "retention by bytes: wanted 1048576, found no limit",
    ] {
        ensure!(
            differences.contains(difference),
            "no `{difference}` in: {differences}"
        );
    }
    ensure!(
        scene.outside.stream(&scene.topic).await? == before,
        "it was changed"
    );

    // A publish to a topic that could not be had as configured goes on with what there was: nothing was.
    let mut events = scene.bus.events();
    scene
        .bus
        .configure(wanted().on_mismatch(Mismatch::Warn))
        .await?;
    let event = tokio::time::timeout(PATIENCE, events.next()).await?;
    ensure!(
        matches!(&event, Some(BusEvent::TopicMismatch { differences: told, .. }) if told == differences),
        "{event:?}"
    );
    scene.bus.publish(&scene.topic, "as it is").await?;
    ensure!(
        scene.outside.stream(&scene.topic).await? == before,
        "it was changed"
    );
    scene.end().await
}

#[tokio::test]
async fn limits_of_the_topic_and_of_the_server_are_told_apart() -> Result<()> {
    let scene = Scene::open().await?;
    scene
        .bus
        .configure(scene.config().size_limit(1_000))
        .await?;
    let refused = scene.bus.publish(&scene.topic, vec![0; 2_000]).await;
    ensure!(
        matches!(&refused, Err(PublishError::TooLarge { limit: 1_000, .. })),
        "{refused:?}"
    );
    scene
        .bus
        .configure(scene.config().size_limit(64 << 20))
        .await?;
    // A server takes 1 MiB unless it is told otherwise.
    let refused = scene.bus.publish(&scene.topic, vec![0; 9 << 20]).await;
    let Err(error @ PublishError::Rejected(failure)) = &refused else {
        bail!("{refused:?}");
    };
    ensure!(
        failure.kind() == clearway::FailureKind::TooLarge && !error.is_retryable(),
        "{failure:?}"
    );
    scene.bus.publish(&scene.topic, vec![0; 500_000]).await?;
    scene.end().await
}
