//! Workloads A and B by a bus, on whichever broker: published by one task with a window, taken by a subscription to each topic.

use crate::count::{Count, Wrongs, payload, warm_up};
use crate::{Shape, key_of};
use anyhow::{Result, ensure};
use bytes::Bytes;
use clearway::{Bus, Delivery, HandlerError, ReceiptFuture, TopicConfig};
use clearway_integration::RawTopic;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is not there by then is lost.
const LIMIT: Duration = Duration::from_secs(30);
const GROUP: &str = "journey";

/// From the first send to the last receive, and what was wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ran {
    pub(crate) took: Duration,
    pub(crate) wrongs: Wrongs,
}

/// The topics of a run, made by the bus, whoever uses them.
pub(crate) async fn fresh_topics(
    bus: &Bus,
    shape: &Shape,
    name: impl Fn() -> String,
) -> Result<Vec<String>> {
    let names: Vec<String> = (0..shape.topics).map(|_| name()).collect();
    for name in &names {
        let config = TopicConfig::new(name.as_str()).partitions(shape.partitions);
        bus.configure(config).await?;
    }
    Ok(names)
}

/// Waits for the last one, and says how long that was.
pub(crate) async fn until_complete(count: &Count, begun: Instant) -> Duration {
    // Too late is lost, and counted as that.
    let _ = tokio::time::timeout(LIMIT, count.complete()).await;
    begun.elapsed()
}

/// The same for what is published before anything counts: every consumer is at work then.
pub(crate) async fn until_warm(count: &Count, warm: usize) -> Result<()> {
    tokio::time::timeout(LIMIT, count.warm(warm)).await?;
    Ok(())
}

pub(crate) async fn by_bus(bus: &Bus, topics: &[String], shape: &Shape) -> Result<Ran> {
    let count = Arc::new(Count::of(shape.keys, shape.envelopes));
    let mut subscriptions = Vec::new();
    let mut handles = Vec::new();
    for topic in topics {
        let topic = bus.raw_topic(topic)?;
        let counted = count.clone();
        let subscription = topic.subscription(GROUP);
        let handler = move |envelope: Delivery<Bytes>| {
            let counted = counted.one(&envelope.value);
            async move { counted.map_err(|error| HandlerError::from(error.to_string())) }
        };
        subscriptions.push(subscription.handler(handler).await?);
        handles.push(topic);
    }
    for topic in &handles {
        for _ in 0..shape.warm_ups() {
            topic.publish(&warm_up(shape.size).into()).await?;
        }
    }
    until_warm(&count, shape.warm_ups() * shape.topics).await?;
    let begun = Instant::now();
    let publishing = tokio::spawn(publish(handles, *shape));
    let took = until_complete(&count, begun).await;
    publishing.await??;
    for subscription in &subscriptions {
        let report = subscription.drain(Duration::from_secs(5)).await;
        ensure!(report.drained, "{report:?}");
    }
    let wrongs = count.wrongs();
    Ok(Ran { took, wrongs })
}

async fn publish(topics: Vec<RawTopic>, shape: Shape) -> Result<()> {
    let mut under_way: VecDeque<ReceiptFuture> = VecDeque::with_capacity(shape.window);
    for n in 0..shape.envelopes {
        let (whose, number) = (n % shape.keys, n / shape.keys);
        if under_way.len() == shape.window
            && let Some(oldest) = under_way.pop_front()
        {
            oldest.await?;
        }
        let payload = Bytes::from(payload(whose as u32, number as u32, shape.size));
        let publish = topics[whose % topics.len()].publish(&payload);
        under_way.push_back(publish.key(key_of(whose)).enqueue()?);
    }
    for oldest in under_way {
        oldest.await?;
    }
    Ok(())
}
