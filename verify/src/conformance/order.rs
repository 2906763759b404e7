//! Order by key, and what goes on beside it.

use super::{Seen, Stand, Verdict, What, content, one_key, publish};
use anyhow::{Result, ensure};
use clearway::{Delivery, HandlerError, Order, Retry, Subscription};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Barrier, Notify};
use tokio::time::sleep;

const CLOSE: Duration = Duration::from_secs(5);
const MS: Duration = Duration::from_millis(1);

fn fast() -> Retry {
    Retry::new().delays(MS, 10 * MS)
}

/// The values of each key are in the order in which they grow.
fn in_order(seen: &Seen) -> Result<()> {
    let mut last = std::collections::BTreeMap::new();
    for event in seen.events() {
        if event.what == What::Begun && event.attempt == 1 {
            let before = last.insert(event.key.clone(), event.value);
            ensure!(before < Some(event.value), "{event:?} after {before:?}");
        }
    }
    Ok(())
}

async fn ended(subscription: Subscription, bus: clearway::Bus) -> Result<Verdict> {
    let left = subscription.close(CLOSE).await;
    ensure!(left == 0, "{left} were left");
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn deliveries_of_a_key_come_in_the_order_of_their_publishes(
    stand: &Stand,
) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?.ordered();
    let seen = Seen::new();
    let noted = seen.clone();
    let subscription = topic
        .subscribe("reads", move |delivery: Delivery<u64>| {
            let at_work = noted.begin(&delivery);
            async move {
                tokio::task::yield_now().await;
                drop(at_work);
                content()
            }
        })
        .await?;
    publish(&topic, 0..1000, |n| Some(format!("key-{}", n % 7))).await?;
    seen.until("all", |seen| seen.ended() >= 1000).await?;
    in_order(&seen)?;
    ended(subscription, bus).await
}

pub(super) async fn keys_are_handled_side_by_side(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let meet = Arc::new(Barrier::new(8));
    let seen = Seen::new();
    let noted = seen.clone();
    let subscription = topic
        .subscription("reads")
        .concurrency(8)
        .handler(move |delivery: Delivery<u64>| {
            let (meet, at_work) = (meet.clone(), noted.begin(&delivery));
            async move {
                // Ready only when eight are at work.
                meet.wait().await;
                drop(at_work);
                content()
            }
        })
        .await?;
    publish(&topic, 0..8, |n| Some(format!("key-{n}"))).await?;
    seen.until("eight at a time", |seen| seen.ended() >= 8)
        .await?;
    ended(subscription, bus).await
}

pub(super) async fn one_key_is_never_handled_twice_at_a_time(stand: &Stand) -> Result<Verdict> {
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
                sleep(MS).await;
                drop(at_work);
                // Now and then a failure, so that the lane changes its worker.
                if delivery.value.is_multiple_of(5) && delivery.attempt == 1 {
                    return Err(HandlerError::from("not yet"));
                }
                Ok(())
            }
        })
        .await?;
    publish(&topic, 0..200, |n| Some(format!("key-{}", n % 3))).await?;
    seen.until("all", |seen| seen.ended() >= 240).await?;
    for key in 0..3 {
        let key = Some(format!("key-{key}"));
        let most = seen.at_once(|event| event.key == key);
        ensure!(most == 1, "{most} of {key:?} at the same time");
    }
    ended(subscription, bus).await
}

pub(super) async fn a_retry_is_not_overtaken_by_its_key(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let seen = Seen::new();
    let noted = seen.clone();
    let subscription = topic
        .subscription("reads")
        .retry(fast())
        .handler(move |delivery: Delivery<u64>| {
            drop(noted.begin(&delivery));
            async move {
                if delivery.value == 0 && delivery.attempt < 5 {
                    return Err(HandlerError::from("not yet"));
                }
                Ok(())
            }
        })
        .await?;
    publish(&topic, 0..5, one_key).await?;
    seen.until("all", |seen| seen.ended() >= 9).await?;
    let begun = seen.begun();
    ensure!(begun == [0, 0, 0, 0, 0, 1, 2, 3, 4], "{begun:?}");
    ended(subscription, bus).await
}

pub(super) async fn a_slow_key_does_not_hold_up_fast_ones(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let go = Arc::new(Notify::new());
    let seen = Seen::new();
    let (noted, waits) = (seen.clone(), go.clone());
    let subscription = topic
        .subscription("reads")
        .concurrency(2)
        .handler(move |delivery: Delivery<u64>| {
            let (waits, at_work) = (waits.clone(), noted.begin(&delivery));
            async move {
                if delivery.value == 0 {
                    waits.notified().await;
                }
                drop(at_work);
                content()
            }
        })
        .await?;
    publish(&topic, [0], |_| Some("slow".into())).await?;
    publish(&topic, 1..=100, |n| Some(format!("fast-{n}"))).await?;
    seen.until("the fast ones", |seen| seen.ended() >= 100)
        .await?;
    ensure!(seen.begun().len() == 101, "the slow one has begun");
    go.notify_one();
    seen.until("the slow one", |seen| seen.ended() >= 101)
        .await?;
    ended(subscription, bus).await
}

pub(super) async fn a_retry_does_not_wait_for_the_end_of_a_backlog(
    stand: &Stand,
) -> Result<Verdict> {
    const BACKLOG: u64 = 20_000;
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    // All is there before anything is taken, so that there is always another delivery to take.
    publish(&topic, 0..BACKLOG, |n| Some(format!("key-{n}"))).await?;
    let seen = Seen::new();
    let noted = seen.clone();
    let subscription = topic
        .subscription("reads")
        .retry(fast())
        .handler(move |delivery: Delivery<u64>| {
            drop(noted.begin(&delivery));
            async move {
                match (delivery.value, delivery.attempt) {
                    (0, 1) => Err(HandlerError::from("not yet")),
                    _ => Ok(()),
                }
            }
        })
        .await?;
    seen.until("all", |seen| seen.ended() as u64 > BACKLOG)
        .await?;
    let begun = seen.begun();
    let again = begun.iter().rposition(|value| *value == 0);
    ensure!(
        again < Some(begun.len() * 3 / 4),
        "again after {again:?} others"
    );
    ended(subscription, bus).await
}

pub(super) async fn a_hot_key_keeps_its_order_beside_others(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?.ordered();
    let seen = Seen::new();
    let noted = seen.clone();
    let subscription = topic
        .subscribe("reads", move |delivery: Delivery<u64>| {
            let at_work = noted.begin(&delivery);
            async move {
                tokio::task::yield_now().await;
                drop(at_work);
                content()
            }
        })
        .await?;
    // Zipf's law, nearly: every second envelope is of the first key, every fourth of the second.
    let key = |n: u64| Some(format!("key-{}", (n + 1).trailing_zeros()));
    publish(&topic, 0..1000, key).await?;
    seen.until("all", |seen| seen.ended() >= 1000).await?;
    in_order(&seen)?;
    for key in 0..10 {
        let key = Some(format!("key-{key}"));
        ensure!(
            seen.at_once(|event| event.key == key) <= 1,
            "{key:?} overlaps"
        );
    }
    ended(subscription, bus).await
}

pub(super) async fn by_partition_handles_one_of_a_partition_at_a_time(
    stand: &Stand,
) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let name = stand.topic();
    bus.configure(clearway::TopicConfig::new(name.as_str()).partitions(1))
        .await?;
    let topic = bus.topic::<u64>(&name)?;
    let seen = Seen::new();
    let noted = seen.clone();
    let subscription = topic
        .subscription("reads")
        .order(Order::ByPartition)
        .handler(move |delivery: Delivery<u64>| {
            let at_work = noted.begin(&delivery);
            async move {
                sleep(MS).await;
                drop(at_work);
                content()
            }
        })
        .await?;
    publish(&topic, 0..50, |n| Some(format!("key-{n}"))).await?;
    seen.until("all", |seen| seen.ended() >= 50).await?;
    ensure!(
        seen.at_once(|_| true) == 1,
        "{} at a time",
        seen.at_once(|_| true)
    );
    ended(subscription, bus).await
}

pub(super) async fn unordered_handles_one_key_side_by_side(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let meet = Arc::new(Barrier::new(4));
    let seen = Seen::new();
    let noted = seen.clone();
    let subscription = topic
        .subscription("reads")
        .order(Order::Unordered)
        .concurrency(4)
        .handler(move |delivery: Delivery<u64>| {
            let (meet, at_work) = (meet.clone(), noted.begin(&delivery));
            async move {
                meet.wait().await;
                drop(at_work);
                content()
            }
        })
        .await?;
    publish(&topic, 0..4, one_key).await?;
    seen.until("four of one key", |seen| seen.ended() >= 4)
        .await?;
    ended(subscription, bus).await
}

pub(super) async fn without_a_key_nothing_waits(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let meet = Arc::new(Barrier::new(4));
    let seen = Seen::new();
    let noted = seen.clone();
    let subscription = topic
        .subscription("reads")
        .concurrency(4)
        .handler(move |delivery: Delivery<u64>| {
            let (meet, at_work) = (meet.clone(), noted.begin(&delivery));
            async move {
                meet.wait().await;
                drop(at_work);
                content()
            }
        })
        .await?;
    publish(&topic, 0..4, |_| None).await?;
    seen.until("four without a key", |seen| seen.ended() >= 4)
        .await?;
    ended(subscription, bus).await
}

pub(super) async fn concurrency_is_a_limit(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let seen = Seen::new();
    let noted = seen.clone();
    let subscription = topic
        .subscription("reads")
        .concurrency(3)
        .handler(move |delivery: Delivery<u64>| {
            let at_work = noted.begin(&delivery);
            async move {
                sleep(MS).await;
                drop(at_work);
                content()
            }
        })
        .await?;
    publish(&topic, 0..100, |n| Some(format!("key-{n}"))).await?;
    seen.until("all", |seen| seen.ended() >= 100).await?;
    let most = seen.at_once(|_| true);
    ensure!((2..=3).contains(&most), "{most} at a time");
    ended(subscription, bus).await
}
