//! Worker: runs lanes. A delivery's way from its lane through the handler to a verdict.
//!
//! A worker takes no lock and, once warm, allocates nothing for a delivery that its handler acknowledges.

use super::job::{Failed, Job, Verdict};
use super::lease::Lease;
use super::options::Options;
use super::timer::Timer;
use crate::backend::Backend;
use crate::backend::any::Any;
use crate::codec::Codec;
use crate::core::Core;
use crate::handler::{Delivery, Handler, HandlerError, Outcome};
use crate::inside::Inside;
use crate::metrics::Counter;
use crate::middleware::dead_letter::{DeadLetters, OnFailure, Origin, dead_letter};
use crate::middleware::panic::caught;
#[cfg(feature = "throttle")]
use crate::middleware::throttle::KeyLimiter;
use crate::middleware::trace::{self, About};
use crate::protocol::gate::{Gate, Pass};
use crate::protocol::lane::{Lanes, Run};
use crate::protocol::sync::Noted;
use crate::subscription::Control;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tracing::Instrument;

/// When the lease is looked at again that was over. The intake needs less to hear from the broker.
const UNSURE: Duration = Duration::from_millis(20);
/// After so many deliveries of one lane the others have their turn.
const TURN: u32 = 64;

/// What all workers of a subscription share.
pub(super) struct Stage<T, C, H> {
    pub(super) core: Arc<Core<Any>>,
    pub(super) control: Arc<Control>,
    pub(super) options: Arc<Options>,
    pub(super) dead_letters: Option<DeadLetters>,
    pub(super) lanes: Arc<Lanes<Job>>,
    pub(super) workers: Arc<Gate>,
    pub(super) at_hand: Arc<[AtHand]>,
    pub(super) lease: Arc<Lease>,
    #[cfg(feature = "throttle")]
    pub(super) key_limiter: Option<KeyLimiter>,
    pub(super) codec: Arc<C>,
    pub(super) handler: H,
    pub(super) values: PhantomData<fn() -> T>,
}

/// Which delivery a worker has at hand, for the report of one that cannot be stopped.
#[derive(Default)]
pub(super) struct AtHand(Noted);

/// A worker that has begun and not ended.
pub(super) struct Present {
    workers: Arc<Gate>,
    pass: Option<Pass>,
}

/// A delivery that took too long.
#[derive(Debug, thiserror::Error)]
#[error("the handler took longer than {0:?}")]
struct TimedOut(Duration);

impl<T: Send + 'static, C: Codec<T>, H: Handler<T>> Stage<T, C, H> {
    /// Runs lanes until the dispatcher stops.
    pub(super) async fn work(self: Arc<Self>, worker: usize, present: Present) {
        let _until_the_end = present;
        let lanes = self.lanes.clone();
        let mut timer = Timer::default();
        while let Some(run) = poll_fn(|cx| lanes.poll_run(worker, cx)).await {
            let killed = self.run(run, worker, &mut timer).await.is_none();
            self.at_hand[worker].set(None);
            if killed {
                return;
            }
        }
    }

    /// Runs one lane until it is empty, has had its turn or has to wait. `None`: killed.
    async fn run(&self, mut run: Run<'_, Job>, worker: usize, timer: &mut Timer) -> Option<()> {
        for _ in 0..TURN {
            // Killed in the middle, the run is dropped: its message goes back without a verdict.
            run.verdict = Verdict::None;
            self.at_hand[worker].set(Some(run.number));
            let verdict = {
                let mut judged = pin!(self.judge(&mut run, timer));
                poll_fn(|cx| match self.inside(|| judged.as_mut().poll(cx)) {
                    Poll::Ready(verdict) => Poll::Ready(Some(verdict)),
                    Poll::Pending => self.lanes.poll_killed(worker, cx).map(|()| None),
                })
                .await?
            };
            run.verdict = verdict;
            match verdict {
                Verdict::Settled | Verdict::Buried | Verdict::Stale => {
                    run = match run.done() {
                        Some(next) => next,
                        None => return Some(()),
                    }
                }
                _ => {
                    run.park();
                    return Some(());
                }
            }
        }
        run.verdict = Verdict::Yields;
        run.park();
        Some(())
    }

    /// Has a delivery handled, and says what is to become of it.
    async fn judge(&self, job: &mut Job, timer: &mut Timer) -> Verdict {
        if job.progress.is_stale() {
            return Verdict::Stale;
        }
        if job.double {
            return Verdict::Double;
        }
        #[cfg(feature = "throttle")]
        if let Some(wait) = self.throttled(job) {
            return Verdict::Again(wait);
        }
        if job.failed.is_none() {
            match self.attempt(job, timer).await {
                Ok(Outcome::Ack) => return self.settle(job, Counter::HandlerAcks),
                Ok(Outcome::Skip) => return self.settle(job, Counter::HandlerSkips),
                Ok(Outcome::Retry { after }) => {
                    job.failed_once();
                    self.counters(Counter::HandlerRetries);
                    return Verdict::Again(after);
                }
                Ok(Outcome::Reject(reason)) => self.give_up(job, &*reason),
                Err(Failure::Undecodable(error)) => self.give_up(job, &error),
                Err(Failure::Unsure) => return Verdict::Again(UNSURE),
                Err(Failure::Handler(error)) => {
                    self.failed(job, &error);
                    let failures = job.failures.saturating_add(1);
                    let random = self.core.shared.runtime.random();
                    match self.options.retry.delay(failures, job.attempt, random) {
                        Some(delay) => {
                            job.failed_once();
                            return Verdict::Again(delay);
                        }
                        None => self.give_up(job, &error),
                    }
                }
            }
        }
        self.bury(job).await
    }

    /// How long this delivery has to wait because of its key's limit: asked until it has not, and not at its later attempts.
    #[cfg(feature = "throttle")]
    fn throttled(&self, job: &mut Job) -> Option<Duration> {
        if std::mem::replace(&mut job.admitted, true) {
            return None;
        }
        let wait = self.key_limiter.as_ref()?.wait(job.envelope.key.as_ref()?);
        job.admitted = wait.is_none();
        wait
    }

    /// One attempt, when there is a place for it, in its span.
    async fn attempt(&self, job: &Job, timer: &mut Timer) -> Result<Outcome, Failure> {
        let _seat = match &self.options.shared {
            Some(shared) => Some(shared.seat().await),
            None => None,
        };
        // Last: it may have waited for its place.
        if self.lease.is_over(|| self.core.shared.runtime.now()) {
            return Err(Failure::Unsure);
        }
        let Some(trace) = &self.options.trace else {
            return self.handle(job, timer).await;
        };
        let span = trace.span(&About {
            system: self.core.backend.name(),
            topic: &self.control.topic,
            group: &self.control.group,
            position: job.position,
            envelope: &job.envelope,
            attempt: job.attempt,
        });
        let outcome = self.handle(job, timer).instrument(span.clone()).await;
        match &outcome {
            Ok(Outcome::Reject(_)) => trace::failed(&span, "rejected"),
            Err(Failure::Undecodable(_)) => trace::failed(&span, "undecodable"),
            Err(Failure::Handler(_)) => trace::failed(&span, "handler"),
            Ok(_) | Err(Failure::Unsure) => {}
        }
        outcome
    }

    /// Calls the handler, with its panics and its time limit.
    async fn handle(&self, job: &Job, timer: &mut Timer) -> Result<Outcome, Failure> {
        self.counters(Counter::Delivered);
        if job.attempt > 1 {
            self.counters(Counter::Redelivered);
        }
        // Decoding and making the future are the user's code too: they may panic as well.
        let work = caught(async {
            let decoded = self.codec.decode(&job.envelope.payload);
            let delivery = Delivery {
                value: decoded.map_err(Failure::Undecodable)?,
                envelope: job.envelope.clone(),
                topic: job.subject.as_ref().unwrap_or(&self.control.topic).clone(),
                position: job.position,
                attempt: job.attempt,
                recovery: job.recovery,
            };
            self.handler
                .handle(delivery)
                .await
                .map_err(Failure::Handler)
        });
        let Some(limit) = self.options.timeout else {
            return work.await.unwrap_or_else(|panic| self.panicked(panic));
        };
        let runtime = &self.core.shared.runtime;
        let deadline = runtime.now() + limit;
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(answer) = work.as_mut().poll(cx) {
                return Poll::Ready(answer.unwrap_or_else(|panic| self.panicked(panic)));
            }
            timer.poll(runtime, deadline, cx).map(|()| {
                self.counters(Counter::HandlerTimeouts);
                Err(Failure::Handler(TimedOut(limit).into()))
            })
        })
        .await
    }

    fn panicked(&self, panic: impl Into<HandlerError>) -> Result<Outcome, Failure> {
        self.counters(Counter::HandlerPanics);
        Err(Failure::Handler(panic.into()))
    }

    fn settle(&self, job: &Job, counter: Counter) -> Verdict {
        self.counters(counter);
        // What the broker is to confirm is not settled yet: the intake will say.
        if !self.options.confirm {
            job.progress.settle();
        }
        Verdict::Settled
    }

    fn failed(&self, job: &Job, error: &HandlerError) {
        self.counters(Counter::HandlerErrors);
        let (topic, group) = (&self.control.topic, &self.control.group);
        let position = job.position;
        tracing::warn!(%topic, %group, ?position, attempt = job.attempt, %error, "handler failed");
        self.control.note_error(error.to_string());
    }

    /// No attempt follows.
    fn give_up(&self, job: &mut Job, error: &(impl ToString + ?Sized)) {
        let error = error.to_string();
        self.control.note_error(error.clone());
        let attempts = job.attempt;
        job.failed = Some(Failed { error, attempts });
    }

    /// Does what the subscription does on failure.
    async fn bury(&self, job: &mut Job) -> Verdict {
        let Some(Failed { error, attempts }) = &job.failed else {
            return Verdict::Again(self.options.retry.pause(1, 0));
        };
        let (topic, group) = (&*self.control.topic, &*self.control.group);
        let position = job.position;
        match (&self.options.on_failure, &self.dead_letters) {
            (OnFailure::Skip, _) => {
                tracing::error!(topic, group, ?position, id = %job.envelope.id, error, "skipped");
                return self.settle(job, Counter::Skipped);
            }
            (OnFailure::DeadLetter(_), Some(letters)) => {
                let origin = Origin {
                    topic: job.subject.as_deref().unwrap_or(topic),
                    foreign: job.subject.is_some().then_some(topic),
                    group,
                    position,
                    error,
                    attempts: *attempts,
                };
                match dead_letter(&job.envelope, &origin) {
                    None => tracing::error!(topic, group, ?position, "a dead letter too often"),
                    Some(letter) => match (letters.forward)(letter).await {
                        Ok(()) => {
                            self.control.dead_lettered();
                            self.settle(job, Counter::DeadLetters);
                            return Verdict::Buried;
                        }
                        Err(failure) => {
                            self.counters(Counter::DeadLetterFailures);
                            tracing::warn!(topic, dead_letters = %letters.topic, %failure, "dead letter failed");
                            self.control.note_error(failure.to_string());
                        }
                    },
                }
            }
            // It stays at the head of its lane, and is tried on.
            _ => job.failed = None,
        }
        job.failed_once();
        Verdict::Again(
            self.options
                .retry
                .pause(job.failures, self.core.shared.runtime.random()),
        )
    }

    /// Whatever a handler publishes while it is polled is its own, also when the bus closes.
    fn inside<O>(&self, poll: impl FnOnce() -> O) -> O {
        let _while_polled = Inside::of(&self.core.shared.admission);
        poll()
    }

    fn counters(&self, counter: Counter) {
        self.core.shared.admission.counters.count(counter);
    }
}

/// Why an attempt failed.
enum Failure {
    /// The payload: no other attempt would help.
    Undecodable(HandlerError),
    /// An error, a panic or a timeout.
    Handler(HandlerError),
    /// It was not begun: it may be another member's by now.
    Unsure,
}

impl Job {
    fn failed_once(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.attempt = self.attempt.saturating_add(1);
    }
}

impl AtHand {
    fn set(&self, number: Option<usize>) {
        // 0: none.
        self.0.set(number.map_or(0, |number| number as u64 + 1));
    }

    /// The place of the delivery among those that are out.
    pub(super) fn get(&self) -> Option<usize> {
        self.0.get().checked_sub(1).map(|number| number as usize)
    }
}

impl Present {
    /// `None`: the workers are told to end already.
    pub(super) fn new(workers: &Arc<Gate>) -> Option<Self> {
        let pass = workers.enter()?;
        Some(Self {
            workers: workers.clone(),
            pass: Some(pass),
        })
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.workers.leave(pass);
        }
    }
}
