//! Consuming: one subscription, all its partitions, over one inbox.
//!
//! Everything happens inside [`Consumer::next`] and [`Consumer::answer`]; there is no task of its own. Each
//! partition is a state machine ([`partition`](super::partition)); this file carries out what it wants.
//! Dropping the future of `next` loses nothing: a step changes the state only after its I/O.

mod attend;
mod confirm;
mod give_back;
mod hear;
mod share;
mod take;
mod touched;
mod watch;

use super::api::Api;
use super::connection::NatsConnection;
use super::headers::{self, Origin};
use super::options::Options;
use super::partition::{Pace, Partition};
use super::pins::Pins;
use crate::backend::{Answer, Answered, Consumer, Host, Incoming, Position, SubscribeRequest};
use crate::envelope::Envelope;
use crate::error::{Failure, FailureKind};
use crate::events::BusEvent;
use crate::runtime::{Task, timeout};
use async_nats::{Message, Subject, Subscriber};
use attend::REPAIR_EVERY;
use bytes::Bytes;
pub(super) use share::{Company, subject as members_subject};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use touched::Touched;
pub(super) use watch::{GIVEN_UP, tell_drift};

/// How long `close` may take to give back what was fetched.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// The consuming half of a subscription on NATS.
pub struct NatsConsumer {
    api: Api,
    host: Arc<dyn Host>,
    options: Arc<Options>,
    pins: Arc<Pins>,
    request: SubscribeRequest,
    stream: String,
    partitions: Vec<Partition>,
    pace: Pace,
    inbox: Subscriber,
    /// `_INBOX.<id>.`
    prefix: String,
    /// Partitions that something happened to since they were last attended to.
    touched: Touched,
    news: VecDeque<Incoming<Token>>,
    unanswered: usize,
    /// The partition whose turn it is.
    turn: usize,
    tick: Option<Task>,
    epoch: u64,
    /// What the server says of deliveries that it makes no more, although nobody answered them.
    given_up: Subscriber,
    /// The other members of the group, where partitions are shared with them.
    company: Option<Company>,
    /// When the clock was looked at last.
    woken: Duration,
    /// When what only time brings is looked for next.
    look_at: Duration,
    /// When it was known last that what we have is ours: we run, and the server has not fallen silent.
    sure: Duration,
    /// Whether the server is being asked whose a partition is.
    in_doubt: bool,
    /// It has failed: another takes its place, and begins where it was.
    failed: bool,
}

/// Which delivery an answer is for.
#[derive(Debug)]
pub struct Token {
    partition: u32,
    epoch: u64,
    sequence: u64,
}

/// What a new consumer is made of.
pub(super) struct Parts {
    pub(super) api: Api,
    pub(super) request: SubscribeRequest,
    pub(super) stream: String,
    pub(super) partitions: Vec<Partition>,
    pub(super) pace: Pace,
    pub(super) inbox: Subscriber,
    pub(super) prefix: String,
    pub(super) epoch: u64,
    pub(super) given_up: Subscriber,
    pub(super) company: Option<Company>,
}

impl NatsConsumer {
    pub(super) fn new(connection: &NatsConnection, parts: Parts) -> Self {
        let Parts {
            api,
            request,
            stream,
            partitions,
            pace,
            inbox,
            prefix,
            epoch,
            given_up,
            company,
        } = parts;
        let numbers: Vec<u32> = partitions.iter().map(|p| p.number).collect();
        Self {
            api,
            host: connection.host.clone(),
            options: connection.options.clone(),
            pins: connection.pins.clone(),
            request,
            stream,
            partitions,
            pace,
            inbox,
            prefix,
            touched: Touched::all(numbers.len()),
            news: VecDeque::from([Incoming::Assigned {
                partitions: numbers,
                epoch,
            }]),
            unanswered: 0,
            turn: 0,
            tick: None,
            epoch,
            given_up,
            company,
            woken: connection.host.runtime().now(),
            look_at: Duration::ZERO,
            sure: connection.host.runtime().now(),
            in_doubt: false,
            failed: false,
        }
    }

    fn now(&self) -> Duration {
        self.host.runtime().now()
    }

    fn hand_out(&mut self) -> Option<Incoming<Token>> {
        if self.unanswered >= self.request.in_flight_max {
            return None;
        }
        let count = self.partitions.len();
        for step in 0..count {
            let at = (self.turn + step) % count;
            let partition = &mut self.partitions[at];
            let Some((sequence, fetched)) = partition.take_next() else {
                continue;
            };
            let (number, epoch) = (partition.number, partition.epoch);
            self.turn = (at + 1) % count;
            if partition.wants_attention(&self.pace) {
                self.touched.insert(number);
            }
            self.unanswered += 1;
            let origin = Origin {
                stream: &self.stream,
                sequence,
                time_ms: fetched.time_ms,
            };
            let Message {
                headers,
                payload,
                subject,
                ..
            } = fetched.message;
            let mut envelope = headers::decode(headers.as_ref(), payload, &origin);
            let is_foreign = self.request.foreign.is_some();
            return Some(Incoming::Delivery {
                subject: is_foreign.then(|| of_foreign(&mut envelope, &subject)),
                envelope,
                position: Position {
                    partition: number,
                    offset: sequence,
                    epoch,
                },
                attempt: fetched.attempt,
                token: Token {
                    partition: number,
                    epoch,
                    sequence,
                },
            });
        }
        None
    }

    fn restarted(&self, reason: String) {
        self.host.event(BusEvent::ConsumerRestarted {
            topic: self.request.topic.name.clone(),
            group: self.request.group.clone(),
            reason,
        });
    }

    async fn next_incoming(&mut self, room: bool) -> Result<Incoming<Token>, Failure> {
        self.wake();
        loop {
            if let Some(news) = self.news.pop_front() {
                return Ok(news);
            }
            if room && let Some(delivery) = self.hand_out() {
                return Ok(delivery);
            }
            if self.is_to_attend() {
                self.attend().await?;
                // It may have taken long.
                self.wake();
                continue;
            }
            if !self.hear().await {
                return Err(disconnected("the inbox is closed"));
            }
        }
    }

    async fn give_answer(&mut self, token: &Token, answer: Answer) -> Result<Answered, Failure> {
        let at = token.partition as usize;
        let reply: Subject = match self.partitions.get(at) {
            Some(partition) if partition.epoch == token.epoch => {
                match partition.out.get(token.sequence) {
                    Some(reply) => reply.clone(),
                    None => return Ok(Answered::Final),
                }
            }
            // Of an epoch that is over: it comes again. That it is over is news that waits to be heard.
            _ => return Ok(Answered::Pending),
        };
        if answer == Answer::Ack && self.request.confirm {
            self.acknowledge(at, token.sequence, reply).await?;
            return Ok(Answered::Pending);
        }
        let payload = match answer {
            Answer::Ack => Bytes::from_static(b"+ACK"),
            Answer::InProgress => Bytes::from_static(b"+WPI"),
            Answer::Nack { after } if after.is_zero() => Bytes::from_static(b"-NAK"),
            Answer::Nack { after } => {
                let delay = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
                format!("-NAK {{\"delay\": {delay}}}").into()
            }
        };
        let sent = self.api.client.publish(reply, payload).await;
        sent.map_err(disconnected)?;
        if answer != Answer::InProgress {
            self.partitions[at].answered(token.sequence, answer == Answer::Ack);
            self.unanswered -= 1;
            return Ok(Answered::Final);
        }
        // While a handler runs nobody calls `next`: keep the pin.
        self.pull(at).await?;
        Ok(Answered::Final)
    }
}

impl Consumer for NatsConsumer {
    type Token = Token;

    async fn next(&mut self, room: bool) -> Result<Incoming<Token>, Failure> {
        let next = self.next_incoming(room).await;
        self.failed |= next.is_err();
        next
    }

    async fn answer(&mut self, token: &Token, answer: Answer) -> Result<Answered, Failure> {
        let answered = self.give_answer(token, answer).await;
        self.failed |= answered.is_err();
        answered
    }

    async fn release(&mut self, partition: u32, epoch: u64) -> Result<(), Failure> {
        // What the server took away is another's already, or begins anew here: only what was given up waits for this.
        self.released(partition, epoch);
        Ok(())
    }

    async fn lag(&mut self) -> Result<Vec<(u32, u64)>, Failure> {
        let mut lag = Vec::with_capacity(self.partitions.len());
        for partition in &self.partitions {
            let standing = partition.durable.look(&self.api).await;
            let standing = standing.map_err(|error| error.into_failure())?;
            // A durable that is gone is made again where it was: nothing is known until then.
            if let Some(standing) = standing {
                lag.push((partition.number, standing.waits + standing.unanswered));
            }
        }
        Ok(lag)
    }

    fn sure_until(&self) -> Option<Duration> {
        // Without pins a second member is refused.
        let pinned = self.partitions.first().is_some_and(|p| p.durable.pins);
        pinned.then_some(self.sure + self.pace.lease)
    }

    fn progress_every(&self) -> Option<Duration> {
        Some(self.options.ack_wait / 2)
    }

    async fn close(mut self, limit: Duration) {
        let runtime = self.host.runtime().clone();
        self.remember_places();
        // When the connection is lost there is nothing to give back to: the ack wait does it.
        let _ = timeout(&runtime, limit.min(CLOSE_LIMIT), self.give_back()).await;
    }
}

impl fmt::Debug for NatsConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsConsumer")
            .field("stream", &self.stream)
            .field("partitions", &self.partitions.len())
            .field("unanswered", &self.unanswered)
            .finish_non_exhaustive()
    }
}

/// What an envelope was published to; its key too, if it came without one.
fn of_foreign(envelope: &mut Envelope, subject: &str) -> Arc<str> {
    let key = || Bytes::copy_from_slice(subject.as_bytes());
    envelope.key.get_or_insert_with(key);
    subject.into()
}

fn disconnected(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
    Failure::caused(FailureKind::Disconnected, "the connection is down", error)
}
