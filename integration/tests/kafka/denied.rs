//! What the broker's authorizer denies, by its own tool: a typed error each time, and nothing is stored or handled.

use crate::setup::{CLOSE, builder, fresh_name};
use anyhow::{Context, Result, bail, ensure};
use clearway::kafka::Options;
use clearway::{
    Bus, ConfigureError, Delivery, Failure, FailureKind, HandlerError, PublishError,
    SubscribeError, TopicConfig,
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
        // Else nothing is denied to who has no name.
        .setting("super.users", "User:nobody")
}

/// Denies an operation on a resource to all who have no name, which is us. Where there is a rule, all that it does not allow is denied.
async fn deny(kafka: &KafkaBroker, operation: &str, resource: &[&str]) -> Result<()> {
    rule(kafka, "--deny-principal", operation, resource).await
}

async fn rule(kafka: &KafkaBroker, whom: &str, operation: &str, resource: &[&str]) -> Result<()> {
    let rule = ["--add", whom, "User:ANONYMOUS", "--operation", operation];
    kafka
        .tool("kafka-acls.sh", &[&rule[..], resource].concat())
        .await?;
    Ok(())
}

/// Takes the rules of a resource back.
async fn allow(kafka: &KafkaBroker, resource: &[&str]) -> Result<()> {
    let rules = [&["--remove", "--force"][..], resource].concat();
    kafka.tool("kafka-acls.sh", &rules).await?;
    Ok(())
}

struct Scene {
    kafka: KafkaBroker,
    bus: Bus,
    topic: String,
}

impl Scene {
    async fn begin() -> Result<Option<Self>> {
        let Some(kafka) = KafkaBroker::own(ruled()).await? else {
            return Ok(None);
        };
        let options = Options::from_url(&kafka.url())?.request_timeout(Duration::from_secs(5));
        let (bus, topic) = (builder(options).connect().await?, fresh_name("orders"));
        let config = TopicConfig::new(topic.as_str()).partitions(1);
        bus.configure(config).await?;
        Ok(Some(Self { kafka, bus, topic }))
    }

    async fn publishes(&self) -> Result<()> {
        let refused = self.bus.publish(&self.topic, "one").await;
        let Err(PublishError::Rejected(failure)) = refused else {
            bail!("{refused:?}");
        };
        is_unauthorized(&failure)
    }

    async fn subscribes(&self, group: &str) -> Result<()> {
        let topic = self.bus.topic::<u64>(&self.topic)?;
        let never = |_: Delivery<u64>| async { Ok::<_, HandlerError>(()) };
        let refused = topic.subscribe(group, never).await;
        let Err(SubscribeError::Failed { failure, .. }) = refused else {
            bail!("{group}: {refused:?}");
        };
        is_unauthorized(&failure).with_context(|| format!("group {group}"))
    }

    async fn creates(&self, topic: &str) -> Result<()> {
        let config = TopicConfig::new(topic).partitions(1);
        let refused = self.bus.configure(config).await;
        let Err(ConfigureError::Failed { failure, .. }) = refused else {
            bail!("{refused:?}");
        };
        is_unauthorized(&failure)
    }
}

fn is_unauthorized(failure: &Failure) -> Result<()> {
    ensure!(failure.kind() == FailureKind::Unauthorized, "{failure:?}");
    ensure!(!failure.is_retryable(), "{failure:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_denied_is_unauthorized_and_leaves_nothing() -> Result<()> {
    let Some(scene) = Scene::begin().await? else {
        return Ok(());
    };
    let (kafka, topic) = (&scene.kafka, ["--topic", &scene.topic]);
    deny(kafka, "Write", &topic).await?;
    scene.publishes().await?;
    allow(kafka, &topic).await?;
    let stored = KafkaOutside::of(kafka)?.ends(&scene.topic).await?;
    ensure!(stored == [(0, 0)], "{stored:?}");

    deny(kafka, "Read", &["--group", "nosy"]).await?;
    scene.subscribes("nosy").await?;
    deny(kafka, "Read", &topic).await?;
    scene.subscribes("billing").await?;

    // Either lets it be made. What the broker passes on to the controller is not denied, nor the next rule.
    let cluster = ["--operation", "Alter", "--cluster"];
    rule(kafka, "--allow-principal", "ClusterAction", &cluster).await?;
    deny(kafka, "Create", &["--cluster"]).await?;
    let made = fresh_name("made");
    deny(kafka, "Create", &["--topic", &made]).await?;
    scene.creates(&made).await?;
    scene.bus.close(CLOSE).await;
    Ok(())
}
