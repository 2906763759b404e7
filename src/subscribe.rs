//! The builder of one subscription.

mod letters;

use crate::backend::any::{Any, AnyRoute};
use crate::backend::{Foreign, StartAt};
use crate::batch::{Batch, BatchHandler, Gather};
use crate::codec::Codec;
use crate::consume::options::{Options, Order, Recovery};
use crate::consume::{self, Wanted};
use crate::core::Core;
use crate::error::SubscribeError;
use crate::handler::Handler;
#[cfg(feature = "tower")]
use crate::handler::{Delivery, HandlerError, Outcome};
use crate::middleware::concurrency::Concurrency;
use crate::middleware::dead_letter::OnFailure;
use crate::middleware::retry::Retry;
#[cfg(feature = "throttle")]
use crate::middleware::throttle::Throttle;
#[cfg(feature = "tower")]
use crate::middleware::tower::Served;
use crate::middleware::trace::Trace;
use crate::middleware::{Layers, Middleware};
use crate::protocol::credit::Budget;
use crate::stream::{self, Deliveries};
use crate::subscription::Subscription;
use crate::topic::TopicState;
use letters::dead_letters;
use std::fmt;
use std::future::Future;
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
pub struct SubscriptionBuilder<'t, T, C, L = ()> {
    core: &'t Arc<Core<Any>>,
    topic: Arc<TopicState<AnyRoute>>,
    codec: Arc<C>,
    group: Arc<str>,
    options: Options,
    layers: L,
    values: PhantomData<fn() -> T>,
}

impl<'t, T, C> SubscriptionBuilder<'t, T, C>
where
    T: Send + 'static,
    C: Codec<T>,
{
    pub(crate) fn new(
        core: &'t Arc<Core<Any>>,
        topic: Arc<TopicState<AnyRoute>>,
        codec: Arc<C>,
        group: &str,
    ) -> Self {
        Self {
            core,
            topic,
            codec,
            group: group.into(),
            options: Options::default(),
            layers: (),
            values: PhantomData,
        }
    }

    /// Reads `foreign` in the place of a topic.
    pub(crate) fn reads(mut self, foreign: Foreign) -> Self {
        self.options.foreign = Some(foreign);
        self
    }
}

impl<'t, T, C, L> SubscriptionBuilder<'t, T, C, L>
where
    T: Send + 'static,
    C: Codec<T>,
{
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

    /// A delivery is settled when the broker has confirmed its acknowledgement, and not when that was sent.
    ///
    /// Until then it is in flight, holds the watermark, and is among what a drain or a close waits for and lists as left. Nothing
    /// else waits: the next of its key is handled meanwhile. What is left unconfirmed may come again; with
    /// [`dedup`](Self::dedup) it is then acknowledged without a handler, so that a handler answers `Ok` once for each id, as long as this
    /// subscription lives and the id is in the window. On NATS it costs an answer of the server for each delivery.
    ///
    /// ```
    /// use clearway::{Delivery, HandlerError};
    /// # use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let bus = clearway::Bus::connect("memory://").await?;
    /// let orders = bus.topic::<u32>("orders")?;
    /// let billing = orders
    ///     .subscription("billing")
    ///     .confirm_acks()
    ///     .dedup(10_000)
    ///     .handler(|order: Delivery<u32>| async move {
    ///         println!("bills order {}", order.value);
    ///         Ok::<_, HandlerError>(())
    ///     })
    ///     .await?;
    /// let report = billing.drain(Duration::from_secs(5)).await;
    /// assert!(report.drained, "the broker has confirmed all of it");
    /// # bus.close(Duration::from_secs(1)).await;
    /// # Ok(()) }
    /// ```
    pub fn confirm_acks(mut self) -> Self {
        self.options.confirm = true;
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

    /// Shares its handlers' places with the other subscriptions that were given the same. See [`Concurrency`].
    pub fn shared(mut self, concurrency: &Concurrency) -> Self {
        self.options.shared = Some(concurrency.clone());
        self
    }

    /// Takes no more than this from the broker. In recovery the pace of [`Recovery`] holds as well.
    #[cfg(feature = "throttle")]
    pub fn throttle(mut self, throttle: Throttle) -> Self {
        self.options.throttle = Some(throttle);
        self
    }

    /// Handles no more than this of each key. A key that has had its share waits, the others go on; an envelope without
    /// a key does not wait. Takes a lock for the table of keys with each delivery.
    #[cfg(feature = "throttle")]
    pub fn throttle_by_key(mut self, throttle: Throttle) -> Self {
        self.options.throttle_by_key = Some(throttle);
        self
    }

    /// Runs each attempt in a span. See [`Trace`].
    pub fn trace(mut self, trace: Trace) -> Self {
        self.options.trace = Some(trace);
        self
    }

    /// Puts code around the handler. The first that is given is the outermost. See [`Middleware`].
    pub fn middleware<M: Middleware<T>>(
        self,
        middleware: M,
    ) -> SubscriptionBuilder<'t, T, C, (L, M)> {
        SubscriptionBuilder {
            core: self.core,
            topic: self.topic,
            codec: self.codec,
            group: self.group,
            options: self.options,
            layers: (self.layers, middleware),
            values: PhantomData,
        }
    }
}

impl<T, C, L> SubscriptionBuilder<'_, T, C, L>
where
    T: Send + 'static,
    C: Codec<T>,
    L: Layers<T>,
{
    /// Begins the subscription with this handler.
    ///
    /// # Errors
    ///
    /// When this bus has a subscription for the topic and group already, when the topic cannot be ensured, when a setting
    /// cannot be meant, or when the backend cannot do it.
    // Not an `async fn`: that this can be sent is said here, once, and not found out wherever it is awaited.
    pub fn handler<H: Handler<T>>(
        self,
        handler: H,
    ) -> impl Future<Output = Result<Subscription, SubscribeError>> + Send {
        let dead_letters = match &self.options.on_failure {
            OnFailure::DeadLetter(letters) => dead_letters(self.core, &letters.topic).map(Some),
            _ => Ok(None),
        };
        let handler = self.layers.around(handler);
        let (core, topic, codec) = (self.core, self.topic, self.codec);
        let (group, options) = (self.group, self.options);
        async move {
            let wanted = Wanted {
                topic,
                group,
                options,
                dead_letters: dead_letters?,
                codec,
                handler,
            };
            consume::subscribe(core, wanted).await
        }
    }

    /// Begins the subscription with a handler of several deliveries at a time: at most `deliveries_max`, and as many as there
    /// are when the first has waited for `fill_max`.
    ///
    /// Each key is in a batch at most once, and in one batch at a time. Each delivery is settled, or fails and is tried again, by itself; the
    /// subscription's timeout is over the filling and the handler together. There are as many workers as a batch has
    /// deliveries, or more if [`concurrency`](Self::concurrency) says so: with twice as many two batches are handled at a time.
    ///
    /// ```
    /// use clearway::{Delivery, HandlerError};
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let bus = clearway::Bus::connect("memory://").await?;
    /// let orders = bus.topic::<u32>("orders")?;
    /// let billing = orders
    ///     .subscription("billing")
    ///     .batch(100, Duration::from_millis(20), |orders: Vec<Delivery<u32>>| async move {
    ///         println!("bills {} orders", orders.len());
    ///         Ok::<_, HandlerError>(())
    ///     })
    ///     .await?;
    /// # bus.close(Duration::from_secs(1)).await;
    /// # let _ = billing;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`handler`](Self::handler).
    pub fn batch<H: BatchHandler<T>>(
        mut self,
        deliveries_max: usize,
        fill_max: Duration,
        handler: H,
    ) -> impl Future<Output = Result<Subscription, SubscribeError>> + Send {
        let batch = Batch {
            deliveries_max: deliveries_max.max(1),
            fill_max,
        };
        self.options.concurrency = self.options.concurrency.max(batch.deliveries_max);
        let runtime = self.core.shared.runtime.clone();
        self.handler(Gather::new(batch, runtime, handler))
    }

    /// Begins the subscription with a tower service in the place of a handler, with whatever layers are around it. It is cloned for each
    /// attempt.
    ///
    /// # Errors
    ///
    /// As [`handler`](Self::handler).
    #[cfg(feature = "tower")]
    pub fn service<S>(
        self,
        service: S,
    ) -> impl Future<Output = Result<Subscription, SubscribeError>> + Send
    where
        S: tower_service::Service<Delivery<T>> + Clone + Send + Sync + 'static,
        S::Response: Into<Outcome>,
        S::Error: Into<HandlerError>,
        S::Future: Send,
    {
        self.handler(Served(service))
    }

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
    pub fn stream(self) -> impl Future<Output = Result<Deliveries<T>, SubscribeError>> + Send {
        let (hand_out, between) = stream::hand_out();
        let subscribed = self.handler(hand_out);
        async move { Deliveries::new(subscribed.await, between) }
    }
}

impl<T, C, L> fmt::Debug for SubscriptionBuilder<'_, T, C, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionBuilder")
            .field("topic", &self.topic.name)
            .field("group", &self.group)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
