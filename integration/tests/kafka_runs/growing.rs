//! A group under load of two processes, then of five, then of one, with each way to share partitions. Nobody is killed: whoever gives a
//! partition up waits for its handlers and commits. So nothing is done twice, but for what was done behind an envelope that
//! waits for its key or its next attempt: that one is the next owner's, and with it what is behind it.

use crate::group::{self, Beside, Group};
use anyhow::{Result, ensure};
use clearway::kafka::Rebalancing;
use clearway_integration::{Fleet, Kafka, KafkaBroker, Load, Quota, until};
use clearway_verify::check::Cause;
use std::time::Instant;

/// Published again and again, until what is waited for has happened.
const BURST: Load = Load {
    publishers: 8,
    each: 50,
    windows: &[64, 1, 16, 64],
    keys: 200,
    size: 128,
    seed: 32,
};
/// So much more in its history says that a process is at work.
const AT_WORK: u64 = 32 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes its time: `make runs` asks for it"]
async fn eager_members_are_two_and_five_and_one() -> Result<()> {
    two_and_five_and_one("kafka-growing-eager", Rebalancing::Eager).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cooperative_members_are_two_and_five_and_one() -> Result<()> {
    two_and_five_and_one("kafka-growing-cooperative", Rebalancing::Cooperative).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes its time: `make runs` asks for it"]
async fn members_that_the_broker_assigns_to_are_two_and_five_and_one() -> Result<()> {
    two_and_five_and_one("kafka-growing-broker", Rebalancing::Broker).await
}

async fn two_and_five_and_one(name: &str, rebalancing: Rebalancing) -> Result<()> {
    let Some(broker) = KafkaBroker::own(Kafka::default()).await? else {
        return Ok(());
    };
    let begun = Instant::now();
    let workload = format!(
        "2, then 5, then 1 members ({}) under load",
        group::case_of(rebalancing)
    );
    let mut group = Group::open(name, &broker, rebalancing, (&workload, BURST.seed)).await?;
    let (beside, fleet) = group.beside();
    beside.watched(grow_and_shrink(&beside, fleet)).await?;
    drop(beside);
    let (history, verdict) = group.end().await?;
    group::told(name, &history, &verdict, begun.elapsed());

    let counts = &verdict.counts;
    ensure!(counts.drained == 1 && counts.commits > 0, "{verdict}");
    ensure!(counts.closes == 6, "{verdict}");
    ensure!(
        group::handed_over(&history) >= group::PARTITIONS as usize,
        "{verdict}"
    );
    let again = counts.duplicates.keys();
    let explained = [Cause::Nack, Cause::NewOwner, Cause::BehindAGap];
    let again: Vec<_> = again.filter(|cause| !explained.contains(cause)).collect();
    ensure!(again.is_empty(), "something was done twice: {verdict}");
    Ok(())
}

async fn grow_and_shrink(beside: &Beside<'_>, fleet: &mut Fleet) -> Result<()> {
    for members in [2, 5] {
        while fleet.numbers().len() < members {
            fleet.start()?;
        }
        let at_work = all_at_work(beside, fleet).await;
        // One that has ended is why the others wait.
        fleet.all_there()?;
        at_work?;
    }
    while let [leaves, _, ..] = fleet.numbers()[..] {
        let (left, ()) = tokio::join!(fleet.dismiss(leaves), burst(beside));
        left?;
    }
    all_at_work(beside, fleet).await
}

/// Publishes until each process has handled more.
async fn all_at_work(beside: &Beside<'_>, fleet: &mut Fleet) -> Result<()> {
    let before = fleet.recorded()?;
    let fleet = &*fleet;
    until("all are at work", async || {
        burst(beside).await;
        let now = fleet.recorded()?;
        let more = before.iter().zip(&now).map(|(before, now)| now - before);
        Ok(more.min().is_some_and(|more| more > AT_WORK))
    })
    .await
}

async fn burst(beside: &Beside<'_>) {
    beside.publish(&BURST, &Quota::of(u64::MAX)).await;
}
