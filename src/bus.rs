//! The bus: wires the stages and is what users hold. No atomics, no branch on the backend.

use crate::backend::Connection as _;
use crate::backend::any::{Any, BackendChoice};
use crate::backend::{Backend, Capabilities, Host};
use crate::backlog::{self, Backlog};
use crate::close::{self, CloseReport};
use crate::codec::Codec;
#[cfg(feature = "json")]
use crate::codec::Json;
use crate::codec::Raw;
use crate::config::TopicConfig;
use crate::core::{Core, KeptOf, Shared};
use crate::ensure::ensured;
use crate::envelope::Envelope;
use crate::error::{ConfigureError, ConnectError, PublishError};
use crate::events::{BusEvent, Events};
use crate::handle::Topic;
use crate::health::{self, HealthReport};
use crate::metrics::Metrics;
use crate::protocol::credit::Budget;
use crate::publish::{self, Publishing, Target};
use crate::receipt::Receipt;
use crate::results::{Overflow, PublishResults};
use crate::runtime::{Runtime, Tokio};
use crate::settings::Settings;
use crate::supervise;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// An event bus. Clones are handles to the same bus; it lives until it is closed or the last
/// handle (bus or topic) is dropped, which begins a close that nobody waits for.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use clearway::Bus;
/// use std::time::Duration;
///
/// let bus = Bus::connect("memory://").await?;
/// let orders = bus.topic::<String>("orders")?;
/// orders.publish(&"one".to_string()).await?;
/// let report = bus.close(Duration::from_secs(5)).await;
/// assert!(report.drained);
/// # Ok(()) }
/// ```
pub struct Bus {
    owner: Arc<Owner>,
    /// The session when this handle was made: as long as it is the current one, none is looked up.
    kept: KeptOf<Any>,
}

/// What all handles share: when the last one is dropped, the bus closes.
pub(crate) struct Owner {
    core: Arc<Core<Any>>,
}

/// How long a bus whose last handle was dropped goes on with what is inside.
const DROPPED_CLOSE_LIMIT: Duration = Duration::from_secs(5);

impl Bus {
    /// Begins a bus with settings of its own.
    pub fn builder() -> BusBuilder {
        BusBuilder::new()
    }

    /// Connects to `url` with all settings at their defaults: `memory://`, `nats://host:4222`.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::builder().url(url).connect().await
    }

    /// A topic whose values are JSON.
    #[cfg(feature = "json")]
    pub fn topic<T>(&self, name: &str) -> Result<Topic<T, Json>, PublishError>
    where
        T: serde::Serialize + serde::de::DeserializeOwned,
    {
        self.topic_with(name, Json)
    }

    /// A topic whose values are payloads as they are.
    pub fn raw_topic(&self, name: &str) -> Result<Topic<Bytes, Raw>, PublishError> {
        self.topic_with(name, Raw)
    }

    /// A topic whose values `codec` encodes.
    pub fn topic_with<T, C: Codec<T>>(
        &self,
        name: &str,
        codec: C,
    ) -> Result<Topic<T, C>, PublishError> {
        let state = self.core().topic(name)?;
        Ok(Topic::new(self.owner.clone(), state, Arc::new(codec)))
    }

    /// Publishes `payload` to the topic of that name: for the occasional caller. One who publishes often
    /// keeps a [`Topic`].
    ///
    /// Cancel-safe in the sense of [`Publish`](crate::Publish): what was sent stays sent.
    pub async fn publish(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
    ) -> Result<Receipt, PublishError> {
        let core = self.core();
        let envelope = Envelope::new(payload.into(), &*core.shared.runtime);
        let envelope = match publish::accept_at_once((core, &self.kept), topic, envelope) {
            Ok(sent) => return sent.await,
            Err(envelope) => envelope,
        };
        // It is new, or has to wait, or is refused. The version is let go before the wait; the topic
        // is kept by its own count.
        let state = core.topic(topic)?;
        Publishing::new(
            Target {
                core,
                topic: &state,
                known: None,
                kept: Some(&self.kept),
                ordered: false,
            },
            envelope,
        )
        .await
    }

    /// Configures a topic: at the broker first, and here once the broker has said yes.
    ///
    /// # Errors
    ///
    /// When it cannot be had as configured; then the bus goes on with the configuration it had.
    pub async fn configure(&self, config: TopicConfig) -> Result<(), ConfigureError> {
        let core = self.core();
        if core.shared.admission.gate.is_shut() {
            return Err(ConfigureError::Closed);
        }
        core.backend.check_topic(&config)?;
        let topic = core.topic_with(TopicConfig::new(config.name.clone()))?;
        ensured(core, &topic, Some(config)).await
    }

    /// Every outcome from now on, in one stream: for an outbox. `None` while another such stream is out.
    pub fn publish_results(&self, overflow: Overflow) -> Option<PublishResults> {
        PublishResults::begin(self.core(), overflow)
    }

    /// Refuses what comes, lets what is inside finish for at most `limit`, and reports.
    ///
    /// Every closer gets the same report, and the first one's limit counts. Dropping the future stops
    /// nothing: the close goes on. When it returns nothing of the bus runs any more.
    ///
    /// A handler of the bus may close it, and goes on until it ends. One that waits for the close waits for itself: it is cut off at the
    /// limit, or at its own time limit, and its delivery comes again. A task that it spawns may wait.
    ///
    /// At the limit what is left is not acknowledged, and listed. Consumers, side by side, and then the connection have half a second each
    /// at the least to say goodbye to the broker: so much longer it takes when the broker does not answer. Handlers that block their threads are waited for.
    pub async fn close(&self, limit: Duration) -> CloseReport {
        close::begin(self.core(), limit);
        self.core().closing.report.heard().await
    }

    /// How the bus is, with a real round trip to the broker of at most `limit`.
    pub async fn health(&self, limit: Duration) -> HealthReport {
        health::check(self.core(), limit).await
    }

    /// The numbers of the bus.
    pub fn metrics(&self) -> Metrics {
        let client = (self.core().connection()).and_then(|connection| connection.numbers());
        Metrics {
            client,
            ..self.core().shared.admission.counters.snapshot()
        }
    }

    /// What happens to the bus from now on.
    pub fn events(&self) -> Events {
        self.core().shared.board.watch()
    }

    /// What the backend can do.
    pub fn capabilities(&self) -> Capabilities {
        self.core().backend.capabilities()
    }

    pub(crate) fn core(&self) -> &Arc<Core<Any>> {
        &self.owner.core
    }
}

impl Clone for Bus {
    fn clone(&self) -> Self {
        Self {
            owner: self.owner.clone(),
            kept: self.core().sessions.keep(),
        }
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backend = &self.core().backend;
        f.debug_struct("Bus")
            .field("backend", &backend.name())
            .field("endpoint", &backend.endpoint())
            .finish_non_exhaustive()
    }
}

impl Owner {
    pub(crate) fn core(&self) -> &Arc<Core<Any>> {
        &self.core
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        close::begin(&self.core, DROPPED_CLOSE_LIMIT);
    }
}

/// The settings of a bus to be.
#[derive(Debug)]
pub struct BusBuilder {
    backend: Option<Result<BackendChoice, ConnectError>>,
    runtime: Option<Arc<dyn Runtime>>,
    settings: Settings,
    topics: Vec<TopicConfig>,
}

impl BusBuilder {
    fn new() -> Self {
        Self {
            backend: None,
            runtime: None,
            settings: Settings::default(),
            topics: Vec::new(),
        }
    }

    /// Which backend, by URL: `memory://`, `nats://[user:password@]host:port[,host:port]`.
    pub fn url(mut self, url: &str) -> Self {
        self.backend = Some(BackendChoice::from_url(url));
        self
    }

    /// Which backend, with options of its own: a [`Memory`](crate::memory::Memory), a `Nats`.
    pub fn backend(mut self, backend: impl Into<BackendChoice>) -> Self {
        self.backend = Some(Ok(backend.into()));
        self
    }

    /// What may be in flight at once (4096 envelopes, 64 MiB). More waits, or is handed back.
    pub fn in_flight(mut self, envelopes: u64, bytes: u64) -> Self {
        self.settings.in_flight = Budget { envelopes, bytes };
        self
    }

    /// How many publishes may be in flight or have a receipt that is held unread (8192). At least `in_flight`'s envelopes.
    pub fn receipts_max(mut self, receipts: usize) -> Self {
        self.settings.receipts_max = receipts;
        self
    }

    /// When the bus says that publishes pile up: never, unless this says when. See [`Backlog`].
    pub fn backlog(mut self, backlog: Backlog) -> Self {
        self.settings.backlog = Some(backlog);
        self
    }

    /// How many topics the bus may know (10,000).
    pub fn topics_max(mut self, topics: usize) -> Self {
        self.settings.topics_max = topics;
        self
    }

    /// How long ensuring a topic may take, reconnects included (10 s).
    pub fn ensure_timeout(mut self, limit: Duration) -> Self {
        self.settings.ensure_timeout = limit;
        self
    }

    /// How long to wait between attempts to reconnect, and between those to consume again what was refused: the first time, and at most (50 ms, 5 s).
    pub fn reconnect_delay(mut self, first: Duration, most: Duration) -> Self {
        self.settings.reconnect_delay_min = first;
        self.settings.reconnect_delay_max = most.max(first);
        self
    }

    /// Configures a topic as part of connecting.
    pub fn topic(mut self, config: TopicConfig) -> Self {
        self.topics.push(config);
        self
    }

    /// Tasks, time and randomness; the caller's tokio runtime by default.
    pub fn runtime(mut self, runtime: Arc<dyn Runtime>) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Connects, and configures the topics that were given.
    ///
    /// # Errors
    ///
    /// When a setting is wrong (nothing is tried then), when there is no connection within the
    /// backend's connect timeout, or when a topic cannot be had as configured.
    pub async fn connect(self) -> Result<Bus, ConnectError> {
        self.validate()?;
        let Some(backend) = self.backend else {
            return Err(ConnectError::config(
                "backend",
                "none was chosen; call `url` or `backend`",
            ));
        };
        let backend = backend?.into_any();
        for topic in &self.topics {
            backend
                .check_topic(topic)
                .map_err(|error| config_error(topic, &error))?;
        }
        let runtime = match self.runtime {
            Some(runtime) => runtime,
            None => Arc::new(Tokio::current().ok_or(ConnectError::NoRuntime)?),
        };
        let shared = Arc::new(Shared::new(&self.settings, runtime));
        let host: Arc<dyn Host> = shared.clone();
        let first = Arc::new(backend.connect(host, 1).await?);
        let endpoint = backend.endpoint();
        let core = Arc::new(Core::new(shared, backend, first, self.settings));
        core.shared.board.tell(BusEvent::Connected {
            endpoint,
            generation: 1,
        });
        supervise::spawn(&core);
        backlog::spawn(&core);
        let bus = Bus {
            kept: core.sessions.keep(),
            owner: Arc::new(Owner { core }),
        };
        for topic in self.topics {
            let outcome = bus.configure(topic.clone()).await;
            if let Err(error) = outcome {
                bus.close(Duration::ZERO).await;
                return Err(config_error(&topic, &error));
            }
        }
        Ok(bus)
    }

    fn validate(&self) -> Result<(), ConnectError> {
        let Settings {
            in_flight,
            receipts_max,
            topics_max,
            ..
        } = &self.settings;
        if !(1..1 << 22).contains(&in_flight.envelopes) {
            return Err(ConnectError::config(
                "in_flight",
                "envelopes must be 1 to 4194303",
            ));
        }
        if !(1..1 << 40).contains(&in_flight.bytes) {
            return Err(ConnectError::config(
                "in_flight",
                "bytes must be 1 to 2^40 - 1",
            ));
        }
        if !(1..1 << 24).contains(receipts_max) || (*receipts_max as u64) < in_flight.envelopes {
            let reason = format!("must be {} (in_flight) to 16777215", in_flight.envelopes);
            return Err(ConnectError::config("receipts_max", reason));
        }
        if *topics_max == 0 {
            return Err(ConnectError::config("topics_max", "must be at least 1"));
        }
        Ok(())
    }
}

fn config_error(topic: &TopicConfig, error: &ConfigureError) -> ConnectError {
    ConnectError::config(format!("topic `{}`", topic.name()), error.to_string())
}
