//! Three brokers, and a copy of everything on each.

use crate::scene::Breakage::{MoveLeader, TwoGone};
use crate::scene::Run;
use anyhow::{Result, ensure};
use clearway_integration::{Kafka, KafkaBroker, Load};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_move_and_two_of_three_nodes_go_and_come_back() -> Result<()> {
    let Some(broker) = KafkaBroker::own(Kafka::cluster()).await? else {
        return Ok(());
    };
    let load = Load {
        publishers: 8,
        each: 2_000,
        windows: &[64, 1, 16, 64],
        keys: 32,
        size: 256,
        seed: 22,
    };
    let run = Run {
        name: "kafka-cluster",
        load: load.clone(),
        partitions: &[3],
        breakages: &[MoveLeader, TwoGone, MoveLeader],
    };
    let verdict = run.run_on(&broker).await?;
    let counts = &verdict.counts;
    ensure!(
        counts.ops >= load.total() && counts.unknown + counts.rejected > 0,
        "{verdict}"
    );
    Ok(())
}
