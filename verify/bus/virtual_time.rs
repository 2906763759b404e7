//! The whole journey on a runtime that is not tokio, in virtual time. There is no tokio runtime
//! in these tests: a stage that called tokio itself would panic.

mod support;

use clearway::memory::Memory;
use clearway::{
    Backlog, Bus, BusEvent, Delivery, Events, HandlerError, PublishError, Runtime,
    SubscriptionState,
};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};
use support::world::World;
use tokio::sync::Semaphore;

const HOUR: Duration = Duration::from_secs(3600);

async fn bus(broker: &Memory, runtime: &World) -> Bus {
    Bus::builder()
        .backend(broker.clone())
        .runtime(Arc::new(runtime.clone()))
        .connect()
        .await
        .unwrap()
}

#[test]
fn publish_deliver_retry_and_close_run_without_tokio_in_virtual_time() {
    let begun = Instant::now();
    let runtime = World::new(1);
    let broker = Memory::new().answer_timeout(10 * HOUR);
    let seen = Arc::new(Mutex::new(Vec::new()));
    runtime.run(async {
        let bus = bus(&broker, &runtime).await;
        broker.faults().answer_after(HOUR);
        let orders = bus.topic::<u32>("orders").unwrap();
        let handled = seen.clone();
        let _runs_until_close = orders
            .subscribe("billing", move |delivery: Delivery<u32>| {
                let handled = handled.clone();
                async move {
                    let attempt = delivery.attempt;
                    handled
                        .lock()
                        .unwrap()
                        .push((delivery.into_value(), attempt));
                    // Each fails once.
                    if attempt == 1 {
                        Err("not yet".into()) as Result<(), HandlerError>
                    } else {
                        Ok(())
                    }
                }
            })
            .await
            .unwrap();
        for n in 0..20 {
            orders.publish(&n).key("one").await.unwrap();
        }
        assert!(runtime.now() >= 20 * HOUR);
        let report = bus.close(HOUR).await;
        assert!(report.drained, "{report:?}");
    });
    let expected: Vec<_> = (0..20).flat_map(|n| [(n, 1), (n, 2)]).collect();
    assert_eq!(*seen.lock().unwrap(), expected);
    runtime.settle();
    assert_eq!(runtime.tasks(), 0, "nothing runs after close");
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "hours passed in virtual time only"
    );
}

#[test]
fn a_reconnect_waits_in_virtual_time() {
    let runtime = World::new(2);
    let broker = Memory::new();
    runtime.run(async {
        let bus = bus(&broker, &runtime).await;
        let orders = bus.raw_topic("orders").unwrap();
        orders.publish(&"warm".into()).await.unwrap();
        broker.faults().refuse_connections(true);
        broker.faults().disconnect();
        let receipt = orders.publish(&"during".into()).enqueue().unwrap();
        runtime.sleep(HOUR).await;
        broker.faults().refuse_connections(false);
        receipt.await.unwrap();
        bus.close(HOUR).await;
    });
}

/// The next event that says something of a backlog.
async fn told(events: &mut Events) -> BusEvent {
    loop {
        let event = events.next().await.expect("the bus is open");
        if let BusEvent::BacklogEntered { .. } | BusEvent::BacklogLeft { .. } = event {
            return event;
        }
    }
}

#[test]
fn a_backlog_is_told_by_number_and_by_age() {
    let runtime = World::new(4);
    let broker = Memory::new().answer_timeout(HOUR);
    let second = Duration::from_secs(1);
    let backlog = Backlog::new(10, 2).age_max(5 * second).hold(3 * second);
    runtime.run(async {
        let builder = Bus::builder().backend(broker.clone()).backlog(backlog);
        let bus = builder.runtime(Arc::new(runtime.clone())).connect().await;
        let bus = bus.unwrap();
        let mut events = bus.events();
        let orders = bus.raw_topic("orders").unwrap();
        orders.publish(&"warm".into()).await.unwrap();
        let publish = |count: usize| -> Vec<_> {
            let receipts = (0..count).map(|_| orders.publish(&"x".into()).enqueue());
            receipts.map(Result::unwrap).collect()
        };
        for (count, begun) in [(3, 5 * second), (12, second)] {
            broker.faults().hold();
            let (from, receipts) = (runtime.now(), publish(count));
            match told(&mut events).await {
                BusEvent::BacklogEntered { in_flight, oldest } => {
                    assert_eq!(in_flight, count as u64);
                    // Three are not too many: one of them is too old.
                    assert!(count > 10 || oldest > 5 * second, "{oldest:?}");
                }
                other => panic!("{other:?}"),
            }
            let waited = runtime.now() - from;
            assert!(
                waited >= begun / 2 && waited <= begun + 2 * second,
                "{waited:?}"
            );
            broker.faults().release();
            for receipt in receipts {
                receipt.await.unwrap();
            }
            let calm = runtime.now();
            let left = told(&mut events).await;
            assert!(
                matches!(left, BusEvent::BacklogLeft { in_flight: 0, .. }),
                "{left:?}"
            );
            assert!(runtime.now() - calm >= 3 * second);
        }
        bus.close(HOUR).await;
    });
    runtime.settle();
    assert_eq!(runtime.tasks(), 0);
}

/// A delivery of a lost connection is still at its handler when it comes again: the second waits as its double. When
/// the first fails, it is the second's turn, and not nobody's.
#[test]
fn a_double_of_what_was_lost_is_handled_after_all() {
    let runtime = World::new(5);
    let broker = Memory::new();
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let (begun, opened) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    runtime.run(async {
        let bus = bus(&broker, &runtime).await;
        let orders = bus.topic::<u32>("orders").unwrap();
        let handler = {
            let (attempts, begun, opened) = (attempts.clone(), begun.clone(), opened.clone());
            move |delivery: Delivery<u32>| {
                let (attempts, begun, opened) = (attempts.clone(), begun.clone(), opened.clone());
                async move {
                    let first = {
                        let mut attempts = attempts.lock().unwrap();
                        attempts.push((delivery.value, delivery.position.epoch));
                        attempts.len() == 1
                    };
                    if !first {
                        return Ok(());
                    }
                    begun.add_permits(1);
                    let _ = opened.acquire().await;
                    Err(HandlerError::from("its connection is gone"))
                }
            }
        };
        let builder = orders.subscription("billing").dedup(100);
        let subscription = builder.handler(handler).await.unwrap();
        for n in 1..=3 {
            orders.publish(&n).key("one").await.unwrap();
        }
        let _ = begun.acquire().await;
        broker.faults().disconnect();
        runtime.sleep(HOUR).await;
        opened.add_permits(1);
        runtime.sleep(HOUR).await;
        let status = subscription.status().await;
        assert_eq!(status.in_flight, 0, "{status:?}");
        let lag: Option<u64> = status.partitions.values().map(|of| of.lag).sum();
        assert_eq!(lag, Some(0), "{status:?}");
        bus.close(HOUR).await;
    });
    let attempts = attempts.lock().unwrap();
    let values: Vec<_> = attempts.iter().map(|(value, _)| *value).collect();
    // In the order of their key: what was queued behind the first when its connection was lost as well.
    assert_eq!(values, [1, 1, 2, 3], "{attempts:?}");
    assert!(attempts[0].1 < attempts[1].1, "{attempts:?}");
}

#[test]
fn a_bus_that_is_dropped_leaves_no_task_behind() {
    let runtime = World::new(3);
    let broker = Memory::new();
    for _ in 0..1000 {
        runtime.run(async {
            let bus = bus(&broker, &runtime).await;
            bus.publish("orders", "x").await.unwrap();
        });
        runtime.settle();
        assert_eq!(runtime.tasks(), 0);
    }
}

/// What happens to a publish must not depend on the order in which tasks run.
#[test]
fn a_thousand_schedules_of_a_close_under_load() {
    for seed in 0..1000 {
        let runtime = World::new(seed);
        let broker = Memory::new();
        runtime.run(async {
            let bus = bus(&broker, &runtime).await;
            broker
                .faults()
                .answer_after(Duration::from_millis(seed % 7));
            let publishers: Vec<_> = (0..4)
                .map(|n| {
                    let orders = bus.raw_topic(["a", "b"][n % 2]).unwrap();
                    let counted = Arc::new(Mutex::new((0, 0)));
                    let counts = counted.clone();
                    runtime.spawn(
                        "publisher",
                        Box::pin(async move {
                            for _ in 0..5 {
                                match orders.publish(&"x".into()).await {
                                    Ok(_) => counts.lock().unwrap().0 += 1,
                                    Err(PublishError::Closed) => counts.lock().unwrap().1 += 1,
                                    Err(error) => panic!("{error}"),
                                }
                            }
                        }),
                    );
                    counted
                })
                .collect();
            runtime.sleep(Duration::from_millis(seed % 11)).await;
            let report = bus.close(HOUR).await;
            assert!(report.drained, "seed {seed}: {report:?}");
            let acked: u64 = publishers
                .iter()
                .map(|counted| counted.lock().unwrap().0)
                .sum();
            assert!(bus.metrics().acked >= acked, "seed {seed}");
            assert_eq!(bus.metrics().acked, bus.metrics().accepted, "seed {seed}");
        });
        runtime.settle();
        assert_eq!(runtime.tasks(), 0, "seed {seed}");
    }
}

/// Whoever drains may be dropped: by a limit of his own, or because he is a handler that is cut off.
#[test]
fn a_drain_that_nobody_waits_for_ends_at_its_limit() {
    let runtime = World::new(7);
    let broker = Memory::new();
    let limit = Duration::from_secs(10);
    runtime.run(async {
        let bus = bus(&broker, &runtime).await;
        let orders = bus.topic::<u32>("orders").unwrap();
        let never = |_: Delivery<u32>| std::future::pending::<Result<(), HandlerError>>();
        let billing = orders.subscribe("billing", never).await.unwrap();
        orders.publish(&1).await.unwrap();
        while billing.status().await.in_flight == 0 {
            runtime.sleep(Duration::from_millis(1)).await;
        }
        let mut draining = Box::pin(billing.drain(limit));
        let begun = std::future::poll_fn(|cx| Poll::Ready(draining.as_mut().poll(cx))).await;
        assert!(begun.is_pending(), "its handler is at work");
        drop(draining);
        runtime.sleep(limit - Duration::from_secs(1)).await;
        assert_eq!(billing.status().await.state, SubscriptionState::Draining);
        runtime.sleep(Duration::from_secs(2)).await;
        assert_eq!(billing.status().await.state, SubscriptionState::Ended);
        let report = billing.drain(HOUR).await;
        assert_eq!((report.left.len(), report.blocked), (1, false));
        assert!(bus.close(HOUR).await.drained);
    });
}

/// A handler that waits for the close of its own bus is cut off; one that goes on publishes, and its answer counts.
#[test]
fn a_handler_that_closes_its_bus_blocks_nothing() {
    let runtime = World::new(8);
    for waits in [true, false] {
        let broker = Memory::new();
        let limit = Duration::from_secs(10);
        let (closed, published) = runtime.run(async {
            let bus = bus(&broker, &runtime).await;
            let orders = bus.topic::<u32>("orders").unwrap();
            let bills = bus.topic::<u32>("bills").unwrap();
            bills.publish(&0).await.unwrap();
            let published = Arc::new(Mutex::new(None));
            let (of_handler, note) = (bus.clone(), published.clone());
            let closes = move |order: Delivery<u32>| {
                let (bus, bills, note) = (of_handler.clone(), bills.clone(), note.clone());
                async move {
                    let mut closing = Box::pin(bus.close(limit));
                    if waits {
                        closing.await;
                        unreachable!("it waits for itself");
                    }
                    let begun = std::future::poll_fn(|cx| Poll::Ready(closing.as_mut().poll(cx)));
                    assert!(begun.await.is_pending());
                    *note.lock().unwrap() = Some(bills.publish(&order.value).await.is_ok());
                    Ok::<_, HandlerError>(())
                }
            };
            let _until_close = orders.subscribe("billing", closes).await.unwrap();
            orders.publish(&1).await.unwrap();
            let begun = runtime.now();
            while orders.publish(&2).await.is_ok() {
                runtime.sleep(Duration::from_millis(1)).await;
            }
            let report = bus.close(HOUR).await;
            let took = runtime.now() - begun;
            let published = *published.lock().unwrap();
            assert!(
                took < limit + Duration::from_secs(2),
                "{took:?}: {report:?}"
            );
            (report, published)
        });
        let left = closed.subscriptions.values().map(|left| left.left.len());
        assert_eq!(left.sum::<usize>() > 0, waits, "{closed:?}");
        assert_eq!(published, (!waits).then_some(true));
    }
}
