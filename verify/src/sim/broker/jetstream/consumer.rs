//! The consuming half of a client: what the server hands out for one subscription, in the order of each partition.
//!
//! It believes what it hears, which is a little later than it is. A partition is its own from `Pinned` until it is asked back and released,
//! or taken; and surely so for half of what the server waits after it was heard last.

mod inbox;
mod seam;

pub(super) use inbox::Inbox;

use super::Shared;
use super::connection::{Link, disconnected};
use super::durable::ACK_WAIT;
use super::server::PIN_WAIT;
use super::wire::{At, Mail, Up};
use clearway::backend::{Answer, Answered, Consumer, Incoming, Position, SubscribeRequest};
use clearway::{Envelope, Failure, FailureKind, Task};
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Deliveries that are fetched ahead, of each partition.
const BATCH: usize = 16;

/// An acknowledgement that was not confirmed for so long is sent again.
const CONFIRM_WAIT: Duration = Duration::from_secs(2);

/// A member of a group.
pub(crate) struct JetConsumer {
    link: Arc<Link>,
    shared: Arc<Shared>,
    member: u64,
    born: u64,
    inbox: Arc<Inbox>,
    topic: Arc<str>,
    group: Arc<str>,
    in_flight_max: usize,
    confirm: bool,
    partitions: BTreeMap<u32, Partition>,
    /// Given up and not released.
    leaving: BTreeMap<u32, Partition>,
    news: VecDeque<Incoming<JetToken>>,
    turn: u32,
    /// When the server was told last that we are here.
    spoke: Duration,
    /// When the server was told last that what is ready is waited with.
    spoke_for_ready: Duration,
    /// What is pinned was still ours then.
    sure: Duration,
    tick: Option<(Duration, Task)>,
    is_gone: bool,
}

/// A partition that is ours.
struct Partition {
    epoch: u64,
    ready: BTreeMap<u64, (u32, Envelope)>,
    /// Handed out and not answered.
    out: BTreeMap<u64, ()>,
    /// Acknowledged and not confirmed, and when that was asked for last.
    confirming: BTreeMap<u64, Duration>,
    /// Asked for and not come.
    owed: usize,
}

/// A delivery, for its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JetToken(Position);

impl JetConsumer {
    pub(super) fn new(
        (link, shared): (Arc<Link>, Arc<Shared>),
        member: u64,
        born: u64,
        inbox: Arc<Inbox>,
        request: &SubscribeRequest,
    ) -> Self {
        let now = link.host.runtime().now();
        Self {
            member,
            born,
            inbox,
            topic: request.topic.name.clone(),
            group: request.group.clone(),
            in_flight_max: request.in_flight_max,
            confirm: request.confirm,
            partitions: BTreeMap::new(),
            leaving: BTreeMap::new(),
            news: VecDeque::new(),
            turn: 0,
            spoke: now,
            spoke_for_ready: now,
            sure: now,
            tick: None,
            is_gone: false,
            link,
            shared,
        }
    }

    fn now(&self) -> Duration {
        self.link.host.runtime().now()
    }

    fn say(&self, up: Up) {
        self.shared.wire.up(&self.link, up);
    }

    fn at(&self, partition: u32, sequence: u64) -> At {
        At {
            topic: self.topic.clone(),
            group: self.group.clone(),
            born: self.born,
            partition,
            sequence,
        }
    }

    fn poll_next(
        &mut self,
        room: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Incoming<JetToken>, Failure>> {
        while let Some(mail) = self.inbox.take(cx)? {
            self.read(mail);
        }
        if self.is_gone {
            return Poll::Ready(Err(Failure::new(
                FailureKind::NoTopic,
                "the stream is gone",
            )));
        }
        self.fetch();
        if let Some(news) = self.news.pop_front() {
            return Poll::Ready(Ok(news));
        }
        if room && let Some(delivery) = self.hand_out() {
            return Poll::Ready(Ok(delivery));
        }
        self.wait(cx)
    }

    fn read(&mut self, mail: Mail) {
        match mail {
            Mail::Pinned { partition, epoch } => {
                self.revoke(partition, None);
                let fresh = Partition {
                    epoch,
                    ready: BTreeMap::new(),
                    out: BTreeMap::new(),
                    confirming: BTreeMap::new(),
                    owed: 0,
                };
                self.partitions.insert(partition, fresh);
                let partitions = vec![partition];
                self.news
                    .push_back(Incoming::Assigned { partitions, epoch });
            }
            Mail::AskedBack { partition, epoch } => {
                if let Some(mut of) = self.revoke(partition, Some(epoch)) {
                    // What nobody here has seen is not ours to wait for.
                    of.ready.clear();
                    self.leaving.insert(partition, of);
                }
            }
            Mail::Unpinned { partition, epoch } => {
                self.leaving.remove(&partition);
                self.revoke(partition, Some(epoch));
            }
            Mail::Heard { since } => self.sure = self.sure.max(since),
            Mail::Gone => self.is_gone = true,
            Mail::Confirmed {
                partition,
                sequence,
            } => {
                let of = self
                    .partitions
                    .get_mut(&partition)
                    .or(self.leaving.get_mut(&partition));
                if let Some(of) = of
                    && of.confirming.remove(&sequence).is_some()
                {
                    let position = Position {
                        partition,
                        offset: sequence,
                        epoch: of.epoch,
                    };
                    self.news.push_back(Incoming::Confirmed { position });
                }
            }
            Mail::Message {
                partition,
                epoch,
                sequence,
                times,
                envelope,
                repeated,
            } => self.receive((partition, epoch, sequence), times, envelope, repeated),
        }
    }

    fn receive(
        &mut self,
        (partition, epoch, sequence): (u32, u64, u64),
        times: u32,
        envelope: Envelope,
        repeated: bool,
    ) {
        let Some(of) = self
            .partitions
            .get_mut(&partition)
            .filter(|of| of.epoch == epoch)
        else {
            return;
        };
        if repeated {
            // Answered meanwhile, or not handed out yet: nothing new.
            if of.out.contains_key(&sequence) {
                self.link
                    .weather
                    .goal("a delivery repeated while its handler is at work");
                let position = Position {
                    partition,
                    offset: sequence,
                    epoch,
                };
                self.news.push_back(Incoming::Delivery {
                    envelope,
                    position,
                    attempt: times,
                    subject: None,
                    token: JetToken(position),
                });
            }
            return;
        }
        of.owed = of.owed.saturating_sub(1);
        if of.out.contains_key(&sequence) {
            // The server lost patience with what is at work: the same once more.
            return self.receive((partition, epoch, sequence), times, envelope, true);
        }
        of.ready.insert(sequence, (times, envelope));
    }

    /// A partition is ours no longer.
    fn revoke(&mut self, partition: u32, epoch: Option<u64>) -> Option<Partition> {
        let is_it = |of: &Partition| epoch.is_none_or(|epoch| of.epoch == epoch);
        if !self.partitions.get(&partition).is_some_and(is_it) {
            return None;
        }
        let of = self.partitions.remove(&partition)?;
        if !of.out.is_empty() {
            self.link.weather.goal("a revoke while deliveries are out");
        }
        self.news.push_back(Incoming::Revoked {
            partitions: vec![partition],
            epoch: of.epoch,
        });
        Some(of)
    }

    fn hand_out(&mut self) -> Option<Incoming<JetToken>> {
        let out: usize = self
            .partitions
            .values()
            .chain(self.leaving.values())
            .map(|of| of.out.len())
            .sum();
        if out >= self.in_flight_max {
            return None;
        }
        let turn = self.turn;
        let (before, behind): (Vec<_>, Vec<_>) = self
            .partitions
            .iter_mut()
            .partition(|(number, _)| **number < turn);
        for (number, of) in behind.into_iter().chain(before) {
            let Some((sequence, (times, envelope))) = of.ready.pop_first() else {
                continue;
            };
            of.out.insert(sequence, ());
            self.turn = number + 1;
            let position = Position {
                partition: *number,
                offset: sequence,
                epoch: of.epoch,
            };
            return Some(Incoming::Delivery {
                envelope,
                position,
                attempt: times,
                subject: None,
                token: JetToken(position),
            });
        }
        None
    }

    /// Asks for more, says that we are here, and asks again for what was not confirmed.
    fn fetch(&mut self) {
        let now = self.now();
        let speaks = now >= self.spoke + PIN_WAIT / 8;
        let (member, since) = (self.member, now);
        let mut ups = Vec::new();
        for (number, of) in &mut self.partitions {
            let have = of.ready.len() + of.owed;
            let more = if have <= BATCH / 2 { BATCH - have } else { 0 };
            if more > 0 || speaks {
                of.owed += more;
                let (partition, epoch) = (*number, of.epoch);
                ups.push(Up::Pull {
                    member,
                    partition,
                    epoch,
                    more,
                    since,
                });
            }
        }
        // Of what is pinned to another, or asked back, only that we are here.
        if speaks && ups.is_empty() {
            let (partition, epoch, more) = (0, 0, 0);
            ups.push(Up::Pull {
                member,
                partition,
                epoch,
                more,
                since,
            });
        }
        if !ups.is_empty() {
            self.spoke = now;
        }
        // What is fetched and waits for room is not to come again either.
        if now >= self.spoke_for_ready + ACK_WAIT / 3 {
            self.spoke_for_ready = now;
            for (number, of) in &self.partitions {
                ups.extend(of.ready.keys().map(|sequence| Up::Answer {
                    at: self.at(*number, *sequence),
                    answer: Answer::InProgress,
                    confirm: None,
                }));
            }
        }
        let late = |since: &Duration| *since + CONFIRM_WAIT <= now;
        let mut unconfirmed = Vec::new();
        for (number, of) in self.partitions.iter_mut().chain(&mut self.leaving) {
            for (sequence, since) in of.confirming.iter_mut().filter(|(_, since)| late(since)) {
                *since = now;
                unconfirmed.push((*number, *sequence));
            }
        }
        for (partition, sequence) in unconfirmed {
            let (at, answer, confirm) = (self.at(partition, sequence), Answer::Ack, Some(member));
            ups.push(Up::Answer {
                at,
                answer,
                confirm,
            });
        }
        ups.into_iter().for_each(|up| self.say(up));
    }

    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        let now = self.now();
        loop {
            let due = match &self.tick {
                Some((due, _)) if *due > now => *due,
                _ => now + PIN_WAIT / 8,
            };
            let runtime = self.link.host.runtime().clone();
            let (_, timer) = self
                .tick
                .get_or_insert_with(|| (due, runtime.sleep(due.saturating_sub(now))));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.tick = None;
            cx.waker().wake_by_ref();
        }
    }
}
