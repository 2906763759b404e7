//! One partition's queue: its requests under way, in order, each under the numbers that it got when it was first sent.

use super::super::cluster::{Denied, Place};
use super::super::log::{NotAppended, Number, REMEMBERED};
use super::super::net::{Net, Shared, disconnected};
use super::{Pipe, Sent};
use crate::sim::fault::Fault;
use clearway::backend::{Outcome, Slot};
use clearway::{Envelope, Failure, FailureKind};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::futures::Notified;
use tokio::sync::oneshot;

/// As many requests of a partition are under way at once.
const REQUESTS: usize = 5;
/// As many envelopes are in one.
const BATCH: usize = REMEMBERED / REQUESTS;
/// Between an attempt that failed and the next.
const AGAIN: Duration = Duration::from_millis(100);

/// Under way.
struct Request {
    first: u64,
    batch: Vec<Sent>,
    since: Duration,
    answer: oneshot::Receiver<Answer>,
}

type Answer = Result<Vec<(u64, bool)>, Refused>;

/// What a request came to that stored nothing, or may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Denied(Denied),
    /// Another leads: it may have it, and may not.
    NotLeader,
}

/// See the module.
pub(super) struct Queue {
    pipe: Arc<Pipe>,
    place: Place,
    window: VecDeque<Request>,
    next: u64,
    /// Said when the last request has arrived, or is lost: a connection keeps the order of what is sent over it.
    before: Option<oneshot::Receiver<()>>,
}

/// What a queue has to do next.
enum Happened {
    Answered(Answer),
    Lost,
    Look,
}

impl Queue {
    pub(super) fn new(pipe: Arc<Pipe>, place: Place) -> Self {
        Self {
            pipe,
            place,
            window: VecDeque::new(),
            next: 0,
            before: None,
        }
    }

    pub(super) async fn run(mut self) {
        let pipe = self.pipe.clone();
        loop {
            let mut changed = Box::pin(pipe.changed.notified());
            changed.as_mut().enable();
            if !self.fill() {
                break;
            }
            match self.wait(changed).await {
                Happened::Answered(Ok(stored)) => self.stored(&stored),
                Happened::Answered(Err(refused)) => self.refused(refused).await,
                Happened::Lost => self.again().await,
                Happened::Look => {}
            }
            self.expire();
        }
        let mut state = self.pipe.state.lock();
        state.at_work -= 1;
        drop(state);
        self.pipe.changed.notify_waiters();
    }

    /// Sends what there is room for. `false`: it is told to end, and has nothing left or no time.
    fn fill(&mut self) -> bool {
        let now = self.pipe.net.now();
        while self.window.len() < REQUESTS {
            let batch: Vec<Sent> = {
                let mut state = self.pipe.state.lock();
                let queue = state.queues.entry(self.place.clone()).or_default();
                let count = queue.len().min(BATCH);
                queue.drain(..count).collect()
            };
            if batch.is_empty() {
                break;
            }
            let first = self.next;
            self.next += batch.len() as u64;
            let answer = self.send(first, &batch);
            self.window.push_back(Request {
                first,
                batch,
                since: now,
                answer,
            });
        }
        let stop = self.pipe.state.lock().stop;
        match stop {
            Some(_) if self.window.is_empty() => false,
            Some(until) if until <= now => {
                self.give_up();
                false
            }
            _ => true,
        }
    }

    /// When there is something to do though nothing happens.
    fn due(&self) -> Option<Duration> {
        let now = self.pipe.net.now();
        let state = self.pipe.state.lock();
        let queue = state.queues.get(&self.place);
        let under_way = self.window.iter().flat_map(|request| &request.batch);
        let dues = under_way.chain(queue.into_iter().flatten());
        let dues = dues.map(|sent| sent.due).filter(|due| *due > now);
        dues.chain(state.stop).min()
    }

    async fn wait(&mut self, changed: Pin<Box<Notified<'_>>>) -> Happened {
        let net = self.pipe.net.clone();
        let due = self.due();
        let Some(front) = self.window.front_mut() else {
            changed.await;
            return Happened::Look;
        };
        let patience = front.since + net.settings().request_timeout;
        let timer = async {
            match due {
                Some(due) => net.sleep(due.saturating_sub(net.now())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            answer = &mut front.answer => match answer {
                Ok(answer) => Happened::Answered(answer),
                Err(_) => Happened::Lost,
            },
            () = changed => Happened::Look,
            () = timer => Happened::Look,
            () = net.sleep(patience.saturating_sub(net.now())) => Happened::Lost,
        }
    }

    fn send(&mut self, first: u64, batch: &[Sent]) -> oneshot::Receiver<Answer> {
        let (give, answer) = oneshot::channel();
        let (shared, place) = (self.pipe.net.shared.clone(), self.place.clone());
        let envelopes: Vec<Envelope> = batch.iter().map(|sent| sent.envelope.clone()).collect();
        let number = Number {
            producer: self.pipe.producer,
            sequence: first,
        };
        let reaches = self.pipe.net.connection();
        let (arrived, next) = oneshot::channel();
        let before = self.before.replace(next);
        self.pipe.net.under_way(async move {
            Net::travel(&shared, Duration::ZERO).await;
            if let Some(before) = before {
                let _ = before.await;
            }
            if !reaches(&shared) || shared.weather.strikes(Fault::DropBefore) {
                return;
            }
            let unix = shared.unix_time();
            let appended = (shared.cluster()).append(&place, number, unix, &envelopes);
            drop(arrived);
            let answer = copied(&shared, &place, appended).await;
            let late = match shared.weather.strikes(Fault::LateAck) {
                true => Duration::from_millis(shared.weather.below(1500)),
                false => Duration::ZERO,
            };
            Net::travel(&shared, late).await;
            if reaches(&shared) && !shared.weather.strikes(Fault::DropAfter) {
                let _ = give.send(answer);
            }
        });
        answer
    }

    /// The oldest request is answered.
    fn stored(&mut self, stored: &[(u64, bool)]) {
        let Some(request) = self.window.pop_front() else {
            return;
        };
        for (sent, (offset, duplicate)) in request.batch.iter().zip(stored) {
            if *duplicate {
                self.pipe
                    .net
                    .shared
                    .weather
                    .goal("a resend known by its number");
            }
            let outcome = Outcome::Acked {
                partition: self.place.partition,
                position: *offset,
                duplicate: false,
            };
            self.pipe.host.settle(sent.slot, outcome);
        }
    }

    async fn refused(&mut self, refused: Refused) {
        match refused {
            Refused::Denied(Denied::Numbered(NotAppended::LongAgo)) => {
                let text = "it is stored, and the broker did not say where";
                let failure = Failure::new(FailureKind::Broker, text);
                if let Some(request) = self.window.pop_front() {
                    self.settle(&request.batch, &Outcome::Unknown(failure));
                }
            }
            Refused::Denied(Denied::NoTopic) => {
                // All that is on its way there: what is made again under that name is another.
                self.pipe.host.topic_missing(&self.place.topic);
                let failure = Denied::NoTopic.failure();
                self.unknown(&failure);
            }
            Refused::Denied(_) | Refused::NotLeader => self.again().await,
        }
    }

    /// Sends all that is under way once more, in order.
    async fn again(&mut self) {
        self.pipe.net.sleep(AGAIN).await;
        let mut window = std::mem::take(&mut self.window);
        for request in &mut window {
            request.answer = self.send(request.first, &request.batch);
            request.since = self.pipe.net.now();
        }
        self.window = window;
    }

    /// What has waited too long has its outcome, and stays where it is.
    fn expire(&mut self) {
        let now = self.pipe.net.now();
        let state = self.pipe.state.lock();
        let queue = state.queues.get(&self.place);
        let under_way = self.window.iter().flat_map(|request| &request.batch);
        let over: Vec<Slot> = (under_way.chain(queue.into_iter().flatten()))
            .filter(|sent| sent.due <= now)
            .map(|sent| sent.slot)
            .collect();
        drop(state);
        for slot in over {
            let failure = Failure::new(FailureKind::TimedOut, "no answer came in time");
            self.pipe.host.settle(slot, Outcome::Unknown(failure));
        }
    }

    fn give_up(&mut self) {
        self.unknown(&disconnected());
    }

    fn unknown(&mut self, failure: &Failure) {
        let under_way = std::mem::take(&mut self.window);
        let mut state = self.pipe.state.lock();
        let queue = state.queues.get_mut(&self.place);
        let left: Vec<Sent> = (under_way.into_iter().flat_map(|request| request.batch))
            .chain(queue.into_iter().flat_map(std::mem::take))
            .collect();
        drop(state);
        self.settle(&left, &Outcome::Unknown(failure.clone()));
    }

    fn settle(&self, batch: &[Sent], outcome: &Outcome) {
        for sent in batch {
            self.pipe.host.settle(sent.slot, outcome.clone());
        }
    }
}

/// What was appended is copied to all replicas that are in sync.
async fn copied(
    shared: &Arc<Shared>,
    place: &Place,
    appended: Result<(Vec<(u64, bool)>, u64), Denied>,
) -> Answer {
    let (stored, term) = appended.map_err(Refused::Denied)?;
    let mut end = stored.last().map_or(0, |(offset, _)| offset + 1);
    if shared.weather.strikes(Fault::OffsetGap) {
        let marker = shared.cluster().mark(place);
        end = marker.map_or(end, |marker| marker + 1);
    }
    Net::travel(shared, Duration::ZERO).await;
    let is_safe = shared.cluster().replicated(place, end, term);
    shared.changed();
    match is_safe {
        true => Ok(stored),
        false => Err(Refused::NotLeader),
    }
}
