//! Consuming: the task's side of a consumer. The client is on a thread of its own ([`poller`](super::poller)); here is how far each
//! partition is settled, and so what the thread is to commit.
//!
//! Nothing here waits but for the thread, and nothing is lost when a future is dropped: what was taken from the wire is counted before
//! it is handed out.

mod progress;

use super::connection::KafkaConnection;
use super::poller::{Commit, Fetched, News, Order, Reply, Wire};
use crate::backend::{Answer, Answered, Consumer, Host, Incoming, Position, SubscribeRequest};
use crate::error::{Failure, FailureKind};
use crate::runtime::{Task, timeout};
use crate::signal::Signal;
use progress::Progress;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::Thread;
use std::time::Duration;

/// The thread hears of what was taken in portions of so many, or so many bytes.
const TOOK: usize = 64;
const TOOK_BYTES: usize = 64 << 10;
/// How long a consumer may take to commit for the last time and to leave its group.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// Between a commit that failed and the next try, where confirmations are waited for.
const CONFIRM_AGAIN: Duration = Duration::from_millis(100);

/// The consuming half of a subscription on Kafka.
pub struct KafkaConsumer {
    handle: Handle,
    host: Arc<dyn Host>,
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
        // The first one counts.
        self.order(Order::Close(Vec::new()));
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
            timer: None,
        }
    }

    fn poll_next(
        &mut self,
        room: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Incoming<Token>, Failure>> {
        self.handle.wire.task.register(cx.waker());
        if self.closed.poll_heard(cx).is_ready() {
            return Poll::Ready(Err(Failure::new(
                FailureKind::Disconnected,
                "the connection was closed",
            )));
        }
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
                return Poll::Pending;
            }
        }
    }

    /// Hears what has happened.
    fn hear(&mut self) {
        while let Some(news) = self.handle.wire.news.pop() {
            match news {
                News::Assigned { epoch, partitions } => self.assigned(epoch, &partitions),
                News::Revoked { epoch, partitions } => {
                    for partition in &partitions {
                        if let Some(progress) = self.partitions.get_mut(partition) {
                            progress.leaving = true;
                        }
                    }
                    // What is settled counts, though others of it are at work.
                    self.commit();
                    self.news.push_back(Incoming::Revoked { partitions, epoch });
                }
                News::Gone { partition, epoch } => {
                    if self.progress(partition, epoch).is_some() {
                        self.partitions.remove(&partition);
                    }
                    self.count_unanswered();
                }
                News::Committed { partition, offset } => self.committed(partition, offset),
                News::CommitFailed { partitions } => {
                    self.committing = self.committing.saturating_sub(partitions.len());
                    for partition in partitions {
                        if let Some(progress) = self.partitions.get_mut(&partition) {
                            progress.commit_failed();
                        }
                    }
                    let pause = if self.request.confirm {
                        CONFIRM_AGAIN
                    } else {
                        self.commit_every
                    };
                    self.commit_at = Some(self.now() + pause);
                }
                News::Failed(failure) => self.failed = Some(failure),
            }
        }
        if self.failed.is_none() && self.handle.wire.ended.said().is_some() {
            self.failed = Some(Failure::new(
                FailureKind::Disconnected,
                "the consumer's thread has ended",
            ));
        }
    }

    fn assigned(&mut self, epoch: u64, partitions: &[(u32, Option<u64>)]) {
        for (partition, start) in partitions {
            let progress = Progress::new(epoch, *start);
            self.partitions.insert(*partition, progress);
        }
        self.news.push_back(Incoming::Assigned {
            partitions: partitions.iter().map(|(partition, _)| *partition).collect(),
            epoch,
        });
    }

    fn committed(&mut self, partition: u32, offset: u64) {
        self.committing = self.committing.saturating_sub(1);
        let Some(progress) = self.partitions.get_mut(&partition) else {
            return;
        };
        progress.committed(offset);
        let epoch = progress.epoch;
        for offset in progress.take_confirmed() {
            let position = Position {
                partition,
                offset,
                epoch,
            };
            self.news.push_back(Incoming::Confirmed { position });
        }
    }

    /// What was answered and is not ours any more is not waited for.
    fn count_unanswered(&mut self) {
        self.unanswered = self.partitions.values().map(Progress::unanswered).sum();
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
                offset,
            } => {
                let progress = self.progress(partition, epoch)?;
                progress.end(offset);
                self.commit_soon();
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

    /// Commits when its time has come. Says whether it did.
    fn poll_commit(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(due) = self.commit_at else {
            self.timer = None;
            return false;
        };
        if self.request.confirm && self.committing > 0 {
            // One at a time: what is settled meanwhile goes with the next.
            return false;
        }
        let now = self.now();
        if due <= now {
            self.commit();
            return true;
        }
        if self.timer.as_ref().is_none_or(|(armed, _)| *armed != due) {
            let timer = self.host.runtime().sleep(due - now);
            self.timer = Some((due, timer));
        }
        if let Some((_, timer)) = &mut self.timer
            && timer.as_mut().poll(cx).is_ready()
        {
            self.timer = None;
            self.commit();
            return true;
        }
        false
    }

    fn commit_soon(&mut self) {
        if self.commit_at.is_none() {
            self.commit_at = Some(self.now() + self.commit_every);
        }
    }

    /// Tells the thread what is settled and not told yet.
    fn commit(&mut self) {
        self.commit_at = None;
        let commits = self.commits();
        if commits.is_empty() {
            return;
        }
        self.committing += commits.len();
        self.handle.order(Order::Commit(commits));
    }

    fn commits(&mut self) -> Vec<Commit> {
        let partitions = self.partitions.iter_mut();
        let commits = partitions.filter_map(|(partition, progress)| {
            let offset = progress.to_commit()?;
            progress.committing(offset);
            Some(Commit {
                partition: *partition,
                epoch: progress.epoch,
                offset,
            })
        });
        commits.collect()
    }

    fn acknowledge(&mut self, token: &Token) -> Answered {
        let confirm = self.request.confirm;
        let Some(progress) = self.progress(token.partition, token.epoch) else {
            // Of an epoch that is over: it comes again, to whoever has it now. That it is over is news that is heard next.
            return Answered::Pending;
        };
        if !progress.settle(token.offset) {
            return Answered::Final;
        }
        let leaving = progress.leaving;
        if confirm {
            progress.confirm(token.offset);
        }
        self.unanswered = self.unanswered.saturating_sub(1);
        if leaving {
            // Now: when the time for the hand-over is up nobody asks again.
            self.commit();
        } else if confirm {
            self.commit_at.get_or_insert(Duration::ZERO);
        } else {
            self.commit_in_time();
        }
        if confirm {
            Answered::Pending
        } else {
            Answered::Final
        }
    }

    /// Commits if its time has come though nobody asks for more.
    fn commit_in_time(&mut self) {
        match self.commit_at {
            None => self.commit_soon(),
            Some(due) if due <= self.now() => self.commit(),
            Some(_) => {}
        }
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
        self.handle.order(Order::Release {
            partition,
            epoch,
            commit,
        });
        Ok(())
    }

    async fn lag(&mut self) -> Result<Vec<(u32, u64)>, Failure> {
        let reply = Reply::new();
        self.handle.order(Order::Ends(reply.clone()));
        let ends = reply.given(&self.handle.wire.ended).await?;
        self.hear();
        let lag = ends.into_iter().filter_map(|ends| {
            let progress = self.partitions.get(&ends.partition)?;
            Some((ends.partition, progress.lag(ends.low, ends.high)))
        });
        Ok(lag.collect())
    }

    fn progress_every(&self) -> Option<Duration> {
        None
    }

    async fn close(mut self) {
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
        self.handle.order(Order::Close(commits));
        let runtime = self.host.runtime().clone();
        let ended = self.handle.wire.ended.clone();
        if timeout(&runtime, CLOSE_LIMIT, ended.heard())
            .await
            .is_none()
        {
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
