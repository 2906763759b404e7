//! Close: refuse what is outside, let what is inside finish until a deadline, and say what was left.
//!
//! The order, each step before the next: intake shut, subscriptions drained, publishes drained, the
//! rest settled, sessions closed, tasks ended, the answer given. Every closer gets the same answer; the first one's
//! deadline counts. The close runs in a task of its own, so dropping a closer stops nothing.

use crate::backend::{Backend, Connection, Outcome};
use crate::core::Core;
use crate::events::BusEvent;
use crate::protocol::sync::Mutex;
use crate::publish::admission::closed_failure;
use crate::runtime::timeout;
use crate::signal::Signal;
use crate::subscription::{DrainReport, GOODBYE};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

/// How long the connection may take to end once nothing is in flight any more, if there is as long.
const CONNECTION_CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// What a close did. The same for every closer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// Whether everything inside had its outcome before the deadline, and none was `Unknown`.
    pub drained: bool,
    /// How long the close took.
    pub took: Duration,
    /// What happened on each topic that still had something inside, by name.
    pub topics: BTreeMap<Arc<str>, TopicReport>,
    /// Deliveries that were not settled; not acknowledged, they come again.
    pub deliveries_left: u64,
    /// The subscriptions that had some, by topic and group.
    pub subscriptions: BTreeMap<(Arc<str>, Arc<str>), DrainReport>,
}

/// What a close did about one topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicReport {
    /// Publishes that had their outcome between the close and the deadline, and the broker's word for it.
    pub drained: u64,
    /// Publishes that ended `Unknown` before the deadline: their own time was over, or an answer was lost.
    pub ambiguous: u64,
    /// Publishes without an answer at the deadline: `Unknown`.
    pub unknown: u64,
    /// Publishes that had not been sent at the deadline: `Rejected`.
    pub unsent: u64,
}

/// Where a close stands.
pub(crate) struct Closing {
    begun: Mutex<bool>,
    pub(crate) report: Signal<CloseReport>,
}

impl Closing {
    pub(crate) fn new() -> Self {
        Self {
            begun: Mutex::new(false),
            report: Signal::new(),
        }
    }

    fn begin(&self) -> bool {
        !std::mem::replace(&mut *self.begun.lock(), true)
    }

    pub(crate) fn has_begun(&self) -> bool {
        *self.begun.lock()
    }
}

/// Begins the close unless it has begun. Does not wait.
pub(crate) fn begin<B: Backend>(core: &Arc<Core<B>>, limit: Duration) {
    if !core.closing.begin() {
        return;
    }
    // Here and not in the task: nothing is admitted once the caller has said close.
    core.shared.admission.gate.close();
    let closing = core.clone();
    core.shared.runtime.spawn(
        "clearway-close",
        Box::pin(async move { run(&closing, limit).await }),
    );
}

async fn run<B: Backend>(core: &Arc<Core<B>>, limit: Duration) {
    let runtime = &core.shared.runtime;
    let begun = runtime.now();
    let deadline = begun + limit;
    let mut report = CloseReport::default();
    if let Some(connection) = core.connection() {
        // Before handlers are waited for: they may wait for what they publish.
        connection.flush();
    }
    for (control, left) in core.subscriptions.close_all(runtime, deadline).await {
        report.deliveries_left += left.left.len() as u64;
        if !left.drained || left.blocked {
            let place = (control.topic.clone(), control.group.clone());
            report.subscriptions.insert(place, left);
        }
    }

    // No handler is left that could publish, and whoever waited outside for credit waits no more.
    core.shared.admission.inner.close();
    core.shared.admission.credit.close();
    let left = deadline.saturating_sub(runtime.now());
    let drained = poll_fn(|cx| core.shared.admission.poll_drained(cx));
    report.drained = timeout(runtime, left, drained).await.is_some();
    settle_rest(core, &mut report);

    core.stopped.say(());
    if let Some(last) = core.sessions.close() {
        let last = poll_fn(|cx| last.poll_unused(cx)).await;
        let left = deadline.saturating_sub(runtime.now());
        last.close(left.clamp(GOODBYE, CONNECTION_CLOSE_LIMIT))
            .await;
    }
    core.tasks.close();
    poll_fn(|cx| core.tasks.poll_drained(cx)).await;
    // Once more: what was on its way to the connection when it ended.
    settle_rest(core, &mut report);

    report.took = runtime.now().saturating_sub(begun);
    tracing::info!(drained = report.drained, took = ?report.took, "closed");
    core.shared.board.tell(BusEvent::Closed);
    core.closing.report.say(report);
    core.shared.admission.ledger.wake_reader();
}

/// Gives everything that is left its outcome, and writes down what it was.
fn settle_rest<B: Backend>(core: &Arc<Core<B>>, report: &mut CloseReport) {
    let shared = &core.shared;
    let mut topics: Vec<_> = shared.topics.load().values().cloned().collect();
    topics.sort_by_key(|topic| topic.index);
    let name = |index: u32| topics[index as usize].name.clone();
    for (index, settled) in std::mem::take(&mut *shared.drained.lock()) {
        let topic = report.topics.entry(name(index)).or_default();
        topic.drained += settled.drained;
        topic.ambiguous += settled.ambiguous;
        report.drained &= settled.ambiguous == 0;
    }
    // What was never sent first: it is surely not stored.
    let failure = closed_failure();
    let mut unsent = Vec::new();
    for topic in &topics {
        unsent.extend(topic.take_parked().into_iter().map(|(slot, _)| slot));
    }
    unsent.extend(shared.lines.take_waiting());
    let now = shared.runtime.now();
    for slot in unsent {
        if let Some(entry) = shared
            .admission
            .settle(slot, Outcome::Rejected(failure.clone()), now)
        {
            report.topics.entry(name(entry.topic)).or_default().unsent += 1;
        }
    }
    shared.admission.settle_rest(&failure, now, |entry| {
        report.topics.entry(name(entry.topic)).or_default().unknown += 1;
    });
}
