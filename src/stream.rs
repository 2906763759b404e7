//! Deliveries as a stream: the same engine, with the handler outside.

use crate::answer::Answer;
use crate::error::SubscribeError;
use crate::handler::{Delivery, Handler, HandlerError, Outcome};
use crate::protocol::sync::Mutex;
use crate::subscription::Subscription;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The deliveries of a subscription, to be answered one by one. Dropped, it ends the subscription: what was not answered comes
/// again.
///
/// As many are out unanswered as the subscription's concurrency says, and of one key only one.
pub struct Deliveries<T> {
    subscription: Subscription,
    between: Arc<Between<T>>,
}

/// A delivery that waits for its answer. Dropped without one it has failed, and comes again.
#[must_use = "dropped without an answer it has failed"]
pub struct StreamDelivery<T> {
    delivery: Delivery<T>,
    answer: Arc<Answer<Outcome>>,
}

/// The handler that hands out.
pub(crate) struct HandOut<T>(Arc<Between<T>>);

/// Between the workers and the reader. Bounded by the workers: each waits for the answer to its delivery.
pub(crate) struct Between<T>(Mutex<Waiting<T>>);

struct Waiting<T> {
    deliveries: VecDeque<StreamDelivery<T>>,
    reader: Option<Waker>,
    /// The handler is gone: no delivery comes any more.
    ended: bool,
}

/// Nobody has answered a delivery.
#[derive(Debug, thiserror::Error)]
#[error("the delivery was dropped without an answer")]
struct NoAnswer;

/// The handler for a stream, and the reader's end.
pub(crate) fn hand_out<T>() -> (HandOut<T>, Arc<Between<T>>) {
    let between = Arc::new(Between(Mutex::new(Waiting {
        deliveries: VecDeque::new(),
        reader: None,
        ended: false,
    })));
    (HandOut(between.clone()), between)
}

impl<T> Deliveries<T> {
    pub(crate) fn new(
        subscribed: Result<Subscription, SubscribeError>,
        between: Arc<Between<T>>,
    ) -> Result<Self, SubscribeError> {
        Ok(Self {
            subscription: subscribed?,
            between,
        })
    }

    /// The next delivery, or `None` when the subscription has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<StreamDelivery<T>> {
        poll_fn(|cx| self.between.poll_next(cx)).await
    }

    /// The subscription: to pause it, to ask how it stands, to drain it.
    pub fn subscription(&self) -> &Subscription {
        &self.subscription
    }
}

impl<T> futures_core::Stream for Deliveries<T> {
    type Item = StreamDelivery<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.between.poll_next(cx)
    }
}

impl<T> fmt::Debug for Deliveries<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Deliveries")
            .field(&self.subscription)
            .finish()
    }
}

impl<T> Drop for Deliveries<T> {
    fn drop(&mut self) {
        self.subscription.abandon();
    }
}

impl<T> StreamDelivery<T> {
    /// It is handled.
    pub fn ack(self) {
        self.answer(Outcome::Ack);
    }

    /// It failed: again, not before `after` has passed. Its key waits.
    pub fn nack(self, after: Duration) {
        self.answer(Outcome::Retry { after });
    }

    /// It will never be handled: to what the subscription does [on failure](crate::OnFailure).
    pub fn reject(self, reason: impl Into<Cow<'static, str>>) {
        self.answer(Outcome::Reject(reason.into()));
    }

    fn is_awaited(&self) -> bool {
        Arc::strong_count(&self.answer) > 1
    }

    /// Answers with any outcome. An answer after the handler's [timeout](crate::SubscriptionBuilder::timeout), or after
    /// the subscription has ended, is ignored: the delivery comes again.
    pub fn answer(self, outcome: Outcome) {
        self.answer.tell(Some(outcome));
    }
}

impl<T> Deref for StreamDelivery<T> {
    type Target = Delivery<T>;
    fn deref(&self) -> &Delivery<T> {
        &self.delivery
    }
}

impl<T> DerefMut for StreamDelivery<T> {
    fn deref_mut(&mut self) -> &mut Delivery<T> {
        &mut self.delivery
    }
}

impl<T: fmt::Debug> fmt::Debug for StreamDelivery<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StreamDelivery")
            .field(&self.delivery)
            .finish()
    }
}

impl<T: Send + 'static> Handler<T> for HandOut<T> {
    async fn handle(&self, delivery: Delivery<T>) -> Result<Outcome, HandlerError> {
        let answer = Arc::new(Answer::new());
        self.0.push(StreamDelivery {
            delivery,
            answer: answer.clone(),
        });
        let outcome = poll_fn(|cx| answer.poll(cx)).await;
        outcome.ok_or_else(|| NoAnswer.into())
    }
}

impl<T> Between<T> {
    fn push(&self, delivery: StreamDelivery<T>) {
        let mut waiting = self.0.lock();
        // Those whose worker has gone on, because it took too long, wait for nobody.
        waiting.deliveries.retain(StreamDelivery::is_awaited);
        waiting.deliveries.push_back(delivery);
        let reader = waiting.reader.take();
        drop(waiting);
        reader.into_iter().for_each(Waker::wake);
    }

    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<StreamDelivery<T>>> {
        let mut waiting = self.0.lock();
        waiting.deliveries.retain(StreamDelivery::is_awaited);
        if let Some(delivery) = waiting.deliveries.pop_front() {
            return Poll::Ready(Some(delivery));
        }
        if waiting.ended {
            return Poll::Ready(None);
        }
        waiting.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for HandOut<T> {
    fn drop(&mut self) {
        let mut waiting = self.0.0.lock();
        waiting.ended = true;
        let reader = waiting.reader.take();
        drop(waiting);
        reader.into_iter().for_each(Waker::wake);
    }
}

impl<T> Drop for StreamDelivery<T> {
    fn drop(&mut self) {
        self.answer.tell(None);
    }
}
