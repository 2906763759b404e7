//! A connection of a client: what is in flight over it, and what becomes of that when it is cut.
//!
//! Publishes are pipelined. What was sent and not answered is sent again over the next connection, under its id, while the server would
//! recognise it; older it is `Unknown`. Once a publish was sent twice no refusal says any more that it is not stored.

mod link;

use super::consumer::{Inbox, JetConsumer};
use super::stream::DUPLICATE_WINDOW;
use super::wire::{Down, Up, Wire};
use super::{JetStream, NAME, Shared};
use crate::sim::fault::Weather;
use clearway::backend::{Connection, Host, Outcome, Route, Slot, SubscribeRequest, partition_of};
use clearway::{
    ClientNumbers, ConfigureError, Durability, Envelope, Failure, FailureKind, SubscribeError,
    TopicConfig, Unsupported,
};
use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

/// A publish without an answer for so long is given up.
pub(super) const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection.
pub(crate) struct JetConnection {
    link: Arc<Link>,
    shared: Arc<Shared>,
}

/// How to get to a topic.
#[derive(Debug)]
pub(crate) struct JetRoute {
    topic: Arc<str>,
    partitions: u32,
}

/// What a connection's handle, its task, the wire and the server share. It holds none of them.
pub(super) struct Link {
    pub(super) process: u32,
    pub(super) weather: Weather,
    pub(super) host: Arc<dyn Host>,
    generation: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Packets with a greater number do not arrive.
    cut_behind: Option<u64>,
    /// The client knows.
    is_lost: bool,
    is_closing: bool,
    has_ended: bool,
    sent: u64,
    arrived: u64,
    up_until: Duration,
    down_until: Duration,
    /// By ticket: the oldest first, also of what came from an earlier connection.
    in_flight: BTreeMap<u64, InFlight>,
    queue: Vec<u64>,
    answers: Vec<(u64, Outcome, Option<Arc<str>>)>,
    inboxes: BTreeMap<u64, Arc<Inbox>>,
    task: Option<Waker>,
    closers: Vec<Waker>,
}

struct InFlight {
    slot: Slot,
    topic: Arc<str>,
    partition: u32,
    envelope: Envelope,
    since: Duration,
    sent: Option<Duration>,
    is_ambiguous: bool,
}

impl Route for JetRoute {
    fn durability(&self) -> Durability {
        Durability::Stored
    }

    fn partitions(&self) -> u32 {
        self.partitions
    }
}

impl JetConnection {
    pub(super) fn new(link: Arc<Link>, shared: Arc<Shared>) -> Self {
        Self { link, shared }
    }
}

impl Connection for JetConnection {
    type Route = JetRoute;
    type Consumer = JetConsumer;

    fn produce(&self, route: &JetRoute, envelope: Envelope, slot: Slot) -> Result<(), Failure> {
        let partition = match &envelope.key {
            Some(key) => partition_of(key, route.partitions),
            // The low bits of an id are random.
            None => (envelope.id.as_u128() as u32) % route.partitions,
        };
        let of = InFlight {
            slot,
            topic: route.topic.clone(),
            partition,
            envelope,
            since: self.link.host.runtime().now(),
            sent: None,
            is_ambiguous: false,
        };
        let task = {
            let mut state = self.link.state();
            let ticket = self.shared.ticket();
            state.in_flight.insert(ticket, of);
            state.queue.push(ticket);
            state.task.take()
        };
        task.into_iter().for_each(Waker::wake);
        Ok(())
    }

    async fn ensure(&self, config: &TopicConfig) -> Result<JetRoute, ConfigureError> {
        let config = config.clone();
        let topic = config.name.clone();
        let failed = |failure| ConfigureError::Failed {
            topic: topic.clone(),
            failure,
        };
        let ensured = self
            .link
            .round_trip(&self.shared, |server| {
                super::ensure::ensure(server, &config)
            })
            .await;
        let ensured = ensured.map_err(failed)??;
        for event in ensured.events {
            self.link.host.event(event);
        }
        Ok(JetRoute {
            topic: topic.clone(),
            partitions: ensured.partitions,
        })
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<JetConsumer, SubscribeError> {
        if let Some(foreign) = &request.foreign {
            let what = format!("to read `{foreign}`: it has topics only").into();
            return Err(Unsupported {
                backend: NAME,
                what,
            }
            .into());
        }
        let failed = |failure| SubscribeError::Failed {
            topic: request.topic.name.clone(),
            failure,
        };
        let (topic, group, link) = (
            request.topic.name.clone(),
            request.group.clone(),
            self.link.clone(),
        );
        let shared = self.shared.clone();
        let joined = self.link.round_trip(&self.shared, |server| {
            let (member, born) = server.join(&link, &topic, &group, request.start)?;
            let inbox = Arc::new(Inbox::default());
            link.state().inboxes.insert(member, inbox.clone());
            Some(JetConsumer::new(
                (link.clone(), shared.clone()),
                member,
                born,
                inbox,
                &request,
            ))
        });
        let no_topic = || Failure::new(FailureKind::NoTopic, "the stream does not exist");
        joined
            .await
            .map_err(failed)?
            .ok_or_else(no_topic)
            .map_err(failed)
    }

    async fn ping(&self) -> Result<(), Failure> {
        self.link.round_trip(&self.shared, |_| ()).await
    }

    fn numbers(&self) -> Option<ClientNumbers> {
        None
    }

    async fn take_over(&self, lost: &Self) {
        let now = self.link.host.runtime().now();
        let left = {
            let mut state = lost.link.state();
            state.has_ended = true;
            state.queue.clear();
            std::mem::take(&mut state.in_flight)
        };
        let mut unknown = Vec::new();
        let task = {
            let mut state = self.link.state();
            for (ticket, mut of) in left {
                match of.sent {
                    // The window begins when the server stored it: a while after it was sent.
                    Some(sent) if now > sent + DUPLICATE_WINDOW / 2 => unknown.push(of.slot),
                    sent => {
                        of.is_ambiguous = sent.is_some();
                        if of.is_ambiguous {
                            self.link.weather.resend(&of.topic, &of.envelope);
                        }
                        state.in_flight.insert(ticket, of);
                        state.queue.push(ticket);
                        self.link
                            .weather
                            .goal("a publish sent again after a reconnect");
                    }
                }
            }
            state.task.take()
        };
        task.into_iter().for_each(Waker::wake);
        for slot in unknown {
            self.link
                .host
                .settle(slot, Outcome::Unknown(disconnected()));
        }
        let task = lost.link.state().task.take();
        task.into_iter().for_each(Waker::wake);
    }

    async fn close(&self, limit: Duration) {
        let runtime = self.link.host.runtime();
        let task = {
            let mut state = self.link.state();
            state.is_closing = true;
            state.task.take()
        };
        task.into_iter().for_each(Waker::wake);
        let mut sleep = runtime.sleep(limit);
        poll_fn(|cx| {
            let mut state = self.link.state();
            if state.has_ended {
                return Poll::Ready(());
            }
            if sleep.as_mut().poll(cx).is_ready() {
                state.has_ended = true;
                let task = state.task.take();
                drop(state);
                task.into_iter().for_each(Waker::wake);
                return Poll::Ready(());
            }
            state.closers.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
        self.link.end();
    }
}

impl fmt::Debug for JetStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JetStream")
    }
}

pub(super) fn disconnected() -> Failure {
    Failure::new(
        FailureKind::Disconnected,
        "the connection to the broker was lost",
    )
}
