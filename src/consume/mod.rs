//! The journey of a delivery: backend consumer -> decode -> handler -> acknowledgement.
//!
//! One subscription is one task. It takes one delivery at a time, so order holds as far as the
//! backend's partitions do; a delivery that fails is handled again before the next is taken.

use crate::backend::any::{Any, AnyConnection, AnyConsumer, AnyRoute, AnyToken};
use crate::backend::{Answer, Connection, Consumer, Incoming, StartAt, SubscribeRequest};
use crate::bus::Owner;
use crate::codec::Codec;
use crate::core::Core;
use crate::ensure::ensured;
use crate::error::{Failure, FailureKind, SubscribeError};
use crate::events::BusEvent;
use crate::handler::{Delivery, Handler, HandlerError};
use crate::metrics::Counter;
use crate::subscription::{Control, Subscription, Unavailable};
use crate::topic::TopicState;
use backon::{BackoffBuilder, ExponentialBuilder};
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

pub(crate) use crate::subscription::Subscriptions;

/// How many deliveries the backend may hand out ahead of the handler.
const IN_FLIGHT_MAX: usize = 256;
/// Between attempts to subscribe again.
const RESUBSCRIBE_EVERY: Duration = Duration::from_millis(100);
/// Between attempts of one delivery: the first time, and at most.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// Begins a subscription; the first consumer must come to be, later ones are made again as needed.
pub(crate) async fn subscribe<T, C, H>(
    owner: &Arc<Owner>,
    topic: &Arc<TopicState<AnyRoute>>,
    group: &str,
    codec: Arc<C>,
    handler: H,
) -> Result<Subscription, SubscribeError>
where
    T: Send + 'static,
    C: Codec<T>,
    H: Handler<T>,
{
    let core = owner.core();
    let control = Arc::new(Control::new(topic.name.clone(), group.into()));
    core.subscriptions
        .begin(&control)
        .map_err(|unavailable| match unavailable {
            Unavailable::Closed => SubscribeError::Closed,
            Unavailable::Taken => SubscribeError::Taken {
                topic: control.topic.clone(),
                group: control.group.clone(),
            },
        })?;
    // From here on the place is given free on every way out.
    let place = Place {
        core: core.clone(),
        control: control.clone(),
    };
    let first = consumer(core, topic, group).await?;
    let run = Run {
        core: core.clone(),
        topic: topic.clone(),
        codec,
        handler,
        place,
        values: PhantomData,
    };
    if !core.spawn("clearway-subscription", run.deliver(first)) {
        return Err(SubscribeError::Closed);
    }
    Ok(Subscription {
        control,
        runtime: core.shared.runtime.clone(),
    })
}

/// A consumer over the current session, with the topic ensured.
async fn consumer(
    core: &Arc<Core<Any>>,
    topic: &Arc<TopicState<AnyRoute>>,
    group: &str,
) -> Result<AnyConsumer, SubscribeError> {
    ensured(core, topic, None).await?;
    let connection: Arc<AnyConnection> = core.connection().ok_or(SubscribeError::Closed)?;
    let request = SubscribeRequest {
        topic: topic.now().config.clone(),
        group: group.into(),
        start: StartAt::Earliest,
        in_flight_max: IN_FLIGHT_MAX,
    };
    let subscribed = connection.subscribe(request).await;
    if let Err(SubscribeError::Failed { failure, .. }) = &subscribed {
        look_again(topic, failure);
    }
    subscribed
}

/// A topic that is gone must be ensured again before the next attempt.
fn look_again(topic: &TopicState<AnyRoute>, failure: &Failure) {
    if failure.kind() == FailureKind::NoTopic {
        topic.shut();
    }
}

/// The place in the bus's registry: given free when the subscription ends, however it ends.
struct Place {
    core: Arc<Core<Any>>,
    control: Arc<Control>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.core.subscriptions.end(&self.control);
        self.control.ended.say(0);
    }
}

/// One subscription under way.
struct Run<T, C, H> {
    core: Arc<Core<Any>>,
    topic: Arc<TopicState<AnyRoute>>,
    codec: Arc<C>,
    handler: H,
    place: Place,
    values: PhantomData<fn() -> T>,
}

/// How the work on one delivery ended.
enum Settled {
    Acked,
    /// Stopped between two attempts: given back.
    GivenBack,
    /// Dropped in the middle of an attempt.
    Killed,
    /// The consumer is of no use any more.
    Lost(Failure),
}

impl<T: Send + 'static, C: Codec<T>, H: Handler<T>> Run<T, C, H> {
    /// Delivers until it is stopped, over one consumer after the other.
    async fn deliver(self, first: AnyConsumer) {
        let control = self.place.control.clone();
        let mut consumer = first;
        let unanswered = loop {
            // Looked at here too: while there is always a next delivery, `until` does not come to it.
            if control.stop.said().is_some() {
                break 0;
            }
            let failure = match control.stop.until(consumer.next()).await {
                None => break 0,
                Some(Err(failure)) => failure,
                Some(Ok(Incoming::Assigned { .. } | Incoming::Revoked { .. })) => continue,
                Some(Ok(Incoming::Delivery {
                    envelope,
                    position,
                    attempt,
                    token,
                })) => {
                    let delivery = |attempt| Delivery {
                        envelope: envelope.clone(),
                        topic: self.topic.name.clone(),
                        position,
                        attempt,
                        value: self.codec.decode(&envelope.payload),
                    };
                    match self.settle(&mut consumer, &token, attempt, delivery).await {
                        Settled::Acked => continue,
                        Settled::GivenBack => break 0,
                        Settled::Killed => break 1,
                        Settled::Lost(failure) => failure,
                    }
                }
            };
            let lost = std::mem::replace(
                &mut consumer,
                match self.again(failure).await {
                    Some(next) => next,
                    None => break 0,
                },
            );
            lost.close().await;
        };
        consumer.close().await;
        control.ended.say(unanswered);
    }

    /// A new consumer in the place of one that failed, or `None` when stopped.
    async fn again(&self, failure: Failure) -> Option<AnyConsumer> {
        let (core, control) = (&self.core, &self.place.control);
        tracing::warn!(topic = %control.topic, group = %control.group, %failure, "consumer lost");
        look_again(&self.topic, &failure);
        loop {
            control
                .stop
                .until(core.shared.runtime.sleep(RESUBSCRIBE_EVERY))
                .await?;
            match control
                .stop
                .until(consumer(core, &self.topic, &control.group))
                .await?
            {
                Ok(consumer) => {
                    core.shared.board.tell(BusEvent::ConsumerRestarted {
                        topic: control.topic.clone(),
                        group: control.group.clone(),
                        reason: failure.to_string(),
                    });
                    return Some(consumer);
                }
                Err(error) => {
                    tracing::warn!(topic = %control.topic, %error, "subscribing again failed")
                }
            }
        }
    }

    /// Has one delivery handled until it succeeds.
    async fn settle(
        &self,
        consumer: &mut AnyConsumer,
        token: &AnyToken,
        first_attempt: u32,
        delivery: impl Fn(u32) -> Delivery<T> + Sync,
    ) -> Settled {
        let (core, control) = (&self.core, &self.place.control);
        let counters = &core.shared.admission.counters;
        let runtime = &core.shared.runtime;
        let mut delays = ExponentialBuilder::default()
            .with_min_delay(RETRY_DELAYS.0)
            .with_max_delay(RETRY_DELAYS.1)
            .without_max_times()
            .build();
        for attempt in first_attempt.. {
            counters.count(Counter::Delivered);
            if attempt > 1 {
                counters.count(Counter::Redelivered);
            }
            // Decoding and making the future are the user's code too: they may panic as well.
            let work = caught(async { self.handler.handle(delivery(attempt)).await });
            let answer = match control
                .kill
                .until(self.in_progress(consumer, token, work))
                .await
            {
                None => return Settled::Killed,
                Some(Err(failure)) => return Settled::Lost(failure),
                Some(Ok(answer)) => answer,
            };
            match answer {
                Ok(()) => {
                    counters.count(Counter::HandlerAcks);
                    return match consumer.answer(token, Answer::Ack).await {
                        Ok(()) => Settled::Acked,
                        Err(failure) => Settled::Lost(failure),
                    };
                }
                Err(error) => {
                    let panicked = error.is::<Panicked>();
                    counters.count(if panicked {
                        Counter::HandlerPanics
                    } else {
                        Counter::HandlerErrors
                    });
                    tracing::warn!(topic = %control.topic, attempt, %error, "handler failed");
                }
            }
            let delay = delays.next().unwrap_or(RETRY_DELAYS.1);
            if control.stop.until(runtime.sleep(delay)).await.is_none() {
                let given_back = Answer::Nack {
                    after: Duration::ZERO,
                };
                // The answer does not matter: unanswered it comes again as well.
                drop(consumer.answer(token, given_back).await);
                return Settled::GivenBack;
            }
            if let Err(failure) = consumer.answer(token, Answer::InProgress).await {
                return Settled::Lost(failure);
            }
        }
        Settled::Lost(Failure::new(
            FailureKind::Broker,
            "a delivery was attempted 2^32 times",
        ))
    }

    /// Waits for the handler, and keeps the delivery ours meanwhile.
    async fn in_progress(
        &self,
        consumer: &mut AnyConsumer,
        token: &AnyToken,
        work: impl Future<Output = Result<(), HandlerError>> + Send,
    ) -> Result<Result<(), HandlerError>, Failure> {
        let mut work = pin!(work);
        let Some(every) = consumer.progress_every() else {
            return Ok(work.await);
        };
        loop {
            if let Some(answer) =
                crate::runtime::timeout(&self.core.shared.runtime, every, work.as_mut()).await
            {
                return Ok(answer);
            }
            consumer.answer(token, Answer::InProgress).await?;
        }
    }
}

/// A handler's panic, as an error.
#[derive(Debug, thiserror::Error)]
#[error("the handler panicked: {0}")]
struct Panicked(String);

/// `work`, with a panic turned into an error.
async fn caught(work: impl Future<Output = Result<(), HandlerError>>) -> Result<(), HandlerError> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        // The future is never polled again after a panic, so nobody sees it half done.
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(polled) => polled,
            Err(panic) => {
                let told = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
                let told = told.or_else(|| panic.downcast_ref::<String>().cloned());
                Poll::Ready(Err(
                    Panicked(told.unwrap_or_else(|| "(no text)".into())).into()
                ))
            }
        }
    })
    .await
}
