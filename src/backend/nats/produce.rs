//! Producing: from the publisher's thread to the connection's one task.
//!
//! A publisher pushes the envelope into a queue that has a place for every slot of the ledger, and
//! wakes the task. It takes no lock and allocates nothing. All else is the task's
//! ([`pipeline`](super::pipeline)), which alone owns the table of what is in flight.

use super::headers;
use super::latch::Latch;
use crate::backend::{self, Slot, partition_of};
use crate::config::Durability;
use crate::envelope::Envelope;
use crate::error::{Failure, FailureKind};
use crate::protocol::sync::{AtomicWaker, Mutex};
use async_nats::Subject;
use crossbeam_queue::{ArrayQueue, SegQueue};
use std::sync::Arc;
use std::time::Duration;

/// Where a topic's envelopes go: what every publish to it needs, looked up once.
#[derive(Debug, PartialEq)]
pub(super) struct Target {
    pub(super) topic: Arc<str>,
    /// The stream that stores them; `None` if nobody has looked.
    pub(super) stream: Option<String>,
    /// One for each partition.
    pub(super) subjects: Vec<Subject>,
    /// For how long that stream recognises an envelope sent twice.
    pub(super) duplicate_window: Duration,
    pub(super) durability: Durability,
}

/// All targets of a backend. A route outlives the connection that gave it out, so they are numbered once
/// for all connections.
#[derive(Debug, Default)]
pub(super) struct Targets(Mutex<Vec<Arc<Target>>>);

/// How to produce to an ensured topic: the number of its target.
#[derive(Debug)]
pub struct Route {
    pub(super) number: u32,
    pub(super) partitions: u32,
    pub(super) durability: Durability,
}

impl backend::Route for Route {
    fn durability(&self) -> Durability {
        self.durability
    }

    fn partitions(&self) -> u32 {
        self.partitions
    }
}

/// The way to the connection's task.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) publishes: ArrayQueue<Publish>,
    pub(super) orders: SegQueue<Order>,
    pub(super) task: AtomicWaker,
    /// What a task that was told to surrender had in flight.
    surrendered: Mutex<Vec<InFlight>>,
    pub(super) has_surrendered: Latch,
    pub(super) ended: Arc<Latch>,
}

/// An envelope to send.
#[derive(Debug)]
pub(super) struct Publish {
    pub(super) slot: Slot,
    pub(super) route: u32,
    pub(super) partition: u32,
    pub(super) envelope: Envelope,
}

/// What the task is told, rarely.
#[derive(Debug)]
pub(super) enum Order {
    /// Send these, of a connection that was lost.
    Adopt(Vec<InFlight>),
    /// Never send again, and hand over what is in flight.
    Surrender,
    /// End when nothing is in flight any more, or after this long.
    Stop(Duration),
}

/// A publish that is not settled.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) slot: Slot,
    pub(super) target: Arc<Target>,
    pub(super) partition: u32,
    pub(super) envelope: Envelope,
    /// When it was accepted first, over whichever connection.
    pub(super) since: Duration,
    /// When it was sent first. From then on the broker may have it.
    pub(super) sent: Option<Duration>,
    /// Whether it was sent over an earlier connection: then no refusal says that it is not stored.
    pub(super) ambiguous: bool,
}

impl Targets {
    /// A route to `target`. The same target gets the same number.
    pub(super) fn route(&self, target: Target) -> Route {
        let mut known = self.0.lock();
        let number = known.iter().position(|there| **there == target);
        let (partitions, durability) = (target.subjects.len() as u32, target.durability);
        let number = number.unwrap_or_else(|| {
            known.push(Arc::new(target));
            known.len() - 1
        });
        Route {
            number: number as u32,
            partitions,
            durability,
        }
    }

    /// Brings `copy` up to date.
    pub(super) fn copy_to(&self, copy: &mut Vec<Arc<Target>>) {
        let known = self.0.lock();
        copy.extend_from_slice(&known[copy.len()..]);
    }
}

impl Pipe {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            publishes: ArrayQueue::new(slots.max(1)),
            orders: SegQueue::new(),
            task: AtomicWaker::new(),
            surrendered: Mutex::default(),
            has_surrendered: Latch::default(),
            ended: Arc::default(),
        }
    }

    /// Hands `envelope` to the task.
    pub(super) fn produce(
        &self,
        route: &Route,
        envelope: Envelope,
        slot: Slot,
    ) -> Result<(), Failure> {
        headers::check(&envelope)?;
        let partition = match &envelope.key {
            Some(key) => partition_of(key, route.partitions),
            // The low bits of an id are random.
            None => (envelope.id.as_u128() as u32) % route.partitions,
        };
        let publish = Publish {
            slot,
            route: route.number,
            partition,
            envelope,
        };
        self.publishes.push(publish).map_err(|_| {
            Failure::new(
                FailureKind::NoRoom,
                "the connection's task does not keep up with its queue",
            )
        })?;
        self.task.wake();
        Ok(())
    }

    pub(super) fn order(&self, order: Order) {
        self.orders.push(order);
        self.task.wake();
    }

    pub(super) fn surrender(&self, rest: Vec<InFlight>) {
        *self.surrendered.lock() = rest;
        self.has_surrendered.set();
    }

    pub(super) fn take_surrendered(&self) -> Vec<InFlight> {
        std::mem::take(&mut *self.surrendered.lock())
    }
}
