//! Close in the middle of load.

use crate::setup::{bus, options, topics};
use anyhow::{Result, ensure};
use clearway::PublishError;
use clearway_integration::{
    Broker, Fault, Load, Manner, Member, Outside, Quota, RawTopic, Record, until,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinHandle;

const GROUP: &str = "audit";

/// A runtime of its own, so that every task on it is the bus's.
fn runtime() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads(2).enable_all().build()?)
}

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

fn load() -> Load {
    Load {
        publishers: 8,
        each: 1_000_000,
        windows: &[16, 1, 16, 16],
        keys: 32,
        size: 256,
        seed: 6,
    }
}

/// Publishes until it is told that the bus is closed.
fn publish(member: &Arc<Member>, topics: &[RawTopic]) -> JoinHandle<()> {
    let (member, topics) = (member.clone(), topics.to_vec());
    tokio::spawn(async move { load().run(&member, &topics, &Quota::of(u64::MAX)).await })
}

#[test]
fn in_the_middle_of_load_everything_ends_and_is_reported() -> Result<()> {
    let elsewhere = runtime()?;
    let broker = elsewhere.block_on(Broker::any())?;
    runtime()?.block_on(async {
        let before = tasks();
        let record = Record::begin(
            "close",
            &broker,
            "close under load, handlers are busy",
            Some(6),
        )?;
        let configs = topics(&broker.fresh_name("close"), &[1, 4]);
        let builder = configs
            .iter()
            .fold(bus(options(broker.url())?), |builder, config| {
                builder.topic(config.clone())
            });
        let member = Arc::new(Member::connect(&record, 0, builder).await?);
        let mut handles = Vec::new();
        for config in &configs {
            let topic = member.bus.raw_topic(config.name())?;
            let manner = Manner {
                takes: Duration::from_millis(20),
                fails_every: 0,
                ..Manner::default()
            };
            let _runs_until_close = member.subscribe(&topic, GROUP, manner).await?;
            handles.push(topic);
        }
        let publishing = publish(&member, &handles);
        until("load is under way", async || {
            let metrics = member.bus.metrics();
            Ok(metrics.acked > 2_000 && metrics.in_flight > 0 && metrics.handler_acks > 2)
        })
        .await?;

        // Two closers at once.
        let limit = Duration::from_secs(5);
        let (first, second) = tokio::try_join!(member.close(limit), member.close(limit))?;
        ensure!(first == second, "two answers: {first:?}, {second:?}");
        ensure!(first.drained && first.deliveries_left == 0, "{first:?}");
        let drained = first.topics.values().any(|topic| topic.drained > 0);
        ensure!(drained, "nothing was under way: {first:?}");
        let refused = member.bus.publish(configs[0].name(), "late").await;
        ensure!(matches!(refused, Err(PublishError::Closed)), "{refused:?}");
        ensure!(
            member.bus.metrics().in_flight == 0,
            "{:?}",
            member.bus.metrics()
        );
        // The publishers end when they are told.
        publishing.await?;
        drop((handles, member));

        until("no task is left", async || {
            ensure!(tasks() <= before, "{} tasks are left of {before}", tasks());
            Ok(true)
        })
        .await?;
        let verdict = record.finish()?;
        ensure!(
            verdict.counts.acked > 2_000 && verdict.counts.deliveries > 2,
            "{verdict}"
        );
        let outside = Outside::of(&broker).await?;
        outside
            .forget(
                &configs
                    .iter()
                    .map(|config| config.name())
                    .collect::<Vec<_>>(),
            )
            .await
    })?;
    elsewhere.block_on(async { drop(broker) });
    Ok(())
}

#[test]
fn at_the_deadline_what_has_no_answer_is_unknown_and_nothing_is_left() -> Result<()> {
    let elsewhere = runtime()?;
    let broker = elsewhere.block_on(Broker::any())?;
    let proxy = elsewhere.block_on(broker.proxy())?;
    runtime()?.block_on(async {
        let before = tasks();
        let record = Record::begin(
            "close-deadline",
            &broker,
            "close while answers are held",
            Some(6),
        )?;
        let configs = topics(&broker.fresh_name("deadline"), &[2]);
        let slow = options(&broker.url_through(&proxy))?
            .publish_timeout(Duration::from_secs(30))
            .ping_interval(Duration::from_secs(10));
        let member =
            Arc::new(Member::connect(&record, 0, bus(slow).topic(configs[0].clone())).await?);
        let handles = vec![member.bus.raw_topic(configs[0].name())?];
        let publishing = publish(&member, &handles);
        until("load is under way", async || {
            Ok(member.bus.metrics().acked > 500)
        })
        .await?;
        proxy.set(Fault::HoldAnswers).await;
        // Every publisher has as many under way as it may.
        let full: u64 = (0..load().publishers)
            .map(|n| load().windows[n % 4] as u64)
            .sum();
        // An answer may have passed the proxy before it held them: wait until none has come for a while.
        let quiet = std::cell::Cell::new((0, tokio::time::Instant::now()));
        until("nothing is answered", async || {
            let metrics = member.bus.metrics();
            if metrics.acked != quiet.get().0 {
                quiet.set((metrics.acked, tokio::time::Instant::now()));
            }
            Ok(metrics.in_flight == full && quiet.get().1.elapsed() > Duration::from_millis(500))
        })
        .await?;

        let limit = Duration::from_millis(300);
        let begun = tokio::time::Instant::now();
        let report = member.close(limit).await?;
        let took = begun.elapsed();
        ensure!(took < limit + Duration::from_secs(5), "{took:?}");
        let left = report
            .topics
            .values()
            .map(|topic| (topic.unknown, topic.unsent));
        let (unknown, unsent) = left.fold((0, 0), |all, each| (all.0 + each.0, all.1 + each.1));
        ensure!(
            !report.drained && unknown + unsent == full,
            "{report:?}, {full} were under way"
        );
        ensure!(
            member.bus.metrics().unknown == unknown,
            "{:?}",
            member.bus.metrics()
        );
        publishing.await?;
        drop((handles, member));
        proxy.set(Fault::Pass).await;
        until("no task is left", async || {
            ensure!(tasks() <= before, "{} tasks are left of {before}", tasks());
            Ok(true)
        })
        .await?;
        let verdict = record.finish()?;
        ensure!(
            verdict.counts.unknown == unknown && unknown > 0,
            "{verdict}"
        );
        Outside::of(&broker).await?.delete(configs[0].name()).await
    })?;
    elsewhere.block_on(async { drop((proxy, broker)) });
    Ok(())
}
