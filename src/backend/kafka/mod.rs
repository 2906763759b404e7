//! Apache Kafka.
//!
//! # Topics
//!
//! A topic is a topic of Kafka, a key's partition is the one that Kafka's own clients choose (murmur2), and a group is a consumer
//! group: the broker's tools show them under the same names. A topic that we make is stamped by the broker (`LogAppendTime`), so that
//! [`StartAt::Time`](crate::StartAt::Time) means the broker's clock; in one that others made it may mean the publishers'.
//!
//! How many partitions a topic has is what was found when it was ensured: one that an operator has grown since is used as it was until the
//! process ensures it anew, and keys stay where they were. [`Ensure::CreateOrUpdate`](crate::Ensure::CreateOrUpdate) changes a setting by telling
//! the broker all settings of the topic's own, as they were a moment before: what an operator sets in that moment is lost.
//!
//! # What an acknowledgement means
//!
//! [`Durability::Stored`]: all copies that are in sync have it (`acks=all`). How many these must be is the topic's
//! `min.insync.replicas` ([`Options::in_sync_min`]). **It is not an fsync**: Kafka leaves that to the operating system, and is safe by having
//! copies on machines that do not fail together. [`Durability::Synced`] is therefore refused.
//!
//! # Publishing
//!
//! Idempotent: the client sends again what was not acknowledged, in order and once. What has no answer within
//! [`Options::publish_timeout`] is `Unknown`, and the client is not told: it goes on for a minute, so the envelope may be stored that much later. If it gave
//! one up it would number those behind it anew, and a broker would store once more what it has stored of them without an answer. After
//! that minute, or when these are as many, or have as many bytes, as may be in flight, all that the client has is given up at once, and is `Unknown`. How soon it is sent is [`Options::batching`]: with [`Batching::LowLatency`] at once.
//!
//! # Consuming
//!
//! Offsets are committed for what handlers have settled, up to the first that is not: every [`Options::commit_every`], when a partition
//! goes to another member, and at the end. A partition that goes to another is held back for handlers that still run, for
//! [`Options::hand_over_limit`]. Kafka does not count deliveries: the attempts of a delivery are those of this consumer.
//!
//! A group that is new begins where it is told: that place is committed first, so that it is the same for every member that joins. Two that
//! begin a group in the same moment may both commit a place; then what one of them has handled may come again.
//!
//! A topic that is deleted under way is ensured again, by its policy, and read from its beginning, wherever the group began before: all that is there is
//! new. A deleted topic is missed at once by who consumes it, and by who publishes to it; if it is younger than 5 s, after that.
//!
//! A member that could not hear its broker for 5 s, or for a third of `session.timeout.ms` if that is less, begins no handler until the broker
//! has taken a commit of it.
//!
//! A broker that comes up, or makes a group's coordinator, refuses for a moment. That is no answer: who subscribes asks again for
//! [`Options::request_timeout`], and who ensures a topic for [`ensure_timeout`](crate::BusBuilder::ensure_timeout).
//!
//! # Closing
//!
//! What lingers ([`Options::batching`], `linger.ms`) is sent at once when the bus closes, and what handlers publish meanwhile does not linger.
//!
//! A consumer has what is left of the limit, at most 5 s and half a second at the least, to commit for the last time and to leave its group; then the
//! connection has as much, at most 2 s, to end. What a broker has not taken by then is not committed, and comes
//! again, also if it does answer and takes no commit for 3 s because the group shares its partitions anew: what was handled comes again then, and the close
//! does not list it. A thread of the client that cannot
//! be ended by then is let go: it ends by itself, when its requests have timed out, some seconds later. It calls nothing of yours and tells the bus
//! nothing.
//!
//! # Headers of others
//!
//! The name of a header that is not UTF-8 makes the client panic, and the panic is caught: the envelope is delivered without that
//! header. A program that is built with `panic = "abort"` ends there.
//!
//! # Known limits
//!
//! - A member that ends while its broker is away leaves its membership behind, with the broker or its successor: others wait for its partitions
//!   for as long as its session lasts, and a coordinator that starts begins to count that anew. A consumer is therefore not given up because a
//!   broker is away: it waits, as the client does.
//! - A topic that is deleted and made again before anybody looks: that it is another is heard when the group's commits are gone, before the next
//!   commit. What was handled of the new one until then comes again. If the new log is by then as long as the old one was, and nothing was to be committed,
//!   what is before that place is left out until something is. A member that has committed nothing yet does not notice.
//! - A topic that cannot be written to for a minute has the publishes to others that are under way in that moment end as `Unknown`, once a minute.
//! - Each subscription is a member of its own, with a client and a thread: two topics in one group are two members, and the group is rebalanced for
//!   each of them that comes or goes. To share one, the thread would have to keep by topic what it keeps for its one topic now: what it
//!   owns, hands over and has fetched, the end of a subscription beside others that go on, and where a group begins, which it asks with waits that
//!   no other topic may share; and a hand-over would wait for the handlers of all. [`hold`](crate::SubscriptionBuilder::hold) has a subscription
//!   join its group at once, and take nothing before it is activated: that is no rebalance.
//! - A broker that comes up may tell a client that there are none. librdkafka (2.12) lets go of those it knew, and goes back to
//!   `bootstrap.servers`; that it may also never ask again is its issue 5301, and was not seen here of a client with work to do. The statistics would show
//!   it within seconds, and another client takes its place; the old member's partitions wait for the end of its session. Without
//!   [`Options::statistics`] it is not seen. The client that asks about topics has none, and was seen to stay without an answer: another takes its
//!   place whenever it has none.
//! - While a group rebalances a broker answers no commit of a member that waits for it: each is waited for up to a second, and the thread fetches
//!   nothing meanwhile, of any partition of its subscription. What it had fetched before, up to 1024 deliveries, goes on. librdkafka (2.12) asks and
//!   commits over the connection on which it waits to join, and sends nothing behind that. It lasts for as long as the group waits for a
//!   member that does not come, by its session, and takes a second of every two, with [`Options::commit_every`] at its second; where
//!   answers are confirmed almost all of it. Members that rebalance eagerly have nothing then.
//!   To wait elsewhere, what is unanswered would have to be kept in order with hand-overs, which may not go before it.
//! - At a hand-over the broker has a second to say what the group has, and another to say that it has taken the commit. One that takes longer,
//!   as on a machine that is too busy, has what was settled since the last commit come again, to the next member.

mod admin;
mod codes;
mod connect;
mod connection;
mod consume;
mod ends;
mod ensure;
mod headers;
mod log;
mod native;
mod options;
mod plan;
mod poller;
mod produce;
mod security;
mod stranded;
mod subscribe;
mod threads;
mod url;
mod waiting;

pub use connection::KafkaConnection;
pub use consume::{KafkaConsumer, Token};
pub use options::{Batching, Compression, OffsetReset, Options, Rebalancing};
pub use produce::Route;

use super::{Backend, Capabilities, Host, check_capabilities, invalid_topic};
use crate::config::{Durability, TopicConfig};
use crate::error::{ConfigureError, ConnectError, Unsupported};
use connect::NAME;
use std::sync::Arc;

/// Apache Kafka as a backend.
#[derive(Clone, Debug)]
pub struct Kafka {
    options: Arc<Options>,
}

impl Kafka {
    /// The backend of these options.
    pub fn new(options: Options) -> Self {
        Self {
            options: Arc::new(options),
        }
    }

    /// The backend of `kafka://host[:port][,host[:port]...][/?option=value...]`.
    ///
    /// # Errors
    ///
    /// As [`Options::from_url`].
    pub fn from_url(url: &str) -> Result<Self, ConnectError> {
        Options::from_url(url).map(Self::new)
    }
}

impl Backend for Kafka {
    type Connection = KafkaConnection;

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
            dedup_window: None,
            key_order_across_members: true,
            foreign: false,
            delayed_nack: false,
            counts_deliveries: false,
            settles_each: false,
            size_max: None,
        }
    }

    fn check_topic(&self, config: &TopicConfig) -> Result<(), ConfigureError> {
        check_capabilities(NAME, &self.capabilities(), config)?;
        if let Some(reason) = plan::refuse_topic(&config.name) {
            return Err(invalid_topic(NAME, &config.name, reason).into());
        }
        if config.retention.envelopes.is_some() {
            let what = format!(
                "retention of topic `{}` by envelopes; by age and by bytes it can",
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
    ) -> Result<KafkaConnection, ConnectError> {
        KafkaConnection::open(self.options.clone(), host, generation).await
    }
}

#[cfg(test)]
mod witness;
