//! Subscription: topic, group and handler, until closed.

use crate::protocol::sync::Mutex;
use crate::runtime::{Runtime, timeout};
use crate::signal::Signal;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long a handler that was dropped may take to let go.
const KILL_LIMIT: Duration = Duration::from_secs(1);

/// A running subscription. Dropping the handle does not end it: it runs until it or the bus is closed.
#[must_use = "keep it to close the subscription before the bus"]
pub struct Subscription {
    pub(crate) control: Arc<Control>,
    pub(crate) runtime: Arc<dyn Runtime>,
}

/// What ends a subscription, and tells that it has ended.
pub(crate) struct Control {
    pub(crate) topic: Arc<str>,
    pub(crate) group: Arc<str>,
    /// Take nothing more; finish what is in hand.
    pub(crate) stop: Signal<()>,
    /// Drop what is in hand.
    pub(crate) kill: Signal<()>,
    /// It has ended, with so many deliveries unanswered.
    pub(crate) ended: Signal<u64>,
}

/// The subscriptions of a bus: one for each topic and group.
#[derive(Default)]
pub(crate) struct Subscriptions(Mutex<Registry>);

#[derive(Default)]
struct Registry {
    closed: bool,
    open: BTreeMap<(Arc<str>, Arc<str>), Arc<Control>>,
}

/// Why a subscription cannot begin.
pub(crate) enum Unavailable {
    Closed,
    Taken,
}

impl Subscription {
    /// The topic.
    pub fn topic(&self) -> &str {
        &self.control.topic
    }

    /// The group.
    pub fn group(&self) -> &str {
        &self.control.group
    }

    /// Takes nothing more, lets the handler finish for at most `limit`, and returns when nothing of it runs any more.
    /// Gives the number of deliveries that were left unanswered; they come again.
    pub async fn close(&self, limit: Duration) -> u64 {
        self.control
            .close(&self.runtime, self.runtime.now() + limit)
            .await
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("topic", &self.control.topic)
            .field("group", &self.control.group)
            .finish_non_exhaustive()
    }
}

impl Control {
    pub(crate) fn new(topic: Arc<str>, group: Arc<str>) -> Self {
        Self {
            topic,
            group,
            stop: Signal::new(),
            kill: Signal::new(),
            ended: Signal::new(),
        }
    }

    async fn close(&self, runtime: &Arc<dyn Runtime>, deadline: Duration) -> u64 {
        self.stop.say(());
        let left = deadline.saturating_sub(runtime.now());
        if let Some(unanswered) = timeout(runtime, left, self.ended.heard()).await {
            return unanswered;
        }
        self.kill.say(());
        // A handler that blocks its thread cannot be dropped; its answer will not count.
        timeout(runtime, KILL_LIMIT, self.ended.heard())
            .await
            .unwrap_or(1)
    }
}

impl Subscriptions {
    /// Takes the place of (topic, group).
    pub(crate) fn begin(&self, control: &Arc<Control>) -> Result<(), Unavailable> {
        let mut registry = self.0.lock();
        if registry.closed {
            return Err(Unavailable::Closed);
        }
        let place = (control.topic.clone(), control.group.clone());
        if registry.open.contains_key(&place) {
            return Err(Unavailable::Taken);
        }
        registry.open.insert(place, control.clone());
        Ok(())
    }

    /// Gives the place free, if it is still this subscription's.
    pub(crate) fn end(&self, control: &Arc<Control>) {
        let mut registry = self.0.lock();
        let place = (control.topic.clone(), control.group.clone());
        if registry
            .open
            .get(&place)
            .is_some_and(|there| Arc::ptr_eq(there, control))
        {
            registry.open.remove(&place);
        }
    }

    /// Stops all at once, waits for each until the deadline, and counts what was left unanswered.
    pub(crate) async fn close_all(&self, runtime: &Arc<dyn Runtime>, deadline: Duration) -> u64 {
        let open: Vec<_> = {
            let mut registry = self.0.lock();
            registry.closed = true;
            registry.open.values().cloned().collect()
        };
        open.iter().for_each(|control| control.stop.say(()));
        let mut left = 0;
        for control in open {
            left += control.close(runtime, deadline).await;
        }
        left
    }
}
