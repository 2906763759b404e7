//! The simulated Kafka, in virtual time, and the real one.

use super::drive::drive;
use super::facts::Dialect;
use super::observed::Observation;
use super::side::{Process, Side};
use super::verdict::{compared, seeds};
use super::workload::{Can, MEMBERS, Workload};
use anyhow::{Result, anyhow};
use clearway::kafka::{Kafka, Options};
use clearway::{Runtime, Tokio};
use clearway_integration::KafkaBroker;
use clearway_verify::sim::broker::kafka::Kafka as Simulated;
use clearway_verify::sim::broker::kafka::group::Rebalancing;
use clearway_verify::sim::broker::kafka::settings::Settings;
use clearway_verify::sim::fault::{Faults, Weather};
use clearway_verify::sim::world::World;
use std::sync::Arc;
use std::time::Duration;

const DIALECT: Dialect = Dialect {
    one_sequence: false,
};
/// A Kafka answers a delete before the topic is gone, and which of its threads forgets it last is nobody's rule. A consumer that ends
/// waits for its last commit, which a coordinator that rebalances does not answer: how long, no rule says.
const CAN: Can = Can {
    delete: false,
    hurry: false,
};

/// The world's clock at the latest at the end of a workload.
const LIMIT: Duration = Duration::from_secs(3600);

fn simulated(workload: &Workload, world: u64) -> Result<Vec<Observation>> {
    let world = World::new(world);
    let weather = Weather::new(&world, workload.seed, Faults::default(), None);
    let mut settings = Settings::new(Rebalancing::Cooperative);
    // As the broker of the tests is set.
    settings.partitions = 1;
    let broker = Simulated::over(&weather, Arc::new(world.clone()), settings);
    let process = |number: usize| {
        let number = 1 + number as u32;
        let broker = broker.clone();
        Process {
            runtime: Arc::new(world.process(number)),
            backend: Box::new(move || broker.of_process(number)),
        }
    };
    let side = Side {
        clock: Arc::new(world.clone()),
        processes: (0..MEMBERS).map(process).collect(),
        prefix: "agree".into(),
        shows_shares: true,
        delete: Box::new(|_| Box::pin(async { Err(anyhow!("no workload deletes")) })),
    };
    let observed = world.run_until(LIMIT, drive(&side, workload));
    world.end();
    observed.map_err(|stuck| anyhow!("{stuck}"))?
}

fn real(
    workload: &Workload,
    broker: &KafkaBroker,
    runtime: &tokio::runtime::Handle,
) -> Result<Vec<Observation>> {
    let _inside = runtime.enter();
    let tokio: Arc<dyn Runtime> = Arc::new(Tokio::current().expect("entered above"));
    let options = Options::from_url(&broker.url())?;
    let process = |_| {
        let options = options.clone();
        Process {
            runtime: tokio.clone(),
            backend: Box::new(move || Kafka::new(options.clone()).into()),
        }
    };
    let side = Side {
        clock: tokio.clone(),
        processes: (0..MEMBERS).map(process).collect(),
        prefix: broker.fresh_name("agree"),
        shows_shares: true,
        delete: Box::new(|_| Box::pin(async { Err(anyhow!("no workload deletes")) })),
    };
    runtime.block_on(drive(&side, workload))
}

#[test]
fn what_is_seen_of_a_simulated_kafka_does_not_hang_on_the_order_of_tasks() -> Result<()> {
    let verdict = compared(
        &seeds(100)?,
        CAN,
        DIALECT,
        [
            &|workload| simulated(workload, workload.seed),
            &|workload| simulated(workload, workload.seed + 1_000_000),
        ],
    )?;
    verdict.tell("Kafka simulated in two worlds")
}

#[test]
fn the_simulated_kafka_agrees_with_the_real_one() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let broker = runtime.block_on(KafkaBroker::any())?;
    let verdict = compared(
        &seeds(50)?,
        CAN,
        DIALECT,
        [
            &|workload| simulated(workload, workload.seed),
            &|workload| real(workload, &broker, runtime.handle()),
        ],
    )?;
    let server = &broker.origin().server;
    verdict.tell(&format!("Kafka simulated against {server}"))
}
