//! What the broker's authorizer denies, by its own tool: a typed error each time, and nothing is stored or handled.

use crate::setup::{CLOSE, builder, fresh_name};
use anyhow::{Result, bail, ensure};
use clearway::kafka::Options;
use clearway::{
    ConfigureError, Delivery, FailureKind, HandlerError, PublishError, SubscribeError, TopicConfig,
};
use clearway_integration::{Kafka, KafkaBroker, KafkaOutside};
use std::time::Duration;

/// Everybody is let do what no rule speaks of.
fn ruled() -> Kafka {
    Kafka::default()
        .setting(
            "authorizer.class.name",
            "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        )
        .setting("allow.everyone.if.no.acl.found", "true")
}

/// Denies an operation on a resource to all who have no name, which is us.
async fn deny(kafka: &KafkaBroker, operation: &str, resource: [&str; 2]) -> Result<()> {
    let rule = ["--add", "--deny-principal", "User:ANONYMOUS"];
    let what = ["--operation", operation, resource[0], resource[1]];
    kafka
        .tool("kafka-acls.sh", &[&rule[..], &what].concat())
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_denied_is_unauthorized_and_leaves_nothing() -> Result<()> {
    let Some(kafka) = KafkaBroker::own(ruled()).await? else {
        return Ok(());
    };
    let outside = KafkaOutside::of(&kafka)?;
    let options = Options::from_url(&kafka.url())?.request_timeout(Duration::from_secs(5));
    let (read, written, made) = (
        fresh_name("read"),
        fresh_name("written"),
        fresh_name("made"),
    );
    let bus = builder(options).connect().await?;
    for topic in [&read, &written] {
        bus.configure(TopicConfig::new(topic.as_str()).partitions(1))
            .await?;
    }
    deny(&kafka, "Write", ["--topic", &written]).await?;
    deny(&kafka, "Read", ["--group", "nosy"]).await?;
    deny(&kafka, "Read", ["--topic", &read]).await?;
    deny(&kafka, "Create", ["--topic", &made]).await?;

    let refused = bus.publish(&written, "one").await;
    let Err(PublishError::Rejected(failure)) = refused else {
        bail!("{refused:?}");
    };
    ensure!(failure.kind() == FailureKind::Unauthorized, "{failure:?}");
    ensure!(!failure.is_retryable(), "{failure:?}");
    ensure!(outside.ends(&written).await? == [(0, 0)], "it was stored");

    for (topic, group) in [(&written, "nosy"), (&read, "billing")] {
        let topic = bus.topic::<u64>(topic)?;
        let never = |_: Delivery<u64>| async { Ok::<_, HandlerError>(()) };
        let refused = topic.subscribe(group, never).await;
        let Err(SubscribeError::Failed { failure, .. }) = refused else {
            bail!("{group}: {refused:?}");
        };
        ensure!(failure.kind() == FailureKind::Unauthorized, "{failure:?}");
    }

    let refused = bus
        .configure(TopicConfig::new(made.as_str()).partitions(1))
        .await;
    let Err(ConfigureError::Failed { failure, .. }) = refused else {
        bail!("{refused:?}");
    };
    ensure!(failure.kind() == FailureKind::Unauthorized, "{failure:?}");
    bus.close(CLOSE).await;
    Ok(())
}
