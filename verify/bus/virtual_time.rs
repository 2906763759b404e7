//! The whole journey on a runtime that is not tokio, in virtual time. There is no tokio runtime
//! in these tests: a stage that called tokio itself would panic.

mod support;

use clearway::memory::Memory;
use clearway::{Bus, Delivery, HandlerError, PublishError, Runtime};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::virtual_time::VirtualTime;

const HOUR: Duration = Duration::from_secs(3600);

async fn bus(broker: &Memory, runtime: &VirtualTime) -> Bus {
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
    let runtime = VirtualTime::new(1);
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
    let runtime = VirtualTime::new(2);
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

#[test]
fn a_bus_that_is_dropped_leaves_no_task_behind() {
    let runtime = VirtualTime::new(3);
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
        let runtime = VirtualTime::new(seed);
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
