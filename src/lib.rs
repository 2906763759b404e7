//! An event bus over Apache Kafka, NATS JetStream and memory whose hot path takes no lock, with the testbed that proves
//! it over the same source.
//!
//! A *clearway* is a road on which stopping is prohibited.
//!
//! ```
//! use clearway::{Bus, Delivery, HandlerError};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bus = Bus::connect("memory://").await?;
//! let orders = bus.topic::<u32>("orders")?;
//!
//! let _billing = orders.subscribe("billing", |order: Delivery<u32>| async move {
//!     println!("bills order {}", order.value);
//!     Ok::<_, HandlerError>(())
//! }).await?;
//!
//! let receipt = orders.publish(&17).key("customer-7").await?;
//! println!("stored at {}", receipt.position);
//!
//! let report = bus.close(Duration::from_secs(5)).await;
//! assert!(report.drained);
//! # Ok(()) }
//! ```
//!
//! # Two journeys
//!
//! ```text
//! publish   gate -> credit -> ledger -> topic -> session -> backend -> Acked | Rejected | Unknown
//! consume   backend -> intake -> partition -> lane(key) -> handler -> settle -> acknowledge
//! ```
//!
//! A [`Topic`] is where both begin: [`Topic::publish`] waits for the broker's answer,
//! [`Publish::enqueue`] waits for nothing, [`Topic::subscribe`] runs a [`Handler`]. A [`Bus`] is configured
//! ([`Bus::configure`]), watched ([`Bus::health`], [`Bus::metrics`], [`Bus::events`], [`Bus::publish_results`]) and closed
//! ([`Bus::close`]).
//!
//! # Guarantees
//!
//! * Every publish has exactly one outcome, and "accepted" is none: [`Receipt`], or a [`PublishError`] that says
//!   whether the envelope [may be stored](PublishError::may_be_published) all the same.
//! * Nothing is acknowledged to the broker before its handler answered or its dead letter is stored, and envelopes of one key
//!   are handled one after the other, retries included.
//! * Close refuses, drains until a deadline and [reports](CloseReport) what was left; nothing runs after it.
//! * Memory is bounded: full means waiting, or a refusal that hands the envelope back.
//! * What a backend cannot do is refused when it is asked for.
//!
//! In full, with where each ends: [`docs::guarantees`]. How it is built: [`docs::architecture`]. What the words mean:
//! [`docs::glossary`]. From a bus behind locks: [`docs::migration`].
//!
//! # Features
//!
//! | feature | gives |
//! |---|---|
//! | `memory` (default) | [`memory`]: a broker in the process, for embedding and for tests |
//! | `json` (default) | [`Json`], the codec of [`Bus::topic`] |
//! | `nats` | `nats`: NATS JetStream |
//! | `throttle` | `Throttle`: limits on the rate of a subscription, and of each key |
//! | `tower` | `SubscriptionBuilder::service`: a tower service as a handler |

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod answer;
pub mod backend;
mod backlog;
mod batch;
mod bus;
mod close;
mod codec;
mod config;
mod consume;
mod core;
pub mod docs;
mod ensure;
mod envelope;
mod error;
mod events;
mod foreign;
mod handle;
mod handler;
mod health;
mod inside;
mod metrics;
mod middleware;
#[doc(hidden)]
pub mod protocol;
mod publish;
mod receipt;
mod redrive;
mod results;
mod runtime;
mod settings;
mod signal;
mod stream;
mod subscribe;
mod subscription;
mod supervise;
mod topic;

pub use backend::any::BackendChoice;
#[cfg(feature = "kafka")]
pub use backend::kafka;
#[cfg(feature = "memory")]
pub use backend::memory;
#[cfg(feature = "nats")]
pub use backend::nats;
pub use backend::{Position, StartAt};
pub use backlog::Backlog;
pub use batch::{BatchHandler, BatchOutcome};
pub use bus::{Bus, BusBuilder};
pub use close::{CloseReport, TopicReport};
#[cfg(feature = "json")]
pub use codec::Json;
pub use codec::{Codec, CodecError, Raw};
pub use config::{Durability, Ensure, Mismatch, Retention, TopicConfig};
pub use consume::options::{Order, Recovery};
pub use envelope::{Envelope, Headers, TraceContext};
pub use error::{
    ConfigureError, ConnectError, EnqueueError, Failure, FailureKind, FullReason, InvalidTopic,
    PublishError, SubscribeError, Unsupported,
};
pub use events::{BusEvent, Events};
pub use handle::{BatchReport, Publish, PublishFuture, Topic};
pub use handler::{Delivery, Handler, HandlerError, Outcome};
pub use health::{Component, HealthReport};
pub use metrics::{ClientNumbers, Latency, Metrics};
pub use middleware::concurrency::Concurrency;
pub use middleware::dead_letter::{self, DeadLetter, OnFailure};
pub use middleware::retry::Retry;
#[cfg(feature = "throttle")]
pub use middleware::throttle::Throttle;
pub use middleware::trace::Trace;
pub use middleware::{Layers, Middleware};
pub use receipt::{Receipt, ReceiptFuture};
pub use redrive::{RedriveError, RedriveReport};
pub use results::{Overflow, PublishResult, PublishResults};
pub use runtime::{Runtime, Task, Tokio};
pub use stream::{Deliveries, StreamDelivery};
pub use subscribe::SubscriptionBuilder;
pub use subscription::{
    DrainReport, LeftDelivery, PartitionStatus, Subscription, SubscriptionState, SubscriptionStatus,
};

/// The example of the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
