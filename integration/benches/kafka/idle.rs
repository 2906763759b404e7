//! Nothing to do: what a producer and a consumer cost a service in the hours in which nobody publishes.
//!
//! The process has other clients, those of the other rows. What it uses without anybody new is measured too, and is taken off.

use crate::LINGER_MS;
use crate::client;
use crate::publishing::Sides;
use crate::turns::Moment;
use anyhow::Result;
use bytes::Bytes;
use clearway::{Bus, Delivery, HandlerError};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{DefaultProducerContext, ThreadedProducer};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A new member of a group has its partitions by then, and its first fetch is on its way.
const SETTLES_WITHIN: Duration = Duration::from_secs(5);
const MEASURED: Duration = Duration::from_secs(3);

/// Who is there.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Nobody,
    /// `ThreadedProducer`, and `BaseConsumer` polled as its documentation does.
    Client,
    /// A bus with a subscription.
    Bus,
}

impl Side {
    pub(crate) const ALL: [Self; 3] = [Self::Nobody, Self::Client, Self::Bus];
}

/// Milliseconds of CPU time of this process in a second.
pub(crate) async fn round(sides: &Sides, topic: &str, side: Side) -> Result<f64> {
    let (bootstrap, group) = (
        sides.broker().bootstrap(),
        sides.broker().fresh_name("idle"),
    );
    match side {
        Side::Nobody => Ok(measured().await),
        Side::Client => {
            let producing = client::producing(bootstrap, LINGER_MS);
            let _producer: ThreadedProducer<DefaultProducerContext> = producing.create()?;
            let consumer: BaseConsumer = client::consuming(bootstrap, &group).create()?;
            consumer.subscribe(&[topic])?;
            let ends = Arc::new(AtomicBool::new(false));
            let told = ends.clone();
            let polls = tokio::task::spawn_blocking(move || {
                // Relaxed: nothing else is told by it.
                while !told.load(Ordering::Relaxed) {
                    let _nothing = consumer.poll(Duration::from_millis(100));
                }
            });
            let used = measured().await;
            ends.store(true, Ordering::Relaxed);
            polls.await?;
            Ok(used)
        }
        Side::Bus => {
            let bus = Bus::connect(&sides.broker().url()).await?;
            let handler = |_: Delivery<Bytes>| async { Ok::<_, HandlerError>(()) };
            let _subscription = bus.raw_topic(topic)?.subscribe(&group, handler).await?;
            let used = measured().await;
            bus.close(Duration::from_secs(5)).await;
            Ok(used)
        }
    }
}

async fn measured() -> f64 {
    tokio::time::sleep(SETTLES_WITHIN).await;
    let begun = Moment::now();
    tokio::time::sleep(MEASURED).await;
    // One a second, as it were.
    begun.until(Moment::now(), 1).cpu_nanos / 1e6 / MEASURED.as_secs_f64()
}
