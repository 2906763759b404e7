//! What the bus replaces: the same publish with the locks where the first design had them.
//!
//! `mu` is read-locked around the closed flag and the producer for the length of a publish, the
//! topics' configurations are under a read-write lock, the handlers under a plain one, and the
//! numbers are single shared atomics. Hasher, envelope and backend are those of the bus. The locks are
//! std's, which measured no slower than `parking_lot`'s alone and faster under contention.

#![allow(dead_code, reason = "every bench takes what it needs")]

use foldhash::fast::FixedState;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};

const NO_PANIC: &str = "no bench panics";

/// The locked bus, over a producer of type `P`.
pub(crate) struct LockedBus<P> {
    mu: RwLock<State<P>>,
    topic_configs: RwLock<HashMap<Arc<str>, TopicOptions, FixedState>>,
    subscriptions: Mutex<HashMap<Arc<str>, Arc<Handler>, FixedState>>,
    published: AtomicU64,
    consumed: AtomicU64,
}

struct State<P> {
    closed: bool,
    producer: Arc<P>,
}

/// What publishing needs to know of a topic.
#[derive(Clone, Debug)]
pub(crate) struct TopicOptions {
    pub(crate) size_limit: usize,
    pub(crate) route: u64,
}

/// What is called with a delivery.
pub(crate) type Handler = dyn Fn(&[u8]) + Send + Sync;

/// Why a publish was refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Closed,
    TooLarge,
    UnknownTopic,
}

impl<P> LockedBus<P> {
    pub(crate) fn new(producer: Arc<P>) -> Self {
        Self {
            mu: RwLock::new(State {
                closed: false,
                producer,
            }),
            topic_configs: RwLock::default(),
            subscriptions: Mutex::default(),
            published: AtomicU64::new(0),
            consumed: AtomicU64::new(0),
        }
    }

    pub(crate) fn configure(&self, topic: &str, options: TopicOptions) {
        self.topic_configs
            .write()
            .expect(NO_PANIC)
            .insert(topic.into(), options);
    }

    pub(crate) fn subscribe(&self, topic: &str, handler: Arc<Handler>) {
        self.subscriptions
            .lock()
            .expect(NO_PANIC)
            .insert(topic.into(), handler);
    }

    /// One publish: `produce` hands the envelope to the backend under `mu`.
    pub(crate) fn publish<R>(
        &self,
        topic: &str,
        size: usize,
        produce: impl FnOnce(&P, &TopicOptions) -> R,
    ) -> Result<R, Refused> {
        let state = self.mu.read().expect(NO_PANIC);
        if state.closed {
            return Err(Refused::Closed);
        }
        let options = self.topic_options(topic)?;
        if size > options.size_limit {
            return Err(Refused::TooLarge);
        }
        let produced = produce(&state.producer, &options);
        // Relaxed: a number.
        self.published.fetch_add(1, Ordering::Relaxed);
        Ok(produced)
    }

    /// Only the look-up of what publishing needs to know of a topic.
    pub(crate) fn look_up(&self, topic: &str) -> Option<usize> {
        self.topic_options(topic)
            .ok()
            .map(|options| options.size_limit)
    }

    /// The handler of a topic, looked up for every delivery.
    pub(crate) fn handler(&self, topic: &str) -> Option<Arc<Handler>> {
        let handler = self
            .subscriptions
            .lock()
            .expect(NO_PANIC)
            .get(topic)
            .cloned();
        // Relaxed: a number.
        self.consumed.fetch_add(1, Ordering::Relaxed);
        handler
    }

    /// Makes a new connection, as the first design did: under `mu`, which `connect` holds up.
    pub(crate) fn reconnect(&self, connect: impl FnOnce() -> Arc<P>) {
        let mut state = self.mu.write().expect(NO_PANIC);
        state.producer = connect();
    }

    /// Changes a topic's configuration under its lock while `work` goes on.
    pub(crate) fn reconfigure<R>(&self, work: impl FnOnce() -> R) -> R {
        let _writing = self.topic_configs.write().expect(NO_PANIC);
        work()
    }

    pub(crate) fn close(&self) {
        self.mu.write().expect(NO_PANIC).closed = true;
    }

    fn topic_options(&self, topic: &str) -> Result<TopicOptions, Refused> {
        let configs = self.topic_configs.read().expect(NO_PANIC);
        configs.get(topic).cloned().ok_or(Refused::UnknownTopic)
    }
}
