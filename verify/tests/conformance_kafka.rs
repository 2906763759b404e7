//! The simulated Kafka passes the conformance suite, case by case: so the simulation is kept honest by the bodies that real brokers pass.

use clearway::Tokio;
use clearway_verify::conformance::{Stand, Verdict};
use clearway_verify::sim::broker::kafka::Kafka;
use clearway_verify::sim::broker::kafka::group::Rebalancing;
use clearway_verify::sim::broker::kafka::settings::Settings;
use clearway_verify::sim::fault::{Faults, Weather};
use clearway_verify::sim::world::World;
use std::sync::Arc;

/// What Kafka says that it cannot do; all else it has to do.
const REFUSED: &[&str] = &[
    // It counts no deliveries.
    "a_delivery_that_ends_its_consumer_each_time_ends_in_the_dead_letters",
    "attempts_of_an_earlier_consumer_count",
];

fn run(name: &str, rebalancing: Rebalancing) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let verdict = runtime.block_on(async {
        let ground = Arc::new(Tokio::current().expect("inside of it"));
        // Real time: the world is only what counts the draws.
        let weather = Weather::new(&World::new(1), 1, Faults::default(), None);
        let kafka = Kafka::over(&weather, ground, Settings::new(rebalancing));
        let stand = Stand::new(move || kafka.of_process(1), "kafka-sim");
        stand.run(name).await
    });
    match verdict {
        Ok(Verdict::Passed) => assert!(!REFUSED.contains(&name), "{name} is not refused any more"),
        Ok(Verdict::Refused(what)) => {
            assert!(REFUSED.contains(&name), "{name} is refused: {what}");
        }
        Err(error) => panic!("{name}: {error:#}"),
    }
}

macro_rules! tests {
    ($($room:ident::$name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            run(stringify!($name), Rebalancing::Cooperative);
        })*
    };
}

clearway_verify::for_each_conformance_case!(tests);
