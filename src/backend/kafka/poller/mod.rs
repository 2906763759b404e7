//! The thread of a consumer: the only one that touches the client.
//!
//! It polls, whatever else is the matter: while partitions are paused, while they are handed over, while commits are on their way. So
//! the client's interval between polls never depends on a handler. It commits what it is told, and answers rebalances
//! ([`assign`], [`handover`]).
//!
//! It is woken by the client when its queue is not empty any more, and by the task with every order; and it looks by itself every
//! [`LOOK_EVERY`], so that a wake-up that got lost costs no more than that.

mod assign;
mod begin;
mod client;
mod close;
mod commit;
mod context;
mod gone;
mod handover;
mod leaving;
mod steer;
mod sure;
mod wire;

use super::codes;
use super::connect::refused_failure;
use super::headers;
use super::native;
use super::options::Options;
use crate::backend::{Host, StartAt};
use crate::error::{Failure, FailureKind};
use crate::protocol::sync::Mutex;
use assign::Waiting;
use client::Client;
use context::{Context, Happened, Noted};
use leaving::Leaving;
use rdkafka::TopicPartitionList;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use sure::Sure;

pub(super) use wire::{Assigned, Commit, Fetched, News, Order, Reply, Wire};

/// How long the thread sleeps at most.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// As many records are taken before orders are looked at again.
const BATCH: usize = 256;

/// What a thread is started with.
pub(super) struct Start {
    pub(super) options: Arc<Options>,
    pub(super) host: Arc<dyn Host>,
    pub(super) wire: Arc<Wire>,
    pub(super) topic: Arc<str>,
    /// As many it has, as far as that is known.
    pub(super) partitions: usize,
    pub(super) group: Arc<str>,
    pub(super) start: StartAt,
    /// Where the epochs of the connection's consumers come from.
    pub(super) epochs: Arc<Mutex<u64>>,
    pub(super) ready: Arc<Reply<()>>,
}

/// Says that the thread has ended, however it came to that.
struct Tells(Arc<Wire>);

impl Drop for Tells {
    fn drop(&mut self) {
        self.0.ended.say(());
        self.0.task.wake();
    }
}

struct Poller {
    consumer: Client,
    noted: Arc<Noted>,
    options: Arc<Options>,
    host: Arc<dyn Host>,
    wire: Arc<Wire>,
    topic: Arc<str>,
    group: Arc<str>,
    epochs: Arc<Mutex<u64>>,
    owned: BTreeMap<i32, Owned>,
    leaving: Leaving,
    assigning: Option<Waiting>,
    /// Counts what was assigned and revoked.
    rebalances: u64,
    /// Where a group that was new begins, in partitions without a commit.
    starts: BTreeMap<i32, i64>,
    /// Partitions in which the broker has told of a commit of the group.
    committed: BTreeSet<i32>,
    /// What was fetched and not taken.
    ahead: usize,
    ahead_bytes: usize,
    /// The partition of which something was taken last.
    last: i32,
    failed: bool,
    /// The topic was not there: nothing is committed any more.
    gone: bool,
    /// Until when the last commit is tried, once it is to end.
    until: Option<Duration>,
    sure: Sure,
    /// Whose marks these are.
    member: u64,
}

/// What came of looking once.
enum Turn {
    Busy,
    /// There was nothing to do.
    Idle,
    Close {
        commits: Vec<Commit>,
        until: Duration,
    },
}

/// A partition that is ours.
struct Owned {
    epoch: u64,
    /// Where it began, if that is known.
    start: Option<i64>,
    /// Behind what was fetched last.
    next: Option<i64>,
    /// The client has told its end since the last delivery.
    seen_end: bool,
    /// There was nothing more of it when it was looked last.
    is_empty: bool,
    /// It has begun anew since what the client had noted was taken: ends in there are of the old log.
    anew: bool,
}

/// An epoch that no partition has had.
fn next_epoch(epochs: &Mutex<u64>) -> u64 {
    let mut epochs = epochs.lock();
    *epochs += 1;
    *epochs
}

impl Start {
    /// The thread.
    pub(super) fn run(self) {
        let _ends = Tells(self.wire.clone());
        let ready = self.ready.clone();
        match self.begin() {
            Ok(poller) => {
                ready.give(Ok(()));
                poller.run();
            }
            Err(failure) => ready.give(Err(failure)),
        }
    }

    fn begin(self) -> Result<Poller, Failure> {
        let config = native::consumer(&self.options, &self.group, &self.topic, self.partitions);
        let noted = Arc::new(Noted::default());
        let context = Context {
            noted: noted.clone(),
            topic: self.topic.clone(),
        };
        let consumer = BaseConsumer::from_config_and_context(&config, context);
        let mut consumer = consumer.map_err(|error| refused_failure(&error))?;
        let woken = thread::current();
        consumer.set_nonempty_callback(move || woken.unpark());
        let starts = begin::begin(&consumer, &self)?;
        consumer
            .subscribe(&[&self.topic])
            .map_err(|error| codes::failure(&error))?;
        let runtime = self.host.runtime();
        let silence = native::silence(&self.options);
        let (sure, member) = (Sure::new(silence, runtime.now()), runtime.random());
        Ok(Poller {
            sure,
            member,
            consumer: Client::new(consumer),
            noted,
            options: self.options,
            host: self.host,
            wire: self.wire,
            topic: self.topic,
            group: self.group,
            epochs: self.epochs,
            owned: BTreeMap::new(),
            leaving: Leaving::default(),
            assigning: None,
            rebalances: 0,
            starts,
            committed: BTreeSet::new(),
            ahead: 0,
            ahead_bytes: 0,
            last: 0,
            failed: false,
            gone: false,
            until: None,
        })
    }
}

impl Poller {
    fn run(mut self) {
        loop {
            match self.turn() {
                Turn::Busy => {}
                Turn::Idle => thread::park_timeout(LOOK_EVERY),
                Turn::Close { commits, until } => return self.close(&commits, until),
            }
        }
    }

    /// Looks once at all there is to do. Waits for nothing but brokers.
    fn turn(&mut self) -> Turn {
        let mut turn = Turn::Idle;
        let begun = self.now();
        while let Some(order) = self.wire.orders.pop() {
            turn = Turn::Busy;
            if let Order::Close { commits, until } = order {
                return Turn::Close { commits, until };
            }
            self.obey(order);
        }
        let heard = self.hear();
        let took = self.take_fetched();
        if heard > 0 || took > 0 {
            turn = Turn::Busy;
        }
        while let Some(happened) = self.noted.take() {
            turn = Turn::Busy;
            self.take(happened);
        }
        self.owned.values_mut().for_each(|owned| owned.anew = false);
        self.attend_handovers();
        self.attend_assignment();
        // Behind an assignment that waits the client may have more to tell: that it is lost.
        self.attend_sure(begun, heard < BATCH && self.assigning.is_none());
        turn
    }

    /// Nobody waits for this thread any more: the bus may be closed, and hears nothing of it.
    fn is_let_go(&self) -> bool {
        self.wire.let_go.said().is_some()
    }

    fn now(&self) -> Duration {
        self.host.runtime().now()
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Took { count, bytes } => {
                self.ahead -= count;
                self.ahead_bytes -= bytes;
            }
            Order::Commit(commits) => self.commit(&commits),
            Order::HandOver {
                partition,
                epoch,
                commit,
            } => self.release(partition as i32, epoch, commit),
            Order::Close { .. } => unreachable!("it ends the loop"),
        }
    }

    fn take(&mut self, happened: Happened) {
        match happened {
            Happened::Nothing => {}
            Happened::Assign(partitions) => self.assign(partitions),
            Happened::Revoke { partitions, lost } => self.revoke(partitions, lost),
            Happened::AtEnd(ends) => self.at_end(ends),
            Happened::Stranded(failure) => self.fail(failure),
        }
    }

    /// Lets the client tell what it has to, a batch at most. Says how much there was.
    fn hear(&mut self) -> usize {
        for heard in 0..BATCH {
            match self.consumer.poll(Duration::ZERO) {
                None => return heard,
                // Partitions have queues of their own: it is of one that nobody handles here any more.
                Some(Ok(_)) => {}
                Some(Err(error)) => self.trouble(&error),
            }
        }
        BATCH
    }

    /// What the client cannot do, and whether it is the end.
    fn trouble(&mut self, error: &KafkaError) {
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        let is_final = matches!(error, KafkaError::MessageConsumptionFatal(_))
            || matches!(
                code,
                Code::UnknownTopicOrPartition
                    | Code::UnknownTopic
                    | Code::TopicAuthorizationFailed
                    | Code::GroupAuthorizationFailed
                    | Code::AutoOffsetReset
                    | Code::UnsupportedVersion
                    | Code::UnsupportedFeature
                    | Code::InconsistentGroupProtocol
                    | Code::InvalidSessionTimeout
                    | Code::InvalidGroupId
                    | Code::InvalidTopic
                    | Code::Fenced
                    | Code::Fatal
            );
        if !is_final {
            // It goes on by itself.
            tracing::debug!(topic = %self.topic, %error, "the consumer goes on");
            return;
        }
        let failure = match code {
            Code::AutoOffsetReset => Failure::new(
                FailureKind::Mismatch,
                "Kafka: where the group would go on is not kept any more; Options::offset_reset says to stop then",
            ),
            _ => codes::failure(error),
        };
        if failure.kind() == FailureKind::NoTopic {
            self.miss();
        }
        self.fail(failure);
    }

    /// It is no good any more, and says so once.
    fn fail(&mut self, failure: Failure) {
        if !std::mem::replace(&mut self.failed, true) {
            self.wire.tell(News::Failed(failure));
        }
    }

    fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(&self.topic, *partition);
        }
        list
    }
}

#[cfg(test)]
mod mock;
