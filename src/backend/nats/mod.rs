//! NATS JetStream.
//!
//! # Topics
//!
//! A topic of `n` partitions is the subjects `<topic>.0` to `<topic>.<n-1>` in a stream of its own, or in the
//! one that [`Options::stream`] names. A key's partition is the same as on Kafka (murmur2). The number
//! of partitions is the number of subjects, so every client that looks finds the same.
//!
//! # What an acknowledgement means
//!
//! [`Durability::Stored`]: the stream has written it. **That is not an fsync**: by default a server
//! syncs its files every two minutes, and one that loses power may lose what it acknowledged since.
//! A topic that must not lose it asks for several [`replicas`](TopicConfig::replicas) on
//! machines that do not fail together, or the server is set to `sync_interval: always`, which this side
//! cannot see; [`Durability::Synced`] is therefore refused.
//!
//! # Publishing
//!
//! Publishes are pipelined: one task a connection sends them and matches the acknowledgements. An
//! envelope's id is its `Nats-Msg-Id`, and after a reconnect what was not acknowledged is sent again
//! under it while it is younger than the stream's duplicate window; older it is `Unknown`.
//!
//! # Consuming
//!
//! A durable for each group and partition. On a server of version 2.11 or newer one member at a time is
//! pinned to a partition, and another waits until it has been silent for [`Options::ack_wait`]
//! (10 s at least). On older servers a second member is refused where it can be noticed. Whoever takes
//! over first gets back what the one before it left unanswered, in order, then what is new.
//!
//! Members of a group share its partitions fairly: of `p` partitions each of `m` members has `p / m` at most, rounded up. See
//! [`Options::share`].
//!
//! # Subjects that are no topics
//!
//! [`Subjects`] of a stream that others fill can be subscribed to, with wildcards: [`Bus::raw_subscription`](crate::Bus::raw_subscription).
//!
//! # Known limits
//!
//! - The server makes a pin for the first pull that waits before it sees that nobody listens for it any more. A consumer that ends has such
//!   pulls thrown away, and whoever subscribes takes back a pin that no delivery has told anybody of. What is left: of a process
//!   that is killed while it waits for its first delivery a pull stays for some seconds, and the message that comes then pins nobody. A member that
//!   has its share, and asks for no more, finds that out when the pin's time is over ([`Options::ack_wait`], 10 s at least); and a delivery
//!   that the server makes in the moment in which it hears that nobody listens has a pin that looks like another member's, for as long.
//! - A server that is frozen takes nothing from a full socket. Closing a bus ends in its time all the same, but the client's own task is
//!   there until three pings have had no answer ([`Options::ping_interval`]). And before that, with more answers on their way than the client has
//!   room for, a subscription waits: its status is not told.
//!
//! # What is not touched
//!
//! Settings of a stream that we do not know stay as they are when it is changed. A stream is never deleted,
//! and neither is a durable.

mod ack;
mod api;
mod connect;
mod connection;
mod consume;
mod drift;
mod durable;
mod ensure;
mod headers;
mod latch;
mod members;
mod names;
mod options;
mod partition;
mod pins;
mod pipeline;
mod plan;
mod produce;
mod subjects;
mod subscribe;
mod url;
mod when;

pub use connection::NatsConnection;
pub use consume::{NatsConsumer, Token};
pub use options::Options;
pub use produce::Route;
pub use subjects::{InvalidSubjects, Subjects};

use super::{Backend, Capabilities, Host, check_capabilities, invalid_topic};
use crate::config::{Durability, Retention, TopicConfig};
use crate::error::{ConfigureError, ConnectError, Unsupported};
use connect::NAME;
use pins::Pins;
use produce::Targets;
use std::sync::Arc;

/// NATS JetStream as a backend.
#[derive(Clone, Debug)]
pub struct Nats {
    options: Arc<Options>,
    pins: Arc<Pins>,
    targets: Arc<Targets>,
}

impl Nats {
    /// The backend of these options.
    pub fn new(options: Options) -> Self {
        Self {
            options: Arc::new(options),
            pins: Arc::default(),
            targets: Arc::default(),
        }
    }

    /// The backend of `nats://[user:password@|token@]host[:port][,host[:port]...]`, or the same with `tls://`.
    pub fn from_url(url: &str) -> Result<Self, ConnectError> {
        Options::from_url(url).map(Self::new)
    }
}

impl Backend for Nats {
    type Connection = NatsConnection;

    fn name(&self) -> &'static str {
        NAME
    }

    fn endpoint(&self) -> String {
        self.options.endpoint()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            durability_max: Durability::Stored,
            partitions: true,
            replicas: true,
            dedup_window: Some(self.options.duplicate_window),
            key_order_across_members: true,
            foreign: true,
            delayed_nack: true,
            counts_deliveries: true,
            settles_each: true,
            size_max: None,
        }
    }

    fn check_topic(&self, config: &TopicConfig) -> Result<(), ConfigureError> {
        check_capabilities(NAME, &self.capabilities(), config)?;
        if let Some(reason) = names::refuse_topic(&config.name) {
            return Err(invalid_topic(NAME, &config.name, reason).into());
        }
        if let Some(stream) = &self.options.stream
            && config.retention != Retention::default()
        {
            let what = format!(
                "retention of topic `{}`: it shares stream `{stream}`, which has one retention for all",
                config.name
            );
            return Err(Unsupported {
                backend: NAME,
                what: what.into(),
            }
            .into());
        }
        Ok(())
    }

    async fn connect(
        &self,
        host: Arc<dyn Host>,
        generation: u64,
    ) -> Result<NatsConnection, ConnectError> {
        let kept = (self.pins.clone(), self.targets.clone());
        NatsConnection::open(self.options.clone(), kept, host, generation).await
    }
}
