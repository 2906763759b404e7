//! The simulated Kafka as a backend of the bus, and its levers.
//!
//! It promises what the bus's own Kafka backend promises, refuses what that refuses, and never tells the bus anything that no broker or client
//! could know.

use super::cluster::Place;
use super::consumer::SimConsumer;
use super::member::Client;
use super::net::{Net, Shared};
use super::produce::Pipe;
use super::settings::Settings;
use crate::sim::broker::DEAD_LETTERS;
use crate::sim::fault::{Fault, Weather};
use clearway::backend::{
    Backend, Capabilities, Connection, Host, Route, Slot, SubscribeRequest, check_capabilities,
    partition_of,
};
use clearway::{
    BackendChoice, BusEvent, ClientNumbers, ConfigureError, ConnectError, Durability, Ensure,
    Envelope, Failure, FailureKind, Runtime, SubscribeError, TopicConfig, Unsupported,
};
use parking_lot::Mutex;
use std::sync::{Arc, Weak};
use std::time::Duration;

pub(super) const NAME: &str = "kafka-sim";
/// How long connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// As large a message may be, as a client has it that is told nothing (`message.max.bytes`).
const MESSAGE_MAX: usize = 1_000_000;
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(50);

/// The brokers. Clones are the same.
#[derive(Clone)]
pub struct Kafka {
    pub(super) shared: Arc<Shared>,
}

impl Kafka {
    /// Brokers with nothing on them, whose own work runs in `ground`.
    pub fn over(weather: &Weather, ground: Arc<dyn Runtime>, settings: Settings) -> Self {
        Self {
            shared: Arc::new(Shared::new(weather, ground, settings)),
        }
    }

    /// The backend of the buses of one process.
    pub fn of_process(&self, process: u32) -> BackendChoice {
        BackendChoice::custom(OfProcess {
            shared: self.shared.clone(),
            process,
        })
    }
}

struct OfProcess {
    shared: Arc<Shared>,
    process: u32,
}

/// A connection: a producer, and the way to the brokers for consumers.
struct SimConnection {
    net: Net,
    host: Arc<dyn Host>,
    pipe: Arc<Pipe>,
    /// Consumers over it: they end with it.
    clients: Mutex<Vec<Weak<Client>>>,
}

/// How to get to a topic.
#[derive(Debug)]
struct SimRoute {
    topic: Arc<str>,
    id: u64,
    partitions: u32,
}

impl Route for SimRoute {
    fn durability(&self) -> Durability {
        Durability::Stored
    }

    fn partitions(&self) -> u32 {
        self.partitions
    }
}

impl Backend for OfProcess {
    type Connection = SimConnection;

    fn name(&self) -> &'static str {
        NAME
    }

    fn endpoint(&self) -> String {
        format!("{NAME}://{}", self.process)
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::least(Durability::Stored);
        capabilities.partitions = true;
        capabilities.replicas = true;
        capabilities.key_order_across_members = true;
        capabilities
    }

    fn check_topic(&self, config: &TopicConfig) -> Result<(), ConfigureError> {
        check_capabilities(NAME, &self.capabilities(), config)?;
        match config.retention.envelopes {
            None => Ok(()),
            Some(_) => Err(Unsupported {
                backend: NAME,
                what: "retention by envelopes; by age and by bytes it can".into(),
            }
            .into()),
        }
    }

    async fn connect(
        &self,
        host: Arc<dyn Host>,
        generation: u64,
    ) -> Result<SimConnection, ConnectError> {
        let runtime = host.runtime().clone();
        let net = Net::new(self.shared.clone(), self.process, runtime);
        let until = net.now() + CONNECT_LIMIT;
        let producer = loop {
            match net.ask(|cluster, _| cluster.producer()).await {
                Ok(producer) => break producer,
                Err(failure) if net.now() >= until => {
                    return Err(ConnectError::Unreachable {
                        endpoint: self.endpoint(),
                        limit: CONNECT_LIMIT,
                        failure,
                    });
                }
                Err(_) => net.sleep(AGAIN).await,
            }
        };
        let pipe = Pipe::new(net.another(), host.clone(), (producer, generation));
        let mut pipes = self.shared.pipes.lock();
        pipes.retain(|(_, pipe)| pipe.strong_count() > 0);
        pipes.push((self.process, Arc::downgrade(&pipe)));
        drop(pipes);
        Ok(SimConnection {
            net,
            host,
            pipe,
            clients: Mutex::default(),
        })
    }
}

impl Connection for SimConnection {
    type Route = SimRoute;
    type Consumer = SimConsumer;

    fn produce(&self, route: &SimRoute, envelope: Envelope, slot: Slot) -> Result<(), Failure> {
        let weather = &self.net.shared.weather;
        if *route.topic == *DEAD_LETTERS && weather.strikes(Fault::DeadLetter) {
            let text = "Kafka: a policy of the broker forbids it";
            return Err(Failure::new(FailureKind::Broker, text));
        }
        if envelope.size() > MESSAGE_MAX {
            let text = "Kafka: the message is larger than the client sends";
            return Err(Failure::new(FailureKind::TooLarge, text));
        }
        let partition = match &envelope.key {
            Some(key) => partition_of(key, route.partitions),
            // The low bits of an id are random.
            None => (envelope.id.as_u128() as u32) % route.partitions.max(1),
        };
        let place = Place {
            topic: route.topic.clone(),
            id: route.id,
            partition,
        };
        self.pipe.produce(place, envelope, slot)
    }

    async fn ensure(&self, config: &TopicConfig) -> Result<SimRoute, ConfigureError> {
        let (topic, wanted) = (config.name.clone(), config.clone());
        let asked = self
            .net
            .ask(move |cluster, now| cluster.ensure(now, &wanted));
        let answer = asked.await.map_err(|failure| ConfigureError::Failed {
            topic: topic.clone(),
            failure,
        })?;
        let ensured = answer?;
        if ensured.created {
            let topic = topic.clone();
            self.host.event(BusEvent::TopicCreated { topic });
        }
        if let Some(differences) = ensured.updated {
            let topic = topic.clone();
            self.host
                .event(BusEvent::TopicUpdated { topic, differences });
        }
        if let Some(differences) = ensured.differs {
            let topic = topic.clone();
            self.host
                .event(BusEvent::TopicMismatch { topic, differences });
        }
        let partitions = match (config.ensure, config.partitions) {
            // It is not looked at.
            (Ensure::Skip, Some(partitions)) => partitions,
            _ => ensured.partitions,
        };
        Ok(SimRoute {
            topic,
            id: ensured.id,
            partitions,
        })
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<SimConsumer, SubscribeError> {
        if request.foreign.is_some() {
            return Err(Unsupported {
                backend: NAME,
                what: "to read what is no topic".into(),
            }
            .into());
        }
        let topic = request.topic.name.clone();
        let until = self.net.now() + self.net.settings().request_timeout * 2;
        loop {
            let (net, host) = (self.net.another(), self.host.clone());
            match Client::start(net, host, request.clone()).await {
                Ok(client) => {
                    let mut clients = self.clients.lock();
                    clients.retain(|client| client.strong_count() > 0);
                    clients.push(Arc::downgrade(&client));
                    return Ok(SimConsumer::new(client));
                }
                // A broker that comes up refuses for a moment.
                Err(failure)
                    if failure.kind() != FailureKind::NoTopic && self.net.now() < until =>
                {
                    self.net.sleep(AGAIN).await;
                }
                Err(failure) => return Err(SubscribeError::Failed { topic, failure }),
            }
        }
    }

    async fn ping(&self) -> Result<(), Failure> {
        self.net.ask(|_, _| ()).await
    }

    fn numbers(&self) -> Option<ClientNumbers> {
        None
    }

    async fn take_over(&self, lost: &Self) {
        // This client reconnects by itself: what it could not send it has settled.
        lost.pipe.close(Duration::ZERO).await;
    }

    async fn close(&self, limit: Duration) {
        let clients = std::mem::take(&mut *self.clients.lock());
        if self.pipe.has_failed() {
            // Consumers that are at work end now, and not when it was lost.
            self.net.shared.tell_cut(self.net.process);
        }
        (clients.iter().filter_map(Weak::upgrade)).for_each(|client| client.disconnect());
        self.pipe.close(limit).await;
    }
}

impl Drop for SimConnection {
    /// Without `close` it ends all the same, with nothing flushed.
    fn drop(&mut self) {
        self.pipe.stop(Duration::ZERO);
    }
}
