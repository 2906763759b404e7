//! Subscriptions that come and go, and what is refused.

use super::{Seen, Stand, Verdict, content, one_key, publish};
use anyhow::{Result, bail, ensure};
use clearway::{Delivery, OnFailure, Retry, SubscribeError};
use std::collections::BTreeSet;
use std::time::Duration;

const CLOSE: Duration = Duration::from_secs(5);

pub(super) async fn two_groups_both_get_everything(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let (one, other) = (Seen::new(), Seen::new());
    for (group, seen) in [("one", &one), ("other", &other)] {
        let _runs_until_close = topic.subscribe(group, seen.contented()).await?;
    }
    publish(&topic, 0..100, one_key).await?;
    for seen in [one, other] {
        seen.until("all", |seen| seen.ended() >= 100).await?;
        ensure!(seen.begun().into_iter().eq(0..100), "{:?}", seen.begun());
    }
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn a_group_is_taken_once_on_a_bus(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let racing = (0..8).map(|_| topic.subscribe("reads", |_: Delivery<u64>| async { content() }));
    let mut taken = 0;
    let mut tasks = Vec::new();
    for subscribing in racing {
        tasks.push(subscribing);
    }
    let answers = join_all(tasks).await;
    for answer in answers {
        match answer {
            Ok(_) => taken += 1,
            Err(SubscribeError::Taken { .. }) => {}
            Err(other) => bail!("{other}"),
        }
    }
    ensure!(taken == 1, "{taken} have it");
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

/// Polls all of them, each in its turn.
async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).map(Some).collect();
    let mut outputs = Vec::new();
    std::future::poll_fn(|cx| {
        for place in &mut futures {
            if let Some(future) = place
                && let std::task::Poll::Ready(output) = future.as_mut().poll(cx)
            {
                outputs.push(output);
                *place = None;
            }
        }
        match futures.iter().all(Option::is_none) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    outputs
}

pub(super) async fn the_same_group_again_after_it_was_closed(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    for round in 0..3 {
        let seen = Seen::new();
        let subscription = topic.subscribe("reads", seen.contented()).await?;
        publish(&topic, [round], one_key).await?;
        seen.until("its own", |seen| seen.ended() >= 1).await?;
        ensure!(subscription.close(CLOSE).await == 0, "something is left");
        // What an earlier one has settled does not come again.
        ensure!(seen.begun() == [round], "{:?}", seen.begun());
    }
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn subscribe_and_unsubscribe_while_traffic_flows(
    stand: &Stand,
) -> Result<Verdict> {
    const ALL: u64 = 600;
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let seen = Seen::new();
    let subscribing = async {
        while (seen.ended() as u64) < ALL {
            let subscription = topic
                .subscription("reads")
                .in_flight(20, 1 << 20)
                .handler(seen.contented())
                .await?;
            let enough = (seen.ended() as u64 + 50).min(ALL);
            seen.until("a part", |seen| seen.ended() as u64 >= enough)
                .await?;
            let left = subscription.close(CLOSE).await;
            ensure!(left == 0, "{left} are left");
        }
        Ok(())
    };
    let publishing = publish(&topic, 0..ALL, |n| Some(format!("key-{}", n % 5)));
    tokio::try_join!(publishing, subscribing)?;
    let begun = seen.begun();
    let distinct: BTreeSet<_> = begun.iter().copied().collect();
    ensure!(distinct.len() as u64 == ALL, "{} of {ALL}", distinct.len());
    ensure!(
        begun.len() as u64 == ALL,
        "{} deliveries of {ALL}",
        begun.len()
    );
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn dead_letters_of_a_topic_cannot_go_to_itself(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let name = stand.topic();
    let refused = bus
        .topic::<u64>(&name)?
        .subscription("reads")
        .on_failure(OnFailure::dead_letter(name.as_str()))
        .handler(|_: Delivery<u64>| async { content() })
        .await;
    let refused = refused.map(|_| ()).err();
    ensure!(
        matches!(
            &refused,
            Some(SubscribeError::Config {
                setting: "on_failure",
                ..
            })
        ),
        "{refused:?}"
    );
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn settings_that_cannot_be_meant_are_refused(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let wrong = [
        ("concurrency", topic.subscription("reads").concurrency(0)),
        ("in_flight", topic.subscription("reads").in_flight(0, 1)),
        ("in_flight", topic.subscription("reads").in_flight(1, 0)),
        ("lanes_max", topic.subscription("reads").lanes_max(0)),
        (
            "timeout",
            topic.subscription("reads").timeout(Duration::ZERO),
        ),
        (
            "retry",
            topic
                .subscription("reads")
                .retry(Retry::new().attempts_max(3)),
        ),
    ];
    for (wanted, builder) in wrong {
        let refused = builder
            .handler(|_: Delivery<u64>| async { content() })
            .await;
        match refused.map(|_| ()) {
            Err(SubscribeError::Config { setting, .. }) if setting == wanted => {}
            other => bail!("{wanted}: {other:?}"),
        }
    }
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}
