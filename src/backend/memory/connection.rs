//! A connection to the broker in the process: a queue that publishers fill without a lock, and a
//! task that stores what is in it and answers.

use super::NAME;
use super::broker::Broker;
use super::consumer::MemoryConsumer;
use super::faults::Fate;
use super::log::Now;
use crate::backend::{Connection, Host, Outcome, Route, Slot, SubscribeRequest, only_topics};
use crate::config::{Durability, TopicConfig};
use crate::envelope::Envelope;
use crate::error::{ConfigureError, Failure, FailureKind, SubscribeError};
use crate::events::BusEvent;
use crate::metrics::ClientNumbers;
use crate::protocol::sync::{AtomicWaker, Mutex};
use crate::runtime::Task;
use crate::signal::Signal;
use crossbeam_queue::ArrayQueue;
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How many envelopes are stored in one go.
const BATCH_MAX: usize = 256;

/// A connection to a [`Memory`](super::Memory) broker.
pub struct MemoryConnection {
    link: Arc<Link>,
}

/// How to get to a topic of the broker.
#[derive(Debug)]
pub struct MemoryRoute {
    topic: u64,
    partitions: u32,
}

/// What a connection's handle, its task and the broker's faults share.
pub(super) struct Link {
    pub(super) broker: Arc<Broker>,
    pub(super) host: Arc<dyn Host>,
    generation: u64,
    answer_timeout: Duration,
    queue: ArrayQueue<Sent>,
    waker: AtomicWaker,
    state: Mutex<LinkState>,
    ended: Signal<()>,
}

#[derive(Default)]
struct LinkState {
    lost: bool,
    closing: bool,
    /// Taken from the queue and not stored: not before when it is given up.
    backlog: VecDeque<(Duration, Sent)>,
    /// Stored, or refused, and not answered: by when it is due.
    due: BTreeMap<(Duration, u64), (Slot, u64, Outcome)>,
    answers: u64,
    /// Consumers to tell when the connection is lost.
    consumers: Vec<Waker>,
}

struct Sent {
    topic: u64,
    envelope: Envelope,
    slot: Slot,
}

impl Route for MemoryRoute {
    fn durability(&self) -> Durability {
        Durability::Volatile
    }

    fn partitions(&self) -> u32 {
        self.partitions
    }
}

impl MemoryConnection {
    pub(super) fn start(
        broker: Arc<Broker>,
        host: Arc<dyn Host>,
        generation: u64,
        answer_timeout: Duration,
    ) -> Self {
        let link = Arc::new(Link {
            queue: ArrayQueue::new(host.slots()),
            broker,
            host,
            generation,
            answer_timeout,
            waker: AtomicWaker::new(),
            state: Mutex::default(),
            ended: Signal::new(),
        });
        {
            let mut broker = link.broker.lock();
            broker.connections.retain(|link| link.strong_count() > 0);
            broker.connections.push(Arc::downgrade(&link));
        }
        let pump = link.clone();
        link.host
            .runtime()
            .spawn("clearway-memory", Box::pin(async move { pump.run().await }));
        Self { link }
    }
}

impl Connection for MemoryConnection {
    type Route = MemoryRoute;
    type Consumer = MemoryConsumer;

    fn produce(&self, route: &MemoryRoute, envelope: Envelope, slot: Slot) -> Result<(), Failure> {
        let sent = Sent {
            topic: route.topic,
            envelope,
            slot,
        };
        // There is a place for every slot, so this fails only if a slot is produced twice.
        self.link
            .queue
            .push(sent)
            .map_err(|_| Failure::new(FailureKind::NoRoom, "the connection's queue is full"))?;
        self.link.waker.wake();
        Ok(())
    }

    async fn ensure(&self, config: &TopicConfig) -> Result<MemoryRoute, ConfigureError> {
        let topic = config.name.clone();
        self.link
            .alive()
            .map_err(|failure| ConfigureError::Failed {
                topic: topic.clone(),
                failure,
            })?;
        let ensured = self.link.broker.lock().ensure(config)?;
        if ensured.created {
            self.link.host.event(BusEvent::TopicCreated {
                topic: topic.clone(),
            });
        }
        if let Some(differences) = ensured.updated {
            self.link.host.event(BusEvent::TopicUpdated {
                topic: topic.clone(),
                differences,
            });
        }
        if let Some(differences) = ensured.differs {
            tracing::warn!(%topic, %differences, "topic differs from its configuration");
            self.link.host.event(BusEvent::TopicMismatch {
                topic: topic.clone(),
                differences,
            });
        }
        Ok(MemoryRoute {
            topic: ensured.topic,
            partitions: ensured.partitions,
        })
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<MemoryConsumer, SubscribeError> {
        only_topics(NAME, &request)?;
        let failed = |failure| SubscribeError::Failed {
            topic: request.topic.name.clone(),
            failure,
        };
        self.link.alive().map_err(failed)?;
        let mut broker = self.link.broker.lock();
        let topic = broker.topic(&request.topic.name).ok_or_else(|| {
            failed(Failure::new(
                FailureKind::NoTopic,
                "the topic does not exist at the broker",
            ))
        })?;
        let member = broker
            .join(topic, &request.group, request.start, request.in_flight_max)
            .map_err(failed)?;
        Ok(MemoryConsumer::new(
            self.link.clone(),
            topic,
            request.group.clone(),
            member,
        ))
    }

    async fn ping(&self) -> Result<(), Failure> {
        self.link.alive()?;
        if self.link.broker.lock().held {
            return std::future::pending().await;
        }
        Ok(())
    }

    fn numbers(&self) -> Option<ClientNumbers> {
        None
    }

    async fn take_over(&self, lost: &Self) {
        let (unsent, unanswered) = lost.link.leave_all();
        for sent in unsent {
            let slot = sent.slot;
            if self.link.queue.push(sent).is_err() {
                let failure = Failure::new(FailureKind::NoRoom, "the connection's queue is full");
                self.link.host.settle(slot, Outcome::Rejected(failure));
            }
        }
        self.link.waker.wake();
        for slot in unanswered {
            // This broker recognises no second envelope of an id, so nothing ambiguous is sent again.
            self.link
                .host
                .settle(slot, Outcome::Unknown(disconnected()));
        }
    }

    async fn close(&self, limit: Duration) {
        self.link.state.lock().closing = true;
        self.link.waker.wake();
        let runtime = self.link.host.runtime();
        if crate::runtime::timeout(runtime, limit, self.link.ended.heard())
            .await
            .is_none()
        {
            self.link.lose();
            self.link.ended.heard().await;
        }
    }
}

impl Link {
    /// Stores and answers until the connection is lost, or closed and empty.
    async fn run(&self) {
        let runtime = self.host.runtime().clone();
        let mut sleep: Option<(Duration, Task)> = None;
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            loop {
                let now = runtime.now();
                if self.is_over() {
                    return Poll::Ready(());
                }
                let stored = self.store(now);
                let answered = self.answer(now);
                if !stored && !answered {
                    return self.wait(now, &mut sleep, cx);
                }
            }
        })
        .await;
        self.ended.say(());
    }

    /// Arms the timer for what is due next.
    fn wait(
        &self,
        now: Duration,
        sleep: &mut Option<(Duration, Task)>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let state = self.state.lock();
        let due = state.due.keys().next().map(|(due, _)| *due);
        let next = due
            .into_iter()
            .chain(state.backlog.front().map(|(limit, _)| *limit))
            .min();
        drop(state);
        let Some(next) = next else {
            *sleep = None;
            return Poll::Pending;
        };
        if sleep.as_ref().is_none_or(|(armed, _)| *armed != next) {
            *sleep = Some((next, self.host.runtime().sleep(next.saturating_sub(now))));
        }
        let (_, timer) = sleep.as_mut().expect("armed above");
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => {
                *sleep = None;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Stores a batch. Says whether there was anything to do.
    fn store(&self, now: Duration) -> bool {
        let mut batch = Vec::new();
        let mut state = self.state.lock();
        if state.lost {
            return false;
        }
        let mut broker = self.broker.lock();
        if broker.held {
            while let Some(sent) = self.queue.pop() {
                state.backlog.push_back((now + self.answer_timeout, sent));
            }
            return false;
        }
        batch.extend(state.backlog.drain(..).map(|(_, sent)| sent));
        while batch.len() < BATCH_MAX
            && let Some(sent) = self.queue.pop()
        {
            batch.push(sent);
        }
        if batch.is_empty() {
            return false;
        }
        let on_both_clocks = Now {
            clock: now,
            unix: self.host.runtime().unix_time(),
        };
        let mut wakers = Vec::new();
        let mut at_once = Vec::new();
        for Sent {
            topic,
            envelope,
            slot,
        } in batch
        {
            let stored = broker.store(topic, envelope, on_both_clocks, &mut wakers);
            let (due, outcome) = Fate::of(&mut broker, stored).outcome(now, self.answer_timeout);
            if due <= now {
                at_once.push((slot, topic, outcome));
            } else {
                state.answers += 1;
                let order = state.answers;
                state.due.insert((due, order), (slot, topic, outcome));
            }
        }
        drop(broker);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        at_once
            .into_iter()
            .for_each(|(slot, topic, outcome)| self.tell(slot, topic, outcome));
        true
    }

    /// Answers what is due, and gives up what waited too long. Says whether there was any.
    fn answer(&self, now: Duration) -> bool {
        let mut answers = Vec::new();
        let mut state = self.state.lock();
        while let Some(first) = state.due.first_entry().filter(|first| first.key().0 <= now) {
            answers.push(first.remove());
        }
        while state
            .backlog
            .front()
            .is_some_and(|(limit, _)| *limit <= now)
        {
            if let Some((_, sent)) = state.backlog.pop_front() {
                let failure =
                    Failure::new(FailureKind::TimedOut, "the broker did not take it in time");
                answers.push((sent.slot, sent.topic, Outcome::Rejected(failure)));
            }
        }
        drop(state);
        let any = !answers.is_empty();
        answers
            .into_iter()
            .for_each(|(slot, topic, outcome)| self.tell(slot, topic, outcome));
        any
    }

    fn tell(&self, slot: Slot, topic: u64, outcome: Outcome) {
        if let Outcome::Rejected(failure) = &outcome
            && failure.kind() == FailureKind::NoTopic
            && let Some(name) = self.broker.lock().name(topic)
        {
            self.host.topic_missing(&name);
        }
        self.host.settle(slot, outcome);
    }

    /// Whether the task has to end.
    fn is_over(&self) -> bool {
        let state = self.state.lock();
        let empty = self.queue.is_empty() && state.backlog.is_empty() && state.due.is_empty();
        state.lost || state.closing && empty
    }

    /// The connection breaks: nothing goes over it any more, and the bus hears of it.
    pub(super) fn lose(&self) {
        let consumers = {
            let mut state = self.state.lock();
            state.lost = true;
            std::mem::take(&mut state.consumers)
        };
        consumers.into_iter().for_each(Waker::wake);
        self.waker.wake();
        self.host.lost(self.generation, disconnected());
    }

    /// Makes the task look again.
    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    pub(super) fn alive(&self) -> Result<(), Failure> {
        if self.state.lock().lost {
            Err(disconnected())
        } else {
            Ok(())
        }
    }

    /// Wakes `waker` when the connection is lost.
    pub(super) fn watch(&self, waker: &Waker) {
        let mut state = self.state.lock();
        if !state.consumers.iter().any(|known| known.will_wake(waker)) {
            state.consumers.push(waker.clone());
        }
    }

    /// What was never stored, and what was and has no answer.
    fn leave_all(&self) -> (Vec<Sent>, Vec<Slot>) {
        let mut state = self.state.lock();
        let mut unsent: Vec<_> = state.backlog.drain(..).map(|(_, sent)| sent).collect();
        while let Some(sent) = self.queue.pop() {
            unsent.push(sent);
        }
        let due = std::mem::take(&mut state.due);
        (unsent, due.into_values().map(|(slot, ..)| slot).collect())
    }
}

fn disconnected() -> Failure {
    Failure::new(
        FailureKind::Disconnected,
        "the connection to the broker was lost",
    )
}
