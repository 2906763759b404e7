//! Connection: the clients of one live connection to Kafka, and how they end.
//!
//! The client connects and reconnects to brokers by itself. What the bus calls a lost connection is a client that is no good any
//! more: one whose idempotent producer has failed for good.

use super::codes;
use super::connect::{self, Admin, Connected, NAME};
use super::consume::KafkaConsumer;
use super::ends::Ends;
use super::options::Options;
use super::produce::{Pipe, Route};
use super::{ensure, subscribe, threads};
use crate::backend::{self, Host, Slot, SubscribeRequest};
use crate::config::{Ensure, TopicConfig};
use crate::envelope::Envelope;
use crate::error::{ConfigureError, ConnectError, Failure, FailureKind, SubscribeError};
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
    /// `None` once it was closed.
    admin: Mutex<Option<Arc<Admin>>>,
}

impl KafkaConnection {
    pub(super) async fn open(
        options: Arc<Options>,
        host: Arc<dyn Host>,
        generation: u64,
    ) -> Result<Self, ConnectError> {
        let connecting = connect::connect(options.clone(), host.clone(), generation);
        let Connected { pipe, admin } = connecting.await?;
        Ok(Self {
            ends: Arc::new(Ends::new(options.clone())),
            host,
            options,
            generation,
            epochs: Arc::new(Mutex::new(generation << 32)),
            closed: Arc::new(Signal::new()),
            pipe,
            admin: Mutex::new(Some(Arc::new(admin))),
        })
    }

    /// The way to ask about topics, unless it was closed.
    pub(super) fn admin(&self) -> Result<Arc<Admin>, Failure> {
        let admin = self.admin.lock().clone();
        admin.ok_or_else(|| Failure::new(FailureKind::Disconnected, "the connection was closed"))
    }
}

impl backend::Connection for KafkaConnection {
    type Route = Route;
    type Consumer = KafkaConsumer;

    fn produce(&self, route: &Route, envelope: Envelope, slot: Slot) -> Result<(), Failure> {
        self.pipe.produce(route, &envelope, slot)
    }

    async fn ensure(&self, config: &TopicConfig) -> Result<Route, ConfigureError> {
        let admin = self.admin().map_err(|failure| ConfigureError::Failed {
            topic: config.name.clone(),
            failure,
        })?;
        let route = ensure::ensure(&admin, &self.options, &*self.host, config).await?;
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
        let (admin, limit) = (self.admin()?, self.options.request_timeout);
        let asked = threads::off("clearway-kafka-ping", move || {
            admin.inner().fetch_metadata(Some(PING), limit).map(drop)
        });
        asked.await?.map_err(|error| codes::failure(&error))
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
            let (admin, ends) = (self.admin.lock().take(), self.ends.clone());
            let end = move || {
                ends.close();
                // Who is still asking something has it for a moment longer.
                if let Some(admin) = admin.and_then(Arc::into_inner) {
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
