//! How much is taken, when, and what is said about it.

use super::{Seen, Stand, Verdict, content, eventually, one_key, publish};
use anyhow::{Context as _, Result, ensure};
use clearway::{BusEvent, Delivery, HandlerError, Recovery, Retry, SubscriptionState};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

const CLOSE: Duration = Duration::from_secs(5);
const MS: Duration = Duration::from_millis(1);

pub(super) async fn pause_takes_nothing_and_resume_goes_on(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let seen = Seen::new();
    let subscription = topic.subscribe("reads", seen.contented()).await?;
    publish(&topic, 0..10, one_key).await?;
    seen.until("before the pause", |seen| seen.ended() >= 10)
        .await?;
    ensure!(subscription.pause().await, "it has ended");
    let status = subscription.status().await;
    ensure!(
        status.state == SubscriptionState::Paused { because: None },
        "{status:?}"
    );
    publish(&topic, 10..20, one_key).await?;
    // The broker has them, and knows that nobody took them.
    eventually("the lag is ten", || async {
        lag_of(&subscription).await == Some(10)
    })
    .await?;
    ensure!(seen.begun().len() == 10, "{:?}", seen.begun());
    subscription.resume();
    seen.until("after the pause", |seen| seen.ended() >= 20)
        .await?;
    ensure!(seen.begun().into_iter().eq(0..20), "{:?}", seen.begun());
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

async fn lag_of(subscription: &clearway::Subscription) -> Option<u64> {
    let status = subscription.status().await;
    status
        .partitions
        .values()
        .map(|partition| partition.lag)
        .sum()
}

pub(super) async fn pause_under_load_loses_nothing(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
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
    let publishing = publish(&topic, 0..2000, |n| Some(format!("key-{}", n % 11)));
    let pausing = async {
        for round in 1..=10_usize {
            seen.until("a part", |seen| seen.ended() >= round * 100)
                .await?;
            ensure!(subscription.pause().await, "it has ended");
            subscription.resume();
        }
        Ok(())
    };
    tokio::try_join!(publishing, pausing)?;
    seen.until("all", |seen| seen.ended() >= 2000).await?;
    let mut begun = seen.begun();
    begun.sort_unstable();
    ensure!(begun.into_iter().eq(0..2000), "not each once");
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn hold_takes_nothing_before_activate(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let seen = Seen::new();
    let subscription = topic
        .subscription("reads")
        .hold()
        .handler(seen.contented())
        .await?;
    publish(&topic, 0..10, one_key).await?;
    eventually("the lag is ten", || async {
        lag_of(&subscription).await == Some(10)
    })
    .await?;
    let status = subscription.status().await;
    ensure!(
        status.state == SubscriptionState::Held && status.in_flight == 0,
        "{status:?}"
    );
    // A pause that ends does not end the hold.
    ensure!(subscription.pause().await, "it has ended");
    subscription.resume();
    ensure!(
        subscription.status().await.state == SubscriptionState::Held,
        "not held any more"
    );
    ensure!(seen.begun().is_empty(), "{:?}", seen.begun());
    ensure!(subscription.activate(), "it was not held");
    seen.until("all", |seen| seen.ended() >= 10).await?;
    ensure!(!subscription.activate(), "it was held twice");
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn in_flight_is_a_limit(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let gate = Arc::new(Semaphore::new(0));
    let seen = Seen::new();
    let (noted, waits) = (seen.clone(), gate.clone());
    let subscription = topic
        .subscription("reads")
        .in_flight(5, 1 << 20)
        .handler(move |delivery: Delivery<u64>| {
            let (waits, at_work) = (waits.clone(), noted.begin(&delivery));
            async move {
                let _ = waits.acquire().await;
                drop(at_work);
                content()
            }
        })
        .await?;
    publish(&topic, 0..50, |n| Some(format!("key-{n}"))).await?;
    eventually("five are in flight, and the rest waits", || async {
        let status = subscription.status().await;
        status.in_flight == 5 && lag_of(&subscription).await == Some(50)
    })
    .await?;
    ensure!(seen.begun().len() == 5, "{} have begun", seen.begun().len());
    gate.add_permits(1000);
    seen.until("all", |seen| seen.ended() >= 50).await?;
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn a_stuck_handler_fills_no_memory(stand: &Stand) -> Result<Verdict> {
    const BYTES: u64 = 64 << 10;
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let subscription = topic
        .subscription("reads")
        .in_flight(1 << 16, BYTES)
        .handler(|_: Delivery<u64>| async {
            std::future::pending::<()>().await;
            content()
        })
        .await?;
    publish(&topic, 0..3000, |n| Some(format!("key-{n}"))).await?;
    eventually("as much is taken as may be", || async {
        subscription.status().await.bytes as u64 >= BYTES
    })
    .await?;
    let status = subscription.status().await;
    // The last one taken may exceed it.
    ensure!((status.bytes as u64) < BYTES + 1024, "{status:?}");
    ensure!(status.in_flight < 1500, "{status:?}");
    let report = subscription.drain(10 * MS).await;
    ensure!(
        report.left.len() == status.in_flight && !report.drained,
        "{report:?}"
    );
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn status_says_how_far_behind(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let seen = Seen::new();
    let noted = seen.clone();
    let subscription = topic
        .subscription("reads")
        .retry(Retry::new().delays(3600 * 1000 * MS, 3600 * 1000 * MS))
        .handler(move |delivery: Delivery<u64>| {
            drop(noted.begin(&delivery));
            async move {
                match delivery.value {
                    0 => Err(HandlerError::from("stuck")),
                    _ => Ok(()),
                }
            }
        })
        .await?;
    publish(&topic, [0], |_| Some("stuck".into())).await?;
    publish(&topic, 1..=20, |n| Some(format!("key-{n}"))).await?;
    seen.until("all", |seen| seen.ended() >= 21).await?;
    eventually("only the stuck one is behind", || async {
        lag_of(&subscription).await == Some(1)
    })
    .await?;
    let status = subscription.status().await;
    ensure!(
        status.in_flight == 1 && status.retrying == 1 && status.lanes == 1,
        "{status:?}"
    );
    ensure!(status.last_error.as_deref() == Some("stuck"), "{status:?}");
    ensure!(status.oldest.is_some() && status.bytes > 0, "{status:?}");
    ensure!(
        subscription.drain(CLOSE).await.left.len() == 1,
        "the stuck one is not listed"
    );
    ensure!(
        subscription.status().await.state == SubscriptionState::Ended,
        "it has not ended"
    );
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn recovery_is_entered_and_left(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    publish(&topic, 0..600, |n| Some(format!("key-{}", n % 9))).await?;
    let mut events = bus.events();
    let seen = Seen::new();
    let noted = seen.clone();
    let _subscription = topic
        .subscription("reads")
        .in_flight(16, 1 << 20)
        .recovery(
            Recovery::new(200, 50)
                .hold(50 * MS)
                .look_every(5 * MS)
                .processing_rate(500.0)
                .concurrency(4),
        )
        .handler(move |delivery: Delivery<u64>| {
            let at_work = noted.begin(&delivery);
            async move {
                tokio::time::sleep(MS).await;
                drop(at_work);
                content()
            }
        })
        .await?;
    let changes = async {
        let (mut entered, mut left) = (None, None);
        while left.is_none() {
            match events.next().await.context("the bus is closed")? {
                BusEvent::RecoveryEntered { lag, .. } => entered = Some(lag),
                BusEvent::RecoveryLeft { lag, .. } => left = Some(lag),
                _ => {}
            }
        }
        Ok::<_, anyhow::Error>((entered, left))
    };
    let (entered, left) = timeout(super::PATIENCE, changes).await??;
    ensure!(
        entered >= Some(200) && left <= Some(50),
        "{entered:?} {left:?}"
    );
    seen.until("all", |seen| seen.ended() >= 600).await?;
    ensure!(
        bus.metrics().recoveries == 1,
        "{} recoveries",
        bus.metrics().recoveries
    );
    for key in 0..9 {
        let key = Some(format!("key-{key}"));
        ensure!(
            seen.at_once(|event| event.key == key) <= 1,
            "{key:?} overlaps"
        );
    }
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn a_repeated_id_is_settled_without_a_handler(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let (first, second) = (stand.topic(), stand.topic());
    let seen = Seen::new();
    let topic = bus.topic::<u64>(&first)?;
    let subscription = topic
        .subscription("reads")
        .dedup(100)
        // One at a time, so that others have to wait for a lane.
        .lanes_max(1)
        .handler(seen.contented())
        .await?;
    // Under ids of their own to the broker, if it looks at them: copied from another topic.
    let copied = bus.topic::<u64>(&second)?;
    let envelope = copied
        .publish(&7)
        .key("one")
        .envelope()
        .context("encoded")?
        .clone();
    let mut stored = 0;
    for _ in 0..3 {
        let receipt = topic.publish_envelope(envelope.clone()).await?;
        stored += u64::from(!receipt.duplicate);
    }
    publish(&topic, 10..20, |n| Some(format!("key-{n}"))).await?;
    seen.until("the last", |seen| seen.begun().len() >= 11)
        .await?;
    let mut begun = seen.begun();
    begun.sort_unstable();
    ensure!(
        begun.into_iter().eq([7].into_iter().chain(10..20)),
        "{:?}",
        seen.begun()
    );
    ensure!(subscription.close(CLOSE).await == 0, "something is left");
    let skipped = bus.metrics().duplicates_skipped;
    ensure!(skipped == stored - 1, "{skipped} skipped of {stored}");
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn a_stream_hands_out_and_takes_answers(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let mut deliveries = topic.subscription("reads").stream().await?;
    publish(&topic, 0..3, one_key).await?;
    let mut came = Vec::new();
    while came.last() != Some(&(2, 1)) {
        let delivery = timeout(super::PATIENCE, deliveries.next())
            .await?
            .context("ended")?;
        came.push((delivery.value, delivery.attempt));
        match (delivery.value, delivery.attempt) {
            (1, 1) => delivery.nack(MS),
            _ => delivery.ack(),
        }
    }
    ensure!(came == [(0, 1), (1, 1), (1, 2), (2, 1)], "{came:?}");
    eventually("all is settled", || async {
        lag_of(deliveries.subscription()).await == Some(0)
    })
    .await?;
    drop(deliveries);
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn a_stream_delivery_dropped_without_an_answer_comes_again(
    stand: &Stand,
) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let builder = topic
        .subscription("reads")
        .retry(Retry::new().delays(MS, MS));
    let mut deliveries = builder.stream().await?;
    publish(&topic, [5], one_key).await?;
    for attempt in 1..=3 {
        let delivery = timeout(super::PATIENCE, deliveries.next())
            .await?
            .context("ended")?;
        ensure!(
            (delivery.value, delivery.attempt) == (5, attempt),
            "{delivery:?}"
        );
        match attempt {
            3 => delivery.ack(),
            _ => drop(delivery),
        }
    }
    let errors = bus.metrics().handler_errors;
    ensure!(errors == 2, "{errors} counted");
    drop(deliveries);
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}
