//! What happens to a bus, for those who want to watch: a bounded stream, and what did not fit is counted.

use crate::error::Failure;
use crate::protocol::sync::Mutex;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const EVENTS_MAX: usize = 1024;

/// Something that happened to the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BusEvent {
    /// The first session is there.
    Connected {
        /// Whom to.
        endpoint: String,
        /// 1.
        generation: u64,
    },
    /// A session was lost. Publishes wait or fail until the next one.
    Lost {
        /// Which.
        generation: u64,
        /// Why.
        failure: Failure,
    },
    /// A new session has taken the place of a lost one.
    Reconnected {
        /// The new one.
        generation: u64,
        /// After how many attempts.
        attempts: u32,
    },
    /// A reconnect failed; another follows.
    ReconnectFailed {
        /// The lost session.
        generation: u64,
        /// Counts from 1.
        attempt: u32,
        /// Why.
        reason: String,
    },
    /// A topic was made at the broker.
    TopicCreated {
        /// Which.
        topic: Arc<str>,
    },
    /// A topic was changed at the broker to fit its configuration.
    TopicUpdated {
        /// Which.
        topic: Arc<str>,
        /// What was changed.
        differences: String,
    },
    /// A topic differs from its configuration and is used as it is.
    TopicMismatch {
        /// Which.
        topic: Arc<str>,
        /// Each setting: wanted and found.
        differences: String,
    },
    /// A topic that was there is gone; the next publish ensures it again. What is no topic is waited for.
    TopicMissing {
        /// Which.
        topic: Arc<str>,
    },
    /// A consumer stopped and was made again.
    ConsumerRestarted {
        /// The topic.
        topic: Arc<str>,
        /// The group.
        group: Arc<str>,
        /// Why.
        reason: String,
    },
    /// Partitions were taken away, and not handed over in order: what was handled of them since the last commit comes again, to
    /// whoever has them next. On Kafka: the group took the member for gone, or its handlers were not done in time.
    PartitionsLost {
        /// The topic.
        topic: Arc<str>,
        /// The group.
        group: Arc<str>,
        /// Which.
        partitions: Vec<u32>,
        /// Why.
        reason: String,
    },
    /// Somebody changed at the broker what a group consumes with, in a way that it cannot do with; it is put right, or made anew
    /// where the group was. On NATS: the durable, looked at when a subscription begins and each ack wait, at most every 30 s.
    ConsumerDrifted {
        /// The topic.
        topic: Arc<str>,
        /// The group.
        group: Arc<str>,
        /// The partition, and each setting: wanted and found.
        what: String,
    },
    /// A subscription has paused itself: it takes nothing more until it is resumed.
    SubscriptionPaused {
        /// The topic.
        topic: Arc<str>,
        /// The group.
        group: Arc<str>,
        /// Why.
        reason: String,
    },
    /// A subscription is far behind and has entered recovery.
    RecoveryEntered {
        /// The topic.
        topic: Arc<str>,
        /// The group.
        group: Arc<str>,
        /// How far behind, in envelopes.
        lag: u64,
    },
    /// A subscription is not far behind any more and has left recovery.
    RecoveryLeft {
        /// The topic.
        topic: Arc<str>,
        /// The group.
        group: Arc<str>,
        /// How far behind, in envelopes.
        lag: u64,
    },
    /// Publishes pile up. See [`Backlog`](crate::Backlog).
    BacklogEntered {
        /// How many have no outcome.
        in_flight: u64,
        /// How long the oldest has had none.
        oldest: Duration,
    },
    /// Publishes do not pile up any more.
    BacklogLeft {
        /// How many have no outcome.
        in_flight: u64,
        /// How long the oldest has had none.
        oldest: Duration,
    },
    /// The bus is closed.
    Closed,
    /// Events were dropped because nobody took them fast enough.
    Missed {
        /// How many.
        count: u64,
    },
}

/// Hands every event to everybody who watches.
#[derive(Debug, Default)]
pub(crate) struct Board {
    watchers: Mutex<Watchers>,
}

#[derive(Default)]
struct Watchers {
    open: Vec<Weak<Mutex<Inbox>>>,
    closed: bool,
}

#[derive(Default)]
struct Inbox {
    events: VecDeque<BusEvent>,
    missed: u64,
    waker: Option<Waker>,
    closed: bool,
}

/// The events of a bus from the moment it was asked for. Bounded: a reader that is too slow gets
/// [`BusEvent::Missed`] with the count of what it did not get.
#[derive(Debug)]
pub struct Events {
    inbox: Arc<Mutex<Inbox>>,
}

impl Board {
    pub(crate) fn watch(&self) -> Events {
        let mut watchers = self.watchers.lock();
        let inbox = Arc::new(Mutex::new(Inbox {
            closed: watchers.closed,
            ..Inbox::default()
        }));
        watchers.open.retain(|watcher| watcher.strong_count() > 0);
        watchers.open.push(Arc::downgrade(&inbox));
        Events { inbox }
    }

    pub(crate) fn tell(&self, event: BusEvent) {
        let last = event == BusEvent::Closed;
        let open: Vec<_> = {
            let mut watchers = self.watchers.lock();
            if watchers.closed {
                // What a client tells late. Nothing happens to a bus that is closed.
                return;
            }
            watchers.closed = last;
            watchers.open.iter().filter_map(Weak::upgrade).collect()
        };
        for inbox in open {
            let mut inbox = inbox.lock();
            if inbox.events.len() < EVENTS_MAX {
                inbox.events.push_back(event.clone());
            } else {
                inbox.missed += 1;
            }
            inbox.closed |= last;
            let waker = inbox.waker.take();
            drop(inbox);
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

impl Events {
    /// The next event, or `None` after [`BusEvent::Closed`]. Cancel-safe.
    pub async fn next(&mut self) -> Option<BusEvent> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<BusEvent>> {
        let mut inbox = self.inbox.lock();
        if let Some(event) = inbox.events.pop_front() {
            return Poll::Ready(Some(event));
        }
        if inbox.missed > 0 {
            let count = std::mem::take(&mut inbox.missed);
            return Poll::Ready(Some(BusEvent::Missed { count }));
        }
        if inbox.closed {
            return Poll::Ready(None);
        }
        inbox.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl futures_core::Stream for Events {
    type Item = BusEvent;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<BusEvent>> {
        Events::poll_next(&mut self, cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    /// A client's thread that could not be ended in time may tell something late.
    #[test]
    fn nothing_happens_to_a_bus_that_is_closed() {
        let (board, missing) = (Board::default(), |topic: &str| BusEvent::TopicMissing {
            topic: topic.into(),
        });
        let mut events = board.watch();
        for event in [missing("before"), BusEvent::Closed, missing("behind")] {
            board.tell(event);
        }
        let mut told = || {
            let mut now = Context::from_waker(Waker::noop());
            match pin!(events.next()).poll(&mut now) {
                Poll::Ready(event) => event,
                Poll::Pending => panic!("it is closed"),
            }
        };
        assert_eq!(told(), Some(missing("before")));
        assert_eq!(told(), Some(BusEvent::Closed));
        assert_eq!(told(), None);
    }
}
