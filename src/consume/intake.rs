//! Intake: the one task of a subscription that talks to the backend's consumer.
//!
//! It takes deliveries while there is room, submits each to the lane of its key, and answers what comes back. It never waits for
//! a handler, so a consumer is attended to however long handlers take. It owns all that is not shared, so nothing
//! here races.

mod attend;
mod confirm;
mod loss;
mod settle;
mod steer;
mod suspect;
mod take;

use super::job::{Failed, Job, Key, Progress, Verdict};
use super::lease::Lease;
use super::options::{Options, Order};
use super::out::Out;
use super::partitions::{Partitions, Place};
use super::pauses::{Pauses, kind_of};
use super::recovery::Pace;
use super::timer::Timer;
use super::worker::AtHand;
use crate::backend::any::{Any, AnyConsumer, AnyRoute, AnyToken};
use crate::backend::{Answer, Answered, Consumer, Incoming, Position, StartAt};
use crate::core::Core;
use crate::envelope::Envelope;
use crate::error::{Failure, FailureKind};
use crate::events::BusEvent;
use crate::metrics::Counter;
use crate::middleware::dead_letter::{OnFailure, Spent};
use crate::middleware::dedup::{Dedup, Known};
#[cfg(feature = "throttle")]
use crate::middleware::throttle::Limiter;
use crate::protocol::gate::Gate;
use crate::protocol::interest::Want;
use crate::protocol::lane::{Back, Dispatcher, Full, Lanes, Parked, lanes};
use crate::protocol::mode::Kind;
use crate::runtime::timeout;
use crate::subscription::{
    Ask, Control, DrainReport, KILL_LIMIT, LeftDelivery, PartitionStatus, SubscriptionState,
    SubscriptionStatus,
};
use crate::topic::TopicState;
use foldhash::fast::SeedableRandomState;
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use suspect::Suspects;
use uuid::Uuid;

/// After so many events the clock is looked at, also when there is always another: what is due does not wait for the end of
/// a backlog.
const LOOK_AT_CLOCK_EVERY: u32 = 64;
/// So many deliveries are noted with one reading of the clock, while one comes after the other.
const ONE_READING: u32 = 16;
/// How long the broker may take to say how far behind a group is.
const LAG_LIMIT: Duration = Duration::from_secs(1);
/// After so many submissions workers are told, also when there are more to come.
const ANNOUNCE_EVERY: usize = 128;

pub(super) struct Intake {
    core: Arc<Core<Any>>,
    topic: Arc<TopicState<AnyRoute>>,
    control: Arc<Control>,
    options: Arc<Options>,
    dispatcher: Dispatcher<Key, Job, SeedableRandomState>,
    workers: Arc<Gate>,
    at_hand: Arc<[AtHand]>,
    lease: Arc<Lease>,
    out: Out,
    partitions: Partitions,
    /// Deliveries that there was no room for, the first one first.
    stashed: VecDeque<Stashed>,
    /// Lanes whose head has the id of another delivery that is taken.
    doubles: Vec<Parked<Job>>,
    /// Whether more may be known of them than at the last look.
    look_at_doubles: bool,
    /// What was handled and answered, and the broker is to confirm: still out.
    confirming: BTreeMap<Position, Job>,
    /// What a lost consumer left without a confirmation, until there is another.
    unconfirmed: Vec<(Position, Uuid)>,
    /// What was handled and could not be told when it had to end: a client that is stuck takes no answer.
    unheard: Vec<(Position, Uuid)>,
    /// Lanes whose head waits for its next attempt, by when that is.
    waiting: BTreeMap<(Duration, usize), Parked<Job>>,
    /// Lanes that do not go on here any more.
    frozen: Vec<Parked<Job>>,
    /// Partitions that are to be released, with their epochs, once nothing of them is handled here.
    revoked: Vec<(u32, u64)>,
    /// What workers were not told of yet.
    submitted: usize,
    events: u32,
    /// When deliveries are noted as taken, and for how many more of them that is not read again.
    taken_at: Duration,
    readings_left: u32,
    want: Option<Want>,
    killed: bool,
    /// When the broker is to hear next that what is out is still worked at.
    progress: Duration,
    timer: Timer,
    dedup: Option<Dedup>,
    spent: Spent,
    suspects: Suspects,
    /// Before another consumer is asked for.
    pauses: Pauses,
    pace: Option<Pace>,
    #[cfg(feature = "throttle")]
    limiter: Option<Limiter>,
    /// Given free at the end.
    _place: super::Place,
}

struct Stashed {
    envelope: Envelope,
    position: Position,
    attempt: u32,
    subject: Option<Arc<str>>,
    token: AnyToken,
    /// There if it is counted already.
    progress: Option<Progress>,
}

/// Why serving a consumer came to an end.
enum End {
    Lost(Failure),
    Drained,
    Killed,
}

/// What the intake woke for.
enum Happened {
    Asked,
    Back(Back<Job>),
    Heard(Result<Incoming<AnyToken>, Failure>),
    Due,
}

impl Intake {
    pub(super) fn new(
        core: Arc<Core<Any>>,
        topic: Arc<TopicState<AnyRoute>>,
        options: Arc<Options>,
        hasher: SeedableRandomState,
        place: super::Place,
    ) -> Self {
        let (slots, workers) = (options.slots(), options.concurrency);
        Self {
            control: place.control.clone(),
            out: Out::new(options.slots()),
            partitions: Partitions::new(options.window()),
            dispatcher: lanes(options.lanes(), slots, workers, hasher.clone()),
            topic,
            workers: Arc::new(Gate::new()),
            at_hand: (0..workers).map(|_| AtHand::default()).collect(),
            lease: Arc::default(),
            stashed: VecDeque::new(),
            doubles: Vec::new(),
            look_at_doubles: false,
            confirming: BTreeMap::new(),
            unconfirmed: Vec::new(),
            unheard: Vec::new(),
            waiting: BTreeMap::new(),
            frozen: Vec::new(),
            revoked: Vec::new(),
            submitted: 0,
            events: 0,
            taken_at: Duration::ZERO,
            readings_left: 0,
            // Until the first look at what is asked nothing is taken.
            want: Some(Want::Held),
            killed: false,
            progress: Duration::ZERO,
            timer: Timer::default(),
            dedup: options.dedup.map(|window| Dedup::new(window, hasher)),
            spent: Spent::default(),
            suspects: Suspects::default(),
            pauses: Pauses::new(&core.settings, core.shared.runtime.random()),
            pace: options.recovery.clone().map(Pace::new),
            #[cfg(feature = "throttle")]
            limiter: (options.throttle.as_ref())
                .map(|throttle| Limiter::new(throttle, core.shared.runtime.clone())),
            core,
            options,
            _place: place,
        }
    }

    pub(super) fn lanes(&self) -> Arc<Lanes<Job>> {
        self.dispatcher.shared().clone()
    }

    pub(super) fn workers(&self) -> Arc<Gate> {
        self.workers.clone()
    }

    pub(super) fn at_hand(&self) -> Arc<[AtHand]> {
        self.at_hand.clone()
    }

    pub(super) fn lease(&self) -> Arc<Lease> {
        self.lease.clone()
    }

    /// Serves one consumer after the other until it is told to end.
    pub(super) async fn run(mut self, first: AnyConsumer) {
        let mut consumer = Some(first);
        loop {
            match self.serve(&mut consumer).await {
                End::Drained | End::Killed => break,
                End::Lost(failure) => {
                    self.lose();
                    if let Some(lost) = consumer.take() {
                        self.part_with(lost).await;
                    }
                    consumer = self.again(failure).await;
                    if consumer.is_some() {
                        // They come again here, and are left by nobody.
                        self.unconfirmed.clear();
                    }
                }
            }
        }
        let report = self.end(&mut consumer).await;
        if let Some(consumer) = consumer {
            let runtime = &self.core.shared.runtime;
            let left = self.control.left(runtime.now());
            timeout(runtime, left, consumer.close(left)).await;
        }
        // First the place: who hears of the end may take it.
        self.core.subscriptions.end(&self.control);
        self.control.interest.end();
        self.control.ended.say(report);
    }

    async fn serve(&mut self, consumer: &mut Option<AnyConsumer>) -> End {
        loop {
            if self.control.interest.changed() {
                self.apply(consumer).await;
            }
            if self.killed {
                return End::Killed;
            }
            if let Err(failure) = self.release(consumer).await {
                return End::Lost(failure);
            }
            if let Some(consumer) = consumer {
                self.lease.note(consumer.sure_until());
            }
            if self.want.is_none() && self.is_done() {
                return End::Drained;
            }
            let happened = self.wait(consumer).await;
            let served = match happened {
                Happened::Asked => Ok(()),
                Happened::Back(back) => self.take_back(back, consumer).await,
                Happened::Heard(Ok(incoming)) => {
                    self.hear(incoming);
                    Ok(())
                }
                Happened::Heard(Err(failure)) => Err(failure),
                Happened::Due => self.on_time(consumer).await,
            };
            let served = match served {
                Ok(()) => self.resolve_doubles(consumer).await,
                lost => lost,
            };
            if let Err(failure) = served {
                return End::Lost(failure);
            }
            // Last: whatever has happened may have made room.
            self.deliver_stashed();
        }
    }

    /// Waits for whatever comes first. What has come back goes before what is new.
    async fn wait(&mut self, consumer: &mut Option<AnyConsumer>) -> Happened {
        let takes = self.takes();
        let due = self.due(consumer.as_ref());
        self.events = self.events.wrapping_add(1);
        if self.events.is_multiple_of(LOOK_AT_CLOCK_EVERY)
            && due.is_some_and(|due| due <= self.core.shared.runtime.now())
        {
            return Happened::Due;
        }
        let mut next = pin!(async {
            match consumer {
                Some(consumer) => consumer.next(takes).await,
                None => pending().await,
            }
        });
        poll_fn(|cx| {
            if let Poll::Ready(back) = self.dispatcher.poll_back(cx) {
                return Poll::Ready(Happened::Back(back));
            }
            if let Poll::Ready(heard) = next.as_mut().poll(cx) {
                return Poll::Ready(Happened::Heard(heard));
            }
            self.announce();
            // It may be long until the next.
            self.readings_left = 0;
            if self.control.interest.poll_change(cx).is_ready() {
                return Poll::Ready(Happened::Asked);
            }
            let Some(due) = due else {
                return Poll::Pending;
            };
            (self.timer)
                .poll(&self.core.shared.runtime, due, cx)
                .map(|()| Happened::Due)
        })
        .await
    }

    fn announce(&mut self) {
        if std::mem::take(&mut self.submitted) > 0 {
            self.dispatcher.announce();
        }
    }

    /// Whether nothing that was taken can be handled any more.
    fn is_done(&self) -> bool {
        if self.is_confirming() {
            return false;
        }
        let behind = |parked: &Parked<Job>| self.dispatcher.waits_behind(parked);
        self.dispatcher.out() == self.frozen.iter().map(behind).sum::<usize>()
    }

    /// Ends the workers, and lists what was not settled.
    async fn end(&mut self, consumer: &mut Option<AnyConsumer>) -> DrainReport {
        self.workers.close();
        if self.killed {
            self.dispatcher.kill();
        } else {
            self.dispatcher.stop();
        }
        let ended = poll_fn(|cx| self.workers.poll_drained(cx));
        let ended = timeout(&self.core.shared.runtime, KILL_LIMIT, ended).await;
        // A handler that blocks its thread cannot be dropped. What it answers is not looked at any more.
        let blocked = ended.is_none();
        let mut blocking = Vec::new();
        if blocked {
            let at_hand = self.at_hand.iter().filter_map(AtHand::get);
            blocking.extend(at_hand.filter_map(|number| self.out.get(number)));
        }
        let mut left = Vec::new();
        while let Some(back) = self.dispatcher.take_back() {
            let Back::Done(job) = back else {
                continue;
            };
            self.done(&job);
            let (token, id) = (self.out.remove(job.number).token, job.envelope.id);
            if let (true, Some(token), Some(consumer)) = (job.is_settled(), token, &mut *consumer) {
                let answer = consumer.answer(&token, Answer::Ack);
                match self.control.killed.until(answer).await {
                    Some(Ok(Answered::Final)) => self.confirmed_now(&job),
                    Some(Ok(Answered::Pending)) if !self.options.confirm => {}
                    // The broker has not heard of it, or nobody waits for its word.
                    _ => left.push((job.position, id)),
                }
            }
        }
        let out = self.out.iter();
        let out = out.filter(|delivered| delivered.token.is_some());
        left.extend(out.map(|delivered| (delivered.position, delivered.id)));
        left.append(&mut self.unconfirmed);
        left.append(&mut self.unheard);
        left.extend((self.stashed.iter()).map(|stashed| (stashed.position, stashed.envelope.id)));
        left.sort();
        let left: Vec<_> = (left.into_iter())
            .map(|(position, id)| LeftDelivery { position, id })
            .collect();
        DrainReport {
            drained: left.is_empty(),
            left,
            blocked,
            blocking,
        }
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        // However it ends, no worker waits for it.
        self.dispatcher.kill();
    }
}
