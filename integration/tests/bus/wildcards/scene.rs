//! A stream of somebody else's, and what was read of it.

use crate::setup::{bus, options};
use anyhow::{Context as _, Result};
use async_nats::jetstream::stream::Config;
use bytes::Bytes;
use clearway::nats::Subjects;
use clearway::{Bus, BusEvent, Deliveries, Events};
use clearway_integration::{Broker, Outside, PATIENCE};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::timeout;

const CLOSE: Duration = Duration::from_secs(5);

/// A stream of somebody else's, for all that begins with its own name.
pub(super) struct Scene {
    pub(super) broker: Broker,
    pub(super) outside: Outside,
    pub(super) stream: String,
}

impl Scene {
    pub(super) async fn open() -> Result<Self> {
        let broker = Broker::any().await?;
        let scene = Self {
            outside: Outside::of(&broker).await?,
            stream: broker.fresh_name("sensors"),
            broker,
        };
        scene.make().await?;
        Ok(scene)
    }

    pub(super) async fn make(&self) -> Result<()> {
        let config = Config {
            name: self.stream.clone(),
            subjects: vec![format!("{}.>", self.stream)],
            ..Config::default()
        };
        self.outside.jetstream.create_stream(config).await?;
        Ok(())
    }

    pub(super) async fn connect(&self) -> Result<Bus> {
        let builder = bus(options(self.broker.url())?);
        Ok(builder.connect().await?)
    }

    /// A subject, or a pattern, below the stream's name.
    pub(super) fn below(&self, rest: &str) -> String {
        format!("{}.{rest}", self.stream)
    }

    pub(super) fn subjects(&self, rest: &str) -> Result<Subjects> {
        Ok(Subjects::new(&self.stream, &self.below(rest))?)
    }

    /// Publishes as somebody who knows nothing of us.
    pub(super) async fn publish(&self, rest: &str, payload: &str) -> Result<()> {
        let payload = payload.to_owned().into();
        let stored = self.outside.jetstream.publish(self.below(rest), payload);
        stored.await?.await?;
        Ok(())
    }

    pub(super) async fn end(self, buses: &[Bus], streams: &[&str]) -> Result<()> {
        for bus in buses {
            bus.close(CLOSE).await;
        }
        self.outside.forget(streams).await?;
        self.outside.forget(&[&self.stream]).await
    }
}

/// The next `count` deliveries, acknowledged: what each was published to, below the stream's name, and what it carries.
pub(super) async fn next(
    deliveries: &mut Deliveries<Bytes>,
    count: usize,
    scene: &Scene,
) -> Result<BTreeSet<(String, String)>> {
    let mut seen = BTreeSet::new();
    for _ in 0..count {
        let delivery = timeout(PATIENCE, deliveries.next()).await?;
        let delivery = delivery.context("the stream has ended")?;
        let below = delivery.topic.strip_prefix(&scene.below(""));
        let below = below.with_context(|| delivery.topic.to_string())?;
        let payload = std::str::from_utf8(&delivery.value)?;
        seen.insert((below.to_owned(), payload.to_owned()));
        delivery.ack();
    }
    Ok(seen)
}

pub(super) fn set(all: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    let owned = |(subject, payload): &(&str, &str)| (subject.to_string(), payload.to_string());
    all.iter().map(owned).collect()
}

/// Waits for an event that `which` gives something for.
pub(super) async fn told<T>(
    events: &mut Events,
    which: impl Fn(&BusEvent) -> Option<T>,
) -> Result<T> {
    let next = async {
        while let Some(event) = events.next().await {
            if let Some(found) = which(&event) {
                return Some(found);
            }
        }
        None
    };
    timeout(PATIENCE, next).await?.context("the bus is closed")
}
