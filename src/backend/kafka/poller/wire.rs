//! Wire: what passes between a consumer's thread and its task.
//!
//! Deliveries have a queue of their own, so that news are heard when there is no room for a delivery. News of an assignment are sent
//! before its first delivery: who meets a delivery that it knows nothing of looks for news once more.

use crate::envelope::Envelope;
use crate::error::{Failure, FailureKind};
use crate::protocol::sync::{AtomicWaker, Mutex, Noted};
use crate::signal::Signal;
use crossbeam_queue::SegQueue;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Both ways.
pub(in super::super) struct Wire {
    pub(in super::super) fetched: SegQueue<Fetched>,
    pub(in super::super) news: SegQueue<News>,
    pub(in super::super) orders: SegQueue<Order>,
    pub(in super::super) task: AtomicWaker,
    pub(in super::super) ended: Arc<Signal<()>>,
    /// Nobody reads what the thread tells, nor waits for its end.
    pub(in super::super) let_go: Signal<()>,
    /// Until when what was delivered is surely ours, in nanoseconds of the runtime's clock.
    sure_until: Noted,
}

/// What a partition gives, in its order.
#[derive(Debug)]
pub(in super::super) enum Fetched {
    Delivery {
        partition: u32,
        epoch: u64,
        offset: u64,
        envelope: Envelope,
    },
    /// All before `offset` was delivered: what is there beyond the last delivery is no envelope.
    End {
        partition: u32,
        epoch: u64,
        /// Behind the last delivery, or where it began: who is not there has missed some, and must not skip them.
        seen: Option<u64>,
        offset: u64,
    },
}

/// What happened.
#[derive(Debug)]
pub(in super::super) enum News {
    /// These partitions are ours, and where each begins, if that is known.
    Assigned {
        epoch: u64,
        partitions: Vec<Assigned>,
    },
    /// These are to be released.
    Revoked { epoch: u64, partitions: Vec<u32> },
    /// They are another's: answers are void.
    Gone { partition: u32, epoch: u64 },
    /// A commit counts.
    Committed { partition: u32, offset: u64 },
    /// A commit does not.
    CommitFailed { partitions: Vec<u32> },
    /// The consumer is no good any more.
    Failed(Failure),
}

/// A partition that is ours from here on.
#[derive(Debug)]
pub(in super::super) struct Assigned {
    pub(in super::super) partition: u32,
    /// Where it begins, if that is known.
    pub(in super::super) start: Option<u64>,
    /// The broker has that as the group's commit.
    pub(in super::super) is_committed: bool,
}

/// What the thread is told.
#[derive(Debug)]
pub(in super::super) enum Order {
    /// So much was taken.
    Took { count: usize, bytes: usize },
    /// Tell the broker.
    Commit(Vec<Commit>),
    /// Nothing of it is handled any more.
    HandOver {
        partition: u32,
        epoch: u64,
        commit: Option<u64>,
    },
    /// Commit these until then, leave the group and end.
    Close {
        commits: Vec<Commit>,
        until: Duration,
    },
}

#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Commit {
    pub(in super::super) partition: u32,
    pub(in super::super) epoch: u64,
    pub(in super::super) offset: u64,
}

/// An answer of the thread.
#[derive(Debug)]
pub(in super::super) struct Reply<T> {
    place: Mutex<Option<Result<T, Failure>>>,
    given: Signal<()>,
}

impl Wire {
    pub(in super::super) fn new() -> Self {
        Self {
            fetched: SegQueue::new(),
            news: SegQueue::new(),
            orders: SegQueue::new(),
            task: AtomicWaker::new(),
            ended: Arc::new(Signal::new()),
            let_go: Signal::new(),
            sure_until: Noted::default(),
        }
    }

    /// Until when what was delivered is surely ours.
    pub(in super::super) fn sure_until(&self) -> Duration {
        Duration::from_nanos(self.sure_until.get())
    }

    pub(in super::super) fn note_sure(&self, until: Duration) {
        let nanos = u64::try_from(until.as_nanos());
        self.sure_until.set(nanos.unwrap_or(u64::MAX));
    }

    /// Tells the task something.
    pub(in super::super) fn tell(&self, news: News) {
        self.news.push(news);
        self.task.wake();
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

impl<T> Reply<T> {
    pub(in super::super) fn new() -> Arc<Self> {
        Arc::new(Self {
            place: Mutex::new(None),
            given: Signal::new(),
        })
    }

    pub(in super::super) fn give(&self, answer: Result<T, Failure>) {
        *self.place.lock() = Some(answer);
        self.given.say(());
    }

    /// Waits for it, or for the end of who would give it.
    pub(in super::super) async fn given(&self, ended: &Signal<()>) -> Result<T, Failure> {
        ended.until(self.given.heard()).await;
        let answer = self.place.lock().take();
        answer.unwrap_or_else(|| {
            let text = "the consumer's thread has ended";
            Err(Failure::new(FailureKind::Disconnected, text))
        })
    }
}
