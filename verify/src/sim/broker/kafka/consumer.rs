//! The consuming half of a subscription: how far each partition is settled, and so what is committed. As the bus's own Kafka backend does it,
//! over the same `progress`.
//!
//! Nothing here waits for the broker but a look at the lag, and nothing is lost when a future is dropped.

use super::cluster::Denied;
use super::member::{Client, Commit, Fetched, News, What};
use super::net::disconnected;
use clearway::backend::{Answer, Answered, Consumer, Incoming, Position};
use clearway::{Failure, FailureKind, Task};
use progress::Progress;
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

#[path = "../../../../../src/backend/kafka/consume/progress.rs"]
#[allow(dead_code, reason = "what only the bus's own backend needs")]
mod progress;

/// How long a consumer may take to commit for the last time and to leave its group.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// Between a commit that failed and the next try, where confirmations are waited for.
const CONFIRM_AGAIN: Duration = Duration::from_millis(100);

/// See the module.
pub(super) struct SimConsumer {
    client: Arc<Client>,
    partitions: BTreeMap<u32, Progress>,
    news: VecDeque<Incoming<Token>>,
    failed: Option<Failure>,
    unanswered: usize,
    /// When what was settled is committed, at the latest.
    commit_at: Option<Duration>,
    /// Commits that were not answered.
    committing: usize,
    timer: Option<(Duration, Task)>,
}

/// Which delivery an answer is for.
#[derive(Debug)]
pub(super) struct Token(Position);

impl SimConsumer {
    pub(super) fn new(client: Arc<Client>) -> Self {
        Self {
            client,
            partitions: BTreeMap::new(),
            news: VecDeque::new(),
            failed: None,
            unanswered: 0,
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
        self.client.state().waker = Some(cx.waker().clone());
        loop {
            self.hear();
            if let Some(incoming) = self.news.pop_front() {
                return Poll::Ready(Ok(incoming));
            }
            if let Some(failure) = &self.failed {
                return Poll::Ready(Err(failure.clone()));
            }
            let in_flight_max = self.client.request.in_flight_max;
            if room
                && self.unanswered < in_flight_max
                && let Some(incoming) = self.hand_out()
            {
                return Poll::Ready(Ok(incoming));
            }
            if !self.poll_commit(cx) {
                let state = self.client.state();
                if state.ended || state.is_disconnected {
                    return Poll::Ready(Err(disconnected()));
                }
                return Poll::Pending;
            }
        }
    }

    /// The next delivery, if there is one.
    fn hand_out(&mut self) -> Option<Incoming<Token>> {
        loop {
            let fetched = {
                let mut state = self.client.state();
                let fetched = state.fetched.pop_front();
                let is_half = state.fetched.len() == self.client.net.settings().ahead / 2;
                drop(state);
                if is_half {
                    self.client.read_on();
                }
                fetched?
            };
            let Fetched {
                partition,
                epoch,
                what,
            } = fetched;
            let Some(progress) = self.progress(partition, epoch) else {
                continue;
            };
            match what {
                What::End { seen, offset } => {
                    if progress.end(seen, offset) {
                        self.commit_soon();
                    }
                }
                What::Delivery(offset, envelope) => {
                    if progress.leaving || !progress.deliver(offset) {
                        continue;
                    }
                    self.unanswered += 1;
                    let position = Position {
                        partition,
                        offset,
                        epoch,
                    };
                    return Some(Incoming::Delivery {
                        envelope,
                        position,
                        // Kafka does not count them.
                        attempt: 1,
                        subject: None,
                        token: Token(position),
                    });
                }
            }
        }
    }

    fn progress(&mut self, partition: u32, epoch: u64) -> Option<&mut Progress> {
        let progress = self.partitions.get_mut(&partition)?;
        (progress.epoch == epoch).then_some(progress)
    }

    /// Hears what has happened.
    fn hear(&mut self) {
        loop {
            let news = self.client.state().news.pop_front();
            let Some(news) = news else {
                return;
            };
            match news {
                News::Assigned(epoch, partitions) => self.assigned(epoch, &partitions),
                News::Revoked(epoch, partitions) => {
                    for partition in &partitions {
                        if let Some(progress) = self.partitions.get_mut(partition) {
                            progress.leaving = true;
                            if progress.unanswered() > 0 {
                                let weather = &self.client.net.shared.weather;
                                weather.goal("a revoke while handlers are at work");
                            }
                        }
                    }
                    // What is settled counts, though others of it are at work.
                    self.commit();
                    self.news.push_back(Incoming::Revoked { partitions, epoch });
                }
                News::Gone(partition, epoch) => {
                    if self.progress(partition, epoch).is_some() {
                        self.partitions.remove(&partition);
                    }
                    self.unanswered = self.partitions.values().map(Progress::unanswered).sum();
                }
                News::Committed(partition, offset) => self.committed(partition, offset),
                News::CommitFailed(partitions) => {
                    self.committing = self.committing.saturating_sub(partitions.len());
                    for partition in partitions {
                        if let Some(progress) = self.partitions.get_mut(&partition) {
                            progress.commit_failed();
                        }
                    }
                    let pause = match self.client.request.confirm {
                        true => CONFIRM_AGAIN,
                        false => self.client.net.settings().commit_every,
                    };
                    self.commit_at = Some(self.client.net.now() + pause);
                }
                News::Failed(failure) => self.failed = Some(failure),
            }
        }
    }

    fn assigned(&mut self, epoch: u64, partitions: &[(u32, Option<u64>, bool)]) {
        for (partition, start, is_committed) in partitions {
            let progress = Progress::new(epoch, *start, *is_committed);
            self.partitions.insert(*partition, progress);
        }
        self.news.push_back(Incoming::Assigned {
            partitions: partitions
                .iter()
                .map(|(partition, ..)| *partition)
                .collect(),
            epoch,
        });
        if partitions.iter().any(|(.., is_committed)| !is_committed) {
            // So that the next member begins at the same place.
            self.commit();
        }
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

    /// Commits when its time has come. Says whether it did.
    fn poll_commit(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(due) = self.commit_at else {
            self.timer = None;
            return false;
        };
        if self.client.request.confirm && self.committing > 0 {
            // One at a time: what is settled meanwhile goes with the next.
            return false;
        }
        let now = self.client.net.now();
        if due <= now {
            self.commit();
            return true;
        }
        if self.timer.as_ref().is_none_or(|(armed, _)| *armed != due) {
            let timer = self.client.net.runtime.sleep(due - now);
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

    /// At once where answers are confirmed, also for a gap: an answer that comes next goes with the commit that is due.
    fn commit_soon(&mut self) {
        let due = match self.client.request.confirm {
            true => Duration::ZERO,
            false => self.client.net.now() + self.client.net.settings().commit_every,
        };
        self.commit_at.get_or_insert(due);
    }

    /// Has told what is settled and not told yet.
    fn commit(&mut self) {
        self.commit_at = None;
        let partitions = self.partitions.iter_mut();
        let commits: Vec<Commit> = partitions
            .filter_map(|(partition, progress)| {
                let offset = progress.to_commit()?;
                progress.committing(offset);
                Some(Commit {
                    partition: *partition,
                    epoch: progress.epoch,
                    offset,
                })
            })
            .collect();
        self.committing += commits.len();
        self.client.commit(commits);
    }

    fn acknowledge(&mut self, token: &Token) -> Answered {
        let confirm = self.client.request.confirm;
        let at = token.0;
        let Some(progress) = self.progress(at.partition, at.epoch) else {
            // Of an epoch that is over: it comes again, to whoever has it now. That it is over is news that is heard next.
            return Answered::Pending;
        };
        if !progress.settle(at.offset) {
            return Answered::Final;
        }
        let leaving = progress.leaving;
        if confirm {
            progress.confirm(at.offset);
        }
        self.unanswered = self.unanswered.saturating_sub(1);
        let now = self.client.net.now();
        if leaving || (!confirm && self.commit_at.is_some_and(|due| due <= now)) {
            self.commit();
        } else {
            self.commit_soon();
        }
        match confirm {
            true => Answered::Pending,
            false => Answered::Final,
        }
    }
}

impl Consumer for SimConsumer {
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
        self.client.release(partition, epoch, commit);
        Ok(())
    }

    async fn lag(&mut self) -> Result<Vec<(u32, u64)>, Failure> {
        let (topic, id) = (self.client.request.topic.name.clone(), self.client.topic);
        let asked = self.client.net.ask(move |cluster, _| {
            let topic = cluster.topic(&topic).filter(|topic| topic.id == id);
            let logs = topic.map(|topic| &topic.logs)?;
            let ends = logs.iter().map(|log| (log.first(), log.readable()));
            Some(ends.collect::<Vec<_>>())
        });
        let ends = asked.await?.ok_or(Denied::NoTopic.failure())?;
        self.hear();
        let lag = (0..).zip(ends).filter_map(|(partition, (low, high))| {
            let progress = self.partitions.get(&partition)?;
            (!progress.leaving).then(|| (partition, progress.lag(low, high)))
        });
        Ok(lag.collect())
    }

    fn progress_every(&self) -> Option<Duration> {
        None
    }

    fn sure_until(&self) -> Option<Duration> {
        Some(self.client.state().sure_until)
    }

    async fn close(mut self, limit: Duration) {
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
        self.client.close(commits.collect());
        let client = self.client.clone();
        let ended = poll_fn(|cx| {
            let mut state = client.state();
            state.waker = Some(cx.waker().clone());
            match state.ended {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        let _ = client.net.within(limit.min(CLOSE_LIMIT), ended).await;
    }
}

impl Drop for SimConsumer {
    /// Without `close` it leaves its group all the same. The first word counts.
    fn drop(&mut self) {
        self.client.close(Vec::new());
    }
}
