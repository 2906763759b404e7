//! A few seeds of the simulation: they hold, a seed is the same run again, and what is broken is found.

use clearway::Runtime;
use clearway_verify::sim::broker::SimBroker;
use clearway_verify::sim::broker::jetstream::JetStream;
use clearway_verify::sim::broker::kafka::Kafka;
use clearway_verify::sim::fault::Fault;
use clearway_verify::sim::plan::Plan;
use clearway_verify::sim::run::run;
use clearway_verify::sim::seeds::{Sum, seed};
use clearway_verify::sim::world::World;
use std::time::Duration;

/// About so many envelopes each.
const ENVELOPES: u64 = 300;

fn seeds_hold<B: SimBroker>(seeds: std::ops::Range<u64>) {
    let mut sum = Sum::default();
    for number in seeds {
        let ran = seed::<B>(number, ENVELOPES, &mut sum);
        assert!(
            ran.violations.is_empty(),
            "seed {number}: {}\n{}\nreplay: make sim BROKER={} SEED={number} ENVELOPES={ENVELOPES}",
            ran.plan,
            ran.violations.join("\n"),
            B::NAME
        );
    }
    assert!(
        sum.deliveries > 0 && sum.struck.len() > 10,
        "{}",
        sum.table::<B>()
    );
}

#[test]
fn a_hundred_seeds_over_jetstream() {
    seeds_hold::<JetStream>(0..100);
}

#[test]
fn a_hundred_seeds_over_kafka() {
    seeds_hold::<Kafka>(0..100);
}

#[test]
fn a_seed_is_the_same_run_again_and_another_is_another() {
    let mut hashes = Vec::new();
    for seed in [3, 3, 4] {
        let ran = run::<JetStream>(&Plan::draw(seed, ENVELOPES));
        let history = ran.history.map(|history| history.to_text());
        hashes.push((ran.hash, ran.polls, history));
    }
    assert!(hashes[0] == hashes[1], "the same seed ran differently");
    assert!(hashes[0].0 != hashes[2].0);
}

#[test]
fn what_waits_for_nothing_is_a_deadlock_and_says_who() {
    let world = World::new(1);
    world.spawn("the-one-that-waits", Box::pin(std::future::pending()));
    let stuck = world.run_until(Duration::MAX, std::future::pending::<()>());
    let stuck = stuck.unwrap_err().to_string();
    assert!(
        stuck.contains("deadlock") && stuck.contains("the-one-that-waits"),
        "{stuck}"
    );
}

#[test]
fn what_never_lets_time_pass_is_a_loop_and_says_who() {
    let world = World::new(1);
    let spins = std::future::poll_fn(|cx| {
        cx.waker().wake_by_ref();
        std::task::Poll::<()>::Pending
    });
    world.spawn("the-one-that-spins", Box::pin(spins));
    let stuck = world.run_until(Duration::MAX, world.sleep(Duration::from_secs(1)));
    assert!(
        stuck
            .unwrap_err()
            .to_string()
            .contains("the-one-that-spins")
    );
}

/// A process that stands still runs nothing until it goes on; one that is dead never again.
#[test]
fn processes_stand_still_and_die() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    let world = World::drawn(5);
    let ticks: Vec<Arc<AtomicU64>> = (0..3).map(|_| Arc::default()).collect();
    let processes: Vec<_> = (1..4).map(|number| world.process(number)).collect();
    for (process, ticks) in processes.iter().zip(&ticks) {
        let (ticking, clock) = (ticks.clone(), process.clone());
        process.spawn(
            "ticks",
            Box::pin(async move {
                loop {
                    clock.sleep(Duration::from_secs(1)).await;
                    ticking.fetch_add(1, Ordering::Relaxed);
                }
            }),
        );
    }
    let counts = || {
        ticks
            .iter()
            .map(|ticks| ticks.load(Ordering::Relaxed))
            .collect::<Vec<_>>()
    };
    world.run(async {
        world.sleep(Duration::from_millis(10_500)).await;
        assert!(processes[0].freeze() && !processes[0].freeze());
        processes[1].kill();
        assert_eq!(counts(), [10, 10, 10]);
        world.sleep(Duration::from_secs(10)).await;
        assert_eq!(counts(), [10, 10, 20]);
        processes[0].thaw();
        world.sleep(Duration::from_secs(10)).await;
        let counts = counts();
        assert!(
            counts[0] >= 19 && counts[1] == 10 && counts[2] == 30,
            "{counts:?}"
        );
    });
    assert!(!processes[1].is_alive());
    processes[1].spawn("too late", Box::pin(async {}));
    assert!(world.names_of(2).is_empty());
}

/// What is taken out of a plan does not strike.
#[test]
fn a_fault_that_a_plan_does_not_have_never_strikes() {
    let mut plan = Plan::draw(0, ENVELOPES);
    for fault in Fault::ALL {
        plan.faults.set(*fault, Default::default());
    }
    let ran = run::<JetStream>(&plan);
    assert!(
        ran.struck.is_empty() && ran.violations.is_empty(),
        "{:?}",
        ran.violations
    );
    assert_eq!(ran.counts.acked, ran.counts.ops);
    assert_eq!(ran.counts.duplicates.values().sum::<u64>(), 0);
}
