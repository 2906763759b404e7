//! Row 9: what a thousand publishers notice of a writer that holds for 10 ms, ten times a second.
//!
//! The locked bus and the core of ours stand over the same client, and both have the writer that locks are about: a connection is
//! replaced, which takes its time. The whole bus cannot be told to reconnect and keep its client, so its writer is the one that it
//! has in real life: a topic is configured, a round trip to the broker with the topics' lock behind it. The client alone has none.

use crate::baseline::{LockedBus, TopicOptions};
use crate::client;
use crate::lockfree::{LockFreeBus, TopicHandle};
use crate::pace::{Pace, Paced};
use crate::publishing::Sides;
use crate::seats::Seated;
use crate::{PARTITIONS, PAYLOAD};
use anyhow::{Result, anyhow};
use bytes::Bytes;
use clearway::kafka::{Kafka, Options};
use clearway::{Bus, TopicConfig};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PACE: Pace = Pace {
    publishers: 1000,
    every: Duration::from_millis(10),
    each: 200,
};
/// The same before anything counts.
const WARM_UP: Pace = Pace { each: 30, ..PACE };
const HOLD: Duration = Duration::from_millis(10);
const EVERY: Duration = Duration::from_millis(100);
const LINGER_MS: u32 = 1;

/// Who publishes.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    /// `ThreadedProducer`, and no writer.
    Client,
    /// `ThreadedProducer` behind the locks of the first design.
    Locked,
    /// `ThreadedProducer` behind the core of our publish.
    Core,
    Bus,
}

impl Side {
    pub(crate) const ALL: [Self; 4] = [Self::Client, Self::Locked, Self::Core, Self::Bus];
}

/// What publishes over the client, and a topic.
struct Stage {
    topic: String,
    payload: Bytes,
    client: Arc<Seated>,
    locked: LockedBus<Seated>,
    core: LockFreeBus<Seated>,
    handle: TopicHandle<Seated>,
}

pub(crate) struct Scene {
    stage: Arc<Stage>,
    bus: Bus,
}

impl Scene {
    pub(crate) async fn new(sides: &Sides) -> Result<Self> {
        let (bootstrap, topic) = (
            sides.broker().bootstrap(),
            sides.fresh_topic(PARTITIONS).await?,
        );
        let config = client::producing(bootstrap, LINGER_MS);
        let client = Arc::new(Seated::new(&config, PACE.publishers)?);
        client.see(&topic, PARTITIONS as usize)?;
        let (locked, core) = (
            LockedBus::new(client.clone()),
            LockFreeBus::new(client.clone()),
        );
        let options = TopicOptions {
            size_limit: 1 << 20,
            route: 3,
        };
        locked.configure(&topic, options);
        let options = Options::from_url(&sides.broker().url())?;
        let options = options.set("linger.ms", LINGER_MS.to_string())?;
        Ok(Self {
            bus: Bus::builder()
                .backend(Kafka::new(options))
                .connect()
                .await?,
            stage: Arc::new(Stage {
                handle: core.topic(&topic, 1 << 20, 3),
                payload: Bytes::from(vec![b'.'; PAYLOAD]),
                topic,
                client,
                locked,
                core,
            }),
        })
    }

    pub(crate) async fn round(&self, side: Side) -> Result<Paced> {
        self.paced(side, WARM_UP).await?;
        let over = Arc::new(AtomicBool::new(false));
        let publishing = async {
            let paced = self.paced(side, PACE).await;
            // Relaxed: only ends the loop.
            over.store(true, Ordering::Relaxed);
            paced
        };
        let (paced, writing) = tokio::join!(publishing, self.writer(side, over.clone()));
        writing?;
        paced
    }

    async fn paced(&self, side: Side, pace: Pace) -> Result<Paced> {
        if matches!(side, Side::Bus) {
            let topic = self.bus.raw_topic(&self.stage.topic)?;
            let payload = self.stage.payload.clone();
            let publish = move |_, _| {
                let (topic, payload) = (topic.clone(), payload.clone());
                async move {
                    topic.publish(&payload).await?;
                    Ok(())
                }
            };
            return pace.run(publish).await;
        }
        let stage = self.stage.clone();
        let publish = move |publisher, _| {
            let stage = stage.clone();
            async move {
                stage.send(side, publisher)?;
                stage.client.acked(publisher).await
            }
        };
        pace.run(publish).await
    }

    /// Holds what it can of that side until it is over.
    async fn writer(&self, side: Side, over: Arc<AtomicBool>) -> Result<()> {
        // Relaxed: only ends the loop.
        let goes_on = move || !over.load(Ordering::Relaxed);
        let stage = self.stage.clone();
        let connect = move |stage: &Stage| {
            std::thread::sleep(HOLD);
            stage.client.clone()
        };
        match side {
            Side::Client => Ok(()),
            Side::Locked | Side::Core => {
                let writes = move || {
                    while goes_on() {
                        match side {
                            Side::Locked => stage.locked.reconnect(|| connect(&stage)),
                            _ => stage.core.reconnect(|| connect(&stage)),
                        }
                        std::thread::sleep(EVERY - HOLD);
                    }
                };
                Ok(tokio::task::spawn_blocking(writes).await?)
            }
            Side::Bus => {
                let config = TopicConfig::new(format!("{}.other", self.stage.topic));
                while goes_on() {
                    self.bus.configure(config.clone()).await?;
                    tokio::time::sleep(EVERY - HOLD).await;
                }
                Ok(())
            }
        }
    }

    pub(crate) async fn end(self, sides: &Sides) -> Result<()> {
        self.bus.close(Duration::from_secs(10)).await;
        sides.delete(&self.stage.topic).await
    }
}

impl Stage {
    fn send(&self, side: Side, publisher: usize) -> Result<()> {
        let place = (&*self.topic, (publisher % PARTITIONS as usize) as i32);
        let send = |client: &Seated| client.send(publisher, place, None, &self.payload);
        let size = self.payload.len();
        match side {
            Side::Client | Side::Bus => send(&self.client),
            Side::Locked => {
                let sent = self
                    .locked
                    .publish(&self.topic, size, |client, _| send(client));
                sent.map_err(|refused| anyhow!("{refused:?}"))?
            }
            Side::Core => {
                let sent = self
                    .core
                    .publish_to(&self.handle, size, |client, _| send(client));
                sent.map_err(|refused| anyhow!("{refused:?}"))?
            }
        }
    }
}
