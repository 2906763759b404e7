//! The journey of a delivery: backend consumer -> partition -> lane(key) -> handler -> settle -> acknowledgement.
//!
//! A subscription is one [`intake`], which alone talks to the backend, and as many [`worker`]s as may run at the same time.
//! Between them are the lanes: deliveries of one key in order, keys side by side. A delivery that failed keeps its place
//! at the head of its lane; the worker goes on with others.
//!
//! | file | what |
//! |---|---|
//! | `intake` | takes, submits, answers; attends to the broker however long handlers take |
//! | `partitions` | how far each partition was settled, by epoch |
//! | `out` | what the broker waits for an answer of |
//! | `pauses` | how long before another consumer is asked for |
//! | `job` | a delivery in a lane |
//! | `recovery` | how far behind, and how fast meanwhile |
//! | `worker` | lane to verdict: decode, handler, failure |
//! | `options` | what was asked for |
//!
//! Nothing here publishes: dead letters go through a way that the bus gives along.

mod intake;
mod job;
mod lease;
pub(crate) mod options;
mod out;
mod partitions;
mod pauses;
mod recovery;
mod timer;
mod worker;

use crate::backend::any::{Any, AnyConsumer, AnyRoute};
use crate::backend::{Connection, StartAt, SubscribeRequest};
use crate::codec::Codec;
use crate::core::Core;
use crate::ensure::ensured;
use crate::error::{Failure, FailureKind, SubscribeError};
use crate::handler::Handler;
use crate::middleware::dead_letter::DeadLetters;
#[cfg(feature = "throttle")]
use crate::middleware::throttle::KeyLimiter;
use crate::subscription::{Control, DrainReport, Subscription, Unavailable};
use crate::topic::TopicState;
use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use intake::Intake;
use options::Options;
use std::marker::PhantomData;
use std::sync::Arc;
use worker::{Present, Stage};

pub(crate) use crate::subscription::Subscriptions;

/// What a subscription is made of.
pub(crate) struct Wanted<C, H> {
    pub(crate) topic: Arc<TopicState<AnyRoute>>,
    pub(crate) group: Arc<str>,
    pub(crate) options: Options,
    pub(crate) dead_letters: Option<DeadLetters>,
    pub(crate) codec: Arc<C>,
    pub(crate) handler: H,
}

/// Begins a subscription; the first consumer must come to be, later ones are made again as needed.
pub(crate) async fn subscribe<T, C, H>(
    core: &Arc<Core<Any>>,
    wanted: Wanted<C, H>,
) -> Result<Subscription, SubscribeError>
where
    T: Send + 'static,
    C: Codec<T>,
    H: Handler<T>,
{
    let Wanted {
        topic,
        group,
        options,
        dead_letters,
        codec,
        handler,
    } = wanted;
    options.check(&topic.name)?;
    let options = Arc::new(options);
    let control = Arc::new(Control::new(topic.name.clone(), group, options.held));
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
    let first = consumer(core, &topic, &control.group, &options, options.start).await?;
    let seed = core.shared.runtime.random();
    let hasher = SeedableRandomState::with_seed(seed, SharedSeed::global_fixed());
    let intake = Intake::new(core.clone(), topic, options.clone(), hasher, place);
    let stage = Arc::new(Stage {
        core: core.clone(),
        control: control.clone(),
        options: options.clone(),
        dead_letters,
        lanes: intake.lanes(),
        workers: intake.workers(),
        at_hand: intake.at_hand(),
        lease: intake.lease(),
        #[cfg(feature = "throttle")]
        key_limiter: (options.throttle_by_key.as_ref())
            .map(|throttle| KeyLimiter::new(throttle, core.shared.runtime.clone())),
        codec,
        handler,
        values: PhantomData,
    });
    // Before the workers: dropped, it stops them.
    if !core.spawn("clearway-intake", intake.run(first)) {
        return Err(SubscribeError::Closed);
    }
    for worker in 0..options.concurrency {
        let Some(present) = Present::new(&stage.workers) else {
            // It was told to end already.
            break;
        };
        let spawned = core.spawn("clearway-worker", stage.clone().work(worker, present));
        if !spawned {
            break;
        }
    }
    Ok(Subscription {
        control,
        runtime: core.shared.runtime.clone(),
    })
}

/// A consumer over the current session, with the topic ensured. A group that is new begins at `start`.
async fn consumer(
    core: &Arc<Core<Any>>,
    topic: &Arc<TopicState<AnyRoute>>,
    group: &Arc<str>,
    options: &Options,
    start: StartAt,
) -> Result<AnyConsumer, SubscribeError> {
    // What is no topic is neither made nor compared with anything.
    if options.foreign.is_none() {
        ensured(core, topic, None).await?;
    }
    let connection = core.connection().ok_or(SubscribeError::Closed)?;
    let request = SubscribeRequest {
        topic: topic.now().config.clone(),
        foreign: options.foreign.clone(),
        group: group.clone(),
        start,
        in_flight_max: options.slots(),
        confirm: options.confirm,
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
        self.control.interest.end();
        self.control.ended.say(DrainReport::default());
    }
}
