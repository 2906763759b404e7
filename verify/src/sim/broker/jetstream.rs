//! A simulated NATS JetStream: streams, durables with a pinned owner, ack wait, redelivery, a duplicate window, and a disk that is synced
//! now and then.
//!
//! What it is after is what a bus has to bear: answers that do not come, deliveries that come again, owners that change, and a server that is
//! killed. It does not speak the protocol of NATS; that `src/backend/nats` does is tried on the real server.

mod connection;
mod consumer;
mod durable;
mod ensure;
mod server;
mod stream;
mod wire;

use super::SimBroker;
use crate::history::Phase;
use crate::sim::fault::{Fault, Weather};
use crate::sim::world::Process;
use clearway::backend::{Backend, Capabilities, Host, check_capabilities};
use clearway::{
    BackendChoice, ConfigureError, ConnectError, Durability, Failure, FailureKind, Runtime,
    TopicConfig,
};
use connection::{JetConnection, Link};
use server::{Server, TICK};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use uuid::Uuid;
use wire::{Packet, Wire};

const NAME: &str = "jetstream";

/// The broker. Clones are the same.
#[derive(Clone)]
pub struct JetStream(Arc<Shared>);

/// What the broker, its wire and its clients share.
struct Shared {
    weather: Weather,
    wire: Arc<Wire>,
    server: Mutex<Server>,
    tickets: AtomicU64,
}

/// The backend of one process.
struct Client {
    shared: Arc<Shared>,
    process: u32,
}

impl Shared {
    fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed)
    }

    /// Cuts a connection; its client finds out in a moment.
    fn cut(&self, link: &Arc<Link>) {
        link.cut();
        self.tell_cut(link);
        let weather = self.weather.clone();
        let (world, link) = (self.weather.world().clone(), link.clone());
        let delay = self.weather.delay();
        let sleep = world.sleep(delay);
        world.spawn(
            "sim-cut",
            Box::pin(async move {
                sleep.await;
                if link.lose()
                    && let Some(recorder) = weather.recorder()
                {
                    recorder.disconnect(link.process, false);
                }
            }),
        );
    }

    fn tell_cut(&self, link: &Link) {
        if let Some(recorder) = self.weather.recorder() {
            recorder.disconnect(link.process, false);
        }
    }

    fn links(&self, of: impl Fn(&Link) -> bool) -> Vec<Arc<Link>> {
        let mut server = self.server();
        server.links.retain(|link| !link.is_cut());
        server
            .links
            .iter()
            .filter(|link| of(link))
            .cloned()
            .collect()
    }
}

impl SimBroker for JetStream {
    const NAME: &'static str = NAME;

    const FAULTS: &'static [Fault] = &[
        Fault::DropBefore,
        Fault::DropAfter,
        Fault::LateAck,
        Fault::LateNetwork,
        Fault::LostAnswer,
        Fault::AckWait,
        Fault::BrokerKill,
        Fault::LazyFsync,
        Fault::Deleted,
        Fault::OffsetGap,
        Fault::Disconnect,
        Fault::DeadLetter,
    ];

    const GOALS: &'static [&'static str] = &[
        "a publish that the broker had already",
        "a publish sent again after a reconnect",
        "a delivery that comes again",
        "a delivery that was not answered in time",
        "a delivery repeated while its handler is at work",
        "a pin that was taken from who fell silent",
        "a member that was given up comes back",
        "a revoke while deliveries are out",
        "an acknowledged envelope lost with the broker's cache",
    ];

    fn new(weather: &Weather) -> Self {
        let wire = Arc::new(Wire::new(weather));
        let shared = Arc::new(Shared {
            weather: weather.clone(),
            server: Mutex::new(Server::new(weather, wire.clone())),
            wire,
            tickets: AtomicU64::new(0),
        });
        let world = weather.world();
        let carrying = shared.clone();
        world.spawn(
            "sim-wire",
            Box::pin(async move {
                loop {
                    let (link, packet) = carrying.wire.next().await;
                    match packet {
                        Packet::Up(number, up) if link.comes_through(number) => {
                            carrying.server().hear(&link, up)
                        }
                        Packet::Up(..) => {}
                        Packet::Down(down) => link.hear(down),
                    }
                }
            }),
        );
        let (ticking, clock) = (shared.clone(), world.clone());
        world.spawn(
            "sim-server",
            Box::pin(async move {
                loop {
                    clock.sleep(TICK).await;
                    ticking.server().tick();
                }
            }),
        );
        Self(shared)
    }

    fn backend(&self, process: &Process) -> BackendChoice {
        BackendChoice::custom(Client {
            shared: self.0.clone(),
            process: process.number(),
        })
    }

    fn killed(&self, process: u32) {
        for link in self.0.links(|link| link.process == process) {
            link.cut();
        }
    }

    fn disconnect(&self, process: u32) {
        for link in self.0.links(|link| link.process == process) {
            self.0.cut(&link);
        }
    }

    fn kill(&self) {
        for link in self.0.links(|_| true) {
            self.0.cut(&link);
        }
        // No connection of before reaches the next one.
        self.0.wire.clear();
        let weather = &self.0.weather;
        let loses = weather.strikes(Fault::LazyFsync);
        let now = weather.world().now();
        let mut server = self.0.server();
        server.is_up = false;
        server.members.clear();
        for (topic, stream) in &mut server.streams {
            for durable in stream.durables.values_mut() {
                durable.give(None, 0);
            }
            if !loses {
                continue;
            }
            if let Some(recorder) = weather.recorder() {
                recorder.erased(topic, Phase::Begin);
            }
            if stream.lose_unsynced(now) {
                weather.goal("an acknowledged envelope lost with the broker's cache");
            }
            if let Some(recorder) = weather.recorder() {
                recorder.erased(topic, Phase::End);
            }
        }
    }

    fn restart(&self) {
        self.0.server().is_up = true;
    }

    fn delete_topic(&self, topic: &str) -> bool {
        self.0.server().delete(topic)
    }

    fn committed(&self, _topic: &str, _group: &str) -> BTreeMap<u32, u64> {
        BTreeMap::new()
    }

    fn stored(&self, topic: &str) -> BTreeMap<(u32, u64), Uuid> {
        let server = self.0.server();
        let stream = server.streams.get(topic);
        let listed = stream.into_iter().flat_map(|stream| stream.listed());
        listed
            .map(|(partition, sequence, id)| ((partition, sequence), id))
            .collect()
    }

    fn lag(&self, topic: &str, group: &str) -> u64 {
        let server = self.0.server();
        let Some(stream) = server.streams.get(topic) else {
            return 0;
        };
        let of_it = stream.durables.iter().filter(|((of, _), _)| &**of == group);
        let lag = of_it
            .map(|((_, partition), durable)| durable.lag(&stream.partitions[*partition as usize]));
        lag.sum()
    }
}

impl Backend for Client {
    type Connection = JetConnection;

    fn name(&self) -> &'static str {
        NAME
    }

    fn endpoint(&self) -> String {
        format!("{NAME}://simulated")
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::least(Durability::Stored);
        capabilities.partitions = true;
        capabilities.dedup_window = Some(stream::DUPLICATE_WINDOW);
        capabilities.key_order_across_members = true;
        capabilities.delayed_nack = true;
        capabilities.counts_deliveries = true;
        capabilities.settles_each = true;
        capabilities
    }

    fn check_topic(&self, config: &TopicConfig) -> Result<(), ConfigureError> {
        check_capabilities(NAME, &self.capabilities(), config)
    }

    async fn connect(
        &self,
        host: Arc<dyn Host>,
        generation: u64,
    ) -> Result<JetConnection, ConnectError> {
        let runtime = host.runtime().clone();
        runtime.sleep(self.shared.weather.delay() * 2).await;
        if !self.shared.server().is_up {
            return Err(ConnectError::Unreachable {
                endpoint: self.endpoint(),
                limit: Duration::ZERO,
                failure: Failure::new(FailureKind::Disconnected, "nobody listens there"),
            });
        }
        let link = Link::new(&self.shared.weather, self.process, host, generation);
        self.shared.server().links.push(link.clone());
        runtime.spawn(
            "jetstream-client",
            Box::pin(link.clone().run(self.shared.wire.clone())),
        );
        Ok(JetConnection::new(link, self.shared.clone()))
    }
}
