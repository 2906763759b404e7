//! A connection of a client: what is in flight over it, and what becomes of that when it is cut.
//!
//! Publishes are pipelined. What was sent and not answered is sent again over the next connection, under its id, while the server would
//! recognise it; older it is `Unknown`. Once a publish was sent twice no refusal says any more that it is not stored.

use super::consumer::{JetConsumer, Mailbox};
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
    mailboxes: BTreeMap<u64, Arc<Mailbox>>,
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

impl Link {
    pub(super) fn new(
        weather: &Weather,
        process: u32,
        host: Arc<dyn Host>,
        generation: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            process,
            weather: weather.clone(),
            host,
            generation,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the next packet, unless nothing goes out any more.
    pub(super) fn sends(&self) -> Option<u64> {
        let mut state = self.state();
        if state.cut_behind.is_some() {
            return None;
        }
        state.sent += 1;
        Some(state.sent)
    }

    /// When a packet arrives that would at `due`: none overtakes another.
    pub(super) fn arrives(&self, is_up: bool, due: Duration) -> Duration {
        let mut state = self.state();
        let until = match is_up {
            true => &mut state.up_until,
            false => &mut state.down_until,
        };
        *until = (*until).max(due);
        *until
    }

    /// A packet is there. Whether it came through.
    pub(super) fn comes_through(&self, number: u64) -> bool {
        let mut state = self.state();
        state.arrived = number;
        state.cut_behind.is_none_or(|last| number <= last)
    }

    pub(super) fn is_cut(&self) -> bool {
        self.state().cut_behind.is_some()
    }

    /// Nothing goes over it any more, and the first of what is under way to the server still arrives.
    pub(super) fn cut(&self) {
        let weather = &self.weather;
        let mut state = self.state();
        if state.cut_behind.is_none() {
            let under_way = state.sent - state.arrived;
            state.cut_behind = Some(state.arrived + weather.below(under_way + 1));
        }
    }

    /// Nothing more goes over it, and all that is under way to the server arrives.
    pub(super) fn end(&self) {
        let mut state = self.state();
        let sent = state.sent;
        state.cut_behind.get_or_insert(sent);
    }

    /// The client finds that it is cut. Says whether it did not know.
    pub(super) fn lose(&self) -> bool {
        let (task, mailboxes) = {
            let mut state = self.state();
            if std::mem::replace(&mut state.is_lost, true) {
                return false;
            }
            (
                state.task.take(),
                state.mailboxes.values().cloned().collect::<Vec<_>>(),
            )
        };
        task.into_iter().for_each(Waker::wake);
        mailboxes.iter().for_each(|mailbox| mailbox.lose());
        self.host.lost(self.generation, disconnected());
        true
    }

    pub(super) fn alive(&self) -> Result<(), Failure> {
        match self.state().is_lost {
            true => Err(disconnected()),
            false => Ok(()),
        }
    }

    /// The server says something.
    pub(super) fn hear(&self, down: Down) {
        let mut state = self.state();
        if state.cut_behind.is_some() {
            return;
        }
        match down {
            Down::Outcome {
                ticket,
                outcome,
                missing,
            } => {
                state.answers.push((ticket, outcome, missing));
                let task = state.task.take();
                drop(state);
                task.into_iter().for_each(Waker::wake);
            }
            Down::Mail { member, mail } => {
                let mailbox = state.mailboxes.get(&member).cloned();
                drop(state);
                if let Some(mailbox) = mailbox {
                    mailbox.put(mail);
                }
            }
        }
    }

    pub(super) fn forget(&self, member: u64) {
        self.state().mailboxes.remove(&member);
    }

    /// Sends, hears outcomes and gives up what waited too long, until the connection is left.
    pub(super) async fn run(self: Arc<Self>, wire: Arc<Wire>) {
        let runtime = self.host.runtime().clone();
        let mut sleep: Option<(Duration, clearway::Task)> = None;
        poll_fn(|cx| {
            loop {
                let now = runtime.now();
                self.send_all(&wire, now);
                self.settle_all(now);
                let mut state = self.state();
                if state.has_ended || (state.is_closing && state.in_flight.is_empty()) {
                    state.has_ended = true;
                    std::mem::take(&mut state.closers)
                        .into_iter()
                        .for_each(Waker::wake);
                    return Poll::Ready(());
                }
                state.task = Some(cx.waker().clone());
                let first = state.in_flight.values().next();
                let Some(due) = first.map(|of| of.since + PUBLISH_TIMEOUT) else {
                    sleep = None;
                    return Poll::Pending;
                };
                drop(state);
                if sleep
                    .as_ref()
                    .is_none_or(|(armed, _)| *armed > due || *armed <= now)
                {
                    sleep = Some((due, runtime.sleep(due.saturating_sub(now))));
                }
                let (_, timer) = sleep.as_mut().expect("armed above");
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                sleep = None;
            }
        })
        .await;
    }

    fn send_all(self: &Arc<Self>, wire: &Wire, now: Duration) {
        let mut to_send = Vec::new();
        {
            let mut state = self.state();
            if state.is_lost {
                return;
            }
            for ticket in std::mem::take(&mut state.queue) {
                if let Some(of) = state.in_flight.get_mut(&ticket) {
                    of.sent.get_or_insert(now);
                    to_send.push(Up::Publish {
                        ticket,
                        topic: of.topic.clone(),
                        partition: of.partition,
                        envelope: of.envelope.clone(),
                    });
                }
            }
        }
        for up in to_send {
            wire.up(self, up);
        }
    }

    fn settle_all(&self, now: Duration) {
        let mut settled = Vec::new();
        let mut state = self.state();
        for (ticket, outcome, missing) in std::mem::take(&mut state.answers) {
            // Given up already.
            let Some(of) = state.in_flight.remove(&ticket) else {
                continue;
            };
            let outcome = match outcome {
                Outcome::Rejected(failure) if of.is_ambiguous => Outcome::Unknown(failure),
                other => other,
            };
            settled.push((of.slot, outcome, missing));
        }
        while let Some(first) = state.in_flight.first_entry()
            && first.get().since + PUBLISH_TIMEOUT <= now
        {
            let of = first.remove();
            let failure = Failure::new(FailureKind::TimedOut, "no answer came in time");
            let outcome = match of.sent {
                None => Outcome::Rejected(failure),
                Some(_) => Outcome::Unknown(failure),
            };
            settled.push((of.slot, outcome, None));
        }
        drop(state);
        for (slot, outcome, missing) in settled {
            if let Some(topic) = missing {
                self.host.topic_missing(&topic);
            }
            self.host.settle(slot, outcome);
        }
    }

    /// A question and its answer.
    pub(super) async fn round_trip<T>(
        self: &Arc<Self>,
        shared: &Shared,
        ask: impl FnOnce(&mut super::server::Server) -> T,
    ) -> Result<T, Failure> {
        let runtime = self.host.runtime();
        runtime.sleep(self.weather.delay()).await;
        self.alive()?;
        let answer = {
            let mut server = shared.server();
            (server.is_up && !self.is_cut()).then(|| ask(&mut server))
        };
        let Some(answer) = answer else {
            // Whoever cut it says so in a moment.
            runtime.sleep(Duration::from_millis(100)).await;
            return Err(disconnected());
        };
        runtime.sleep(self.weather.delay()).await;
        self.alive()?;
        Ok(answer)
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
        let key = envelope.key.as_deref().unwrap_or(envelope.id.as_bytes());
        let of = InFlight {
            slot,
            topic: route.topic.clone(),
            partition: partition_of(key, route.partitions),
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
            let mailbox = Arc::new(Mailbox::default());
            link.state().mailboxes.insert(member, mailbox.clone());
            Some(JetConsumer::new(
                (link.clone(), shared.clone()),
                member,
                born,
                mailbox,
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
