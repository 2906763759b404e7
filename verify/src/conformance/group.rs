//! Several members of one group: who has what, and what comes to the others.

use super::{Seen, Stand, Verdict, What, content, publish};
use anyhow::{Result, ensure};
use clearway::{Bus, Delivery, Json, Subscription, Topic, TopicConfig};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::sleep;

const CLOSE: Duration = Duration::from_secs(5);
const MS: Duration = Duration::from_millis(1);
const PARTITIONS: u32 = 6;

struct Member {
    bus: Bus,
    topic: Topic<u64, Json>,
    subscription: Subscription,
}

impl Member {
    /// A bus of its own, a member of the group. All members note in one place.
    async fn join(stand: &Stand, name: &str, seen: &Seen) -> Result<Self> {
        let bus = stand.bus().await?;
        let config = TopicConfig::new(name).partitions(PARTITIONS);
        bus.configure(config).await?;
        let topic = bus.topic::<u64>(name)?;
        let noted = seen.clone();
        let subscription = topic
            .subscription("reads")
            .in_flight(32, 1 << 20)
            .handler(move |delivery: Delivery<u64>| {
                let at_work = noted.begin(&delivery);
                async move {
                    sleep(2 * MS).await;
                    drop(at_work);
                    content()
                }
            })
            .await?;
        Ok(Self {
            bus,
            topic,
            subscription,
        })
    }

    async fn leave(self) -> Result<()> {
        let report = self.subscription.drain(CLOSE).await;
        ensure!(report.drained, "{report:?}");
        self.bus.close(CLOSE).await;
        Ok(())
    }
}

/// What the suite says where several members cannot keep the order of keys.
const ALONE: Verdict = Verdict::Refused("order by key with several members in a group");

async fn has_members(stand: &Stand) -> Result<bool> {
    let bus = stand.bus().await?;
    let can = bus.capabilities().key_order_across_members;
    bus.close(CLOSE).await;
    Ok(can)
}

fn key(n: u64) -> Option<String> {
    Some(format!("key-{}", n % 24))
}

fn once_each(seen: &Seen, all: u64) -> Result<()> {
    let begun = seen.begun();
    let distinct: BTreeSet<_> = begun.iter().copied().collect();
    ensure!(distinct.len() as u64 == all, "{} of {all}", distinct.len());
    ensure!(
        begun.len() as u64 == all,
        "{} deliveries of {all}",
        begun.len()
    );
    Ok(())
}

fn no_overlap(seen: &Seen) -> Result<()> {
    for n in 0..24 {
        let most = seen.at_once(|event| event.key == key(n));
        ensure!(most <= 1, "{most} of {:?} at the same time", key(n));
    }
    Ok(())
}

pub(super) async fn two_members_share_the_partitions(stand: &Stand) -> Result<Verdict> {
    if !has_members(stand).await? {
        return Ok(ALONE);
    }
    let (name, seen) = (stand.topic(), Seen::new());
    let one = Member::join(stand, &name, &seen).await?;
    let other = Member::join(stand, &name, &seen).await?;
    publish(&one.topic, 0..300, key).await?;
    seen.until("all", |seen| seen.ended() >= 300).await?;
    once_each(&seen, 300)?;
    no_overlap(&seen)?;
    one.leave().await?;
    other.leave().await?;
    Ok(Verdict::Passed)
}

pub(super) async fn a_member_that_joins_overlaps_nobody(stand: &Stand) -> Result<Verdict> {
    if !has_members(stand).await? {
        return Ok(ALONE);
    }
    let (name, seen) = (stand.topic(), Seen::new());
    let one = Member::join(stand, &name, &seen).await?;
    let publishing = publish(&one.topic, 0..1000, key);
    let joining = async {
        seen.until("some", |seen| seen.ended() >= 100).await?;
        let other = Member::join(stand, &name, &seen).await?;
        seen.until("all", |seen| {
            seen.begun().into_iter().collect::<BTreeSet<_>>().len() >= 1000
        })
        .await?;
        Ok(other)
    };
    let ((), other) = tokio::try_join!(publishing, joining)?;
    no_overlap(&seen)?;
    other.leave().await?;
    one.leave().await?;
    Ok(Verdict::Passed)
}

pub(super) async fn what_a_member_had_comes_to_the_others(stand: &Stand) -> Result<Verdict> {
    if !has_members(stand).await? {
        return Ok(ALONE);
    }
    let (name, seen) = (stand.topic(), Seen::new());
    let one = Member::join(stand, &name, &seen).await?;
    let other = Member::join(stand, &name, &seen).await?;
    let publishing = publish(&one.topic, 0..600, key);
    let leaving = async {
        seen.until("some", |seen| seen.ended() >= 100).await?;
        other.leave().await
    };
    tokio::try_join!(publishing, leaving)?;
    seen.until("all", |seen| {
        seen.begun().into_iter().collect::<BTreeSet<_>>().len() >= 600
    })
    .await?;
    no_overlap(&seen)?;
    one.leave().await?;
    Ok(Verdict::Passed)
}

pub(super) async fn a_third_member_and_a_crash_lose_nothing(stand: &Stand) -> Result<Verdict> {
    if !has_members(stand).await? {
        return Ok(ALONE);
    }
    let (name, seen) = (stand.topic(), Seen::new());
    let one = Member::join(stand, &name, &seen).await?;
    let other = Member::join(stand, &name, &seen).await?;
    let third = Member::join(stand, &name, &seen).await?;
    let publishing = publish(&one.topic, 0..600, key);
    let crashing = async {
        seen.until("some", |seen| seen.ended() >= 100).await?;
        // Gone without a word: what it had at work is dropped in the middle.
        third.subscription.drain(Duration::ZERO).await;
        drop(third);
        Ok(())
    };
    tokio::try_join!(publishing, crashing)?;
    seen.until("all", |seen| {
        seen.begun().into_iter().collect::<BTreeSet<_>>().len() >= 600
    })
    .await?;
    // A value that was begun by the one that is gone was begun again: at least once, and the last time it ended.
    let last = seen.events();
    let last = last.iter().rev().find(|event| event.what == What::Ended);
    ensure!(last.is_some(), "nothing has ended");
    no_overlap(&seen)?;
    one.leave().await?;
    other.leave().await?;
    Ok(Verdict::Passed)
}
