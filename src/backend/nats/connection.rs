//! Connection: one live connection to NATS, and how it ends.

use super::api::Api;
use super::connect::{self, Connected};
use super::consume::NatsConsumer;
use super::latch::Latch;
use super::options::Options;
use super::pins::Pins;
use super::pipeline::{Line, Pipeline};
use super::produce::{Order, Pipe, Route, Targets};
use super::{ensure, subscribe};
use crate::backend::{self, Host, Slot, SubscribeRequest};
use crate::config::TopicConfig;
use crate::envelope::Envelope;
use crate::error::{ConfigureError, ConnectError, Failure, FailureKind, SubscribeError};
use crate::metrics::ClientNumbers;
use crate::protocol::sync::Mutex;
use crate::runtime::timeout;
use bytes::BytesMut;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A connection to NATS.
pub struct NatsConnection {
    pub(super) host: Arc<dyn Host>,
    pub(super) options: Arc<Options>,
    pub(super) pins: Arc<Pins>,
    targets: Arc<Targets>,
    pub(super) generation: u64,
    pub(super) can_pin: bool,
    pipe: Arc<Pipe>,
    /// `None` once it was closed.
    api: Mutex<Option<Api>>,
    client_gone: Arc<Latch>,
}

impl NatsConnection {
    pub(super) async fn open(
        options: Arc<Options>,
        (pins, targets): (Arc<Pins>, Arc<Targets>),
        host: Arc<dyn Host>,
        generation: u64,
    ) -> Result<Self, ConnectError> {
        let Connected {
            api,
            client_gone,
            can_pin,
        } = connect::connect(&options, &*host).await?;
        let inbox = api.client.new_inbox();
        let acks = api.client.subscribe(format!("{inbox}.*")).await;
        let acks = acks.map_err(|error| ConnectError::Unreachable {
            endpoint: options.endpoint(),
            limit: options.connect_timeout,
            failure: Failure::caused(FailureKind::Disconnected, "lost again at once", error),
        })?;
        let line = Line {
            client: api.client.clone(),
            inbox: acks,
            prefix: format!("{inbox}.").into(),
            replies: BytesMut::new(),
        };
        let pipe = Arc::new(Pipe::new(host.slots()));
        let limit = options.publish_timeout;
        let pipeline = Pipeline::new(
            pipe.clone(),
            host.clone(),
            generation,
            limit,
            targets.clone(),
            line,
        );
        host.runtime()
            .spawn("clearway-nats", Box::pin(pipeline.run()));
        Ok(Self {
            host,
            options,
            pins,
            targets,
            generation,
            can_pin,
            pipe,
            api: Mutex::new(Some(api)),
            client_gone,
        })
    }

    /// The way to JetStream, unless it was closed.
    pub(super) fn api(&self) -> Result<Api, Failure> {
        self.api
            .lock()
            .clone()
            .ok_or_else(|| Failure::new(FailureKind::Disconnected, "the connection was closed"))
    }
}

impl backend::Connection for NatsConnection {
    type Route = Route;
    type Consumer = NatsConsumer;

    fn produce(&self, route: &Route, envelope: Envelope, slot: Slot) -> Result<(), Failure> {
        self.pipe.produce(route, envelope, slot)
    }

    async fn ensure(&self, config: &TopicConfig) -> Result<Route, ConfigureError> {
        let api = self.api().map_err(|failure| ConfigureError::Failed {
            topic: config.name.clone(),
            failure,
        })?;
        let target = ensure::ensure(&api, &self.options, &*self.host, config).await?;
        Ok(self.targets.route(target))
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<NatsConsumer, SubscribeError> {
        subscribe::subscribe(self, request).await
    }

    async fn ping(&self) -> Result<(), Failure> {
        let answer = self.api()?.call("INFO", &Value::Null).await;
        answer.map(drop).map_err(|error| error.into_failure())
    }

    fn numbers(&self) -> Option<ClientNumbers> {
        None
    }

    async fn take_over(&self, lost: &Self) {
        lost.pipe.order(Order::Surrender);
        let handed_over = std::pin::pin!(lost.pipe.has_surrendered.wait());
        let ended = std::pin::pin!(lost.pipe.ended.wait());
        // A task that has ended has left its own to the bus.
        futures_util::future::select(handed_over, ended).await;
        self.pipe.order(Order::Adopt(lost.pipe.take_surrendered()));
    }

    async fn close(&self, limit: Duration) {
        let runtime = self.host.runtime();
        let until = runtime.now() + limit;
        let left = || until.saturating_sub(runtime.now());
        // The rest is for its end.
        self.pipe.order(Order::Stop(limit / 2));
        timeout(runtime, left(), self.pipe.ended.wait()).await;
        let Some(api) = self.api.lock().take() else {
            return;
        };
        // Consumers that are still held have handles of the client too: end it under them.
        let end = async {
            let _ = api.client.drain().await;
            drop(api);
            self.client_gone.wait().await;
        };
        if timeout(runtime, left(), end).await.is_none() {
            // Its socket takes nothing: the client notices when its pings stay unanswered.
            tracing::warn!(
                generation = self.generation,
                "the NATS client has not ended yet; it will within three ping intervals"
            );
        }
    }
}

impl Drop for NatsConnection {
    /// Without `close` the task ends all the same, with nothing flushed.
    fn drop(&mut self) {
        self.pipe.order(Order::Stop(Duration::ZERO));
    }
}

impl fmt::Debug for NatsConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsConnection")
            .field("endpoint", &self.options.endpoint())
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}
