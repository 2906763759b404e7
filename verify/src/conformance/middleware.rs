//! What stands around a handler: users' own code, limits on rate and concurrency, batches, a tower service.

use super::{Seen, Stand, Verdict, content, eventually, one_key, publish};
use anyhow::{Result, ensure};
use clearway::{
    Concurrency, Delivery, Handler, HandlerError, Middleware, OnFailure, Outcome, Retry, Throttle,
};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use tower::ServiceBuilder;

const CLOSE: Duration = Duration::from_secs(5);
const MS: Duration = Duration::from_millis(1);
/// One in an hour: the second never comes while a case runs.
const HOURLY: f64 = 1.0 / 3600.0;

/// Notes what goes in and what comes out.
struct Notes {
    name: &'static str,
    notes: Arc<Mutex<Vec<String>>>,
}

impl Middleware<u64> for Notes {
    async fn handle<H: Handler<u64>>(
        &self,
        delivery: Delivery<u64>,
        next: &H,
    ) -> Result<Outcome, HandlerError> {
        let note = |what: &str| self.notes.lock().push(format!("{} {what}", self.name));
        note(&format!("{} in", delivery.attempt));
        let outcome = next.handle(delivery).await;
        note(if outcome.is_ok() { "ok" } else { "err" });
        outcome
    }
}

pub(super) async fn middleware_is_around_every_attempt(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let notes = Arc::new(Mutex::new(Vec::new()));
    let named = |name| Notes {
        name,
        notes: notes.clone(),
    };
    let subscription = topic
        .subscription("reads")
        .retry(Retry::new().delays(MS, MS))
        .middleware(named("outer"))
        .middleware(named("inner"))
        .handler(|delivery: Delivery<u64>| async move {
            match delivery.attempt {
                1 => Err("the first time".into()),
                _ => content(),
            }
        })
        .await?;
    publish(&topic, [1], one_key).await?;
    eventually("it is settled", || async { notes.lock().len() >= 8 }).await?;
    let seen = notes.lock().clone();
    let expected = [
        "outer 1 in",
        "inner 1 in",
        "inner err",
        "outer err",
        "outer 2 in",
        "inner 2 in",
        "inner ok",
        "outer ok",
    ];
    ensure!(seen == expected, "{seen:?}");
    subscription.close(CLOSE).await;
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

/// Answers in the place of the handler.
struct OddOnly;

impl Middleware<u64> for OddOnly {
    async fn handle<H: Handler<u64>>(
        &self,
        delivery: Delivery<u64>,
        next: &H,
    ) -> Result<Outcome, HandlerError> {
        match delivery.value % 2 {
            0 => Ok(Outcome::Skip),
            _ => next.handle(delivery).await,
        }
    }
}

pub(super) async fn middleware_may_answer_itself(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let seen = Seen::new();
    let subscription = topic
        .subscription("reads")
        .middleware(OddOnly)
        .handler(seen.contented())
        .await?;
    publish(&topic, 0..10, one_key).await?;
    seen.until("the last odd one", |seen| seen.begun().contains(&9))
        .await?;
    ensure!(seen.begun() == [1, 3, 5, 7, 9], "{:?}", seen.begun());
    let report = subscription.drain(CLOSE).await;
    ensure!(report.drained, "{report:?}");
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn a_throttle_leaves_the_rest_at_the_broker(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let seen = Seen::new();
    publish(&topic, 0..10, |n| Some(format!("key-{n}"))).await?;
    let subscription = topic
        .subscription("reads")
        .throttle(Throttle::per_second(HOURLY).burst(3))
        .handler(seen.contented())
        .await?;
    seen.until("the burst", |seen| seen.ended() >= 3).await?;
    eventually("the rest is at the broker", || async {
        let status = subscription.status().await;
        let lag: u64 = status.partitions.values().filter_map(|p| p.lag).sum();
        status.in_flight == 0 && lag == 7
    })
    .await?;
    ensure!(seen.begun().len() == 3, "{:?}", seen.begun());
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn a_throttled_subscription_goes_on(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let seen = Seen::new();
    publish(&topic, 0..20, one_key).await?;
    let begun = tokio::time::Instant::now();
    let subscription = topic
        .subscription("reads")
        .throttle(Throttle::per_second(100.0))
        .handler(seen.contented())
        .await?;
    seen.until("all", |seen| seen.ended() >= 20).await?;
    // The first at once, the others 10 ms after each other.
    ensure!(begun.elapsed() >= 190 * MS, "in {:?}", begun.elapsed());
    ensure!(seen.begun().into_iter().eq(0..20), "{:?}", seen.begun());
    subscription.close(CLOSE).await;
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn a_throttled_key_holds_up_no_other(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let seen = Seen::new();
    let subscription = topic
        .subscription("reads")
        .concurrency(2)
        .throttle_by_key(Throttle::per_second(HOURLY).burst(2))
        .handler(seen.contented())
        .await?;
    publish(&topic, 0..5, one_key).await?;
    publish(&topic, 100..120, |n| Some(format!("key-{n}"))).await?;
    publish(&topic, 200..205, |_| None).await?;
    seen.until("all that have no limit", |seen| seen.ended() >= 27)
        .await?;
    eventually("only the key with a limit is left", || async {
        let status = subscription.status().await;
        status.in_flight == 3 && status.retrying == 1
    })
    .await?;
    let of_one: Vec<_> = (seen.begun().into_iter()).filter(|n| *n < 100).collect();
    ensure!(of_one == [0, 1], "{of_one:?}");
    let report = subscription.drain(CLOSE).await;
    ensure!(report.left.len() == 3, "{report:?}");
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn subscriptions_share_a_concurrency(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let seen = Seen::new();
    let shared = Concurrency::new(3);
    let mut running = Vec::new();
    for _ in 0..2 {
        let topic = bus.topic::<u64>(&stand.topic())?;
        let noted = seen.clone();
        let subscription = topic.subscription("reads").concurrency(4).shared(&shared);
        let handler = move |delivery: Delivery<u64>| {
            let at_work = noted.begin(&delivery);
            async move {
                sleep(2 * MS).await;
                drop(at_work);
                content()
            }
        };
        running.push(subscription.handler(handler).await?);
        publish(&topic, 0..40, |n| Some(format!("key-{n}"))).await?;
    }
    seen.until("all", |seen| seen.ended() >= 80).await?;
    let most = seen.at_once(|_| true);
    ensure!(most == 3, "{most} at once");
    // A handler that is dropped gives its place back.
    running[0].drain(Duration::ZERO).await;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let (stuck, after) = (Seen::new(), Seen::new());
    let noted = stuck.clone();
    let first = topic
        .subscription("stuck")
        .concurrency(4)
        .shared(&shared)
        .handler(move |delivery: Delivery<u64>| {
            let at_work = noted.begin(&delivery);
            async move {
                let _at_work = at_work;
                std::future::pending::<()>().await;
                content()
            }
        })
        .await?;
    publish(&topic, 0..4, |n| Some(format!("key-{n}"))).await?;
    stuck.until("three", |seen| seen.begun().len() == 3).await?;
    first.drain(Duration::ZERO).await;
    let _second = topic
        .subscription("after")
        .shared(&shared)
        .handler(after.contented())
        .await?;
    after.until("all", |seen| seen.ended() >= 4).await?;
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn a_batch_is_full_or_its_time_is_up(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let batches = Arc::new(Mutex::new(Vec::<Vec<u64>>::new()));
    let noted = batches.clone();
    publish(&topic, 0..10, |n| Some(format!("key-{n}"))).await?;
    let subscription = topic
        .subscription("reads")
        .batch(4, 300 * MS, move |batch: Vec<Delivery<u64>>| {
            noted
                .lock()
                .push(batch.iter().map(|delivery| delivery.value).collect());
            async { content() }
        })
        .await?;
    let all = || async { batches.lock().iter().map(Vec::len).sum::<usize>() >= 10 };
    eventually("all", all).await?;
    let seen = batches.lock().clone();
    ensure!(seen.iter().all(|batch| batch.len() <= 4), "{seen:?}");
    ensure!(seen.iter().any(|batch| batch.len() == 4), "{seen:?}");
    let report = subscription.drain(CLOSE).await;
    ensure!(report.drained, "{report:?}");
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn a_key_is_in_one_batch_at_a_time_and_in_order(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let seen = Seen::new();
    let noted = seen.clone();
    let subscription = topic
        .subscription("reads")
        .concurrency(8)
        .batch(4, 5 * MS, move |batch: Vec<Delivery<u64>>| {
            let at_work: Vec<_> = batch.iter().map(|delivery| noted.begin(delivery)).collect();
            async move {
                sleep(MS).await;
                drop(at_work);
                content()
            }
        })
        .await?;
    publish(&topic, 0..60, |n| Some(format!("key-{}", n % 6))).await?;
    seen.until("all", |seen| seen.ended() >= 60).await?;
    for key in 0..6 {
        let name = format!("key-{key}");
        let most = seen.at_once(|event| event.key.as_deref() == Some(&name));
        ensure!(most == 1, "{name}: {most} at once");
        let of_key: Vec<_> = (seen.begun().into_iter())
            .filter(|n| n % 6 == key)
            .collect();
        ensure!(of_key.is_sorted() && of_key.len() == 10, "{of_key:?}");
    }
    subscription.close(CLOSE).await;
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn each_of_a_batch_has_its_own_outcome(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let (topic, dead) = (bus.topic::<u64>(&stand.topic())?, stand.topic());
    let calls = Arc::new(Mutex::new(BTreeMap::<u64, u32>::new()));
    let noted = calls.clone();
    publish(&topic, 0..4, |n| Some(format!("key-{n}"))).await?;
    let subscription = topic
        .subscription("reads")
        .on_failure(OnFailure::dead_letter(dead.as_str()))
        .retry(Retry::new().delays(MS, MS).attempts_max(5))
        .batch(4, 50 * MS, move |batch: Vec<Delivery<u64>>| {
            let mut calls = noted.lock();
            for delivery in &batch {
                *calls.entry(delivery.value).or_default() += 1;
            }
            let outcomes = batch.iter().map(|delivery| match delivery.value {
                0 => Outcome::Ack,
                1 => Outcome::Reject("no".into()),
                2 if delivery.attempt < 3 => Outcome::Retry { after: MS },
                2 => Outcome::Skip,
                _ => Outcome::Ack,
            });
            let mut outcomes: Vec<Outcome> = outcomes.collect();
            // The first call fails as a whole: one answer is missing.
            if calls.values().sum::<u32>() <= 4 {
                outcomes.pop();
            }
            async move { Ok::<_, HandlerError>(outcomes) }
        })
        .await?;
    eventually("all are settled", || async {
        let status = subscription.status().await;
        status.in_flight == 0 && status.dead_letters == 1 && calls.lock().len() == 4
    })
    .await?;
    let counted = calls.lock().clone();
    ensure!(counted[&0] >= 2 && counted[&2] >= 3, "{counted:?}");
    subscription.close(CLOSE).await;
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn a_tower_service_handles_deliveries(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let seen = Seen::new();
    let noted = seen.clone();
    let service =
        ServiceBuilder::new()
            .concurrency_limit(2)
            .service_fn(move |delivery: Delivery<u64>| {
                let at_work = noted.begin(&delivery);
                async move {
                    sleep(MS).await;
                    drop(at_work);
                    Ok::<_, Infallible>(Outcome::Ack)
                }
            });
    let subscription = topic.subscription("reads").service(service).await?;
    publish(&topic, 0..40, |n| Some(format!("key-{n}"))).await?;
    seen.until("all", |seen| seen.ended() >= 40).await?;
    let most = seen.at_once(|_| true);
    ensure!(most <= 2, "{most} at once, though tower's layer says 2");
    let report = subscription.drain(CLOSE).await;
    ensure!(report.drained, "{report:?}");
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}
