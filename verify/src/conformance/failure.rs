//! Handlers that fail, in every way, and what becomes of what they failed on.

use super::{Seen, Stand, Verdict, content, one_key, publish};
use anyhow::{Context as _, Result, ensure};
use clearway::{Delivery, HandlerError, OnFailure, Outcome, Retry};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

const CLOSE: Duration = Duration::from_secs(5);
const MS: Duration = Duration::from_millis(1);

fn fast() -> Retry {
    Retry::new().delays(MS, 5 * MS)
}

fn attempts(n: u32) -> Retry {
    fast().attempts_max(n)
}

pub(super) async fn a_handler_that_errs_is_called_again_with_the_same_envelope(
    stand: &Stand,
) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let (outbox, mut inbox) = mpsc::unbounded_channel();
    let _subscription = topic
        .subscription("reads")
        .retry(fast())
        .handler(move |delivery: Delivery<u64>| {
            let _ = outbox.send((delivery.envelope.clone(), delivery.attempt));
            async move {
                match delivery.attempt {
                    3 => Ok(()),
                    _ => Err(HandlerError::from("not yet")),
                }
            }
        })
        .await?;
    topic.publish(&7).key("one").header("a", "b").await?;
    let mut came = Vec::new();
    for _ in 0..3 {
        came.push(
            timeout(super::PATIENCE, inbox.recv())
                .await?
                .context("gone")?,
        );
    }
    ensure!(
        came.iter().map(|(_, attempt)| *attempt).eq(1..=3),
        "{came:?}"
    );
    ensure!(
        came.iter().all(|(envelope, _)| *envelope == came[0].0),
        "{came:?}"
    );
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn a_handler_that_panics_kills_nothing(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let seen = Seen::new();
    let noted = seen.clone();
    let subscription = topic
        .subscription("reads")
        .retry(fast())
        .handler(move |delivery: Delivery<u64>| {
            let at_work = noted.begin(&delivery);
            async move {
                let _at_work = at_work;
                assert!(
                    delivery.attempt > 1 || !delivery.value.is_multiple_of(10),
                    "a poison pill"
                );
                content()
            }
        })
        .await?;
    publish(&topic, 0..100, |n| Some(format!("key-{}", n % 4))).await?;
    seen.until("all", |seen| seen.ended() >= 110).await?;
    ensure!(subscription.close(CLOSE).await == 0, "something is left");
    let metrics = bus.metrics();
    ensure!(
        metrics.handler_panics == 10,
        "{} panics",
        metrics.handler_panics
    );
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn a_handler_that_hangs_is_dropped_at_its_timeout(
    stand: &Stand,
) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let seen = Seen::new();
    let noted = seen.clone();
    let subscription = topic
        .subscription("reads")
        .concurrency(1)
        .timeout(20 * MS)
        .retry(fast())
        .handler(move |delivery: Delivery<u64>| {
            let at_work = noted.begin(&delivery);
            async move {
                let _at_work = at_work;
                if delivery.value == 0 && delivery.attempt < 3 {
                    std::future::pending::<()>().await;
                }
                content()
            }
        })
        .await?;
    publish(&topic, 0..3, |n| Some(format!("key-{n}"))).await?;
    seen.until("all", |seen| seen.ended() >= 5).await?;
    ensure!(subscription.close(CLOSE).await == 0, "something is left");
    let metrics = bus.metrics();
    ensure!(
        metrics.handler_timeouts == 2,
        "{} timeouts",
        metrics.handler_timeouts
    );
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn skip_settles_what_has_no_attempt_left(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let seen = Seen::new();
    let noted = seen.clone();
    let subscription = topic
        .subscription("reads")
        .retry(attempts(2))
        .on_failure(OnFailure::Skip)
        .handler(move |delivery: Delivery<u64>| {
            drop(noted.begin(&delivery));
            async move {
                match delivery.value {
                    0 => Err(HandlerError::from("never")),
                    _ => Ok(()),
                }
            }
        })
        .await?;
    publish(&topic, 0..2, one_key).await?;
    seen.until("the one behind", |seen| seen.begun() == [0, 0, 1])
        .await?;
    ensure!(subscription.close(CLOSE).await == 0, "something is left");
    ensure!(
        bus.metrics().skipped == 1,
        "{} skipped",
        bus.metrics().skipped
    );
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn a_skipped_delivery_is_settled(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let seen = Seen::new();
    let noted = seen.clone();
    let subscription = topic
        .subscribe("reads", move |delivery: Delivery<u64>| {
            drop(noted.begin(&delivery));
            async { Ok::<_, HandlerError>(Outcome::Skip) }
        })
        .await?;
    publish(&topic, 0..10, one_key).await?;
    seen.until("all", |seen| seen.ended() >= 10).await?;
    ensure!(subscription.close(CLOSE).await == 0, "something is left");
    ensure!(
        bus.metrics().handler_skips == 10,
        "{} skips",
        bus.metrics().handler_skips
    );
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn asked_for_again_it_waits_as_long_as_asked(stand: &Stand) -> Result<Verdict> {
    const PAUSE: Duration = Duration::from_millis(150);
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let (outbox, mut inbox) = mpsc::unbounded_channel();
    let _subscription = topic
        .subscribe("reads", move |delivery: Delivery<u64>| {
            let _ = outbox.send(tokio::time::Instant::now());
            async move {
                Ok::<_, HandlerError>(match delivery.attempt {
                    1 => Outcome::Retry { after: PAUSE },
                    _ => Outcome::Ack,
                })
            }
        })
        .await?;
    publish(&topic, [0], one_key).await?;
    let first = timeout(super::PATIENCE, inbox.recv())
        .await?
        .context("gone")?;
    let again = timeout(super::PATIENCE, inbox.recv())
        .await?
        .context("gone")?;
    ensure!(again - first >= PAUSE, "again after {:?}", again - first);
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn a_handler_may_publish_to_the_bus_it_is_called_from(
    stand: &Stand,
) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let (name, next_name) = (stand.topic(), stand.topic());
    let (topic, onwards) = (bus.topic::<u64>(&name)?, bus.topic::<u64>(&next_name)?);
    let seen = Seen::new();
    let _second = onwards.subscribe("reads", seen.contented()).await?;
    let _first = topic
        .subscription("reads")
        .concurrency(2)
        .handler(move |delivery: Delivery<u64>| {
            let onwards = onwards.clone();
            async move {
                onwards.publish(&(delivery.value + 100)).key("one").await?;
                Ok::<_, HandlerError>(())
            }
        })
        .await?;
    publish(&topic, 0..50, |n| Some(format!("key-{n}"))).await?;
    seen.until("all", |seen| seen.ended() >= 50).await?;
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}
