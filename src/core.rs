//! Core: what one bus is made of. No stage is here; only what the stages share.
//!
//! Two halves. [`Shared`] is what a backend sees through [`Host`]: it owns no connection, so connections may
//! own it. [`Core`] adds the sessions and the control plane. Tasks hold the core; handles hold
//! it through one owner whose drop begins the close, so nothing keeps an abandoned bus alive.

use crate::backend::{Backend, Connection, Host, Outcome, Slot};
use crate::close::{Closing, TopicReport};
use crate::config::TopicConfig;
use crate::consume::Subscriptions;
use crate::ensure::Answer;
use crate::error::{ConfigureError, Failure, FullReason, PublishError};
use crate::events::{Board, BusEvent};
use crate::protocol::gate::{Gate, Pass};
use crate::protocol::ledger::Entry;
use crate::protocol::session::{Kept, Sessions};
use crate::protocol::singleflight::Singleflight;
use crate::protocol::sync::Mutex;
use crate::publish::admission::{Admission, ORDERED};
use crate::publish::ordered::{Lines, Waiting};
use crate::runtime::Runtime;
use crate::settings::Settings;
use crate::signal::Signal;
use crate::topic::{TopicState, Topics};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Poll, Waker};

/// The route type of a backend.
pub(crate) type RouteOf<B> = <<B as Backend>::Connection as Connection>::Route;

/// A session of a backend that a handle keeps.
pub(crate) type KeptOf<B> = Kept<Arc<<B as Backend>::Connection>>;

/// A whole bus over one backend.
pub(crate) struct Core<B: Backend> {
    pub(crate) shared: Arc<Shared<RouteOf<B>>>,
    pub(crate) backend: B,
    pub(crate) sessions: Sessions<Arc<B::Connection>>,
    pub(crate) flights: Singleflight<Arc<str>, Answer>,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) settings: Settings,
    pub(crate) closing: Closing,
    /// Said when every task of the bus has to end.
    pub(crate) stopped: Signal<()>,
    /// Counts the tasks: close returns when they have ended.
    pub(crate) tasks: Gate,
}

/// What the stages and the backend share.
pub(crate) struct Shared<R> {
    pub(crate) admission: Admission,
    pub(crate) topics: Topics<R>,
    pub(crate) lines: Lines<TopicState<R>>,
    pub(crate) board: Board,
    pub(crate) runtime: Arc<dyn Runtime>,
    /// Outcomes since close began, by topic.
    pub(crate) drained: Mutex<BTreeMap<u32, TopicReport>>,
    topics_max: usize,
    inbox: Mutex<Inbox<R>>,
}

/// What the tasks of the bus have to do.
struct Inbox<R> {
    lost: Option<(u64, Failure)>,
    ready: VecDeque<Waiting<TopicState<R>>>,
    wakers: Vec<Waker>,
}

impl<B: Backend> Core<B> {
    pub(crate) fn new(
        shared: Arc<Shared<RouteOf<B>>>,
        backend: B,
        first: Arc<B::Connection>,
        settings: Settings,
    ) -> Self {
        Self {
            shared,
            backend,
            sessions: Sessions::new(first),
            flights: Singleflight::new(),
            subscriptions: Subscriptions::default(),
            settings,
            closing: Closing::new(),
            stopped: Signal::new(),
            tasks: Gate::new(),
        }
    }

    /// The current connection, for work that takes long. Once replaced it fails, and is asked no more.
    pub(crate) fn connection(&self) -> Option<Arc<B::Connection>> {
        self.sessions.lease().map(|lease| Arc::clone(&lease))
    }

    /// Runs `task`, counted, unless the bus is past running any. Says whether it does.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> bool {
        let Some(pass) = self.tasks.enter() else {
            return false;
        };
        let counted = Counted {
            core: self.clone(),
            pass: Some(pass),
        };
        self.shared.runtime.spawn(
            name,
            Box::pin(async move {
                let _until_the_end = counted;
                task.await;
            }),
        );
        true
    }

    /// The topic of that name, made if it is new.
    pub(crate) fn topic(&self, name: &str) -> Result<Arc<TopicState<RouteOf<B>>>, PublishError> {
        if let Some(topic) = self.shared.topics.load().get(name) {
            return Ok(topic.clone());
        }
        let config = TopicConfig::new(name);
        self.topic_with(config).map_err(|error| match error {
            ConfigureError::InvalidTopic(invalid) => PublishError::InvalidTopic(invalid),
            ConfigureError::TooManyTopics => PublishError::Full(FullReason::Topics),
            other => PublishError::InvalidTopic(crate::backend::invalid_topic(
                self.backend.name(),
                &name.into(),
                other.to_string(),
            )),
        })
    }

    /// The topic that `config` names, made from it if it is new.
    pub(crate) fn topic_with(
        &self,
        config: TopicConfig,
    ) -> Result<Arc<TopicState<RouteOf<B>>>, ConfigureError> {
        self.backend.check_topic(&config)?;
        let name = config.name.clone();
        let topics = &self.shared.topics;
        topics.get_or_insert(&name, |index| match index {
            full if full >= self.shared.topics_max => Err(ConfigureError::TooManyTopics),
            index => Ok(TopicState::new(index as u32, config)),
        })
    }

    /// Waits until the session of a generation is lost. The latest news counts.
    pub(crate) async fn next_loss(&self) -> (u64, Failure) {
        poll_fn(|cx| {
            let mut inbox = self.shared.inbox.lock();
            match inbox.lost.take() {
                Some(lost) => Poll::Ready(lost),
                None => inbox.wait(cx.waker()),
            }
        })
        .await
    }

    /// Waits until an ordered publish may go on.
    pub(crate) async fn next_ready(&self) -> Waiting<TopicState<RouteOf<B>>> {
        poll_fn(|cx| {
            let mut inbox = self.shared.inbox.lock();
            match inbox.ready.pop_front() {
                Some(ready) => Poll::Ready(ready),
                None => inbox.wait(cx.waker()),
            }
        })
        .await
    }
}

struct Counted<B: Backend> {
    core: Arc<Core<B>>,
    pass: Option<Pass>,
}

impl<B: Backend> Drop for Counted<B> {
    fn drop(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.core.tasks.leave(pass);
        }
    }
}

impl<R> Shared<R> {
    pub(crate) fn new(settings: &Settings, runtime: Arc<dyn Runtime>) -> Self {
        Self {
            admission: Admission::new(settings.in_flight, settings.receipts_max),
            topics: Topics::new(),
            lines: Lines::new(),
            board: Board::default(),
            runtime,
            drained: Mutex::default(),
            topics_max: settings.topics_max,
            inbox: Mutex::new(Inbox {
                lost: None,
                ready: VecDeque::new(),
                wakers: Vec::new(),
            }),
        }
    }

    /// Settles a slot and sends on whoever waited behind it.
    pub(crate) fn settle_slot(&self, slot: Slot, outcome: Outcome) {
        let is_unknown = matches!(outcome, Outcome::Unknown(_));
        if let Some(entry) = self.admission.settle(slot, outcome, self.runtime.now()) {
            self.settled(slot, &entry, is_unknown);
        }
    }

    /// What follows an outcome.
    fn settled(&self, slot: Slot, entry: &Entry, is_unknown: bool) {
        if self.admission.gate.is_shut() {
            let mut drained = self.drained.lock();
            let topic = drained.entry(entry.topic).or_default();
            *match is_unknown {
                true => &mut topic.ambiguous,
                false => &mut topic.drained,
            } += 1;
        }
        if entry.marks & ORDERED != 0
            && let Some(next) = self.lines.leave(slot)
        {
            let wakers = {
                let mut inbox = self.inbox.lock();
                inbox.ready.push_back(next);
                std::mem::take(&mut inbox.wakers)
            };
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

impl<R> Inbox<R> {
    fn wait<T>(&mut self, waker: &Waker) -> Poll<T> {
        self.wakers.retain(|waiting| !waiting.will_wake(waker));
        self.wakers.push(waker.clone());
        Poll::Pending
    }
}

impl<R: Send + Sync + 'static> Host for Shared<R> {
    fn settle(&self, slot: Slot, outcome: Outcome) {
        self.settle_slot(slot, outcome);
    }

    fn lost(&self, generation: u64, failure: Failure) {
        let wakers = {
            let mut inbox = self.inbox.lock();
            if inbox
                .lost
                .as_ref()
                .is_none_or(|(known, _)| *known < generation)
            {
                inbox.lost = Some((generation, failure));
            }
            std::mem::take(&mut inbox.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    fn topic_missing(&self, topic: &str) {
        if let Some(state) = self.topics.load().get(topic) {
            state.shut();
        }
        self.board.tell(BusEvent::TopicMissing {
            topic: topic.into(),
        });
    }

    fn event(&self, event: BusEvent) {
        self.board.tell(event);
    }

    fn slots(&self) -> usize {
        self.admission.ledger.capacity()
    }

    fn bytes(&self) -> u64 {
        self.admission.credit.limit().bytes
    }

    fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.runtime
    }
}
