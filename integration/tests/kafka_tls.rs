//! Kafka over TLS with a login: the right ones come in and work as without, and each wrong one is told what is wrong.
//!
//! Asked for by name (`make tls`): librdkafka is built with OpenSSL for it.

use anyhow::{Context, Result, bail, ensure};
use clearway::kafka::{Kafka as Backend, Options};
use clearway::{Bus, ConnectError, Delivery, HandlerError, TopicConfig};
use clearway_integration::{Authority, Kafka, KafkaBroker, KafkaOutside, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CLOSE: Duration = Duration::from_secs(10);
const MECHANISM: &str = "SCRAM-SHA-256";
const USER: &str = "orders";
const PASSWORD: &str = "s3cret";
const ENVELOPES: u64 = 1_000;

struct Scene {
    kafka: KafkaBroker,
    authority: Authority,
}

impl Scene {
    async fn begin() -> Result<Option<Self>> {
        let authority = Authority::new()?;
        let options = Kafka::default().scram(&authority, USER, PASSWORD)?;
        let kafka = KafkaBroker::own(options).await?;
        Ok(kafka.map(|kafka| Self { kafka, authority }))
    }

    fn options(&self) -> Result<Options> {
        let options = Options::from_url(&self.kafka.url())?;
        Ok(options.connect_timeout(Duration::from_secs(5)))
    }
}

async fn connect(options: Options) -> Result<Bus, ConnectError> {
    Bus::builder()
        .backend(Backend::new(options))
        .connect()
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_with_a_login_it_publishes_consumes_and_commits() -> Result<()> {
    let Some(scene) = Scene::begin().await? else {
        return Ok(());
    };
    let options = scene.options()?;
    let options = options.tls_ca(scene.authority.certificate_file());
    let bus = connect(options.sasl(MECHANISM, USER, PASSWORD)).await?;
    let health = bus.health(CLOSE).await;
    ensure!(health.ready, "{health:?}");
    let config = TopicConfig::new("orders").partitions(3);
    bus.configure(config).await?;
    let topic = bus.topic::<u64>("orders")?;
    let sum = Arc::new(AtomicU64::new(0));
    let adds = sum.clone();
    let subscription = topic
        .subscribe("billing", move |order: Delivery<u64>| {
            adds.fetch_add(order.value, Ordering::Relaxed);
            async { Ok::<_, HandlerError>(()) }
        })
        .await?;
    let receipts = (1..=ENVELOPES).map(|n| topic.publish(&n).key(format!("{}", n % 7)).enqueue());
    for receipt in receipts.collect::<Result<Vec<_>, _>>()? {
        receipt.await?;
    }
    let outside = KafkaOutside::of(&scene.kafka)?;
    until("all is handled and committed", async || {
        Ok(outside.left("orders", "billing").await? == 0)
    })
    .await?;
    let all = ENVELOPES * (ENVELOPES + 1) / 2;
    let handled = sum.load(Ordering::Relaxed);
    ensure!(handled == all, "{handled} of {all}");
    let report = subscription.drain(CLOSE).await;
    ensure!(report.drained, "{report:?}");
    bus.close(CLOSE).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_wrong_login_and_certificate_is_told_what_is_wrong() -> Result<()> {
    let Some(scene) = Scene::begin().await? else {
        return Ok(());
    };
    let trusts = |options: Options| options.tls_ca(scene.authority.certificate_file());
    for (user, password) in [(USER, "other"), ("nobody", PASSWORD)] {
        let options = trusts(scene.options()?).sasl(MECHANISM, user, password);
        let begun = Instant::now();
        let refused = connect(options).await.err().context("it came in")?;
        let ConnectError::Unauthorized { failure, .. } = &refused else {
            bail!("{refused:?}");
        };
        ensure!(!failure.is_retryable(), "{failure:?}");
        ensure!(begun.elapsed() < CLOSE, "{:?}", begun.elapsed());
        let told = format!("{refused} {refused:?}");
        ensure!(!told.contains(password) || password == PASSWORD, "{told}");
        ensure!(!told.contains(PASSWORD), "{told}");
    }

    // Another authority's certificate is not this broker's.
    let other = Authority::new()?;
    let options = scene.options()?.tls_ca(other.certificate_file());
    let refused = connect(options.sasl(MECHANISM, USER, PASSWORD)).await;
    let Err(ConnectError::Unreachable { failure, .. }) = refused else {
        bail!("{refused:?}");
    };
    let why = failure.to_string().to_lowercase();
    ensure!(why.contains("certificate") || why.contains("ssl"), "{why}");

    // Without TLS to a port that speaks nothing else.
    let options = scene.options()?.sasl(MECHANISM, USER, PASSWORD);
    let refused = connect(options).await;
    ensure!(
        matches!(refused, Err(ConnectError::Unreachable { .. })),
        "{refused:?}"
    );
    Ok(())
}
