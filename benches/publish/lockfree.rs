//! The publish core of the bus, over a producer of any type: gate, topic, session, counter.
//!
//! The same objects in the same order as `src/publish`, without what a broker adds: credit, ledger, queue.

use clearway::protocol::gate::Gate;
use clearway::protocol::session::{Kept, Sessions};
use clearway::protocol::singleflight::{Mark, Singleflight, Turn};
use clearway::protocol::snapshot::Snapshot;
use clearway::protocol::sync::ArcCell;
use clearway::protocol::tally::Tally;
use foldhash::fast::FixedState;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// What `src/core.rs` holds and the core of a publish uses.
pub(crate) struct LockFreeBus<P> {
    gate: Gate,
    topics: Snapshot<Arc<str>, TopicState, FixedState>,
    sessions: Sessions<Arc<P>>,
    /// As the bus's handles keep it.
    kept: Kept<Arc<P>>,
    published: Tally<1>,
}

/// `src/topic.rs`: interned once; what changes is in one cell, and the mark stands for one opening.
struct TopicState {
    now: ArcCell<TopicNow>,
    mark: Mark,
}

struct TopicNow {
    size_limit: usize,
    route: Option<Arc<u64>>,
    term: u64,
}

/// `src/handle.rs`: the topic, and what was known of it and of the bus when the handle was made.
pub(crate) struct TopicHandle<P> {
    state: Arc<TopicState>,
    known: Option<Arc<TopicNow>>,
    kept: Kept<Arc<P>>,
}

/// Why a publish was refused.
#[derive(Debug)]
pub(crate) enum Refused {
    Closed,
    TooLarge,
    UnknownTopic,
}

impl<P> LockFreeBus<P> {
    pub(crate) fn new(producer: Arc<P>) -> Self {
        let sessions = Sessions::new(producer);
        Self {
            gate: Gate::new(),
            topics: Snapshot::new(),
            kept: sessions.keep(),
            sessions,
            published: Tally::new(),
        }
    }

    /// A handle to the topic of that name, made open with that size limit if it is new.
    pub(crate) fn topic(&self, name: &str, size_limit: usize, route: u64) -> TopicHandle<P> {
        let made: Result<_, std::convert::Infallible> = self
            .topics
            .get_or_insert(&name.into(), |_| Ok(TopicState::open(size_limit, route)));
        let state = made.unwrap_or_else(|never| match never {});
        let known = Some(Arc::clone(&state.now.load()));
        let kept = self.sessions.keep();
        TopicHandle { state, known, kept }
    }

    /// Only the look-up of what publishing needs to know of a topic.
    pub(crate) fn look_up(&self, topic: &str) -> Option<usize> {
        self.topics
            .load()
            .get(topic)
            .map(|topic| topic.with_now(None, |now| now.size_limit))
    }

    /// One publish by name: one look into the snapshot more.
    pub(crate) fn publish<R>(
        &self,
        topic: &str,
        size: usize,
        produce: impl FnOnce(&P, u64) -> R,
    ) -> Result<R, Refused> {
        let topics = self.topics.load();
        let topic = topics.get(topic).ok_or(Refused::UnknownTopic)?;
        topic.with_now(None, |now| self.publish_by(now, &self.kept, size, produce))
    }

    /// One publish by handle.
    pub(crate) fn publish_to<R>(
        &self,
        topic: &TopicHandle<P>,
        size: usize,
        produce: impl FnOnce(&P, u64) -> R,
    ) -> Result<R, Refused> {
        let known = topic.known.as_deref();
        topic.state.with_now(known, |now| {
            self.publish_by(now, &topic.kept, size, produce)
        })
    }

    fn publish_by<R>(
        &self,
        now: &TopicNow,
        kept: &Kept<Arc<P>>,
        size: usize,
        produce: impl FnOnce(&P, u64) -> R,
    ) -> Result<R, Refused> {
        let pass = self.gate.enter().ok_or(Refused::Closed)?;
        let produced = self.inside(now, kept, size, produce);
        self.gate.leave(pass);
        produced
    }

    fn inside<R>(
        &self,
        now: &TopicNow,
        kept: &Kept<Arc<P>>,
        size: usize,
        produce: impl FnOnce(&P, u64) -> R,
    ) -> Result<R, Refused> {
        if size > now.size_limit {
            return Err(Refused::TooLarge);
        }
        let route = now.route.as_ref().ok_or(Refused::UnknownTopic)?;
        let produced = if let Some(session) = kept.lease() {
            produce(&session, **route)
        } else {
            let session = self.sessions.lease().ok_or(Refused::Closed)?;
            produce(&session, **route)
        };
        self.published.add(0, 1);
        Ok(produced)
    }

    /// A reconnect: the new connection takes as long as `connect` does, beside the publishers.
    pub(crate) fn reconnect(&self, connect: impl FnOnce() -> Arc<P>) {
        let ticket = self.sessions.reconnect(self.sessions.generation());
        if let Some(ticket) = ticket {
            drop(ticket.finish(connect()));
        }
    }

    /// Adds a topic, which takes as long as `work` does, under the writers' lock.
    pub(crate) fn reconfigure(&self, topic: &str, work: impl FnOnce()) {
        let made: Result<_, ()> = self.topics.get_or_insert(&topic.into(), |_| {
            work();
            Err(())
        });
        drop(made);
    }
}

impl TopicState {
    fn open(size_limit: usize, route: u64) -> Self {
        const TERM: u64 = 2;
        let now = TopicNow {
            size_limit,
            route: Some(Arc::new(route)),
            term: TERM,
        };
        let (mark, flights) = (Mark::new(), Singleflight::<(), ()>::new());
        let mut nobody = Context::from_waker(Waker::noop());
        match flights.join(()).poll_turn(&mark, TERM, &mut nobody) {
            Poll::Ready(Turn::Lead(leader)) => leader.succeed(&mark, TERM, ()),
            _ => unreachable!("the first to ask leads"),
        }
        Self {
            now: ArcCell::new(Arc::new(now)),
            mark,
        }
    }

    fn with_now<T>(&self, known: Option<&TopicNow>, each: impl FnOnce(&TopicNow) -> T) -> T {
        match known {
            Some(known) if self.mark.is_set(known.term) => each(known),
            _ => each(&self.now.load()),
        }
    }
}

impl<P> TopicHandle<P> {
    /// Only the look-up.
    pub(crate) fn look_up(&self) -> usize {
        self.state
            .with_now(self.known.as_deref(), |now| now.size_limit)
    }
}
