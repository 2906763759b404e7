//! Poison: deliveries that end their consumer, and those that were only beside them.

use super::dead_letter::{attempts, header, next, tap};
use super::{Seen, Stand, Verdict, content, eventually, one_key, publish};
use anyhow::{Result, ensure};
use clearway::{Delivery, HandlerError, OnFailure, Retry, dead_letter::header};
use std::time::Duration;

const CLOSE: Duration = Duration::from_secs(5);

/// What the suite says where nobody counts deliveries beyond the life of a consumer.
const UNCOUNTED: Verdict = Verdict::Refused("attempts of an earlier consumer");

/// A subscription whose handler never ends with the value 0.
async fn stuck_at_0(
    topic: &clearway::Topic<u64, clearway::Json>,
    dead: &str,
    retry: Retry,
    seen: &Seen,
) -> Result<clearway::Subscription> {
    let noted = seen.clone();
    let subscription = topic
        .subscription("reads")
        .retry(retry)
        .on_failure(OnFailure::dead_letter(dead))
        .handler(move |delivery: Delivery<u64>| {
            let at_work = noted.begin(&delivery);
            async move {
                if delivery.value == 0 {
                    std::future::pending::<()>().await;
                }
                drop(at_work);
                content()
            }
        });
    Ok(subscription.await?)
}

pub(super) async fn a_delivery_that_ends_its_consumer_each_time_ends_in_the_dead_letters(
    stand: &Stand,
) -> Result<Verdict> {
    let bus = stand.bus().await?;
    if !bus.capabilities().counts_deliveries {
        return Ok(UNCOUNTED);
    }
    let (name, dead) = (stand.topic(), stand.topic());
    let topic = bus.topic::<u64>(&name)?;
    let (_tap, mut letters) = tap(&bus, &dead).await?;
    let (seen, retry) = (Seen::new(), attempts(3).deliveries_max(3));
    publish(&topic, 0..2, one_key).await?;
    for life in 1..=3 {
        let subscription = stuck_at_0(&topic, &dead, retry.clone(), &seen).await?;
        seen.until("the poison", |seen| seen.begun().len() == life)
            .await?;
        // As in a crash: what runs is dropped in the middle, and nothing is answered.
        let report = subscription.drain(Duration::ZERO).await;
        ensure!(!report.left.is_empty(), "{report:?}");
    }
    let subscription = stuck_at_0(&topic, &dead, retry, &seen).await?;
    let letter = next(&mut letters).await?;
    ensure!(letter.payload == "0", "not the poison: {letter:?}");
    ensure!(header(&letter, header::ATTEMPTS) == "3", "{letter:?}");
    let error = header(&letter, header::ERROR);
    ensure!(error.contains("no handler lived"), "{error}");
    seen.until("the one behind it", |seen| seen.begun().contains(&1))
        .await?;
    let attempts: Vec<_> = (seen.events().iter())
        .filter(|event| event.value == 0 && event.what == super::What::Begun)
        .map(|event| event.attempt)
        .collect();
    ensure!(attempts == [1, 2, 3], "{attempts:?}");
    ensure!(subscription.close(CLOSE).await == 0, "something is left");
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn attempts_of_an_earlier_consumer_count(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    if !bus.capabilities().counts_deliveries {
        return Ok(UNCOUNTED);
    }
    let (name, dead) = (stand.topic(), stand.topic());
    let topic = bus.topic::<u64>(&name)?;
    let (_tap, mut letters) = tap(&bus, &dead).await?;
    let seen = Seen::new();
    publish(&topic, [0], one_key).await?;
    let subscription = stuck_at_0(&topic, &dead, attempts(2), &seen).await?;
    seen.until("the first attempt", |seen| !seen.begun().is_empty())
        .await?;
    subscription.drain(Duration::ZERO).await;
    let noted = seen.clone();
    let subscription = topic
        .subscription("reads")
        .retry(attempts(2))
        .on_failure(OnFailure::dead_letter(dead.as_str()))
        .handler(move |delivery: Delivery<u64>| {
            drop(noted.begin(&delivery));
            async { Err::<(), _>(HandlerError::from("not today")) }
        })
        .await?;
    let letter = next(&mut letters).await?;
    ensure!(header(&letter, header::ATTEMPTS) == "2", "{letter:?}");
    ensure!(seen.begun() == [0, 0], "{:?}", seen.begun());
    ensure!(subscription.close(CLOSE).await == 0, "something is left");
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn what_was_left_without_an_attempt_is_handled(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let (name, dead) = (stand.topic(), stand.topic());
    let topic = bus.topic::<u64>(&name)?;
    let (seen, again) = (Seen::new(), Seen::new());
    publish(&topic, 0..5, one_key).await?;
    let subscription = stuck_at_0(&topic, &dead, attempts(1), &seen).await?;
    eventually("all are taken", || async {
        subscription.status().await.in_flight == 5
    })
    .await?;
    subscription.drain(Duration::ZERO).await;
    let subscription = topic
        .subscription("reads")
        .retry(attempts(1))
        .on_failure(OnFailure::dead_letter(dead.as_str()))
        .handler(again.contented())
        .await?;
    again.until("all", |again| again.ended() >= 5).await?;
    ensure!(again.begun() == [0, 1, 2, 3, 4], "{:?}", again.begun());
    ensure!(
        subscription.status().await.dead_letters == 0,
        "one that was never tried is a dead letter"
    );
    ensure!(subscription.close(CLOSE).await == 0, "something is left");
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}
