//! A member that leaves as soon as it has come: whoever comes after it waits for no time of the server's.

use crate::setup::{bus, topics};
use anyhow::{Context, Result};
use bytes::Bytes;
use clearway::nats::Options;
use clearway::{Bus, Delivery, HandlerError, Raw, Topic};
use clearway_integration::{Broker, Outside};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::timeout;

const GROUP: &str = "audit";
const ROUNDS: u32 = 25;
/// Who had to wait for it would miss every deadline here.
const ACK_WAIT: Duration = Duration::from_secs(60);
/// How long a member that leaves may take.
const LEAVES: Duration = Duration::from_secs(5);
/// How long the next member may wait for its first delivery, on a busy machine.
const SOON: Duration = Duration::from_secs(5);

/// How a member leaves.
#[derive(Clone, Copy, Debug)]
enum Leaving {
    Drained,
    Closed,
    /// With no time for it.
    AtOnce,
    /// Its stream is dropped.
    Dropped,
}

/// Whom it leaves to, and what.
#[derive(Clone, Copy, Debug)]
struct Scene {
    leaving: Leaving,
    partitions: u32,
    /// Envelopes of each partition that wait when it comes; else its pulls wait for the first.
    waiting: u32,
    /// Both are subscriptions of one bus.
    one_bus: bool,
}

async fn member(url: &str) -> Result<Bus> {
    let options = Options::from_url(url)?.ack_wait(ACK_WAIT);
    Ok(bus(options).connect().await?)
}

async fn publish(topic: &Topic<Bytes, Raw>, count: u32) -> Result<()> {
    for n in 0..count {
        topic.publish(&"one".into()).key(n.to_string()).await?;
    }
    Ok(())
}

async fn come_and_go(topic: &Topic<Bytes, Raw>, leaving: Leaving) -> Result<()> {
    let handler = |_: Delivery<Bytes>| async { Ok::<_, HandlerError>(()) };
    let subscription = topic.subscription(GROUP);
    let limit = match leaving {
        Leaving::Dropped => {
            let deliveries = subscription.stream().await?;
            let subscription = deliveries.subscription().clone();
            drop(deliveries);
            // The place of its group is taken until it has ended.
            subscription.close(LEAVES).await;
            return Ok(());
        }
        Leaving::AtOnce => Duration::ZERO,
        Leaving::Drained | Leaving::Closed => LEAVES,
    };
    let subscription = subscription.handler(handler).await?;
    if let Leaving::Closed = leaving {
        subscription.close(limit).await;
    } else {
        subscription.drain(limit).await;
    }
    Ok(())
}

/// How long a member that comes now waits for its first delivery.
async fn first_delivery(topic: &Topic<Bytes, Raw>) -> Result<Duration> {
    let (seen, mut first) = mpsc::unbounded_channel();
    let begun = Instant::now();
    let handler = move |_: Delivery<Bytes>| {
        let _ = seen.send(());
        async { Ok::<_, HandlerError>(()) }
    };
    let subscription = topic.subscription(GROUP).handler(handler).await?;
    let came = timeout(SOON, first.recv()).await;
    came.with_context(|| format!("nothing came for {SOON:?}"))?;
    let took = begun.elapsed();
    subscription.drain(LEAVES).await;
    Ok(took)
}

impl Scene {
    async fn play(self, broker: &Broker) -> Result<()> {
        let config = topics(&broker.fresh_name("successor"), &[self.partitions]).remove(0);
        let name = config.name().to_owned();
        let options = Options::from_url(broker.url())?.ack_wait(ACK_WAIT);
        let own = bus(options).topic(config).connect().await?;
        let topic = own.raw_topic(&name)?;
        let mut longest = Duration::ZERO;
        for round in 0..ROUNDS {
            publish(&topic, self.partitions * self.waiting).await?;
            let (one, two) = match self.one_bus {
                true => (own.clone(), own.clone()),
                false => (member(broker.url()).await?, member(broker.url()).await?),
            };
            come_and_go(&one.raw_topic(&name)?, self.leaving).await?;
            publish(&topic, self.partitions * 4).await?;
            let took = first_delivery(&two.raw_topic(&name)?).await;
            let took = took.with_context(|| format!("round {round} of {self:?}"))?;
            longest = longest.max(took);
            if !self.one_bus {
                one.close(LEAVES).await;
                two.close(LEAVES).await;
            }
        }
        println!("integration: successor: {longest:.1?} at most to the first delivery: {self:?}");
        own.close(LEAVES).await;
        Outside::of(broker).await?.delete(&name).await
    }
}

async fn all(leaving: Leaving) -> Result<()> {
    let broker = Broker::any().await?;
    for partitions in [1, 8] {
        for waiting in [0, 4] {
            for one_bus in [false, true] {
                let scene = Scene {
                    leaving,
                    partitions,
                    waiting,
                    one_bus,
                };
                scene.play(&broker).await?;
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_drains_as_soon_as_it_has_come_keeps_nobody_waiting() -> Result<()> {
    all(Leaving::Drained).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_closes_as_soon_as_it_has_come_keeps_nobody_waiting() -> Result<()> {
    all(Leaving::Closed).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_ends_at_once_keeps_nobody_waiting() -> Result<()> {
    all(Leaving::AtOnce).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_dropped_as_soon_as_it_has_begun_keeps_nobody_waiting() -> Result<()> {
    all(Leaving::Dropped).await
}
