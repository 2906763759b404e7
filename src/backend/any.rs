//! Any: the backend chosen at run time. The only place that knows them all, and it only forwards.
//! One that was not compiled in is [`custom`](super::custom).

use super::custom::{Custom, CustomConnection, CustomConsumer, CustomRoute, CustomToken};
use super::{
    Answer, Answered, Backend, Capabilities, Connection, Consumer, Host, Incoming, Route, Slot,
    SubscribeRequest,
};
#[cfg(feature = "kafka")]
use crate::backend::kafka;
#[cfg(feature = "memory")]
use crate::backend::memory;
#[cfg(feature = "nats")]
use crate::backend::nats;
use crate::config::{Durability, TopicConfig};
use crate::envelope::Envelope;
use crate::error::{ConfigureError, ConnectError, Failure, FailureKind, SubscribeError};
use crate::metrics::ClientNumbers;
use std::sync::Arc;
use std::time::Duration;

/// One of the backends that were compiled in, or [one of your own](BackendChoice::custom).
#[derive(Debug)]
pub struct BackendChoice(Any);

macro_rules! any {
    ($((($($when:tt)*), $variant:ident, $module:ident, $backend:ty, $connection:ty, $route:ty, $consumer:ty, $token:ty)),* $(,)?) => {
        #[derive(Debug)]
        pub(crate) enum Any { $(#[cfg($($when)*)] $variant($backend)),* }

        // Made once and held behind an `Arc`; a box would cost a hop on every publish.
        #[allow(clippy::large_enum_variant)]
        pub(crate) enum AnyConnection { $(#[cfg($($when)*)] $variant($connection)),* }

        #[derive(Debug)]
        pub(crate) enum AnyRoute { $(#[cfg($($when)*)] $variant($route)),* }

        // One for each subscription, in a task that is boxed anyway.
        #[allow(clippy::large_enum_variant)]
        pub(crate) enum AnyConsumer { $(#[cfg($($when)*)] $variant($consumer)),* }

        pub(crate) enum AnyToken { $(#[cfg($($when)*)] $variant($token)),* }

        $(
            #[cfg($($when)*)]
            impl From<$backend> for BackendChoice {
                fn from(backend: $backend) -> Self {
                    Self(Any::$variant(backend))
                }
            }
        )*

        impl Backend for Any {
            type Connection = AnyConnection;

            fn name(&self) -> &'static str {
                match self { $(#[cfg($($when)*)] Self::$variant(inner) => inner.name()),* }
            }

            fn endpoint(&self) -> String {
                match self { $(#[cfg($($when)*)] Self::$variant(inner) => inner.endpoint()),* }
            }

            fn capabilities(&self) -> Capabilities {
                match self { $(#[cfg($($when)*)] Self::$variant(inner) => inner.capabilities()),* }
            }

            fn check_topic(&self, config: &TopicConfig) -> Result<(), ConfigureError> {
                match self { $(#[cfg($($when)*)] Self::$variant(inner) => inner.check_topic(config)),* }
            }

            async fn connect(&self, host: Arc<dyn Host>, generation: u64) -> Result<AnyConnection, ConnectError> {
                match self {
                    $(#[cfg($($when)*)] Self::$variant(inner) => {
                        inner.connect(host, generation).await.map(AnyConnection::$variant)
                    }),*
                }
            }
        }

        impl Connection for AnyConnection {
            type Route = AnyRoute;
            type Consumer = AnyConsumer;

            fn produce(&self, route: &AnyRoute, envelope: Envelope, slot: Slot) -> Result<(), Failure> {
                match (self, route) {
                    $(#[cfg($($when)*)] (Self::$variant(inner), AnyRoute::$variant(route)) => {
                        inner.produce(route, envelope, slot)
                    })*
                    #[allow(unreachable_patterns, reason = "with one backend there is no other route")]
                    _ => Err(Failure::new(FailureKind::Mismatch, "a route of another backend")),
                }
            }

            async fn ensure(&self, config: &TopicConfig) -> Result<AnyRoute, ConfigureError> {
                match self {
                    $(#[cfg($($when)*)] Self::$variant(inner) => {
                        inner.ensure(config).await.map(AnyRoute::$variant)
                    }),*
                }
            }

            async fn subscribe(&self, request: SubscribeRequest) -> Result<AnyConsumer, SubscribeError> {
                match self {
                    $(#[cfg($($when)*)] Self::$variant(inner) => {
                        inner.subscribe(request).await.map(AnyConsumer::$variant)
                    }),*
                }
            }

            async fn ping(&self) -> Result<(), Failure> {
                match self { $(#[cfg($($when)*)] Self::$variant(inner) => inner.ping().await),* }
            }

            fn numbers(&self) -> Option<ClientNumbers> {
                match self { $(#[cfg($($when)*)] Self::$variant(inner) => inner.numbers()),* }
            }

            async fn take_over(&self, lost: &Self) {
                match (self, lost) {
                    $(#[cfg($($when)*)] (Self::$variant(inner), Self::$variant(lost)) => {
                        inner.take_over(lost).await
                    })*
                    #[allow(unreachable_patterns, reason = "a bus has connections of one backend")]
                    _ => {}
                }
            }

            fn flush(&self) {
                match self { $(#[cfg($($when)*)] Self::$variant(inner) => inner.flush()),* }
            }

            async fn close(&self, limit: Duration) {
                match self { $(#[cfg($($when)*)] Self::$variant(inner) => inner.close(limit).await),* }
            }
        }

        impl Route for AnyRoute {
            fn durability(&self) -> Durability {
                match self { $(#[cfg($($when)*)] Self::$variant(inner) => inner.durability()),* }
            }

            fn partitions(&self) -> u32 {
                match self { $(#[cfg($($when)*)] Self::$variant(inner) => inner.partitions()),* }
            }
        }

        impl Consumer for AnyConsumer {
            type Token = AnyToken;

            async fn next(&mut self, room: bool) -> Result<Incoming<AnyToken>, Failure> {
                match self {
                    $(#[cfg($($when)*)] Self::$variant(inner) => {
                        Ok(inner.next(room).await?.map_token(AnyToken::$variant))
                    }),*
                }
            }

            async fn release(&mut self, partition: u32, epoch: u64) -> Result<(), Failure> {
                match self {
                    $(#[cfg($($when)*)] Self::$variant(inner) => inner.release(partition, epoch).await),*
                }
            }

            async fn lag(&mut self) -> Result<Vec<(u32, u64)>, Failure> {
                match self { $(#[cfg($($when)*)] Self::$variant(inner) => inner.lag().await),* }
            }

            async fn answer(&mut self, token: &AnyToken, answer: Answer) -> Result<Answered, Failure> {
                match (self, token) {
                    $(#[cfg($($when)*)] (Self::$variant(inner), AnyToken::$variant(token)) => {
                        inner.answer(token, answer).await
                    })*
                    #[allow(unreachable_patterns, reason = "with one backend there is no other token")]
                    _ => Err(Failure::new(FailureKind::Mismatch, "a delivery of another backend")),
                }
            }

            fn sure_until(&self) -> Option<Duration> {
                match self { $(#[cfg($($when)*)] Self::$variant(inner) => inner.sure_until()),* }
            }

            fn progress_every(&self) -> Option<Duration> {
                match self { $(#[cfg($($when)*)] Self::$variant(inner) => inner.progress_every()),* }
            }

            async fn close(self, limit: Duration) {
                match self { $(#[cfg($($when)*)] Self::$variant(inner) => inner.close(limit).await),* }
            }
        }
    };
}

any!(
    (
        (feature = "memory"),
        Memory,
        memory,
        memory::Memory,
        <memory::Memory as Backend>::Connection,
        <<memory::Memory as Backend>::Connection as Connection>::Route,
        <<memory::Memory as Backend>::Connection as Connection>::Consumer,
        <<<memory::Memory as Backend>::Connection as Connection>::Consumer as Consumer>::Token
    ),
    (
        (feature = "nats"),
        Nats,
        nats,
        nats::Nats,
        <nats::Nats as Backend>::Connection,
        <<nats::Nats as Backend>::Connection as Connection>::Route,
        <<nats::Nats as Backend>::Connection as Connection>::Consumer,
        <<<nats::Nats as Backend>::Connection as Connection>::Consumer as Consumer>::Token
    ),
    (
        (feature = "kafka"),
        Kafka,
        kafka,
        kafka::Kafka,
        <kafka::Kafka as Backend>::Connection,
        <<kafka::Kafka as Backend>::Connection as Connection>::Route,
        <<kafka::Kafka as Backend>::Connection as Connection>::Consumer,
        <<<kafka::Kafka as Backend>::Connection as Connection>::Consumer as Consumer>::Token
    ),
    (
        (all()),
        Custom,
        custom,
        Custom,
        CustomConnection,
        CustomRoute,
        CustomConsumer,
        CustomToken
    ),
);

impl<T> Incoming<T> {
    pub(super) fn map_token<U>(self, map: impl FnOnce(T) -> U) -> Incoming<U> {
        match self {
            Self::Delivery {
                envelope,
                position,
                attempt,
                subject,
                token,
            } => Incoming::Delivery {
                envelope,
                position,
                attempt,
                subject,
                token: map(token),
            },
            Self::Assigned { partitions, epoch } => Incoming::Assigned { partitions, epoch },
            Self::Revoked { partitions, epoch } => Incoming::Revoked { partitions, epoch },
            Self::Confirmed { position } => Incoming::Confirmed { position },
        }
    }
}

impl BackendChoice {
    /// The backend that `url` names.
    ///
    /// # Errors
    ///
    /// When the scheme is unknown or its backend was not compiled in, or when the rest does not fit the backend.
    pub fn from_url(url: &str) -> Result<Self, ConnectError> {
        let Some((scheme, rest)) = url.split_once("://") else {
            let reason = format!(
                "`{}` is not a URL; expected memory://, nats://host:port or kafka://host:port",
                redacted(url)
            );
            return Err(ConnectError::config("url", reason));
        };
        match scheme {
            #[cfg(feature = "memory")]
            "memory" if rest.is_empty() => Ok(memory::Memory::new().into()),
            #[cfg(feature = "memory")]
            "memory" => Err(ConnectError::config(
                "url",
                format!("memory:// takes nothing after it, found `{rest}`; to share a broker, give clones of one Memory to `backend`"),
            )),
            #[cfg(feature = "nats")]
            "nats" | "tls" => Ok(nats::Nats::from_url(url)?.into()),
            #[cfg(not(feature = "memory"))]
            "memory" => Err(not_compiled_in("memory")),
            #[cfg(not(feature = "nats"))]
            "nats" | "tls" => Err(not_compiled_in("nats")),
            #[cfg(feature = "kafka")]
            "kafka" => Ok(kafka::Kafka::from_url(url)?.into()),
            #[cfg(not(feature = "kafka"))]
            "kafka" => Err(not_compiled_in("kafka")),
            other => Err(ConnectError::config(
                "url",
                format!("unknown scheme `{other}`; expected memory://, nats://host:port or kafka://host:port"),
            )),
        }
        .inspect(|_| {
            let _ = rest;
        })
    }

    /// A backend that was not compiled in: of your own, or one that is simulated.
    ///
    /// What crosses is boxed: a publish takes one call through a table more, a delivery one allocation for its token and one for the future
    /// that waited for it.
    pub fn custom(backend: impl Backend) -> Self {
        Custom::new(backend).into()
    }

    pub(crate) fn into_any(self) -> Any {
        self.0
    }
}

#[cfg(any(not(feature = "memory"), not(feature = "nats"), not(feature = "kafka")))]
fn not_compiled_in(feature: &str) -> ConnectError {
    let reason = format!(
        "this build has no {feature} backend; enable the cargo feature `{feature}` of clearway"
    );
    ConnectError::config("url", reason)
}

/// What may be shown of a text that may hold a password.
fn redacted(url: &str) -> &str {
    url.rsplit_once('@').map_or(url, |(_, host)| host)
}
