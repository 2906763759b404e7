//! Closing the bus: what was taken is settled or listed, and comes again.

use super::drain::{free, gated, taken};
use super::{Seen, Stand, Verdict, content, one_key, publish};
use anyhow::{Result, ensure};
use clearway::{
    Bus, Delivery, HandlerError, OnFailure, Outcome, PublishError, Retry, SubscriptionState,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::sleep;

const CLOSE: Duration = Duration::from_secs(5);
const MS: Duration = Duration::from_millis(1);

pub(super) async fn closing_the_bus_drains_its_subscriptions(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let seen = Seen::new();
    let noted = seen.clone();
    let subscription = topic
        .subscribe("reads", move |delivery: Delivery<u64>| {
            let at_work = noted.begin(&delivery);
            async move {
                sleep(5 * MS).await;
                drop(at_work);
                content()
            }
        })
        .await?;
    publish(&topic, 0..50, |n| Some(format!("key-{n}"))).await?;
    super::eventually("all are taken", || async {
        let in_flight = subscription.status().await.in_flight;
        in_flight + seen.ended() >= 50
    })
    .await?;
    let report = bus.close(CLOSE).await;
    ensure!(report.drained && report.deliveries_left == 0, "{report:?}");
    ensure!(seen.ended() == 50, "{} have ended", seen.ended());
    Ok(Verdict::Passed)
}

pub(super) async fn nothing_is_handled_after_close(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let (seen, gate) = (Seen::new(), Arc::new(Semaphore::new(0)));
    let subscription = gated(&topic, &seen, &gate).await?;
    publish(&topic, 0..20, |n| Some(format!("key-{n}"))).await?;
    taken(&subscription, 20).await?;
    let report = bus.close(10 * MS).await;
    ensure!(report.deliveries_left == 20, "{report:?}");
    let then = seen.events();
    gate.add_permits(1000);
    sleep(50 * MS).await;
    ensure!(seen.events() == then, "handlers went on after close");
    ensure!(
        seen.ended() == seen.begun().len(),
        "a handler was not dropped"
    );
    Ok(Verdict::Passed)
}

pub(super) async fn what_handlers_publish_while_the_bus_closes_is_published(
    stand: &Stand,
) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let (billed, dead) = (stand.topic(), stand.topic());
    let (topic, bills) = (
        bus.topic::<u64>(&stand.topic())?,
        bus.topic::<u64>(&billed)?,
    );
    let (seen, gate) = (Seen::new(), Arc::new(Semaphore::new(0)));
    let (noted, waits, bill) = (seen.clone(), gate.clone(), bills.clone());
    let _subscription = topic
        .subscription("bills")
        .on_failure(OnFailure::dead_letter(dead.as_str()))
        .handler(move |delivery: Delivery<u64>| {
            let (at_work, waits, bill) = (noted.begin(&delivery), waits.clone(), bill.clone());
            async move {
                let _at_work = at_work;
                let _ = waits.acquire().await;
                if delivery.value >= 10 {
                    return Ok(Outcome::Reject("not ours".into()));
                }
                bill.publish(&delivery.value).await?;
                Ok::<_, HandlerError>(Outcome::Ack)
            }
        })
        .await?;
    publish(&topic, 0..16, |n| Some(format!("key-{n}"))).await?;
    seen.until("all are at work", |seen| seen.begun().len() == 16)
        .await?;
    let closing = tokio::spawn({
        let bus = bus.clone();
        async move { bus.close(4 * CLOSE).await }
    });
    super::eventually("outside it is closed", || async {
        matches!(bills.publish(&99).await, Err(PublishError::Closed))
    })
    .await?;
    gate.add_permits(1000);
    let report = closing.await?;
    ensure!(report.drained && report.deliveries_left == 0, "{report:?}");
    let bus = stand.bus().await?;
    for (name, values) in [(&billed, 0..10), (&dead, 10..16)] {
        let seen = Seen::new();
        let subscription = free(&bus.topic::<u64>(name)?, &seen).await?;
        let all: BTreeSet<u64> = values.collect();
        seen.until("all of them", |seen| {
            all.is_subset(&seen.begun().into_iter().collect())
        })
        .await?;
        subscription.close(CLOSE).await;
    }
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn close_ends_a_subscription_in_every_state(stand: &Stand) -> Result<Verdict> {
    let hour = Duration::from_secs(3600);
    for state in ["held", "paused", "retrying", "busy", "stream", "draining"] {
        let bus = stand.bus().await?;
        let topic = bus.topic::<u64>(&stand.topic())?;
        publish(&topic, 0..8, |n| Some(format!("key-{}", n % 4))).await?;
        let (seen, gate) = (Seen::new(), Arc::new(Semaphore::new(0)));
        let (noted, waits) = (seen.clone(), gate.clone());
        let builder = topic.subscription("reads").concurrency(4);
        let builder = builder.retry(Retry::new().delays(hour, hour));
        let builder = if state == "held" {
            builder.hold()
        } else {
            builder
        };
        let mut deliveries = None;
        let subscription = if state == "stream" {
            let stream = deliveries.insert(builder.stream().await?);
            stream.next().await;
            stream.subscription().clone()
        } else {
            let fails = state == "retrying";
            let handler = move |delivery: Delivery<u64>| {
                let (at_work, waits) = (noted.begin(&delivery), waits.clone());
                async move {
                    let _at_work = at_work;
                    if fails {
                        return Err(HandlerError::from("not today"));
                    }
                    let _ = waits.acquire().await;
                    content()
                }
            };
            builder.handler(handler).await?
        };
        let begun = tokio::time::Instant::now();
        match state {
            "held" => {}
            "paused" => ensure!(subscription.pause().await, "it has ended"),
            "retrying" => seen.until("all fail", |seen| seen.ended() == 4).await?,
            "stream" => {}
            _ => {
                seen.until("all wait", |seen| seen.begun().len() == 4)
                    .await?
            }
        }
        let draining = (state == "draining").then(|| {
            let subscription = subscription.clone();
            tokio::spawn(async move { subscription.drain(hour).await })
        });
        let report = bus.close(20 * MS).await;
        ensure!(
            begun.elapsed() < 4 * CLOSE,
            "{state}: {:?}",
            begun.elapsed()
        );
        let left = report.deliveries_left;
        ensure!(state != "held" || left == 0, "{state}: {report:?}");
        ensure!(left <= 8, "{state}: {report:?}");
        if let Some(draining) = draining {
            ensure!(!draining.await?.drained, "{state}");
        }
        let ended = subscription.status().await.state;
        ensure!(ended == SubscriptionState::Ended, "{state}: {ended:?}");
        let then = seen.events();
        gate.add_permits(1000);
        // Whoever has it next gets all of it.
        let (bus, again) = (stand.bus().await?, Seen::new());
        let topic = bus.topic::<u64>(subscription.topic())?;
        let next = free(&topic, &again).await?;
        again.until(state, |again| again.ended() == 8).await?;
        ensure!(seen.events() == then, "{state}: handled after close");
        next.close(CLOSE).await;
        bus.close(CLOSE).await;
    }
    Ok(Verdict::Passed)
}

pub(super) async fn a_bus_that_is_dropped_loses_nothing(stand: &Stand) -> Result<Verdict> {
    let name = stand.topic();
    let (first, then) = (Seen::new(), Seen::new());
    let bus: Bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&name)?;
    let subscription = free(&topic, &first).await?;
    publish(&topic, 0..200, |n| Some(format!("key-{}", n % 7))).await?;
    first.until("some", |seen| seen.ended() >= 20).await?;
    drop((bus, topic, subscription));
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&name)?;
    let _subscription = free(&topic, &then).await?;
    publish(&topic, [1000], one_key).await?;
    then.until("the last", |then| then.begun().contains(&1000))
        .await?;
    super::eventually("all", || async {
        let both = first.begun().into_iter().chain(then.begun());
        both.collect::<BTreeSet<_>>().len() == 201
    })
    .await?;
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}
