//! The simulated JetStream, in virtual time, and the real server.

use super::drive::drive;
use super::facts::Dialect;
use super::observed::Observation;
use super::side::{Process, Side};
use super::verdict::{compared, seeds};
use super::workload::{Can, MEMBERS, Workload};
use anyhow::{Result, anyhow};
use clearway::nats::{Nats, Options};
use clearway::{Runtime, Tokio};
use clearway_integration::{Broker, Outside};
use clearway_verify::sim::broker::SimBroker;
use clearway_verify::sim::broker::jetstream::JetStream;
use clearway_verify::sim::fault::{Faults, Weather};
use clearway_verify::sim::world::World;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const DIALECT: Dialect = Dialect { one_sequence: true };
pub(crate) const CAN: Can = Can {
    delete: true,
    hurry: true,
};

/// The world's clock at the latest at the end of a workload.
const LIMIT: Duration = Duration::from_secs(3600);

/// On the simulated server, in the world of that seed, where these faults strike.
pub(crate) fn simulated(
    workload: &Workload,
    world: u64,
    faults: Faults,
) -> Result<Vec<Observation>> {
    let world = World::new(world);
    let weather = Weather::new(&world, workload.seed, faults, None);
    let broker = JetStream::new(&weather);
    let process = |number: usize| {
        let process = world.process(1 + number as u32);
        let broker = broker.clone();
        Process {
            runtime: Arc::new(process.clone()),
            backend: Box::new(move || broker.backend(&process)),
        }
    };
    let deleting = broker.clone();
    let side = Side {
        clock: Arc::new(world.clone()),
        processes: (0..MEMBERS).map(process).collect(),
        prefix: "agree".into(),
        shows_shares: false,
        delete: Box::new(move |topic| {
            let was_there = deleting.delete_topic(&topic);
            Box::pin(async move { Ok(was_there) })
        }),
    };
    let observed = world.run_until(LIMIT, drive(&side, workload));
    world.end();
    observed.map_err(|stuck| anyhow!("{stuck}"))?
}

/// On a server that is there.
fn real(
    workload: &Workload,
    broker: &Broker,
    outside: &Arc<Outside>,
    runtime: &tokio::runtime::Handle,
) -> Result<Vec<Observation>> {
    let _inside = runtime.enter();
    let tokio: Arc<dyn Runtime> = Arc::new(Tokio::current().expect("entered above"));
    // A member that ends while it begins may leave its pin behind, and others then wait: ten seconds, which is the least.
    let options = Options::from_url(broker.url())?.ack_wait(Duration::from_secs(4));
    let process = |_| {
        let options = options.clone();
        Process {
            runtime: tokio.clone(),
            backend: Box::new(move || Nats::new(options.clone()).into()),
        }
    };
    let outside = outside.clone();
    let side = Side {
        clock: tokio.clone(),
        processes: (0..MEMBERS).map(process).collect(),
        prefix: broker.fresh_name("agree"),
        shows_shares: false,
        delete: Box::new(move |topic| {
            let outside = outside.clone();
            Box::pin(async move {
                if outside.stream(&topic).await.is_err() {
                    return Ok(false);
                }
                outside.delete(&topic).await.map(|()| true)
            })
        }),
    };
    runtime.block_on(drive(&side, workload))
}

#[test]
fn the_simulated_jetstream_agrees_with_the_real_one() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let (broker, outside) = runtime.block_on(async {
        let broker = Broker::any().await?;
        let outside = Arc::new(Outside::of(&broker).await?);
        anyhow::Ok((broker, outside))
    })?;
    let verdict = compared(
        &seeds(50)?,
        CAN,
        DIALECT,
        [
            &|workload| simulated(workload, workload.seed, Faults::default()),
            &|workload| real(workload, &broker, &outside, runtime.handle()),
        ],
    )?;
    let server = &broker.origin().server;
    verdict.tell(&format!("JetStream simulated against {server}"))
}
