//! The pipeline: the one task of a connection that sends publishes and reads their acknowledgements.
//!
//! It owns the table of what is in flight, by the slot's index, so nothing here needs a lock. One
//! inbox hears every acknowledgement; the last token of a reply subject is the slot. What is in
//! flight is in one of three places:
//!
//! ```text
//! queue ──▶ table, waiting ──▶ table, sent ──▶ settled
//!             (in `waiting`)        │
//!                 └─────────────────┴──▶ settled by the wheel after the publish timeout
//! ```
//!
//! * What is settled before it was sent is `Rejected`; after it was sent the broker may have it.
//! * When the connection is lost the task says so, keeps accepting, and goes on expiring, until the next
//!   connection's task takes everything over.
//! * It runs when something happens. The wheel's timer is armed only while something is in flight.

use super::ack::{self, Asked};
use super::headers;
use super::latch::SetOnDrop;
use super::produce::{InFlight, Order, Pipe, Publish, Target, Targets};
use crate::backend::wheel::Wheel;
use crate::backend::{Host, Outcome, Slot};
use crate::error::{Failure, FailureKind};
use crate::runtime::Task;
use async_nats::client::{Client, PublishErrorKind};
use async_nats::message::OutboundMessage;
use async_nats::{Subject, Subscriber};
use bytes::BytesMut;
use futures_core::Stream;
use futures_util::Sink;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Reply subjects are cut from chunks of this size: one allocation for hundreds of publishes.
const REPLIES: usize = 16 * 1024;

/// Where the connection is in its life.
#[derive(Debug, PartialEq)]
enum Stage {
    Live,
    /// Nothing can be sent; the bus has been told.
    Lost,
    /// What was in flight has been handed over.
    Surrendered,
}

/// The task's own.
pub(super) struct Pipeline {
    pipe: Arc<Pipe>,
    host: Arc<dyn Host>,
    generation: u64,
    publish_timeout: Duration,
    stage: Stage,
    line: Option<Line>,
    targets: Arc<Targets>,
    /// As many of them as were needed so far.
    known: Vec<Arc<Target>>,
    table: Vec<Option<InFlight>>,
    in_flight: usize,
    /// Indices of what is to be sent, oldest first. Some may be settled already.
    waiting: VecDeque<u32>,
    wheel: Wheel,
    timer: Option<Task>,
    stop: Option<Stop>,
}

/// The client and the inbox of its acknowledgements.
pub(super) struct Line {
    pub(super) client: Client,
    pub(super) inbox: Subscriber,
    /// `_INBOX.<id>.`
    pub(super) prefix: Box<str>,
    pub(super) replies: BytesMut,
}

struct Stop {
    timer: Task,
}

impl Pipeline {
    pub(super) fn new(
        pipe: Arc<Pipe>,
        host: Arc<dyn Host>,
        generation: u64,
        publish_timeout: Duration,
        targets: Arc<Targets>,
        line: Line,
    ) -> Self {
        Self {
            pipe,
            host,
            generation,
            publish_timeout,
            stage: Stage::Live,
            line: Some(line),
            targets,
            known: Vec::new(),
            table: Vec::new(),
            in_flight: 0,
            waiting: VecDeque::new(),
            wheel: Wheel::new(publish_timeout),
            timer: None,
            stop: None,
        }
    }

    /// Runs until it is told to stop.
    pub(super) async fn run(mut self) {
        let _ended = SetOnDrop(self.pipe.ended.clone());
        poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.pipe.task.register(cx.waker());
        let now = self.host.runtime().now();
        self.expire(now);
        self.take_orders(now);
        self.accept(now);
        self.poll_acks(cx);
        self.poll_send(cx, now);
        self.poll_timer(cx);
        self.poll_stop(cx)
    }

    fn take_orders(&mut self, now: Duration) {
        while let Some(order) = self.pipe.orders.pop() {
            match order {
                Order::Adopt(rest) => {
                    for mut entry in rest {
                        entry.ambiguous |= entry.sent.is_some();
                        self.admit(entry, now);
                    }
                }
                Order::Surrender => self.surrender(now),
                Order::Stop(limit) => {
                    let timer = self.host.runtime().sleep(limit);
                    self.stop = Some(Stop { timer });
                }
            }
        }
    }

    /// Takes what publishers have queued into the table.
    fn accept(&mut self, now: Duration) {
        while let Some(publish) = self.pipe.publishes.pop() {
            let Publish {
                slot,
                route,
                partition,
                envelope,
            } = publish;
            if route as usize >= self.known.len() {
                self.targets.copy_to(&mut self.known);
            }
            let Some(target) = self.known.get(route as usize).cloned() else {
                let failure = Failure::new(FailureKind::Mismatch, "a route of another backend");
                self.host.settle(slot, Outcome::Rejected(failure));
                continue;
            };
            let entry = InFlight {
                slot,
                target,
                partition,
                envelope,
                since: now,
                sent: None,
                ambiguous: false,
            };
            self.admit(entry, now);
        }
    }

    fn admit(&mut self, entry: InFlight, now: Duration) {
        if self.stage == Stage::Surrendered {
            let failure = Failure::new(FailureKind::Disconnected, "the connection was given up");
            return self
                .host
                .settle(entry.slot, unsent_or_unknown(&entry, failure));
        }
        let index = entry.slot.index();
        if self.table.len() <= index {
            self.table.resize_with(index + 1, || None);
        }
        self.wheel
            .insert(index as u32, now, entry.since + self.publish_timeout);
        self.waiting.push_back(index as u32);
        // A slot that is used again was settled by somebody else.
        let before = self.table[index].replace(entry);
        self.in_flight += usize::from(before.is_none());
    }

    fn remove(&mut self, index: u32) -> Option<InFlight> {
        let entry = self.table.get_mut(index as usize)?.take()?;
        self.wheel.remove(index);
        self.in_flight -= 1;
        Some(entry)
    }

    fn poll_acks(&mut self, cx: &mut Context<'_>) {
        while let Some(line) = &mut self.line {
            let Poll::Ready(next) = Pin::new(&mut line.inbox).poll_next(cx) else {
                return;
            };
            let Some(message) = next else {
                return self.lose("the server closed the connection, or it went silent");
            };
            let slot = message
                .subject
                .strip_prefix(&*line.prefix)
                .and_then(|token| u64::from_str_radix(token, 16).ok())
                .map(Slot::from_bits);
            let Some(slot) = slot else { continue };
            let entry = match self.table.get(slot.index()) {
                Some(Some(entry)) if entry.slot == slot => entry,
                // Settled long ago.
                _ => continue,
            };
            let asked = Asked {
                topic: &entry.target.topic,
                stream: entry.target.stream.as_deref(),
                partition: entry.partition,
                ambiguous: entry.ambiguous,
            };
            let verdict = ack::read(&message, &asked);
            if verdict.topic_missing {
                self.host.topic_missing(&entry.target.topic);
            }
            self.remove(slot.index() as u32);
            self.host.settle(slot, verdict.outcome);
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, now: Duration) {
        while let (Some(line), Some(index)) = (&mut self.line, self.waiting.front().copied()) {
            if self.table[index as usize].is_none() {
                self.waiting.pop_front();
                continue;
            }
            match Pin::new(&mut line.client).poll_ready(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return self.lose("the client has ended"),
            }
            self.waiting.pop_front();
            self.send(index, now);
        }
    }

    /// Gives the envelope at `index` to the client, which has room for it.
    fn send(&mut self, index: u32, now: Duration) {
        let (Some(line), Some(entry)) = (&mut self.line, &mut self.table[index as usize]) else {
            return;
        };
        if entry.is_too_old_to_repeat(now) {
            let failure = Failure::new(
                FailureKind::Disconnected,
                format!(
                    "the connection was lost, and the duplicate window of topic `{}` ({:?}) is over",
                    entry.target.topic, entry.target.duplicate_window
                ),
            );
            return self.settle(index, Outcome::Unknown(failure));
        }
        let message = OutboundMessage {
            subject: entry.target.subjects[entry.partition as usize].clone(),
            reply: Some(line.reply(entry.slot)),
            payload: entry.envelope.payload.clone(),
            headers: Some(headers::encode(&entry.envelope)),
        };
        let Err(error) = Pin::new(&mut line.client).start_send(message) else {
            entry.sent.get_or_insert(now);
            return;
        };
        match error.kind() {
            PublishErrorKind::Send => {
                self.waiting.push_front(index);
                self.lose("the client has ended");
            }
            kind => {
                let kind = match kind {
                    PublishErrorKind::MaxPayloadExceeded => FailureKind::TooLarge,
                    _ => FailureKind::Broker,
                };
                let failure = Failure::caused(kind, "the server takes no such envelope", error);
                let outcome = unsent_or_unknown(entry, failure);
                self.settle(index, outcome);
            }
        }
    }

    fn settle(&mut self, index: u32, outcome: Outcome) {
        if let Some(entry) = self.remove(index) {
            self.host.settle(entry.slot, outcome);
        }
    }

    /// Settles what has waited for the publish timeout.
    fn expire(&mut self, now: Duration) {
        while let Some(index) = self.wheel.expire(now) {
            let Some(entry) = self.table[index as usize].take() else {
                continue;
            };
            self.in_flight -= 1;
            let limit = self.publish_timeout;
            let failure = match (entry.sent, &self.stage) {
                (Some(_), _) => Failure::new(
                    FailureKind::TimedOut,
                    format!(
                        "no acknowledgement from topic `{}` within {limit:?}",
                        entry.target.topic
                    ),
                ),
                (None, Stage::Live) => Failure::new(
                    FailureKind::TimedOut,
                    format!("not sent within {limit:?}: the server takes nothing"),
                ),
                (None, _) => Failure::new(
                    FailureKind::Disconnected,
                    format!("not sent within {limit:?}: there is no connection"),
                ),
            };
            self.host
                .settle(entry.slot, unsent_or_unknown(&entry, failure));
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) {
        loop {
            if self.timer.is_none() && !self.wheel.is_empty() {
                self.timer = Some(self.host.runtime().sleep(self.wheel.tick()));
            }
            let Some(timer) = &mut self.timer else { return };
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
            self.timer = None;
            self.expire(self.host.runtime().now());
        }
    }

    fn lose(&mut self, reason: &'static str) {
        // With its last handle gone, the client ends too.
        self.line = None;
        self.stage = Stage::Lost;
        let failure = Failure::new(FailureKind::Disconnected, reason);
        self.host.lost(self.generation, failure);
    }

    fn surrender(&mut self, now: Duration) {
        if self.stage == Stage::Surrendered {
            return;
        }
        self.line = None;
        self.accept(now);
        self.stage = Stage::Surrendered;
        // What waits keeps its order, and comes after what was sent.
        let waiting = std::mem::take(&mut self.waiting);
        let mut unsent: Vec<_> = waiting
            .into_iter()
            .filter_map(|index| self.remove(index))
            .collect();
        let mut rest: Vec<_> = (0..self.table.len() as u32)
            .filter_map(|index| self.remove(index))
            .collect();
        rest.sort_by_key(|entry| (entry.since, entry.envelope.id));
        rest.append(&mut unsent);
        self.pipe.surrender(rest);
    }

    fn poll_stop(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(stop) = &mut self.stop else {
            return Poll::Pending;
        };
        if self.in_flight == 0 || self.line.is_none() {
            return Poll::Ready(());
        }
        ready!(stop.timer.as_mut().poll(cx));
        Poll::Ready(())
    }
}

impl Line {
    /// The reply subject of `slot`, cut from the current chunk.
    fn reply(&mut self, slot: Slot) -> Subject {
        let mut text = [0; 128];
        let mut cursor = &mut text[..];
        let written = write!(cursor, "{}{:x}", self.prefix, slot.to_bits());
        let left = cursor.len();
        debug_assert!(written.is_ok(), "an inbox is shorter than 100 bytes");
        let text = &text[..128 - left];
        if self.replies.capacity() < text.len() {
            self.replies.reserve(REPLIES);
        }
        self.replies.extend_from_slice(text);
        let bytes = self.replies.split().freeze();
        Subject::try_from(bytes).expect("an inbox is ASCII")
    }
}

impl InFlight {
    /// Whether the stream may have forgotten an earlier attempt. An eighth is for the way.
    fn is_too_old_to_repeat(&self, now: Duration) -> bool {
        let window = self.target.duplicate_window / 8 * 7;
        self.sent
            .is_some_and(|sent| now.saturating_sub(sent) >= window)
    }
}

/// `Rejected` for what no broker can have, `Unknown` for what was sent.
fn unsent_or_unknown(entry: &InFlight, failure: Failure) -> Outcome {
    match entry.sent {
        None => Outcome::Rejected(failure),
        Some(_) => Outcome::Unknown(failure),
    }
}
