//! One broker.

use crate::scene::Breakage::{Cut, Kill, LoseAnswers, Pause, Refuse, Stop};
use crate::scene::Run;
use anyhow::{Result, ensure};
use clearway_integration::{Kafka, KafkaBroker, Load};

const LOAD: Load = Load {
    publishers: 8,
    each: 4_000,
    windows: &[64, 1, 16, 64],
    keys: 32,
    size: 256,
    seed: 21,
};

async fn on_one(run: Run) -> Result<()> {
    let Some(broker) = KafkaBroker::own(Kafka::default().proxied()).await? else {
        return Ok(());
    };
    let verdict = run.run_on(&broker).await?;
    let counts = &verdict.counts;
    ensure!(
        counts.ops >= LOAD.total() && counts.unknown > 0,
        "{verdict}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_is_frozen_killed_and_stopped() -> Result<()> {
    on_one(Run {
        name: "kafka-broker",
        load: LOAD,
        partitions: &[1, 4],
        breakages: &[Pause, Kill, Stop, Kill],
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_cut_refused_and_answers_lost() -> Result<()> {
    on_one(Run {
        name: "kafka-connections",
        load: LOAD,
        partitions: &[1, 4],
        breakages: &[Cut, LoseAnswers, Refuse, Cut],
    })
    .await
}
