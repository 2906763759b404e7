//! The seam: what a broker must be able to do for the bus, and what it may say it cannot.
//!
//! A backend is a way to make *connections*. A connection produces, ensures topics and makes
//! consumers; the bus holds the current one in a session and replaces it whole when it is lost.
//!
//! * Nothing here ignores an argument: what a backend cannot do it refuses, typed.
//! * `produce` never waits. It takes a [`Slot`], and the outcome comes back through
//!   [`Host::settle`], from any thread, once. A second or a late answer is ignored by the ledger.
//! * A backend takes tasks, time and randomness from [`Host::runtime`] only.
//! * Backends know nothing of each other, of the stages, or of the protocols behind them.

use crate::config::{Durability, TopicConfig};
use crate::envelope::Envelope;
use crate::error::{ConfigureError, ConnectError, Failure, InvalidTopic, SubscribeError};
use crate::events::BusEvent;
use crate::metrics::ClientNumbers;
use crate::runtime::Runtime;
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub(crate) mod any;
mod capabilities;
mod custom;
mod foreign;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "memory")]
pub mod memory;
#[cfg(feature = "nats")]
pub mod nats;
mod partitioner;
#[cfg(any(feature = "nats", feature = "kafka"))]
mod url;
#[cfg(any(feature = "nats", feature = "kafka"))]
mod wheel;

pub use crate::protocol::ledger::Slot;
pub use capabilities::{Capabilities, check_capabilities};
pub use foreign::Foreign;
#[cfg(any(feature = "memory", feature = "kafka"))]
pub(crate) use foreign::only_topics;
pub use partitioner::partition_of;

/// What became of a publish.
pub type Outcome = crate::protocol::ledger::Outcome<Failure>;

/// A kind of broker, with all it takes to connect to one.
pub trait Backend: Send + Sync + 'static {
    /// A live connection.
    type Connection: Connection;

    /// The backend's name, as errors and events say it: `"memory"`, `"nats"`, `"kafka"`.
    fn name(&self) -> &'static str;

    /// Whom it connects to, without secrets.
    fn endpoint(&self) -> String;

    /// What it can do. The bus asks before it promises.
    fn capabilities(&self) -> Capabilities;

    /// Whether a topic of this configuration can be had at all. No I/O: names that cannot be mapped
    /// and settings that are not supported are refused here.
    fn check_topic(&self, config: &TopicConfig) -> Result<(), ConfigureError>;

    /// Makes a connection of `generation`. Within the backend's connect timeout it is there or
    /// this fails, typed.
    fn connect(
        &self,
        host: Arc<dyn Host>,
        generation: u64,
    ) -> impl Future<Output = Result<Self::Connection, ConnectError>> + Send;
}

/// One live connection: what a session is made of.
pub trait Connection: Send + Sync + 'static {
    /// What producing to a topic needs to know, made once by [`ensure`](Self::ensure): subjects, partitions.
    type Route: Route;
    /// The consuming half of a subscription.
    type Consumer: Consumer;

    /// Sends `envelope`. Never waits; does not allocate on success beyond what the client does.
    ///
    /// `Ok`: the outcome will come through [`Host::settle`] in bounded time. `Err`: it was surely not sent
    /// and the bus settles the slot itself.
    fn produce(&self, route: &Self::Route, envelope: Envelope, slot: Slot) -> Result<(), Failure>;

    /// Makes sure that the topic is there and as `config` says, by its policy, and gives the route to it.
    /// Success means that the broker said so after the last change.
    fn ensure(
        &self,
        config: &TopicConfig,
    ) -> impl Future<Output = Result<Self::Route, ConfigureError>> + Send;

    /// Subscribes. The topic has been ensured.
    fn subscribe(
        &self,
        request: SubscribeRequest,
    ) -> impl Future<Output = Result<Self::Consumer, SubscribeError>> + Send;

    /// One round trip to the broker.
    fn ping(&self) -> impl Future<Output = Result<(), Failure>> + Send;

    /// What the client says of itself. `None`: it does not, or has not yet.
    fn numbers(&self) -> Option<ClientNumbers>;

    /// Takes over what was in flight on `lost`, of an earlier generation that nobody uses any more: sends it
    /// again under the same ids, or settles it.
    fn take_over(&self, lost: &Self) -> impl Future<Output = ()> + Send;

    /// The bus closes: what waits for others to be sent with is sent, and from here on nothing waits so. Does not wait itself; nothing to
    /// do where nothing is held back.
    fn flush(&self) {}

    /// Ends the connection, within `limit`: what is in flight is flushed for a part of it, then left to the bus. When it returns nothing of the
    /// connection runs any more, but for threads of a client that cannot be ended in time: these touch nothing of the bus's from then on.
    fn close(&self, limit: Duration) -> impl Future<Output = ()> + Send;
}

/// What producing to an ensured topic needs to know.
pub trait Route: Debug + Send + Sync + 'static {
    /// What an acknowledged envelope survives there, as the broker said it when the topic was ensured.
    fn durability(&self) -> Durability;

    /// Over how many partitions keys are spread.
    fn partitions(&self) -> u32;
}

/// The consuming half of one subscription.
pub trait Consumer: Send + 'static {
    /// What answering a delivery needs.
    type Token: Send + Sync + 'static;

    /// The next thing that happens; a delivery only if there is `room` for one. Without room it is called all the
    /// same: what changes hands must be heard. Cancel-safe: nothing is lost when the future is dropped.
    fn next(
        &mut self,
        room: bool,
    ) -> impl Future<Output = Result<Incoming<Self::Token>, Failure>> + Send;

    /// Answers a delivery. An answer of a retired assignment is refused by the broker or ignored;
    /// then the envelope comes again.
    fn answer(
        &mut self,
        token: &Self::Token,
        answer: Answer,
    ) -> impl Future<Output = Result<Answered, Failure>> + Send;

    /// Gives back a partition that was revoked under `epoch`: nothing of it is handled here any more. Until then its answers
    /// count, and no other member gets it, where the broker can wait.
    fn release(
        &mut self,
        partition: u32,
        epoch: u64,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// How many envelopes of each of its partitions the group has not acknowledged, delivered ones included. Asks the broker.
    fn lag(&mut self) -> impl Future<Output = Result<Vec<(u32, u64)>, Failure>> + Send;

    /// How often a handler that is still running must be answered for with [`Answer::InProgress`], so that the
    /// broker does not give the envelope to another. `None`: never.
    fn progress_every(&self) -> Option<Duration>;

    /// Until when, on the runtime's clock, what was delivered is surely still ours: after it no handler begins before this says a later time.
    /// Asked for after whatever has happened. `None`: the broker takes nothing away without our word.
    fn sure_until(&self) -> Option<Duration>;

    /// Ends it, within `limit`: what was fetched and not answered goes back to the broker. What is not done by then is left to the time after which
    /// the broker gives it to others. Dropped, it is left at once.
    fn close(self, limit: Duration) -> impl Future<Output = ()> + Send;
}

/// What a consumer hears.
#[derive(Debug)]
pub enum Incoming<T> {
    /// An envelope to handle.
    Delivery {
        /// The envelope.
        envelope: Envelope,
        /// Where it is.
        position: Position,
        /// How often it has been delivered, this time included, as far as the broker knows.
        attempt: u32,
        /// What it was published to, if it was read by a [`Foreign`] and not from a topic.
        subject: Option<Arc<str>>,
        /// For the answer.
        token: T,
    },
    /// Partitions are ours from here on, under a new epoch.
    Assigned {
        /// Which.
        partitions: Vec<u32>,
        /// The epoch of their deliveries.
        epoch: u64,
    },
    /// Partitions are to be ours no longer: each is to be [released](Consumer::release).
    Revoked {
        /// Which.
        partitions: Vec<u32>,
        /// The epoch that ended.
        epoch: u64,
    },
    /// An acknowledgement that was [`Answered::Pending`] counts.
    Confirmed {
        /// Of which delivery.
        position: Position,
    },
}

/// The handler's answer, as the broker is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Handled.
    Ack,
    /// Not handled: again, not before `after` has passed.
    Nack {
        /// How long to wait.
        after: Duration,
    },
    /// Still at it: do not give it to anybody else yet.
    InProgress,
}

/// How far an answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// Nothing follows. Where confirmations were asked for, an acknowledgement counts.
    Final,
    /// An acknowledgement whose confirmation was asked for and is not here yet. [`Incoming::Confirmed`] follows, or its partition is
    /// revoked, or the consumer fails. Until then it is not delivered again.
    Pending,
}

/// Where an envelope is: in a partition of a topic, under an epoch of ownership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The partition.
    pub partition: u32,
    /// The place in it. Grows; need not be without gaps.
    pub offset: u64,
    /// The epoch under which it was delivered.
    pub epoch: u64,
}

/// A subscription that is asked of a backend.
#[derive(Clone, Debug)]
pub struct SubscribeRequest {
    /// The topic's configuration.
    pub topic: TopicConfig,
    /// What is read in the place of a topic. Then of `topic` only the name means something: errors and events say it.
    pub foreign: Option<Foreign>,
    /// The group. Every group gets every envelope; in a group one member does.
    pub group: Arc<str>,
    /// Where a group that is new begins.
    pub start: StartAt,
    /// How many deliveries may be out and unanswered.
    pub in_flight_max: usize,
    /// Whether the broker is to confirm acknowledgements.
    pub confirm: bool,
}

/// Where a group that is new begins, in every partition.
///
/// A group is new when the broker does not know it. One that it knows goes on where it is, whatever is asked here: to
/// read a topic again, subscribe under another group.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use clearway::{Bus, StartAt};
/// use std::time::{Duration, SystemTime};
///
/// let bus = Bus::connect("memory://").await?;
/// let orders = bus.topic::<u32>("orders")?;
/// orders.publish(&17).await?;
/// let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
/// let mut replayed = orders
///     .subscription("audit-of-today")
///     .start(StartAt::Time(an_hour_ago))
///     .stream()
///     .await?;
/// assert_eq!(replayed.next().await.expect("it is kept").value, 17);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartAt {
    /// With the oldest envelope that is kept.
    #[default]
    Earliest,
    /// With the next one to come.
    Latest,
    /// With this position, as [`Position::offset`] and [`Receipt::position`](crate::Receipt::position) tell it: in every
    /// partition with the first envelope that is there or behind. If that is not kept any more, the oldest that is; if it is beyond the end,
    /// the next one to come.
    ///
    /// Positions are a broker's own. On memory and Kafka each partition counts from 0; on NATS all partitions of a topic count
    /// together, in its stream, from 1.
    Offset(u64),
    /// With the first envelope that the broker stored then or later, by the broker's clock. A time to come: with the next one
    /// to come.
    Time(SystemTime),
}

/// What the bus is to a backend.
pub trait Host: Send + Sync + 'static {
    /// Tells the outcome of a publish. The first one counts.
    fn settle(&self, slot: Slot, outcome: Outcome);

    /// The connection of `generation` is lost. The bus makes a new one, once, however often this is said.
    fn lost(&self, generation: u64, failure: Failure);

    /// The topic is not there any more: ensure it again before the next publish.
    fn topic_missing(&self, topic: &str);

    /// Something worth telling.
    fn event(&self, event: BusEvent);

    /// How many slots there are: no more publishes can be in flight at once, and every
    /// [`Slot::index`] is below it.
    fn slots(&self) -> usize;

    /// How many bytes of envelopes can be in flight at once. What a backend holds of publishes that are over it bounds by it.
    fn bytes(&self) -> u64 {
        u64::MAX
    }

    /// Tasks, time and randomness.
    fn runtime(&self) -> &Arc<dyn Runtime>;
}

/// A name that a backend cannot map.
pub(crate) fn invalid_topic(
    backend: &'static str,
    topic: &Arc<str>,
    reason: impl Into<String>,
) -> InvalidTopic {
    InvalidTopic {
        topic: topic.clone(),
        backend,
        reason: reason.into(),
    }
}
