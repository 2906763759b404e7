//! Where a group that is new begins, and that one that is known goes on.

use super::{PATIENCE, Seen, Stand, Verdict, one_key, publish};
use anyhow::{Context as _, Result, ensure};
use clearway::{Bus, Json, StartAt, Subscription, Topic};
use std::time::{Duration, SystemTime};
use tokio::time::{sleep, timeout};

const CLOSE: Duration = Duration::from_secs(5);

/// A group that begins at `start`, and what it sees.
async fn read(
    topic: &Topic<u64, Json>,
    group: &str,
    start: StartAt,
) -> Result<(Subscription, Seen)> {
    let seen = Seen::new();
    let subscription = topic
        .subscription(group)
        .start(start)
        .handler(seen.contented())
        .await?;
    Ok((subscription, seen))
}

/// Publishes `values` one after the other with one key, and gives where each is.
async fn placed(
    topic: &Topic<u64, Json>,
    values: impl IntoIterator<Item = u64>,
) -> Result<Vec<u64>> {
    let mut places = Vec::new();
    for value in values {
        places.push(topic.publish(&value).key("one").await?.position);
    }
    Ok(places)
}

async fn stand_on(stand: &Stand) -> Result<(Bus, Topic<u64, Json>)> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    Ok((bus, topic))
}

async fn sees(seen: &Seen, wanted: &[u64]) -> Result<()> {
    let last = wanted.last().copied().context("something is expected")?;
    seen.until("the last", |seen| seen.begun().contains(&last))
        .await?;
    ensure!(seen.begun() == wanted, "{:?}", seen.begun());
    Ok(())
}

pub(super) async fn a_new_group_begins_with_the_next_one(stand: &Stand) -> Result<Verdict> {
    let (bus, topic) = stand_on(stand).await?;
    publish(&topic, 0..5, one_key).await?;
    let (_runs_until_close, seen) = read(&topic, "late", StartAt::Latest).await?;
    publish(&topic, 5..8, one_key).await?;
    sees(&seen, &[5, 6, 7]).await?;
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn a_new_group_begins_at_a_position(stand: &Stand) -> Result<Verdict> {
    let (bus, topic) = stand_on(stand).await?;
    let places = placed(&topic, 0..8).await?;
    for from in [0, 3, 7] {
        let start = StartAt::Offset(places[from]);
        let (subscription, seen) = read(&topic, &format!("from-{from}"), start).await?;
        let wanted: Vec<_> = (from as u64..8).collect();
        sees(&seen, &wanted).await?;
        subscription.close(CLOSE).await;
    }
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn a_position_that_is_not_there_is_the_nearest_that_is(
    stand: &Stand,
) -> Result<Verdict> {
    let (bus, topic) = stand_on(stand).await?;
    publish(&topic, 0..3, one_key).await?;
    let (_before, from_the_first) = read(&topic, "before", StartAt::Offset(0)).await?;
    let (_beyond, from_the_next) = read(&topic, "beyond", StartAt::Offset(1 << 40)).await?;
    publish(&topic, 3..5, one_key).await?;
    sees(&from_the_first, &[0, 1, 2, 3, 4]).await?;
    sees(&from_the_next, &[3, 4]).await?;
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn a_new_group_begins_at_a_time(stand: &Stand) -> Result<Verdict> {
    let (bus, topic) = stand_on(stand).await?;
    publish(&topic, 0..4, one_key).await?;
    let between = a_moment_later().await?;
    publish(&topic, 4..8, one_key).await?;
    let (_since, since) = read(&topic, "since", StartAt::Time(between)).await?;
    let (_always, always) = read(&topic, "always", StartAt::Time(SystemTime::UNIX_EPOCH)).await?;
    let tomorrow = SystemTime::now() + Duration::from_secs(24 * 3600);
    let (_later, later) = read(&topic, "later", StartAt::Time(tomorrow)).await?;
    publish(&topic, [8], one_key).await?;
    sees(&since, &[4, 5, 6, 7, 8]).await?;
    sees(&always, &[0, 1, 2, 3, 4, 5, 6, 7, 8]).await?;
    sees(&later, &[8]).await?;
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

/// A time that all before is surely before, and all behind surely behind, by a clock that counts milliseconds.
async fn a_moment_later() -> Result<SystemTime> {
    let passes = |from: SystemTime| async move {
        while from.elapsed().unwrap_or_default() < Duration::from_millis(10) {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, passes(SystemTime::now())).await?;
    let between = SystemTime::now();
    timeout(PATIENCE, passes(between)).await?;
    Ok(between)
}

pub(super) async fn a_group_that_is_known_goes_on_where_it_is(stand: &Stand) -> Result<Verdict> {
    let (bus, topic) = stand_on(stand).await?;
    publish(&topic, 0..4, one_key).await?;
    let (subscription, seen) = read(&topic, "reads", StartAt::Earliest).await?;
    sees(&seen, &[0, 1, 2, 3]).await?;
    ensure!(subscription.close(CLOSE).await == 0, "something is left");
    publish(&topic, 4..6, one_key).await?;
    for (start, next) in [
        (StartAt::Offset(0), [4, 5]),
        (StartAt::Time(SystemTime::UNIX_EPOCH), [6, 7]),
        (StartAt::Latest, [8, 9]),
    ] {
        let (subscription, seen) = read(&topic, "reads", start).await?;
        sees(&seen, &next).await?;
        ensure!(subscription.close(CLOSE).await == 0, "something is left");
        publish(&topic, next.map(|n| n + 2), one_key).await?;
    }
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}
