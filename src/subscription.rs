//! Subscription: topic, group and handler, until closed.

mod registry;

pub(crate) use registry::{Subscriptions, Unavailable};

use crate::backend::Position;
use crate::protocol::interest::{Interest, Waiter, Want};
use crate::protocol::sync::Mutex;
use crate::runtime::{Runtime, timeout};
use crate::signal::Signal;
use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use uuid::Uuid;

/// How long a handler that was dropped may take to let go.
pub(crate) const KILL_LIMIT: Duration = Duration::from_secs(1);

/// So long a consumer or a connection has to say goodbye to its broker, at the least: also when the deadline of a close is over.
pub(crate) const GOODBYE: Duration = Duration::from_millis(500);

/// How long a subscription may take to end once its handlers were dropped.
const END_LIMIT: Duration = Duration::from_secs(3);

/// A running subscription. Dropping the handle does not end it: it runs until it or the bus is closed.
#[must_use = "keep it to close the subscription before the bus"]
#[derive(Clone)]
pub struct Subscription {
    pub(crate) control: Arc<Control>,
    pub(crate) runtime: Arc<dyn Runtime>,
}

/// What is asked of the task that consumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ask {
    /// Deliveries.
    Deliveries,
    /// No more deliveries, whatever else is asked, and the end when those that were taken are settled.
    End,
    /// The end at once.
    Kill,
    /// How it stands; each question once.
    Status(u64),
}

/// What steers a subscription, and tells that it has ended.
pub(crate) struct Control {
    pub(crate) topic: Arc<str>,
    pub(crate) group: Arc<str>,
    pub(crate) interest: Interest<Ask>,
    /// It is to end at once, also in the middle of telling the broker something.
    pub(crate) killed: Signal<()>,
    /// It has ended.
    pub(crate) ended: Signal<DrainReport>,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    deadline: Option<Duration>,
    questions: u64,
    status: SubscriptionStatus,
    last_error: Option<Arc<str>>,
    dead_letters: u64,
    paused_because: Option<Arc<str>>,
}

/// How a subscription stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionStatus {
    /// Whether it takes deliveries.
    pub state: SubscriptionState,
    /// Whether it is far behind and in recovery.
    pub recovery: bool,
    /// Deliveries taken from the broker and not settled.
    pub in_flight: usize,
    /// Of these, those that wait: for another attempt, or because of their key's limit.
    pub retrying: usize,
    /// Keys that have a delivery in flight.
    pub lanes: usize,
    /// The bytes of what is in flight.
    pub bytes: usize,
    /// How long the oldest delivery in flight has been there.
    pub oldest: Option<Duration>,
    /// By partition.
    pub partitions: BTreeMap<u32, PartitionStatus>,
    /// What a handler, or a dead letter, failed with last.
    pub last_error: Option<Arc<str>>,
    /// Envelopes that went to the dead letters.
    pub dead_letters: u64,
}

/// How a subscription stands in one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionStatus {
    /// The first position that is not settled, once there was a delivery.
    pub watermark: Option<u64>,
    /// Deliveries that are not settled.
    pub in_flight: u64,
    /// Envelopes that the group has not acknowledged, those in flight included, if the broker has said.
    pub lag: Option<u64>,
}

/// Whether a subscription takes deliveries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscriptionState {
    /// It does.
    #[default]
    Active,
    /// Not before [`Subscription::activate`].
    Held,
    /// Not before [`Subscription::resume`].
    Paused {
        /// Why, if it has paused itself.
        because: Option<Arc<str>>,
    },
    /// Not any more: it ends when what it has is settled.
    Draining,
    /// It has ended.
    Ended,
}

/// How a subscription ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// Whether all that was taken was settled.
    pub drained: bool,
    /// What was not, in the order of its positions. None of it is acknowledged: it comes again. With
    /// [`confirm_acks`](crate::SubscriptionBuilder::confirm_acks) also what was handled and acknowledged and not confirmed: that may come again.
    pub left: Vec<LeftDelivery>,
    /// A handler blocked its thread and could not be dropped: it may still run. What it answers is ignored.
    pub blocked: bool,
    /// The deliveries of such handlers, as far as that is known. They are among what was left.
    pub blocking: Vec<LeftDelivery>,
}

/// A delivery that was not settled when its subscription ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftDelivery {
    /// Where it is.
    pub position: Position,
    /// The envelope's id.
    pub id: Uuid,
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

    /// Takes nothing more until [`resume`](Self::resume). What was taken is handled on. When this returns, nothing more
    /// is taken. `false`: the subscription has ended.
    pub async fn pause(&self) -> bool {
        self.control.paused_because(None);
        let version = self.control.interest.want(Ask::Deliveries, Want::Paused);
        self.control.applied(version).await
    }

    /// Takes deliveries again.
    pub fn resume(&self) {
        self.control.paused_because(None);
        self.control.want(Want::Active);
    }

    /// Ends the hold of a subscription that was made [held](crate::SubscriptionBuilder::hold): from here it takes
    /// deliveries. `false`: it was not held.
    pub fn activate(&self) -> bool {
        self.control.interest.activate(&Ask::Deliveries)
    }

    /// How it stands. Asked of the task that consumes, so it is of one moment. Cancel-safe.
    pub async fn status(&self) -> SubscriptionStatus {
        let control = &self.control;
        let question = {
            let mut notes = control.notes.lock();
            notes.questions += 1;
            Ask::Status(notes.questions)
        };
        let version = control.interest.want(question, Want::Active);
        // Also when nobody waits for the answer any more.
        let asked = Asked(control, question);
        let answered = control.applied(version).await;
        drop(asked);
        let notes = control.notes.lock();
        let mut status = notes.status.clone();
        status.last_error = notes.last_error.clone();
        status.dead_letters = notes.dead_letters;
        match &mut status.state {
            state if !answered => *state = SubscriptionState::Ended,
            SubscriptionState::Paused { because } => *because = notes.paused_because.clone(),
            _ => {}
        }
        status
    }

    /// Takes nothing more, lets what was taken be handled for at most `limit`, and returns when nothing of it runs any more.
    /// Says what was left: that is not acknowledged, and comes again.
    ///
    /// A delivery that waits for an attempt beyond the deadline is given back at once. Every caller gets the same
    /// report; the shortest limit counts, that of a bus that closes included. Dropping the future stops nothing: it ends at its limit.
    ///
    /// A handler that waits for the drain of its own subscription waits for itself: it is cut off at the limit, and its delivery is left.
    pub async fn drain(&self, limit: Duration) -> DrainReport {
        let deadline = self.runtime.now() + limit;
        self.control.close(&self.runtime, deadline).await
    }

    /// As [`drain`](Self::drain); gives the number of deliveries that were left.
    pub async fn close(&self, limit: Duration) -> u64 {
        self.drain(limit).await.left.len() as u64
    }
}

impl Subscription {
    /// Ends it without waiting: nobody would handle anything.
    pub(crate) fn abandon(&self) {
        self.control.stop(self.runtime.now());
        self.control.kill();
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

/// A question, until it has its answer.
struct Asked<'c>(&'c Control, Ask);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.interest.withdraw(&self.1);
    }
}

impl Control {
    pub(crate) fn new(topic: Arc<str>, group: Arc<str>, held: bool) -> Self {
        let interest = Interest::new();
        interest.want(
            Ask::Deliveries,
            if held { Want::Held } else { Want::Active },
        );
        Self {
            topic,
            group,
            interest,
            killed: Signal::new(),
            ended: Signal::new(),
            notes: Mutex::default(),
        }
    }

    /// Changes what is wanted. Once it is to end nothing follows from that.
    fn want(&self, want: Want) {
        self.interest.want(Ask::Deliveries, want);
    }

    /// Until when what was taken may be handled, once it is to end.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.notes.lock().deadline
    }

    /// How long the goodbye may take once it is to end.
    pub(crate) fn left(&self, now: Duration) -> Duration {
        let left = self.deadline().map(|deadline| deadline.saturating_sub(now));
        left.unwrap_or_default().max(GOODBYE)
    }

    /// All that is asked, if that has changed.
    pub(crate) fn asked(&self) -> Option<(u64, BTreeMap<Ask, Want>)> {
        let mut now = Context::from_waker(Waker::noop());
        match self.interest.poll_change(&mut now) {
            Poll::Ready(asked) => Some(asked),
            Poll::Pending => None,
        }
    }

    pub(crate) fn note_error(&self, error: String) {
        self.notes.lock().last_error = Some(error.into());
    }

    pub(crate) fn dead_lettered(&self) {
        self.notes.lock().dead_letters += 1;
    }

    fn paused_because(&self, reason: Option<Arc<str>>) {
        self.notes.lock().paused_because = reason;
    }

    /// Pauses by itself, and says why.
    pub(crate) fn pause_because(&self, reason: Arc<str>) {
        self.paused_because(Some(reason));
        self.want(Want::Paused);
    }

    pub(crate) fn answer(&self, status: SubscriptionStatus) {
        self.notes.lock().status = status;
    }

    /// Waits until the consumer has applied `version`. `false`: it has ended.
    async fn applied(&self, version: u64) -> bool {
        struct Cancel<'c>(&'c Control, Waiter);
        impl Drop for Cancel<'_> {
            fn drop(&mut self) {
                self.0.interest.cancel(&mut self.1);
            }
        }
        let mut waiting = Cancel(self, Waiter::default());
        poll_fn(|cx| self.interest.poll_applied(&mut waiting.1, version, cx)).await
    }

    fn stop(&self, deadline: Duration) {
        let mut notes = self.notes.lock();
        let shortest = notes.deadline.map_or(deadline, |known| known.min(deadline));
        notes.deadline = Some(shortest);
        drop(notes);
        self.interest.want(Ask::End, Want::Active);
    }

    /// Has it end at once.
    fn kill(&self) {
        self.interest.want(Ask::Kill, Want::Active);
        self.killed.say(());
    }

    async fn close(&self, runtime: &Arc<dyn Runtime>, deadline: Duration) -> DrainReport {
        self.stop(deadline);
        self.end_in_time(runtime).await;
        self.report(runtime).await
    }

    /// Waits for the end until the deadline, and has it end at once then.
    async fn end_in_time(&self, runtime: &Arc<dyn Runtime>) {
        let left = (self.deadline()).map(|deadline| deadline.saturating_sub(runtime.now()));
        let ended = timeout(runtime, left.unwrap_or_default(), self.ended.heard()).await;
        if ended.is_none() {
            self.kill();
        }
    }

    /// How it ended, once it is told to end at once or has ended.
    async fn report(&self, runtime: &Arc<dyn Runtime>) -> DrainReport {
        let report = timeout(runtime, END_LIMIT, self.ended.heard()).await;
        report.unwrap_or(DrainReport {
            blocked: true,
            ..DrainReport::default()
        })
    }
}
