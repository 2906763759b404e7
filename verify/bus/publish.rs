//! The publish journey on memory, from outside.

use clearway::memory::Memory;
use clearway::{
    Bus, BusEvent, Durability, Ensure, FailureKind, FullReason, Overflow, PublishError, TopicConfig,
};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::mpsc;

const SECOND: Duration = Duration::from_secs(1);

async fn bus(broker: &Memory) -> Bus {
    Bus::builder()
        .backend(broker.clone())
        .connect()
        .await
        .unwrap()
}

/// Polls once: a future that was begun and not waited for.
async fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    let mut future = future;
    poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn what_is_published_is_delivered_once_and_in_order_of_its_key() {
    let broker = Memory::new();
    let bus = bus(&broker).await;
    let orders = bus.topic::<u32>("orders").unwrap();
    let (seen, mut deliveries) = mpsc::unbounded_channel();
    let subscription = orders
        .subscribe("billing", move |delivery: clearway::Delivery<u32>| {
            let seen = seen.clone();
            async move {
                seen.send(delivery.into_value())
                    .map_err(|e| e.to_string().into())
                    as Result<(), clearway::HandlerError>
            }
        })
        .await
        .unwrap();
    for n in 0..100 {
        orders.publish(&n).key("one").await.unwrap();
    }
    for n in 0..100 {
        assert_eq!(deliveries.recv().await, Some(n));
    }
    assert_eq!(subscription.close(SECOND).await, 0);
    let report = bus.close(SECOND).await;
    assert!(report.drained, "{report:?}");
    assert_eq!(bus.metrics().acked, 100);
    assert_eq!(bus.metrics().in_flight, 0);
}

#[tokio::test]
async fn enqueue_never_waits_and_hands_the_envelope_back_when_full() {
    let broker = Memory::new();
    let bus = Bus::builder()
        .backend(broker.clone())
        .in_flight(2, 1 << 20)
        .receipts_max(4)
        .connect()
        .await
        .unwrap();
    let orders = bus.raw_topic("orders").unwrap();
    broker.faults().hold();
    let first = orders.publish(&"a".into()).enqueue().unwrap();
    let second = orders.publish(&"b".into()).enqueue().unwrap();
    let refused = orders.publish(&"c".into()).key("k").enqueue().unwrap_err();
    assert!(
        matches!(refused.error, PublishError::Full(FullReason::InFlight)),
        "{refused}"
    );
    assert_eq!(refused.envelope.payload, "c");
    assert_eq!(refused.envelope.key.as_deref(), Some(&b"k"[..]));
    broker.faults().release();
    first.await.unwrap();
    second.await.unwrap();
    orders.publish_envelope(*refused.envelope).await.unwrap();
    assert_eq!(bus.metrics().refused_full, 1);
}

#[tokio::test]
async fn a_dropped_publish_keeps_its_credit_and_its_place_until_its_outcome() {
    let broker = Memory::new();
    let bus = Bus::builder()
        .backend(broker.clone())
        .in_flight(1, 1 << 20)
        .connect()
        .await
        .unwrap();
    let orders = bus.raw_topic("orders").unwrap();
    orders.publish(&"warm".into()).await.unwrap();
    broker.faults().hold();
    {
        let payload = "dropped".into();
        let mut publish = pin!(IntoFuture::into_future(orders.publish(&payload)));
        assert!(poll_once(publish.as_mut()).await.is_none());
    }
    assert_eq!(bus.metrics().in_flight, 1);
    assert!(
        orders.publish(&"x".into()).enqueue().is_err(),
        "its credit is not free"
    );
    let mut close = pin!(bus.close(SECOND));
    assert!(
        poll_once(close.as_mut()).await.is_none(),
        "close waits for it"
    );
    broker.faults().release();
    let report = close.await;
    assert!(report.drained);
    assert_eq!(report.topics["orders"].drained, 1);
}

#[tokio::test]
async fn a_publish_in_line_is_woken_by_close() {
    let broker = Memory::new();
    let bus = Bus::builder()
        .backend(broker.clone())
        .in_flight(1, 1 << 20)
        .connect()
        .await
        .unwrap();
    let orders = bus.raw_topic("orders").unwrap();
    broker.faults().hold();
    let _held = orders.publish(&"a".into()).enqueue().unwrap();
    let payload = "b".into();
    let mut waiting = pin!(IntoFuture::into_future(orders.publish(&payload)));
    assert!(poll_once(waiting.as_mut()).await.is_none());
    let closing = tokio::spawn({
        let bus = bus.clone();
        async move { bus.close(Duration::from_millis(50)).await }
    });
    assert!(matches!(waiting.await, Err(PublishError::Closed)));
    let report = closing.await.unwrap();
    assert!(!report.drained);
}

#[tokio::test]
async fn close_says_what_was_left_and_says_it_to_every_closer() {
    let broker = Memory::new();
    let bus = bus(&broker).await;
    let orders = bus.raw_topic("orders").unwrap();
    orders.publish(&"warm".into()).await.unwrap();
    broker.faults().lose_answers(1);
    let lost = orders.publish(&"lost".into()).enqueue().unwrap();
    let limit = Duration::from_millis(50);
    let (one, two) = tokio::join!(bus.close(limit), bus.close(limit));
    assert_eq!(one, two);
    assert!(!one.drained);
    assert_eq!(one.topics["orders"].unknown, 1);
    let error = lost.await.unwrap_err();
    assert!(error.may_be_published(), "{error}");
    let after = orders.publish(&"late".into()).await.unwrap_err();
    assert!(matches!(after, PublishError::Closed));
    assert!(!after.may_be_published());
}

#[tokio::test]
async fn a_lost_session_is_replaced_and_what_was_unanswered_is_unknown() {
    let broker = Memory::new();
    let bus = bus(&broker).await;
    let mut events = bus.events();
    let orders = bus.raw_topic("orders").unwrap();
    orders.publish(&"warm".into()).await.unwrap();
    broker.faults().lose_answers(1);
    let ambiguous = orders.publish(&"a".into()).enqueue().unwrap();
    // Its envelope has reached the broker when the next one is acknowledged.
    orders.publish(&"b".into()).await.unwrap();
    broker.faults().disconnect();
    let error = ambiguous.await.unwrap_err();
    assert!(
        matches!(&error, PublishError::Unknown(f) if f.kind() == FailureKind::Disconnected),
        "{error}"
    );
    loop {
        if let BusEvent::Reconnected { generation, .. } = events.next().await.unwrap() {
            assert_eq!(generation, 2);
            break;
        }
    }
    orders.publish(&"c".into()).await.unwrap();
    assert_eq!(bus.metrics().reconnects, 1);
}

#[tokio::test]
async fn publishes_during_an_outage_wait_for_the_next_session() {
    let broker = Memory::new();
    let bus = bus(&broker).await;
    let orders = bus.raw_topic("orders").unwrap();
    orders.publish(&"warm".into()).await.unwrap();
    broker.faults().refuse_connections(true);
    broker.faults().disconnect();
    let during: Vec<_> = (0..10)
        .map(|_| orders.publish(&"x".into()).enqueue().unwrap())
        .collect();
    assert!(!bus.health(Duration::from_millis(100)).await.ready);
    broker.faults().refuse_connections(false);
    for receipt in during {
        receipt.await.unwrap();
    }
    assert!(bus.health(SECOND).await.ready);
}

#[tokio::test]
async fn a_deleted_topic_is_noticed_and_ensured_again() {
    let broker = Memory::new();
    let bus = bus(&broker).await;
    let orders = bus.raw_topic("orders").unwrap();
    orders.publish(&"a".into()).await.unwrap();
    assert!(broker.faults().delete_topic("orders"));
    let error = orders.publish(&"b".into()).await.unwrap_err();
    assert!(error.is_retryable() && !error.may_be_published(), "{error}");
    orders.publish(&"b".into()).await.unwrap();
}

#[tokio::test]
async fn results_hold_publishing_back_and_lose_nothing() {
    let broker = Memory::new();
    let bus = Bus::builder()
        .backend(broker.clone())
        .in_flight(8, 1 << 20)
        .connect()
        .await
        .unwrap();
    let mut results = bus.publish_results(Overflow::Block).unwrap();
    assert!(
        bus.publish_results(Overflow::Block).is_none(),
        "one reader at a time"
    );
    let publisher = tokio::spawn({
        let orders = bus.raw_topic("orders").unwrap();
        async move {
            let mut ids = Vec::new();
            for _ in 0..100 {
                let publish = orders.publish(&"x".into());
                ids.push(publish.envelope().unwrap().id);
                publish.await.unwrap();
            }
            ids
        }
    });
    while bus.metrics().result_waits == 0 {
        tokio::task::yield_now().await;
    }
    let mut told = Vec::new();
    for _ in 0..100 {
        let result = results.next().await.unwrap();
        assert_eq!(&*result.topic, "orders");
        assert!(result.outcome.is_ok());
        told.push(result.id);
    }
    assert_eq!(told, publisher.await.unwrap());
    // The reader goes: what nobody reads is given back.
    drop(results);
    let orders = bus.raw_topic("orders").unwrap();
    for _ in 0..100 {
        orders.publish(&"y".into()).await.unwrap();
    }
}

#[tokio::test]
async fn unread_results_refuse_when_asked_to() {
    let broker = Memory::new();
    let bus = Bus::builder()
        .backend(broker.clone())
        .in_flight(2, 1 << 20)
        .connect()
        .await
        .unwrap();
    let _results = bus.publish_results(Overflow::Refuse).unwrap();
    let orders = bus.raw_topic("orders").unwrap();
    orders.publish(&"a".into()).await.unwrap();
    orders.publish(&"b".into()).await.unwrap();
    let error = orders.publish(&"c".into()).await.unwrap_err();
    assert!(
        matches!(error, PublishError::Full(FullReason::Results)),
        "{error}"
    );
}

#[tokio::test]
async fn an_envelope_in_line_behind_itself_keeps_its_place_and_holds_up_nobody() {
    let broker = Memory::new();
    let bus = bus(&broker).await;
    let orders = bus.raw_topic("orders").unwrap().ordered();
    let first = orders.publish(&"first".into()).key("k");
    let first = first.envelope().unwrap().clone();
    let next = orders.publish(&"next".into()).key("k");
    let next = next.envelope().unwrap().clone();

    // Sent again under its id while it is under way, as who retries may do.
    let receipts = [first.clone(), next, first]
        .map(|envelope| orders.publish_envelope(envelope).enqueue().unwrap());
    let mut positions = Vec::new();
    for receipt in receipts {
        let receipt = tokio::time::timeout(SECOND * 20, receipt).await;
        positions.push(receipt.expect("it has an outcome").unwrap().position);
    }
    assert!(positions.is_sorted(), "{positions:?}");
}

#[tokio::test]
async fn a_handler_may_panic_before_it_has_a_future() {
    let broker = Memory::new();
    let bus = bus(&broker).await;
    let orders = bus.topic::<u32>("orders").unwrap();
    let calls = Arc::new(AtomicU64::new(0));
    let (seen, mut deliveries) = mpsc::unbounded_channel();
    let counted = calls.clone();
    let subscription = orders
        .subscribe("billing", move |delivery: clearway::Delivery<u32>| {
            // Relaxed: one subscription handles one delivery at a time.
            let call = counted.fetch_add(1, Ordering::Relaxed);
            assert!(call > 0, "the first call is one too many");
            let seen = seen.clone();
            async move {
                seen.send(delivery.attempt)
                    .map_err(|e| e.to_string().into())
                    as Result<(), clearway::HandlerError>
            }
        })
        .await
        .unwrap();
    orders.publish(&7).await.unwrap();
    let again = tokio::time::timeout(SECOND * 20, deliveries.recv()).await;
    assert_eq!(again.expect("it comes again"), Some(2));
    assert_eq!(bus.metrics().handler_panics, 1);
    assert_eq!(subscription.close(SECOND).await, 0);
}

#[tokio::test]
async fn ordered_has_one_in_flight_per_key() {
    let broker = Memory::new();
    let bus = bus(&broker).await;
    let plain = bus.raw_topic("orders").unwrap();
    plain.publish(&"warm".into()).await.unwrap();
    let orders = plain.ordered();
    broker.faults().answer_after(Duration::from_millis(2));
    let receipts: Vec<_> = (0..10)
        .flat_map(|n| ["a", "b"].map(|key| (n, key)))
        .map(|(n, key)| {
            orders
                .publish(&n.to_string().into())
                .key(key)
                .enqueue()
                .unwrap()
        })
        .collect();
    let begun = std::time::Instant::now();
    let mut last = std::collections::HashMap::new();
    for receipt in receipts {
        let receipt = receipt.await.unwrap();
        let before = last.insert(receipt.partition, receipt.position);
        assert!(before < Some(receipt.position));
    }
    assert!(
        begun.elapsed() >= Duration::from_millis(20),
        "ten round trips one after the other"
    );
}

#[tokio::test]
async fn configuration_is_remembered_only_after_the_broker_said_yes() {
    let broker = Memory::new();
    let bus = bus(&broker).await;
    bus.configure(TopicConfig::new("orders").partitions(2).size_limit(200))
        .await
        .unwrap();
    let orders = bus.raw_topic("orders").unwrap();
    let error = bus
        .configure(TopicConfig::new("orders").partitions(3))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("partitions: wanted 3, found 2"),
        "{error}"
    );
    let error = orders.publish(&vec![0; 200].into()).await.unwrap_err();
    assert!(
        matches!(error, PublishError::TooLarge { limit: 200, .. }),
        "{error}"
    );
    let update = TopicConfig::new("orders")
        .partitions(3)
        .ensure(Ensure::CreateOrUpdate);
    bus.configure(update).await.unwrap();
    orders.publish(&vec![0; 200].into()).await.unwrap();
    let error = bus
        .configure(TopicConfig::new("x").durability(Durability::Stored))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("durability Stored"), "{error}");
}

#[tokio::test]
async fn a_failed_ensure_rejects_what_waited_for_it_and_is_not_remembered() {
    let broker = Memory::new();
    let bus = bus(&broker).await;
    let missing = TopicConfig::new("orders").ensure(Ensure::ValidateOnly);
    bus.configure(missing).await.unwrap_err();
    // The failed configuration changed nothing: the topic still may be created.
    bus.publish("orders", "a").await.unwrap();
}

#[tokio::test]
async fn bad_urls_say_what_is_wrong() {
    for (url, said) in [
        ("orders", "not a URL"),
        #[cfg(not(feature = "kafka"))]
        ("kafka://localhost:9092", "feature `kafka`"),
        #[cfg(feature = "kafka")]
        ("kafka://", "host"),
        ("amqp://localhost", "unknown scheme `amqp`"),
        ("memory://here", "takes nothing after it"),
    ] {
        let error = Bus::connect(url).await.unwrap_err();
        assert!(error.to_string().contains(said), "{url}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_publishers_and_a_close_in_the_middle() {
    let broker = Memory::new();
    let bus = Bus::builder()
        .backend(broker.clone())
        .in_flight(64, 1 << 20)
        .connect()
        .await
        .unwrap();
    let acked = Arc::new(AtomicU64::new(0));
    let publishers: Vec<_> = (0..16)
        .map(|n| {
            let (orders, acked) = (
                bus.raw_topic(&format!("t{}", n % 4)).unwrap(),
                acked.clone(),
            );
            tokio::spawn(async move {
                loop {
                    match orders.publish(&"x".into()).await {
                        Ok(_) => acked.fetch_add(1, Ordering::Relaxed),
                        Err(PublishError::Closed) => return,
                        Err(error) => panic!("{error}"),
                    };
                }
            })
        })
        .collect();
    while acked.load(Ordering::Relaxed) < 1000 {
        tokio::task::yield_now().await;
    }
    let report = bus.close(SECOND * 5).await;
    assert!(report.drained, "{report:?}");
    for publisher in publishers {
        publisher.await.unwrap();
    }
    let metrics = bus.metrics();
    assert_eq!(metrics.acked, acked.load(Ordering::Relaxed));
    assert_eq!(metrics.accepted, metrics.acked);
}
