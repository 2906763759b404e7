//! Draining a subscription: what was taken is settled or listed, and comes again.

use super::{Seen, Stand, Verdict, content, one_key, publish};
use anyhow::{Result, ensure};
use clearway::{Delivery, HandlerError, Retry, Subscription, SubscriptionState, Topic};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::sleep;

const CLOSE: Duration = Duration::from_secs(5);
const MS: Duration = Duration::from_millis(1);

/// A subscription whose handlers wait at a gate.
pub(super) async fn gated(
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

/// Waits until so many are out.
pub(super) async fn taken(subscription: &Subscription, deliveries: usize) -> Result<()> {
    super::eventually("all are taken", || async {
        subscription.status().await.in_flight == deliveries
    })
    .await
}

pub(super) async fn free(topic: &Topic<u64, clearway::Json>, seen: &Seen) -> Result<Subscription> {
    let gate = Arc::new(Semaphore::new(1));
    gated(topic, seen, &gate).await
}

pub(super) async fn drain_settles_what_was_taken(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let (seen, gate) = (Seen::new(), Arc::new(Semaphore::new(0)));
    let subscription = gated(&topic, &seen, &gate).await?;
    publish(&topic, 0..20, |n| Some(format!("key-{n}"))).await?;
    taken(&subscription, 20).await?;
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
    taken(&subscription, 10).await?;
    let report = subscription.drain(Duration::ZERO).await;
    ensure!(!report.drained && !report.blocked, "{report:?}");
    ensure!(report.left.len() == 10, "{report:?}");
    let begun = seen.begun().len();
    ensure!(seen.ended() == begun, "a handler runs after the drain");
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn a_handler_that_blocks_is_named(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let seen = Seen::new();
    let noted = seen.clone();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(parking_lot::Mutex::new(released));
    let _awake = keep_awake();
    let subscription = topic
        .subscription("reads")
        .handler(move |delivery: Delivery<u64>| {
            let (at_work, released) = (noted.begin(&delivery), released.clone());
            async move {
                // What this thread had to wake runs before this goes on: the blocked thread keeps nothing to itself.
                sleep(MS).await;
                if delivery.value == 3 {
                    // Until the other end is dropped. No await: nothing can drop this.
                    let _ = released.lock().recv();
                }
                drop(at_work);
                content()
            }
        })
        .await?;
    publish(&topic, 0..5, |n| Some(format!("key-{n}"))).await?;
    seen.until("four have ended, one blocks", |seen| {
        seen.ended() == 4 && seen.begun().len() == 5
    })
    .await?;
    super::eventually("one is left", || async {
        subscription.status().await.in_flight == 1
    })
    .await?;
    let report = subscription.drain(Duration::ZERO).await;
    ensure!(report.blocked && !report.drained, "{report:?}");
    ensure!(report.left.len() == 1, "{report:?}");
    ensure!(report.blocking == report.left, "{report:?}");
    drop(release);
    // What it answers then does not count.
    let again = Seen::new();
    let _subscription = free(&topic, &again).await?;
    if bus.capabilities().settles_each {
        again
            .until("it comes again", |seen| seen.begun() == [3])
            .await?;
    } else {
        // What was handled behind it in its partition comes again with it.
        again
            .until("it comes again", |seen| seen.begun().contains(&3))
            .await?;
        ensure!(
            again.begun().iter().all(|value| *value >= 3),
            "settled in front of it: {:?}",
            again.begun()
        );
    }
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

/// Wakes a worker of the runtime again and again, until what it gives is dropped. The thread that is blocked may be the one that waited for
/// timers and sockets: tokio leaves these to whoever is woken next, and does not wake anybody for that.
fn keep_awake() -> std::sync::mpsc::Sender<()> {
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let runtime = tokio::runtime::Handle::current();
    std::thread::spawn(move || {
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(MS) {
            runtime.spawn(async {});
        }
    });
    end
}

pub(super) async fn what_was_left_comes_again(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let (seen, gate) = (Seen::new(), Arc::new(Semaphore::new(0)));
    let subscription = gated(&topic, &seen, &gate).await?;
    publish(&topic, 0..10, one_key).await?;
    taken(&subscription, 10).await?;
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

pub(super) async fn resume_does_not_end_a_drain(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let (seen, gate) = (Seen::new(), Arc::new(Semaphore::new(0)));
    let subscription = gated(&topic, &seen, &gate).await?;
    publish(&topic, 0..5, |n| Some(format!("key-{n}"))).await?;
    taken(&subscription, 5).await?;
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
    taken(&subscription, 5).await?;
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
