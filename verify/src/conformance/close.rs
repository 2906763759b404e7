//! Drain and close: what was taken is settled or listed, and comes again.

use super::{Seen, Stand, Verdict, content, one_key, publish};
use anyhow::{Result, ensure};
use clearway::{
    Bus, Delivery, HandlerError, OnFailure, Outcome, PublishError, Retry, Subscription,
    SubscriptionState, Topic,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::sleep;

const CLOSE: Duration = Duration::from_secs(5);
const MS: Duration = Duration::from_millis(1);

/// A subscription whose handlers wait at a gate.
async fn gated(
    topic: &Topic<u64, clearway::Json>,
    seen: &Seen,
    gate: &Arc<Semaphore>,
) -> Result<Subscription> {
    let (noted, waits) = (seen.clone(), gate.clone());
    let subscription =
        topic
            .subscription("reads")
            .concurrency(4)
            .handler(move |delivery: Delivery<u64>| {
                let (waits, at_work) = (waits.clone(), noted.begin(&delivery));
                async move {
                    let _ = waits.acquire().await;
                    drop(at_work);
                    content()
                }
            });
    Ok(subscription.await?)
}

async fn free(topic: &Topic<u64, clearway::Json>, seen: &Seen) -> Result<Subscription> {
    let gate = Arc::new(Semaphore::new(1));
    gated(topic, seen, &gate).await
}

pub(super) async fn drain_settles_what_was_taken(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let (seen, gate) = (Seen::new(), Arc::new(Semaphore::new(0)));
    let subscription = gated(&topic, &seen, &gate).await?;
    publish(&topic, 0..20, |n| Some(format!("key-{n}"))).await?;
    super::eventually("all are taken", || async {
        subscription.status().await.in_flight == 20
    })
    .await?;
    let opening = async {
        sleep(20 * MS).await;
        gate.add_permits(1000);
    };
    let (report, ()) = tokio::join!(subscription.drain(CLOSE), opening);
    ensure!(report.drained && report.left.is_empty(), "{report:?}");
    ensure!(seen.ended() == 20, "{} have ended", seen.ended());
    let again = Seen::new();
    let subscription = free(&topic, &again).await?;
    publish(&topic, [99], one_key).await?;
    again
        .until("the new one", |seen| seen.begun().contains(&99))
        .await?;
    ensure!(again.begun() == [99], "{:?}", again.begun());
    subscription.close(CLOSE).await;
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn drain_without_time_lists_what_was_left(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let (seen, gate) = (Seen::new(), Arc::new(Semaphore::new(0)));
    let subscription = gated(&topic, &seen, &gate).await?;
    publish(&topic, 0..10, |n| Some(format!("key-{n}"))).await?;
    super::eventually("all are taken", || async {
        subscription.status().await.in_flight == 10
    })
    .await?;
    let report = subscription.drain(Duration::ZERO).await;
    ensure!(!report.drained && !report.blocked, "{report:?}");
    ensure!(report.left.len() == 10, "{report:?}");
    let begun = seen.begun().len();
    ensure!(seen.ended() == begun, "a handler runs after the drain");
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn what_was_left_comes_again(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let (seen, gate) = (Seen::new(), Arc::new(Semaphore::new(0)));
    let subscription = gated(&topic, &seen, &gate).await?;
    publish(&topic, 0..10, one_key).await?;
    super::eventually("all are taken", || async {
        subscription.status().await.in_flight == 10
    })
    .await?;
    subscription.drain(Duration::ZERO).await;
    let again = Seen::new();
    let subscription = free(&topic, &again).await?;
    again.until("all", |seen| seen.ended() >= 10).await?;
    ensure!(again.begun().into_iter().eq(0..10), "{:?}", again.begun());
    subscription.close(CLOSE).await;
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn a_retry_beyond_the_deadline_is_given_back(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let hour = Duration::from_secs(3600);
    let seen = Seen::new();
    let noted = seen.clone();
    let subscription = topic
        .subscription("reads")
        .retry(Retry::new().delays(hour, hour))
        .handler(move |delivery: Delivery<u64>| {
            drop(noted.begin(&delivery));
            async { Err::<(), _>(HandlerError::from("not today")) }
        })
        .await?;
    publish(&topic, 0..3, one_key).await?;
    seen.until("the first", |seen| seen.ended() >= 1).await?;
    super::eventually("all are taken", || async {
        let status = subscription.status().await;
        status.in_flight == 3 && status.retrying == 1
    })
    .await?;
    let begun = tokio::time::Instant::now();
    let report = subscription.drain(60 * CLOSE).await;
    ensure!(begun.elapsed() < CLOSE, "it waited {:?}", begun.elapsed());
    // It, and those of its key behind it.
    ensure!(report.left.len() == 3, "{report:?}");
    ensure!(seen.begun() == [0], "{:?}", seen.begun());
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

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
    super::eventually("all are taken", || async {
        subscription.status().await.in_flight == 20
    })
    .await?;
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

pub(super) async fn resume_does_not_end_a_drain(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let (seen, gate) = (Seen::new(), Arc::new(Semaphore::new(0)));
    let subscription = gated(&topic, &seen, &gate).await?;
    publish(&topic, 0..5, |n| Some(format!("key-{n}"))).await?;
    super::eventually("all are taken", || async {
        subscription.status().await.in_flight == 5
    })
    .await?;
    let meddling = async {
        super::eventually("it drains", || async {
            subscription.status().await.state == SubscriptionState::Draining
        })
        .await?;
        subscription.resume();
        subscription.pause().await;
        subscription.resume();
        publish(&topic, [99], one_key).await?;
        gate.add_permits(1000);
        Ok::<_, anyhow::Error>(())
    };
    let (report, meddled) = tokio::join!(subscription.drain(4 * CLOSE), meddling);
    meddled?;
    ensure!(report.drained, "{report:?}");
    ensure!(
        !seen.begun().contains(&99),
        "taken after the drain had begun"
    );
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn every_drainer_gets_the_same_report(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let (seen, gate) = (Seen::new(), Arc::new(Semaphore::new(0)));
    let subscription = gated(&topic, &seen, &gate).await?;
    publish(&topic, 0..5, |n| Some(format!("key-{n}"))).await?;
    super::eventually("all are taken", || async {
        subscription.status().await.in_flight == 5
    })
    .await?;
    let (one, other, third) = tokio::join!(
        subscription.drain(20 * MS),
        subscription.drain(60 * CLOSE),
        subscription.drain(30 * MS)
    );
    ensure!(
        one == other && other == third,
        "{one:?}, {other:?}, {third:?}"
    );
    ensure!(one.left.len() == 5, "{one:?}");
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}
