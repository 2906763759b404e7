//! A topic as the bus knows it: interned once, read on every publish.

use crate::config::TopicConfig;
use crate::envelope::Envelope;
use crate::protocol::ledger::Slot;
use crate::protocol::singleflight::Mark;
use crate::protocol::snapshot::Snapshot;
use crate::protocol::sync::{ArcCell, Mutex};
use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::Arc;

/// The topics of a bus by name: read without a lock, changed by copy.
pub(crate) type Topics<R> = Snapshot<Arc<str>, TopicState<R>, foldhash::fast::FixedState>;

/// One topic. It stays the same object for the life of the bus; what changes is in `now`.
pub(crate) struct TopicState<R> {
    /// Its number, as ledger entries carry it.
    pub(crate) index: u32,
    pub(crate) name: Arc<str>,
    /// Whether the work of ensuring was done for a term.
    pub(crate) mark: Mark,
    now: ArcCell<TopicNow<R>>,
    threshold: Mutex<Threshold>,
}

/// What publishing to a topic needs to know: one value, one load.
pub(crate) struct TopicNow<R> {
    pub(crate) config: TopicConfig,
    pub(crate) size_limit: usize,
    /// How to get there. None until the topic is ensured.
    pub(crate) route: Option<Arc<R>>,
    /// Counts the configurations. The mark stands for one of them.
    pub(crate) term: u64,
}

/// Publishes that wait for the topic to be ensured, in their order.
struct Threshold {
    parked: VecDeque<(Slot, Envelope)>,
    ensuring: bool,
    terms: u64,
}

/// What became of a publish that found no route.
pub(crate) enum Parked<R> {
    /// It waits. `true`: nobody is ensuring the topic yet, so the caller must see to it.
    Waits(bool),
    /// The route has come meanwhile: go on with it.
    Ready(Arc<R>, Envelope),
}

impl<R> TopicState<R> {
    pub(crate) fn new(index: u32, config: TopicConfig) -> Self {
        let name = config.name.clone();
        let threshold = Threshold {
            parked: VecDeque::new(),
            ensuring: false,
            terms: 1,
        };
        Self {
            index,
            name,
            mark: Mark::new(),
            now: ArcCell::new(Arc::new(TopicNow::new(config, None, 1))),
            threshold: Mutex::new(threshold),
        }
    }

    /// The topic as it is now, for one operation.
    pub(crate) fn now(&self) -> impl Deref<Target = Arc<TopicNow<R>>> + use<R> {
        self.now.load()
    }

    /// Shows `each` the topic as it is now. Who has kept what was `known` gets that while it stands,
    /// for one look at the mark: every time that a topic is opened has a term of its own.
    pub(crate) fn with_now<T>(
        &self,
        known: Option<&TopicNow<R>>,
        each: impl FnOnce(&TopicNow<R>) -> T,
    ) -> T {
        match known {
            Some(known) if self.mark.is_set(known.term) => each(known),
            _ => each(&self.now.load()),
        }
    }

    /// What a handle may keep of the topic, if it is open.
    pub(crate) fn known(&self) -> Option<Arc<TopicNow<R>>> {
        let now = self.now.load();
        (now.route.is_some() && self.mark.is_set(now.term)).then(|| Arc::clone(&now))
    }

    /// Whether the way to it is known.
    pub(crate) fn is_open(&self) -> bool {
        self.now.load().route.is_some()
    }

    /// Puts a publish before the closed door, unless it has opened meanwhile.
    pub(crate) fn park(&self, slot: Slot, envelope: Envelope) -> Parked<R> {
        let mut threshold = self.threshold.lock();
        // Looked at again under the lock that `open` holds: nobody parks behind an open door.
        if let Some(route) = &self.now.load().route {
            return Parked::Ready(route.clone(), envelope);
        }
        threshold.parked.push_back((slot, envelope));
        Parked::Waits(!std::mem::replace(&mut threshold.ensuring, true))
    }

    /// Opens the door: those that waited go first, in their order, then everybody.
    ///
    /// Only the leader of the topic's singleflight may: so what is remembered here last is what the
    /// broker was told last.
    pub(crate) fn open(
        &self,
        config: TopicConfig,
        term: u64,
        route: Arc<R>,
        mut produce: impl FnMut(&R, Slot, Envelope),
    ) {
        let mut threshold = self.threshold.lock();
        for (slot, envelope) in threshold.parked.drain(..) {
            produce(&route, slot, envelope);
        }
        threshold.ensuring = false;
        self.now
            .store(Arc::new(TopicNow::new(config, Some(route), term)));
    }

    /// Shuts the door: the topic must be ensured again.
    pub(crate) fn shut(&self) {
        let _one_at_a_time = self.threshold.lock();
        let now = self.now.load();
        self.mark.clear(now.term);
        if now.route.is_some() {
            self.now
                .store(Arc::new(TopicNow::new(now.config.clone(), None, now.term)));
        }
    }

    /// Takes away all that wait, because the topic could not be ensured or the bus is closing.
    pub(crate) fn take_parked(&self) -> VecDeque<(Slot, Envelope)> {
        let mut threshold = self.threshold.lock();
        threshold.ensuring = false;
        std::mem::take(&mut threshold.parked)
    }

    /// A term that no configuration has had.
    pub(crate) fn next_term(&self) -> u64 {
        let mut threshold = self.threshold.lock();
        threshold.terms += 1;
        threshold.terms
    }
}

impl<R> TopicNow<R> {
    fn new(config: TopicConfig, route: Option<Arc<R>>, term: u64) -> Self {
        let size_limit = config.size_limit.unwrap_or(usize::MAX);
        Self {
            config,
            size_limit,
            route,
            term,
        }
    }
}
