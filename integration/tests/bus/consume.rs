//! Consuming on a server that is watched from outside.

use crate::setup::{bus, options};
use anyhow::{Result, ensure};
use bytes::Bytes;
use clearway::{Delivery, HandlerError, TopicConfig};
use clearway_integration::{Broker, Outside, until};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const GROUP: &str = "audit";
const CLOSE: Duration = Duration::from_secs(5);

/// Handlers so slow that what waits behind them waits longer than the server does. It is not made again: that would
/// count as an attempt which nobody has made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_handler_is_not_delivered_again() -> Result<()> {
    let broker = Broker::any().await?;
    let outside = Outside::of(&broker).await?;
    let name = broker.fresh_name("slow");
    let ack_wait = Duration::from_secs(1);
    let bus = bus(options(broker.url())?.ack_wait(ack_wait))
        .topic(TopicConfig::new(&*name).partitions(1))
        .connect()
        .await?;
    let topic = bus.raw_topic(&name)?;
    for _ in 0..5 {
        topic
            .publish(&Bytes::from_static(b"slow"))
            .key("one")
            .await?;
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = seen.clone();
    let subscription = topic
        .subscription(GROUP)
        // One at a time is taken; the others wait in the consumer.
        .in_flight(16, 1)
        .concurrency(1)
        .handler(move |delivery: Delivery<Bytes>| {
            noted.lock().unwrap().push(delivery.attempt);
            async move {
                tokio::time::sleep(ack_wait * 3 / 2).await;
                Ok::<_, HandlerError>(())
            }
        })
        .await?;
    until("all are handled", async || {
        Ok(seen.lock().unwrap().len() >= 5)
    })
    .await?;
    let durable = outside.durable(&name, &name, GROUP, 0).await?;
    ensure!(durable.delivered.consumer_sequence == 5, "{durable:?}");
    let attempts = seen.lock().unwrap().clone();
    ensure!(attempts == [1; 5], "{attempts:?}");
    ensure!(subscription.close(CLOSE).await == 0, "something is left");
    bus.close(CLOSE).await;
    outside.delete(&name).await
}
