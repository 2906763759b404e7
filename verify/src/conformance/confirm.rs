//! Acknowledgements that the broker confirms: what was handled is settled then, and nothing waits for it.

use super::{PATIENCE, Seen, Stand, Verdict, content, eventually, one_key, publish};
use anyhow::{Context as _, Result, ensure};
use clearway::{Bus, Delivery, HandlerError, Json, Retry, Subscription, Topic};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

const CLOSE: Duration = Duration::from_secs(5);
const MS: Duration = Duration::from_millis(1);

async fn stand_on(stand: &Stand) -> Result<(Bus, Topic<u64, Json>)> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    Ok((bus, topic))
}

async fn is_settled(subscription: &Subscription) -> bool {
    let status = subscription.status().await;
    let mut partitions = status.partitions.values();
    status.in_flight == 0
        && status.bytes == 0
        && !status.partitions.is_empty()
        && partitions.all(|at| at.in_flight == 0 && at.lag == Some(0))
}

pub(super) async fn what_is_confirmed_is_settled(stand: &Stand) -> Result<Verdict> {
    let (bus, topic) = stand_on(stand).await?;
    let seen = Seen::new();
    let subscription = topic
        .subscription("reads")
        .confirm_acks()
        // More than that goes through: what is confirmed makes room.
        .in_flight(16, 1 << 20)
        .handler(seen.contented())
        .await?;
    publish(&topic, 0..300, |n| Some(format!("key-{}", n % 7))).await?;
    seen.until("all", |seen| seen.ended() >= 300).await?;
    eventually("all are settled", || is_settled(&subscription)).await?;
    ensure!(seen.ended() == 300, "{} have ended", seen.ended());
    let report = subscription.drain(CLOSE).await;
    ensure!(report.drained && report.left.is_empty(), "{report:?}");
    comes_no_more(&topic, "reads").await?;
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

/// The group has acknowledged all that there is: what is published now is all that comes.
async fn comes_no_more(topic: &Topic<u64, Json>, group: &str) -> Result<()> {
    let again = Seen::new();
    let subscription = topic.subscription(group).handler(again.contented()).await?;
    publish(topic, [9999], one_key).await?;
    again
        .until("the new one", |seen| seen.begun().contains(&9999))
        .await?;
    ensure!(again.begun() == [9999], "{:?}", again.begun());
    subscription.close(CLOSE).await;
    Ok(())
}

pub(super) async fn a_drain_waits_for_confirmations(stand: &Stand) -> Result<Verdict> {
    let (bus, topic) = stand_on(stand).await?;
    let (seen, gate) = (Seen::new(), Arc::new(Semaphore::new(0)));
    let (noted, waits) = (seen.clone(), gate.clone());
    let subscription = topic
        .subscription("reads")
        .confirm_acks()
        .concurrency(64)
        .handler(move |delivery: Delivery<u64>| {
            let (waits, at_work) = (waits.clone(), noted.begin(&delivery));
            async move {
                let _ = waits.acquire().await;
                drop(at_work);
                content()
            }
        })
        .await?;
    publish(&topic, 0..64, |n| Some(format!("key-{n}"))).await?;
    seen.until("all are at work", |seen| seen.begun().len() == 64)
        .await?;
    // All end at once, and the drain is asked for before any of them is confirmed.
    gate.add_permits(1000);
    let report = subscription.drain(PATIENCE).await;
    ensure!(report.drained && report.left.is_empty(), "{report:?}");
    ensure!(seen.ended() == 64, "{} have ended", seen.ended());
    comes_no_more(&topic, "reads").await?;
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn order_and_retries_are_as_without_confirmation(
    stand: &Stand,
) -> Result<Verdict> {
    let (bus, topic) = stand_on(stand).await?;
    let seen = Seen::new();
    let noted = seen.clone();
    let subscription = topic
        .subscription("reads")
        .confirm_acks()
        .retry(Retry::new().delays(5 * MS, 5 * MS))
        .handler(move |delivery: Delivery<u64>| {
            let at_work = noted.begin(&delivery);
            async move {
                tokio::task::yield_now().await;
                drop(at_work);
                match delivery.value.is_multiple_of(10) && delivery.attempt < 3 {
                    true => Err(HandlerError::from("not yet")),
                    false => Ok(()),
                }
            }
        })
        .await?;
    publish(&topic, 0..200, |n| Some(format!("key-{}", n % 4))).await?;
    eventually("all are settled", || async {
        seen.begun().len() >= 240 && is_settled(&subscription).await
    })
    .await?;
    for key in 0..4 {
        let events = seen.events();
        let of_key = Some(format!("key-{key}"));
        let begun = events
            .iter()
            .filter(|event| event.key == of_key && event.what == super::What::Begun);
        let begun: Vec<_> = begun.map(|event| (event.value, event.attempt)).collect();
        let mut wanted = Vec::new();
        for value in (key..200).step_by(4) {
            let attempts = if value % 10 == 0 { 3 } else { 1 };
            wanted.extend((1..=attempts).map(|attempt| (value, attempt)));
        }
        ensure!(begun == wanted, "{of_key:?}: {begun:?}");
        ensure!(
            seen.at_once(|event| event.key == of_key) == 1,
            "{of_key:?} overlaps"
        );
    }
    subscription.close(CLOSE).await;
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn a_repeated_id_is_confirmed_too(stand: &Stand) -> Result<Verdict> {
    let (bus, topic) = stand_on(stand).await?;
    let seen = Seen::new();
    let subscription = topic
        .subscription("reads")
        .confirm_acks()
        .dedup(100)
        .handler(seen.contented())
        .await?;
    // Of another topic, and put here under other ids to the broker: only the subscription knows them.
    let copied = bus.topic::<u64>(&stand.topic())?;
    let publish = copied.publish(&7).key("one");
    let envelope = publish.envelope().context("encoded")?.clone();
    for _ in 0..3 {
        topic.publish_envelope(envelope.clone()).await?;
    }
    eventually("all are settled", || async {
        seen.ended() > 0 && is_settled(&subscription).await
    })
    .await?;
    ensure!(seen.begun() == [7], "{:?}", seen.begun());
    let report = subscription.drain(CLOSE).await;
    ensure!(report.drained, "{report:?}");
    comes_no_more(&topic, "reads").await?;
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}
