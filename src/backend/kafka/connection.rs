//! Connection: the clients of one live connection to Kafka, and how they end.
//!
//! The client connects and reconnects to brokers by itself. What the bus calls a lost connection is a client that is no good any
//! more: one whose idempotent producer has failed for good.

use super::admin::Admins;
use super::codes;
use super::connect::{self, Connected, NAME};
use super::consume::KafkaConsumer;
use super::ends::Ends;
use super::options::Options;
use super::produce::{Pipe, Route};
use super::{ensure, subscribe, threads};
use crate::backend::{self, Host, Slot, SubscribeRequest};
use crate::config::{Ensure, TopicConfig};
use crate::envelope::Envelope;
use crate::error::{ConfigureError, ConnectError, Failure, SubscribeError};
use crate::metrics::ClientNumbers;
use crate::protocol::sync::Mutex;
use crate::runtime::timeout;
use crate::signal::Signal;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What is asked for when only the answer counts. Asking makes no topic.
const PING: &str = "clearway.ping";

/// A connection to Kafka.
pub struct KafkaConnection {
    pub(super) host: Arc<dyn Host>,
    pub(super) options: Arc<Options>,
    pub(super) generation: u64,
    /// The last epoch that a consumer was given.
    pub(super) epochs: Arc<Mutex<u64>>,
    /// Said when the connection is closed: consumers end with it.
    pub(super) closed: Arc<Signal<()>>,
    pub(super) ends: Arc<Ends>,
    pipe: Pipe,
    pub(super) admins: Admins,
}

impl KafkaConnection {
    pub(super) async fn open(
        options: Arc<Options>,
        host: Arc<dyn Host>,
        generation: u64,
    ) -> Result<Self, ConnectError> {
        let connecting = connect::connect(options.clone(), host.clone(), generation);
        let Connected { pipe, admins } = connecting.await?;
        Ok(Self {
            ends: Arc::new(Ends::new(options.clone())),
            host,
            options,
            generation,
            epochs: Arc::new(Mutex::new(generation << 32)),
            closed: Arc::new(Signal::new()),
            pipe,
            admins,
        })
    }
}

impl backend::Connection for KafkaConnection {
    type Route = Route;
    type Consumer = KafkaConsumer;

    fn produce(&self, route: &Route, envelope: Envelope, slot: Slot) -> Result<(), Failure> {
        self.pipe.produce(route, &envelope, slot)
    }

    async fn ensure(&self, config: &TopicConfig) -> Result<Route, ConfigureError> {
        let asking = self
            .admins
            .ask()
            .map_err(|failure| ConfigureError::Failed {
                topic: config.name.clone(),
                failure,
            })?;
        let ensured = ensure::ensure(&asking, &self.options, &*self.host, config).await;
        asking.heard(match &ensured {
            Err(ConfigureError::Failed { failure, .. }) => Some(failure),
            _ => None,
        });
        let route = ensured?;
        if config.ensure != Ensure::Skip {
            let (client, limit) = (self.pipe.client(), self.options.request_timeout);
            let topic = config.name.clone();
            let seen = threads::off("clearway-kafka-see", move || {
                Pipe::see(&client, &topic, limit);
            });
            seen.await.map_err(|failure| ConfigureError::Failed {
                topic: config.name.clone(),
                failure,
            })?;
        }
        Ok(route)
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<KafkaConsumer, SubscribeError> {
        subscribe::subscribe(self, request).await
    }

    async fn ping(&self) -> Result<(), Failure> {
        let (asking, limit) = (self.admins.ask()?, self.options.request_timeout);
        let admin = asking.client();
        let asked = threads::off("clearway-kafka-ping", move || {
            admin.inner().fetch_metadata(Some(PING), limit).map(drop)
        });
        let answered = asked.await?.map_err(|error| codes::failure(&error));
        asking.heard(answered.as_ref().err());
        answered
    }

    fn numbers(&self) -> Option<ClientNumbers> {
        self.pipe.state.numbers()
    }

    async fn take_over(&self, lost: &Self) {
        // A client that has failed for good sends nothing again. What it had is settled: nobody can tell.
        let client = lost.pipe.client();
        let purged = threads::off("clearway-kafka-purge", move || Pipe::purge(&client)).await;
        if let Err(failure) = purged {
            // Then their time runs out.
            tracing::warn!(backend = NAME, %failure, "what a lost client had is not taken back");
        }
    }

    fn flush(&self) {
        self.pipe.flush();
    }

    async fn close(&self, limit: Duration) {
        let runtime = self.host.runtime();
        self.closed.say(());
        // The rest is for its end.
        self.pipe.stop(limit / 2);
        let ended = async {
            self.pipe.ended().await;
            let (admin, ends) = (self.admins.close(), self.ends.clone());
            let end = move || {
                ends.close();
                if let Some(admin) = admin {
                    admin.end_here();
                }
            };
            let _ = threads::off("clearway-kafka-end", end).await;
        };
        if timeout(runtime, limit, ended).await.is_none() {
            // Its threads end by themselves. What they settle is settled already.
            tracing::warn!(
                backend = NAME,
                generation = self.generation,
                "the Kafka client has not ended yet"
            );
        }
    }
}

impl Drop for KafkaConnection {
    /// Without `close` it ends all the same.
    fn drop(&mut self) {
        self.closed.say(());
    }
}

impl fmt::Debug for KafkaConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConnection")
            .field("endpoint", &self.options.endpoint())
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}
