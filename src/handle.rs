//! Topic handles: what hot callers keep, and the builder of one publish.

use crate::backend::any::{Any, AnyRoute};
use crate::bus::Owner;
use crate::codec::Codec;
use crate::config::Durability;
use crate::core::{Core, KeptOf};
use crate::envelope::{Envelope, TraceContext};
use crate::error::{EnqueueError, PublishError, SubscribeError};
use crate::handler::Handler;
use crate::publish::{self, Publishing, Target};
use crate::receipt::{Receipt, ReceiptFuture};
use crate::subscribe::SubscriptionBuilder;
use crate::subscription::Subscription;
use crate::topic::{TopicNow, TopicState};
use bytes::Bytes;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A topic to publish to and to subscribe to. Cheap to clone, cheaper to keep: publishing by
/// handle looks nothing up. One that is made (or cloned) once the topic is configured or was published to,
/// and since the last reconnect, is the fastest.
///
/// `T` is what it carries, `C` how that is encoded.
pub struct Topic<T, C> {
    owner: Arc<Owner>,
    state: Arc<TopicState<AnyRoute>>,
    /// The topic as it was when this handle was made, if it was open then. What has changed since is looked up.
    known: Option<Arc<TopicNow<AnyRoute>>>,
    /// The session at that time: as long as it is the current one, none is looked up.
    kept: KeptOf<Any>,
    codec: Arc<C>,
    ordered: bool,
    carries: PhantomData<fn(T) -> T>,
}

/// What happened to each item of a batch.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct BatchReport {
    /// The items that the broker has: index in the batch, and receipt.
    pub acked: Vec<(usize, Receipt)>,
    /// The items that were not confirmed: index in the batch, and why.
    pub failed: Vec<(usize, PublishError)>,
}

impl<T, C: Codec<T>> Topic<T, C> {
    pub(crate) fn new(owner: Arc<Owner>, state: Arc<TopicState<AnyRoute>>, codec: Arc<C>) -> Self {
        Self {
            known: state.known(),
            kept: owner.core().sessions.keep(),
            owner,
            state,
            codec,
            ordered: false,
            carries: PhantomData,
        }
    }

    /// The topic's name.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// The same topic with one publish in flight for each key: the next of a key is sent when the one before has its
    /// outcome. Costs a lock and a round trip for each of a key; other keys go on.
    pub fn ordered(mut self) -> Self {
        self.ordered = true;
        self
    }

    /// Begins a publish of `value`. Await it for the broker's answer, or [`enqueue`](Publish::enqueue) it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let bus = clearway::Bus::connect("memory://").await?;
    /// let orders = bus.topic::<String>("orders")?;
    /// let receipt = orders.publish(&"one".to_string()).key("customer-7").await?;
    /// assert_eq!(receipt.position, 0);
    /// # Ok(()) }
    /// ```
    pub fn publish(&self, value: &T) -> Publish<'_> {
        let envelope = match self.codec.encode(value) {
            Ok(payload) => Ok(Envelope::new(payload, &*self.core().shared.runtime)),
            Err(reason) => Err(PublishError::Encode {
                topic: self.state.name.clone(),
                reason: reason.to_string().into(),
            }),
        };
        Publish {
            target: self.target(),
            envelope,
        }
    }

    /// Publishes `envelope` as it is, for forwarding and for retrying under the same id.
    pub fn publish_envelope(&self, envelope: Envelope) -> Publish<'_> {
        Publish {
            target: self.target(),
            envelope: Ok(envelope),
        }
    }

    /// Publishes all `values` and waits for every outcome. One failure stops nothing.
    ///
    /// They are sent in order, many at a time; what the broker keeps of that order is the backend's.
    /// Not cancel-safe: what was sent before the future is dropped stays sent.
    pub async fn publish_batch(&self, values: impl IntoIterator<Item = &T>) -> BatchReport
    where
        T: 'static,
    {
        let mut report = BatchReport::default();
        let mut receipts = Vec::new();
        for (index, value) in values.into_iter().enumerate() {
            match self.publish(value).envelope {
                Ok(envelope) => receipts.push((index, self.accept(envelope).await)),
                Err(error) => report.failed.push((index, error)),
            }
        }
        for (index, receipt) in receipts {
            let outcome = match receipt {
                Ok(receipt) => receipt.await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(receipt) => report.acked.push((index, receipt)),
                Err(error) => report.failed.push((index, error)),
            }
        }
        report.failed.sort_by_key(|(index, _)| *index);
        report
    }

    /// Subscribes `handler` for `group` with all settings at their defaults: up to 16 deliveries are handled at the same time,
    /// those of one key one after the other, and each is acknowledged after the handler has returned `Ok`.
    ///
    /// A delivery whose handler errs or panics is handled again, after a pause that grows, until that succeeds; its
    /// key waits, the others go on. [`subscription`](Self::subscription) has the settings.
    pub async fn subscribe<H: Handler<T>>(
        &self,
        group: &str,
        handler: H,
    ) -> Result<Subscription, SubscribeError>
    where
        T: Send + 'static,
    {
        self.subscription(group).handler(handler).await
    }

    /// Begins a subscription for `group`, with settings of its own.
    pub fn subscription(&self, group: &str) -> SubscriptionBuilder<'_, T, C>
    where
        T: Send + 'static,
    {
        SubscriptionBuilder::new(self.core(), self.state.clone(), self.codec.clone(), group)
    }

    /// What an acknowledged envelope survives there, once the topic was ensured.
    pub fn durability(&self) -> Option<Durability> {
        use crate::backend::Route;
        self.state
            .now()
            .route
            .as_ref()
            .map(|route| route.durability())
    }

    fn target(&self) -> Target<'_, Any> {
        Target {
            core: self.core(),
            topic: &self.state,
            known: self.known.as_deref(),
            kept: Some(&self.kept),
            ordered: self.ordered,
        }
    }

    fn core(&self) -> &Arc<Core<Any>> {
        self.owner.core()
    }

    /// Waits for credit only.
    async fn accept(&self, envelope: Envelope) -> Result<ReceiptFuture, PublishError> {
        let slot = publish::accept(self.target(), envelope).await?;
        Ok(ReceiptFuture::new(self.core().clone(), slot))
    }
}

impl<T, C> Clone for Topic<T, C> {
    fn clone(&self) -> Self {
        Self {
            owner: self.owner.clone(),
            known: self.state.known(),
            kept: self.owner.core().sessions.keep(),
            state: self.state.clone(),
            codec: self.codec.clone(),
            ordered: self.ordered,
            carries: PhantomData,
        }
    }
}

impl<T, C> fmt::Debug for Topic<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic")
            .field("name", &self.state.name)
            .field("ordered", &self.ordered)
            .finish_non_exhaustive()
    }
}

/// One publish that was not sent yet.
///
/// Awaited, it waits for room and for the broker's answer. Dropping the future before it is ready
/// leaves the line for room; what was sent by then stays sent, and its outcome is still counted.
#[must_use = "nothing is published until it is awaited or enqueued"]
pub struct Publish<'a> {
    target: Target<'a, Any>,
    envelope: Result<Envelope, PublishError>,
}

/// The future of a [`Publish`]: the receipt, or why there is none.
pub struct PublishFuture<'a>(Stage<'a>);

// The publish is the case that matters: boxing it would allocate on every publish.
#[allow(clippy::large_enum_variant)]
enum Stage<'a> {
    Refused(Option<PublishError>),
    Going(Publishing<'a, Any>),
}

impl<'a> Publish<'a> {
    /// Envelopes of one key go to one partition and keep their order.
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        if let Ok(envelope) = &mut self.envelope {
            envelope.key = Some(key.into());
        }
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        if let Ok(envelope) = &mut self.envelope {
            envelope.headers.add(name, value);
        }
        self
    }

    /// Carries a trace context.
    pub fn trace(mut self, trace: TraceContext) -> Self {
        if let Ok(envelope) = &mut self.envelope {
            envelope.trace = Some(trace);
        }
        self
    }

    /// The envelope as it will be sent: its id, for a log or an outbox.
    pub fn envelope(&self) -> Option<&Envelope> {
        self.envelope.as_ref().ok()
    }

    /// Sends it without waiting for anything. The receipt comes later; when there is no room the
    /// envelope comes back at once.
    ///
    /// # Panics
    ///
    /// Never; a value that could not be encoded has no envelope, and comes back as an empty one with the error.
    pub fn enqueue(self) -> Result<ReceiptFuture, EnqueueError> {
        let core = self.target.core;
        let envelope = match self.envelope {
            Ok(envelope) => envelope,
            Err(error) => {
                let envelope = Box::new(Envelope::new(Bytes::new(), &*core.shared.runtime));
                return Err(EnqueueError { error, envelope });
            }
        };
        match publish::enqueue(&self.target, envelope) {
            Ok(slot) => Ok(ReceiptFuture::new(core.clone(), slot)),
            Err((error, envelope)) => Err(EnqueueError {
                error,
                envelope: Box::new(envelope),
            }),
        }
    }
}

impl<'a> IntoFuture for Publish<'a> {
    type Output = Result<Receipt, PublishError>;
    type IntoFuture = PublishFuture<'a>;

    fn into_future(self) -> PublishFuture<'a> {
        PublishFuture(match self.envelope {
            Ok(envelope) => Stage::Going(Publishing::new(self.target, envelope)),
            Err(error) => Stage::Refused(Some(error)),
        })
    }
}

impl Future for PublishFuture<'_> {
    type Output = Result<Receipt, PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Stage::Going(publishing) => Pin::new(publishing).poll(cx),
            Stage::Refused(error) => Poll::Ready(Err(error
                .take()
                .expect("a publish is not polled after it was ready"))),
        }
    }
}

impl fmt::Debug for Publish<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publish")
            .field("envelope", &self.envelope)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PublishFuture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishFuture").finish_non_exhaustive()
    }
}
