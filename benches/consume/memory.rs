//! What a subscription keeps in memory, by the allocator's count of living bytes.
//!
//! The memory broker is in this process: what it holds was there before, and is taken off.

use crate::counting::living;
use crate::journey::{acknowledged, published};
use bytes::Bytes;
use clearway::memory::Memory;
use clearway::{Delivery, HandlerError};
use std::time::Duration;
use tokio::runtime::Builder;

const ENVELOPES: u64 = 1_000_000;
const TOPIC: &str = "orders";

/// A handler that is stuck.
pub(crate) struct Stuck {
    /// Bytes more than before it was subscribed.
    pub(crate) more: u64,
    /// Bytes that may be in flight.
    pub(crate) in_flight: u64,
}

/// Many keys, once each.
pub(crate) struct Keys {
    pub(crate) lanes: usize,
    pub(crate) bound: usize,
    pub(crate) handled: u64,
    pub(crate) more: u64,
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = Builder::new_multi_thread();
    let built = builder.worker_threads(2).enable_all().build();
    built.expect("threads for two workers")
}

/// 1,000,000 envelopes wait at the broker, and no handler ever ends.
pub(crate) fn stuck() -> Stuck {
    const IN_FLIGHT: u64 = 8 << 20;
    runtime().block_on(async {
        let bus = published(&Memory::new(), ENVELOPES, 10_000).await;
        let topic = bus.raw_topic(TOPIC).expect("a topic");
        let before = living();
        let subscription = topic
            .subscription("reads")
            .concurrency(8)
            .in_flight(32_768, IN_FLIGHT)
            .handler(|_: Delivery<Bytes>| std::future::pending::<Result<(), HandlerError>>());
        let subscription = subscription.await.expect("memory subscribes");
        // It is full when it has stopped to grow.
        let mut taken = (0, 0);
        while taken.1 < 5 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let now = subscription.status().await.in_flight;
            taken = if now == taken.0 && now > 0 {
                (now, taken.1 + 1)
            } else {
                (now, 0)
            };
        }
        let more = living().saturating_sub(before);
        subscription.drain(Duration::ZERO).await;
        bus.close(Duration::from_secs(5)).await;
        Stuck {
            more,
            in_flight: IN_FLIGHT,
        }
    })
}

/// 1,000,000 keys, each once: what is left of them.
pub(crate) fn distinct_keys() -> Keys {
    const BOUND: usize = 256;
    runtime().block_on(async {
        let bus = published(&Memory::new(), ENVELOPES, u64::MAX).await;
        let topic = bus.raw_topic(TOPIC).expect("a topic");
        let before = living();
        let subscription = topic
            .subscription("reads")
            .lanes_max(BOUND)
            .handler(|_: Delivery<Bytes>| async { Ok::<_, HandlerError>(()) });
        let subscription = subscription.await.expect("memory subscribes");
        let mut lanes = 0;
        while bus.metrics().handler_acks < ENVELOPES {
            lanes = lanes.max(subscription.status().await.lanes);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        acknowledged(&bus, ENVELOPES).await;
        let more = living().saturating_sub(before);
        let handled = bus.metrics().handler_acks;
        bus.close(Duration::from_secs(5)).await;
        Keys {
            lanes,
            bound: BOUND,
            handled,
            more,
        }
    })
}
