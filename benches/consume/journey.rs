//! A whole subscription on the memory broker.

use bytes::Bytes;
use clearway::memory::Memory;
use clearway::{Bus, Delivery, HandlerError, Retention, TopicConfig};
use std::time::{Duration, Instant};
use tokio::runtime::Builder;

const TOPIC: &str = "orders";
const PAYLOAD: Bytes = Bytes::from_static(&[7; 256]);
/// For handlers that do nothing.
const ENVELOPES: u64 = 100_000;
const KEYS: u64 = 1_000;
/// How many deliveries are out at a time.
const WINDOW: usize = 1_024;

/// Deliveries a second.
pub(crate) struct Handled {
    /// To a handler.
    pub(crate) bus: f64,
    /// Taken from the broker and acknowledged, and nothing else.
    pub(crate) broker: f64,
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = Builder::new_multi_thread();
    let built = builder.worker_threads(2).enable_all().build();
    built.expect("threads for two workers")
}

/// A bus with that many envelopes published, of so many keys.
pub(crate) async fn published(memory: &Memory, envelopes: u64, keys: u64) -> Bus {
    let bus = Bus::builder().backend(memory.clone()).connect().await;
    let bus = bus.expect("memory connects");
    let everything = Retention {
        envelopes: Some(envelopes),
        bytes: Some(u64::MAX),
        ..Retention::default()
    };
    let config = TopicConfig::new(TOPIC).retention(everything);
    bus.configure(config).await.expect("memory keeps all");
    let topic = bus.raw_topic(TOPIC).expect("a topic");
    let mut receipts = Vec::new();
    for number in 0..envelopes {
        let publish = topic
            .publish(&PAYLOAD)
            .key((number % keys).to_le_bytes().to_vec());
        receipts.push(publish.enqueue().expect("there is room"));
        if receipts.len() >= 1_000 {
            for receipt in receipts.drain(..) {
                receipt.await.expect("memory stores");
            }
        }
    }
    for receipt in receipts {
        receipt.await.expect("memory stores");
    }
    bus
}

/// Until so many are acknowledged.
pub(crate) async fn acknowledged(bus: &Bus, count: u64) {
    while bus.metrics().handler_acks < count {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

/// Deliveries a second to a handler that waits 2 ms, with so many at a time.
pub(crate) fn waiting(handlers: usize) -> f64 {
    const EACH: u64 = 100;
    runtime().block_on(async {
        let count = EACH * handlers as u64;
        let bus = published(&Memory::new(), count, KEYS).await;
        let topic = bus.raw_topic(TOPIC).expect("a topic");
        let begun = Instant::now();
        let subscription =
            topic
                .subscription("reads")
                .concurrency(handlers)
                .handler(|_: Delivery<Bytes>| async {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    Ok::<_, HandlerError>(())
                });
        let _subscription = subscription.await.expect("memory subscribes");
        acknowledged(&bus, count).await;
        let took = begun.elapsed();
        bus.close(Duration::from_secs(5)).await;
        count as f64 / took.as_secs_f64()
    })
}

/// Deliveries a second to a handler that does nothing, and to nobody.
pub(crate) fn handled() -> Handled {
    runtime().block_on(async {
        let memory = Memory::new();
        let bus = published(&memory, ENVELOPES, KEYS).await;
        let broker = tokio::spawn(alone(memory));
        let broker = broker.await.expect("no bench panics");
        let topic = bus.raw_topic(TOPIC).expect("a topic");
        let begun = Instant::now();
        let subscription = topic
            .subscription("reads")
            .concurrency(2)
            .in_flight(WINDOW as u64, 64 << 20)
            .handler(|_: Delivery<Bytes>| async { Ok::<_, HandlerError>(()) });
        let _subscription = subscription.await.expect("memory subscribes");
        acknowledged(&bus, ENVELOPES).await;
        let bus_took = begun.elapsed();
        bus.close(Duration::from_secs(5)).await;
        Handled {
            bus: ENVELOPES as f64 / bus_took.as_secs_f64(),
            broker,
        }
    })
}

/// The broker's consumer, as many out at a time as with a bus.
async fn alone(memory: Memory) -> f64 {
    let begun = Instant::now();
    crate::alone::take(&memory, TOPIC, (ENVELOPES, WINDOW), |_| ()).await;
    ENVELOPES as f64 / begun.elapsed().as_secs_f64()
}
