//! A warm delivery, counted: from the broker's hands through lane and handler to its acknowledgement.
//!
//! Everything of it runs on one thread beside the memory broker, so the broker is counted alone as well, by a consumer that takes
//! and acknowledges the same envelopes with nothing around it. The difference is ours.

use crate::alone;
use crate::apart::Taken;
use crate::scene::Scene;
use crate::{PAYLOAD, block_on};
use bytes::Bytes;
use clearway::{Delivery, HandlerError, Raw, Topic};
use std::sync::Arc;
use std::time::{Duration, Instant};

const DELIVERIES: u64 = 5_000;
const KEYS: u64 = 50;
/// How many are out and unanswered at a time; a divisor of the deliveries.
const WINDOW: usize = 1000;
/// The two sides meet the broker in other moments: so much of a lock or an allocation for each delivery is the broker's.
const SLACK: f64 = 0.02;
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_warm_delivery_takes_nothing() {
    let scene = Scene::new(|| ());
    let (alone, with_bus) = (alone(&scene), handled(&scene, || ()));
    tell("a delivery", alone, with_bus);
    let (locks, allocations) = of_each(alone, with_bus);
    assert!(locks <= SLACK, "{locks} locks of ours for each delivery");
    assert!(
        allocations <= SLACK,
        "{allocations} allocations of ours for each delivery"
    );
}

/// The counters see a handler that allocates.
#[test]
fn control_an_allocating_handler_is_seen() {
    let scene = Scene::new(|| ());
    let (alone, with_bus) = (
        alone(&scene),
        handled(&scene, || drop(std::hint::black_box(Box::new(1u64)))),
    );
    tell("control: a handler that allocates", alone, with_bus);
    assert!(of_each(alone, with_bus).1 >= 1.0 - SLACK);
}

/// The counters see a lock in the way.
#[test]
fn control_a_locking_handler_is_seen() {
    let scene = Scene::new(|| ());
    let (alone, with_bus) = (
        alone(&scene),
        handled(&scene, crate::apart::locking_clock()),
    );
    tell("control: a handler that takes a lock", alone, with_bus);
    assert!(of_each(alone, with_bus).0 >= 1.0 - SLACK);
}

fn of_each(alone: Taken, with_bus: Taken) -> (f64, f64) {
    let of_each = |with_bus: u64, alone: u64| (with_bus as f64 - alone as f64) / DELIVERIES as f64;
    (
        of_each(with_bus.locks, alone.locks),
        of_each(with_bus.allocations, alone.allocations),
    )
}

fn tell(what: &str, alone: Taken, with_bus: Taken) {
    let (locks, allocations) = of_each(alone, with_bus);
    println!(
        "hot path: {what}: {locks:.3} locks and {allocations:.3} allocations of ours \
         ({DELIVERIES} deliveries: {with_bus}; the broker alone: {alone})"
    );
}

/// Publishes as many as are counted, and waits until the broker has them.
fn publish(topic: &Topic<Bytes, Raw>) {
    block_on(async {
        for number in 0..DELIVERIES {
            let key = format!("key-{}", number % KEYS);
            topic.publish(&PAYLOAD).key(key).await.unwrap();
        }
    });
}

/// What the other thread takes while it handles the deliveries of a subscription.
fn handled(scene: &Scene, inside: impl Fn() + Send + Sync + 'static) -> Taken {
    let topic = scene.bus.raw_topic("handled").unwrap();
    let inside = Arc::new(inside);
    let subscribing = topic
        .subscription("reads")
        .concurrency(4)
        .in_flight(WINDOW as u64, 64 << 20)
        .handler(move |_: Delivery<Bytes>| {
            inside();
            async { Ok::<_, HandlerError>(()) }
        });
    let subscription = block_on(subscribing).unwrap();
    let acks = || scene.bus.metrics().handler_acks;
    let all_are = |count: u64| {
        let begun = Instant::now();
        while acks() < count {
            assert!(begun.elapsed() < PATIENCE, "{} of {count}", acks());
            std::thread::yield_now();
        }
    };
    // Warm: every key has had its lane.
    publish(&topic);
    all_are(DELIVERIES);
    assert!(block_on(subscription.pause()));
    publish(&topic);
    let before = scene.taken_elsewhere();
    subscription.resume();
    all_are(2 * DELIVERIES);
    let taken = scene.taken_elsewhere() - before;
    block_on(subscription.drain(PATIENCE));
    taken
}

/// What it takes with nothing but the backend's consumer.
fn alone(scene: &Scene) -> Taken {
    let topic = scene.bus.raw_topic("alone").unwrap();
    publish(&topic);
    publish(&topic);
    let broker = scene.broker.clone();
    scene.run(async move {
        let mut before = Taken::by_this_thread();
        let counted = (2 * DELIVERIES, WINDOW);
        // The first half is to warm up.
        alone::take(&broker, "alone", counted, |taken| {
            if taken == DELIVERIES {
                before = Taken::by_this_thread();
            }
        })
        .await;
        Taken::by_this_thread() - before
    })
}
