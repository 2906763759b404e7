//! The builder of one subscription, and the wiring of its dead letters.

use crate::backend::StartAt;
use crate::backend::any::{Any, AnyRoute};
use crate::codec::Codec;
use crate::consume::options::{Options, Order, Recovery};
use crate::consume::{self, Wanted};
use crate::core::Core;
use crate::envelope::Envelope;
use crate::error::{PublishError, SubscribeError};
use crate::handler::Handler;
use crate::middleware::dead_letter::{DeadLetters, OnFailure};
use crate::middleware::retry::Retry;
use crate::protocol::credit::Budget;
use crate::publish::{self, Target};
use crate::receipt::ReceiptFuture;
use crate::stream::{self, Deliveries};
use crate::subscription::Subscription;
use crate::topic::TopicState;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// A subscription that has not begun.
///
/// ```
/// use clearway::{Bus, Delivery, HandlerError, OnFailure, Order, Retry};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::connect("memory://").await?;
/// let orders = bus.topic::<u32>("orders")?;
/// let billing = orders
///     .subscription("billing")
///     .order(Order::ByKey)
///     .concurrency(32)
///     .timeout(Duration::from_secs(30))
///     .retry(Retry::new().attempts_max(5))
///     .on_failure(OnFailure::dead_letter("orders.dead"))
///     .handler(|order: Delivery<u32>| async move {
///         println!("bills order {}", order.value);
///         Ok::<_, HandlerError>(())
///     })
///     .await?;
/// # bus.close(Duration::from_secs(1)).await;
/// # let _ = billing;
/// # Ok(()) }
/// ```
#[must_use = "it begins with a handler"]
pub struct SubscriptionBuilder<'t, T, C> {
    core: &'t Arc<Core<Any>>,
    topic: &'t Arc<TopicState<AnyRoute>>,
    codec: &'t Arc<C>,
    group: Arc<str>,
    options: Options,
    values: PhantomData<fn() -> T>,
}

impl<'t, T, C> SubscriptionBuilder<'t, T, C>
where
    T: Send + 'static,
    C: Codec<T>,
{
    pub(crate) fn new(
        core: &'t Arc<Core<Any>>,
        topic: &'t Arc<TopicState<AnyRoute>>,
        codec: &'t Arc<C>,
        group: &str,
    ) -> Self {
        Self {
            core,
            topic,
            codec,
            group: group.into(),
            options: Options::default(),
            values: PhantomData,
        }
    }

    /// What runs one after the other. By key, unless this says something else.
    pub fn order(mut self, order: Order) -> Self {
        self.options.order = order;
        self
    }

    /// How many handlers may run at the same time: 16, unless this says something else.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.options.concurrency = handlers;
        self
    }

    /// How many deliveries may be taken and not settled, and how many bytes they may have: 1024 and 64 MiB, unless
    /// this says something else. The last one taken may exceed the bytes.
    pub fn in_flight(mut self, envelopes: u64, bytes: u64) -> Self {
        self.options.in_flight = Budget { envelopes, bytes };
        self
    }

    /// How many keys may have a lane at the same time: 1024, unless this says something else. When all are busy nothing more is
    /// taken until one is not.
    pub fn lanes_max(mut self, lanes: usize) -> Self {
        self.options.lanes_max = lanes;
        self
    }

    /// How long a handler may take: without a limit, unless this gives one. A handler that takes longer is dropped
    /// at the await it is at, and has failed.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.options.timeout = Some(limit);
        self
    }

    /// What is done about a delivery that failed. Its key waits, the others go on.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.options.retry = retry;
        self
    }

    /// What is done when no attempt is left.
    pub fn on_failure(mut self, on_failure: impl Into<OnFailure>) -> Self {
        self.options.on_failure = on_failure.into();
        self
    }

    /// Settles a delivery without a handler when one of the same id was settled among the last `window`, by this
    /// subscription.
    pub fn dedup(mut self, window: usize) -> Self {
        self.options.dedup = Some(window.max(1));
        self
    }

    /// What is done about being far behind.
    pub fn recovery(mut self, recovery: Recovery) -> Self {
        self.options.recovery = Some(recovery);
        self
    }

    /// Where a group that is new begins: with the oldest envelope that is kept, unless this says something else. A group
    /// that the broker knows goes on where it is.
    pub fn start(mut self, start: StartAt) -> Self {
        self.options.start = start;
        self
    }

    /// Takes nothing before [`Subscription::activate`]: for a service that loads its state first.
    pub fn hold(mut self) -> Self {
        self.options.held = true;
        self
    }

    /// Begins the subscription with this handler.
    ///
    /// # Errors
    ///
    /// When this bus has a subscription for the topic and group already, when the topic cannot be ensured, when a setting
    /// cannot be meant, or when the backend cannot do it.
    pub async fn handler<H: Handler<T>>(self, handler: H) -> Result<Subscription, SubscribeError> {
        let dead_letters = match &self.options.on_failure {
            OnFailure::DeadLetter(letters) => Some(dead_letters(self.core, &letters.topic)?),
            _ => None,
        };
        let wanted = Wanted {
            topic: self.topic.clone(),
            group: self.group,
            options: self.options,
            dead_letters,
            codec: self.codec.clone(),
            handler,
        };
        consume::subscribe(self.core, wanted).await
    }
}

impl<T, C> SubscriptionBuilder<'_, T, C>
where
    T: Send + 'static,
    C: Codec<T>,
{
    /// Begins the subscription with a stream in the place of a handler.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let bus = clearway::Bus::connect("memory://").await?;
    /// let orders = bus.topic::<u32>("orders")?;
    /// orders.publish(&17).await?;
    /// let mut deliveries = orders.subscription("billing").stream().await?;
    /// let delivery = deliveries.next().await.expect("one was published");
    /// assert_eq!(delivery.value, 17);
    /// delivery.ack();
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`handler`](Self::handler).
    pub async fn stream(self) -> Result<Deliveries<T>, SubscribeError> {
        let (hand_out, between) = stream::hand_out();
        Deliveries::new(self.handler(hand_out).await, between)
    }
}

impl<T, C> fmt::Debug for SubscriptionBuilder<'_, T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionBuilder")
            .field("topic", &self.topic.name)
            .field("group", &self.group)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// The way to the topic of that name: each dead letter is a publish like another.
fn dead_letters(core: &Arc<Core<Any>>, name: &Arc<str>) -> Result<DeadLetters, SubscribeError> {
    let topic = core.topic(name).map_err(|error| SubscribeError::Config {
        topic: name.clone(),
        setting: "on_failure",
        reason: error.to_string().into(),
    })?;
    let core = core.clone();
    Ok(DeadLetters {
        topic: name.clone(),
        forward: Arc::new(move |letter| {
            let (core, topic) = (core.clone(), topic.clone());
            Box::pin(async move { publish_to(&core, &topic, letter).await })
        }),
    })
}

async fn publish_to(
    core: &Arc<Core<Any>>,
    topic: &Arc<TopicState<AnyRoute>>,
    envelope: Envelope,
) -> Result<(), PublishError> {
    let target = Target {
        core,
        topic,
        known: None,
        kept: None,
        ordered: false,
    };
    let slot = publish::accept(target, envelope).await?;
    ReceiptFuture::new(core.clone(), slot).await.map(drop)
}
