//! Consuming: the task's side of a consumer. The client is on a thread of its own ([`poller`](super::poller)); here is how far each
//! partition is settled, and so what the thread is to commit.
//!
//! Nothing here waits but for the thread, and nothing is lost when a future is dropped: what was taken from the wire is counted before
//! it is handed out.

mod commit;
mod hear;
mod progress;

use super::connection::KafkaConnection;
use super::ends::Ends;
use super::poller::{Commit, Fetched, Order, Reply, Wire};
use super::threads;
use crate::backend::{Answer, Answered, Consumer, Host, Incoming, Position, SubscribeRequest};
use crate::error::{Failure, FailureKind};
use crate::runtime::{Task, timeout};
use crate::signal::Signal;
use progress::Progress;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::thread::Thread;
use std::time::Duration;

/// The thread hears of what was taken in portions of so many, or so many bytes.
const TOOK: usize = 256;
const TOOK_BYTES: usize = 256 << 10;
/// How long a consumer may take to commit for the last time and to leave its group, if it has as long.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// Between a commit that failed and the next try, where confirmations are waited for.
const CONFIRM_AGAIN: Duration = Duration::from_millis(100);

/// The consuming half of a subscription on Kafka.
pub struct KafkaConsumer {
    handle: Handle,
    host: Arc<dyn Host>,
    /// The connection's: it ends with that.
    ends: Weak<Ends>,
    closed: Arc<Signal<()>>,
    request: SubscribeRequest,
    commit_every: Duration,
    partitions: BTreeMap<u32, Progress>,
    news: VecDeque<Incoming<Token>>,
    /// Taken from the wire, and its assignment is not told yet.
    held: Option<Fetched>,
    failed: Option<Failure>,
    unanswered: usize,
    took: usize,
    took_bytes: usize,
    /// When what was settled is committed, at the latest.
    commit_at: Option<Duration>,
    /// Commits that the broker has not answered.
    committing: usize,
    /// Counts answers.
    answers: u32,
    timer: Option<(Duration, Task)>,
}

/// Which delivery an answer is for.
#[derive(Debug)]
pub struct Token {
    partition: u32,
    epoch: u64,
    offset: u64,
}

/// The way to the thread. Dropped, it tells the thread to end.
pub(super) struct Handle {
    wire: Arc<Wire>,
    thread: Thread,
}

impl Handle {
    pub(super) fn new(wire: Arc<Wire>, thread: Thread) -> Self {
        Self { wire, thread }
    }

    /// Waits until the client has begun.
    pub(super) async fn ready(&self, ready: &Reply<()>) -> Result<(), Failure> {
        ready.given(&self.wire.ended).await
    }

    fn order(&self, order: Order) {
        self.wire.orders.push(order);
        self.thread.unpark();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.wire.let_go.say(());
        // The first one counts.
        self.order(Order::Close {
            commits: Vec::new(),
            until: Duration::ZERO,
        });
    }
}

impl KafkaConsumer {
    pub(super) fn new(
        connection: &KafkaConnection,
        request: SubscribeRequest,
        handle: Handle,
    ) -> Self {
        Self {
            handle,
            host: connection.host.clone(),
            ends: Arc::downgrade(&connection.ends),
            closed: connection.closed.clone(),
            request,
            commit_every: connection.options.commit_every,
            partitions: BTreeMap::new(),
            news: VecDeque::new(),
            held: None,
            failed: None,
            unanswered: 0,
            took: 0,
            took_bytes: 0,
            commit_at: None,
            committing: 0,
            answers: 0,
            timer: None,
        }
    }

    fn poll_next(
        &mut self,
        room: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Incoming<Token>, Failure>> {
        self.handle.wire.task.register(cx.waker());
        loop {
            self.hear();
            if let Some(incoming) = self.news.pop_front() {
                return Poll::Ready(Ok(incoming));
            }
            if let Some(failure) = &self.failed {
                return Poll::Ready(Err(failure.clone()));
            }
            if room
                && self.unanswered < self.request.in_flight_max
                && let Some(incoming) = self.hand_out()
            {
                return Poll::Ready(Ok(incoming));
            }
            if self.news.is_empty() && !self.poll_commit(cx) {
                self.hear_end(cx);
                if self.failed.is_none() {
                    return Poll::Pending;
                }
            }
        }
    }

    /// The next delivery, unless there is none, or news to be told first.
    fn hand_out(&mut self) -> Option<Incoming<Token>> {
        loop {
            let fetched = match self.held.take() {
                Some(fetched) => fetched,
                None => self.take()?,
            };
            let (Fetched::Delivery {
                partition, epoch, ..
            }
            | Fetched::End {
                partition, epoch, ..
            }) = &fetched;
            if self.progress(*partition, *epoch).is_none() {
                // Its assignment was sent before it: it is heard now, or it is over.
                let (partition, epoch) = (*partition, *epoch);
                self.hear();
                if self.progress(partition, epoch).is_some() {
                    self.held = Some(fetched);
                    return None;
                }
                continue;
            }
            if let Some(incoming) = self.count(fetched) {
                return Some(incoming);
            }
        }
    }

    /// Counts what was fetched. `None`: it is not to be handled.
    fn count(&mut self, fetched: Fetched) -> Option<Incoming<Token>> {
        match fetched {
            Fetched::End {
                partition,
                epoch,
                seen,
                offset,
            } => {
                if self.progress(partition, epoch)?.end(seen, offset) {
                    self.commit_soon();
                }
                None
            }
            Fetched::Delivery {
                partition,
                epoch,
                offset,
                envelope,
            } => {
                let progress = self.progress(partition, epoch)?;
                if progress.leaving || !progress.deliver(offset) {
                    return None;
                }
                self.unanswered += 1;
                Some(Incoming::Delivery {
                    envelope,
                    position: Position {
                        partition,
                        offset,
                        epoch,
                    },
                    // Kafka does not count them.
                    attempt: 1,
                    subject: None,
                    token: Token {
                        partition,
                        epoch,
                        offset,
                    },
                })
            }
        }
    }

    /// Takes from the wire, and tells the thread now and then how much.
    fn take(&mut self) -> Option<Fetched> {
        let fetched = self.handle.wire.fetched.pop()?;
        if let Fetched::Delivery { envelope, .. } = &fetched {
            self.took += 1;
            self.took_bytes += envelope.size();
            if self.took >= TOOK || self.took_bytes >= TOOK_BYTES {
                let count = std::mem::take(&mut self.took);
                let bytes = std::mem::take(&mut self.took_bytes);
                self.handle.order(Order::Took { count, bytes });
            }
        }
        Some(fetched)
    }

    fn progress(&mut self, partition: u32, epoch: u64) -> Option<&mut Progress> {
        let progress = self.partitions.get_mut(&partition)?;
        (progress.epoch == epoch).then_some(progress)
    }

    fn now(&self) -> Duration {
        self.host.runtime().now()
    }
}

impl Consumer for KafkaConsumer {
    type Token = Token;

    async fn next(&mut self, room: bool) -> Result<Incoming<Token>, Failure> {
        poll_fn(|cx| self.poll_next(room, cx)).await
    }

    async fn answer(&mut self, token: &Token, answer: Answer) -> Result<Answered, Failure> {
        match answer {
            Answer::Ack => Ok(self.acknowledge(token)),
            Answer::InProgress => Ok(Answered::Final),
            Answer::Nack { .. } => Err(Failure::new(
                FailureKind::Unsupported,
                "Kafka gives nothing back: what is not settled comes again from the next consumer",
            )),
        }
    }

    async fn release(&mut self, partition: u32, epoch: u64) -> Result<(), Failure> {
        let Some(progress) = self.progress(partition, epoch) else {
            return Ok(());
        };
        let commit = progress.frontier().filter(|_| !progress.is_committed());
        if let Some(offset) = commit {
            progress.committing(offset);
        }
        self.handle.order(Order::HandOver {
            partition,
            epoch,
            commit,
        });
        Ok(())
    }

    async fn lag(&mut self) -> Result<Vec<(u32, u64)>, Failure> {
        let gone = || Failure::new(FailureKind::Disconnected, "the connection was closed");
        let ends = self.ends.upgrade().ok_or_else(gone)?;
        let topic = self.request.topic.name.clone();
        let partitions: Vec<u32> = self.partitions.keys().copied().collect();
        let looked = threads::off("clearway-kafka-lag", move || ends.ask(&topic, &partitions));
        let ends = looked.await??;
        self.hear();
        let lag = ends.into_iter().filter_map(|(partition, low, high)| {
            let progress = self.partitions.get(&partition)?;
            (!progress.leaving).then(|| (partition, progress.lag(low, high)))
        });
        Ok(lag.collect())
    }

    fn progress_every(&self) -> Option<Duration> {
        None
    }

    fn sure_until(&self) -> Option<Duration> {
        Some(self.handle.wire.sure_until())
    }

    async fn close(mut self, limit: Duration) {
        let limit = limit.min(CLOSE_LIMIT);
        let until = self.now() + limit;
        self.hear();
        let partitions = self.partitions.iter();
        let commits = partitions.filter_map(|(partition, progress)| {
            let offset = progress.frontier().filter(|_| !progress.is_committed())?;
            Some(Commit {
                partition: *partition,
                epoch: progress.epoch,
                offset,
            })
        });
        let commits = commits.collect();
        self.handle.order(Order::Close { commits, until });
        let runtime = self.host.runtime().clone();
        let ended = self.handle.wire.ended.clone();
        if timeout(&runtime, limit, ended.heard()).await.is_none() {
            // Its thread ends by itself. It has the client, and nothing of ours to tell anybody.
            let (topic, group) = (&self.request.topic.name, &self.request.group);
            tracing::warn!(%topic, %group, "the Kafka consumer has not left its group yet");
        }
    }
}

impl fmt::Debug for KafkaConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConsumer")
            .field("topic", &self.request.topic.name)
            .field("group", &self.request.group)
            .field("partitions", &self.partitions.len())
            .field("unanswered", &self.unanswered)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
