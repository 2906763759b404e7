//! Kafka frozen: what a publish, a subscription and close make of a broker that is there and answers nothing.
//!
//! `CLEARWAY_TEST_KAFKA=host:port` names the broker and `CLEARWAY_TEST_KAFKA_PID` its process, which these tests stop and continue.
//! One after the other: each freezes the broker for all.

#[path = "kafka/setup.rs"]
mod setup;

use anyhow::{Context, Result, bail, ensure};
use clearway::{Bus, FailureKind, PublishError, TopicConfig};
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, MutexGuard};

static ONE: Mutex<()> = Mutex::const_new(());

/// The broker stores and its answer never comes: nobody can tell, and the publish says so in its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_answer_the_outcome_is_unknown_in_time() -> Result<()> {
    let scene = Frozen::new().await?;
    let begun = Instant::now();
    let publish = scene
        .bus
        .raw_topic(&scene.topic)?
        .publish(&"two".into())
        .enqueue()?;
    let outcome = publish.await;
    let took = begun.elapsed();
    let Err(PublishError::Unknown(failure)) = outcome else {
        bail!("{outcome:?}");
    };
    ensure!(failure.kind() == FailureKind::TimedOut, "{failure:?}");
    ensure!(failure.to_string().contains("publish_timeout"), "{failure}");
    ensure!(took < Duration::from_secs(4), "{took:?}");
    scene.bus.close(Duration::from_secs(1)).await;
    Ok(())
}

/// Close with 10,000 in flight and the broker gone: it ends in its time, each publish has an outcome, and no thread is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_ends_in_its_time_with_the_broker_gone_and_leaves_no_thread() -> Result<()> {
    let before = threads()?;
    let scene = Frozen::new().await?;
    let raw = scene.bus.raw_topic(&scene.topic)?;
    let receipts = (0..4000).map(|n| raw.publish(&format!("{n}").into()).enqueue());
    let receipts: Vec<_> = receipts.collect::<Result<_, _>>()?;
    let begun = Instant::now();
    let report = scene.bus.close(Duration::from_secs(1)).await;
    let took = begun.elapsed();
    ensure!(!report.drained, "{report:?}");
    ensure!(took < Duration::from_secs(4), "{took:?}");
    let mut unknown = 0;
    for receipt in receipts {
        match receipt.await {
            Err(PublishError::Unknown(_) | PublishError::Rejected(_)) => unknown += 1,
            other => bail!("{other:?}"),
        }
    }
    ensure!(unknown == 4000, "{unknown}");
    setup::eventually("no thread of ours is left", async || {
        threads().is_ok_and(|now| now <= before)
    })
    .await?;
    println!("integration: kafka: closed in {took:.1?} with 4000 in flight and the broker gone");
    Ok(())
}

/// The threads of this process whose names are the Kafka client's or ours.
fn threads() -> Result<usize> {
    let mut count = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let name = std::fs::read_to_string(task?.path().join("comm")).unwrap_or_default();
        count += usize::from(name.starts_with("rdk:") || name.starts_with("clearway-kafka"));
    }
    Ok(count)
}

/// A bus on a broker that is frozen until this is dropped.
struct Frozen {
    bus: Bus,
    topic: String,
    _thaws: Thaws,
}

/// Lets the broker go on.
struct Thaws(
    String,
    #[allow(dead_code, reason = "it is held")] MutexGuard<'static, ()>,
);

impl Drop for Thaws {
    fn drop(&mut self) {
        let _ = signal("-CONT", &self.0);
    }
}

fn signal(signal: &str, pid: &str) -> Result<()> {
    let status = Command::new("kill").args([signal, pid]).status()?;
    ensure!(status.success(), "kill {signal} {pid}: {status}");
    Ok(())
}

impl Frozen {
    async fn new() -> Result<Self> {
        let one = ONE.lock().await;
        let pid = std::env::var("CLEARWAY_TEST_KAFKA_PID")
            .context("the process of the broker: CLEARWAY_TEST_KAFKA_PID")?;
        let options = setup::options()?.publish_timeout(Duration::from_secs(3));
        let bus = setup::builder(options).connect().await?;
        let topic = setup::fresh_name("frozen");
        bus.configure(TopicConfig::new(topic.as_str()).partitions(2))
            .await?;
        bus.publish(&topic, "one").await?;
        signal("-STOP", &pid)?;
        Ok(Self {
            bus,
            topic,
            _thaws: Thaws(pid, one),
        })
    }
}
