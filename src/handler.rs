//! Handlers: the code that answers a delivery.

use crate::backend::Position;
use crate::envelope::Envelope;
use std::borrow::Cow;
use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// What a handler may fail with.
pub type HandlerError = Box<dyn Error + Send + Sync>;

/// An envelope in a handler's hands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Delivery<T> {
    /// What it carries, decoded.
    pub value: T,
    /// The envelope as it came.
    pub envelope: Envelope,
    /// Its topic; or, where a subscription reads what is no topic ([`Foreign`](crate::backend::Foreign)), what it was
    /// published to: on NATS its whole subject.
    pub topic: Arc<str>,
    /// Where it is.
    pub position: Position,
    /// How often it has been tried, this time included, as far as is known: failures here, and deliveries that a broker had no
    /// answer for, those included that were cut off before a handler began.
    pub attempt: u32,
    /// Whether the subscription was in recovery, far behind, when it took this.
    pub recovery: bool,
}

impl<T> Delivery<T> {
    /// The value, taken out.
    pub fn into_value(self) -> T {
        self.value
    }
}

/// What a handler says of a delivery that it did not fail on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is handled.
    #[default]
    Ack,
    /// Not now: again, not before `after` has passed. Its key waits. Counts as an attempt.
    Retry {
        /// How long to wait at least.
        after: Duration,
    },
    /// It will never be handled: no other attempt, straight to what the subscription does
    /// [on failure](crate::OnFailure).
    Reject(Cow<'static, str>),
    /// It is none of this handler's business: settled, and counted apart.
    Skip,
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Self::Ack
    }
}

/// User code that answers deliveries. Any `Fn(Delivery<T>) -> impl Future<Output = Result<O, E>>` is one, where `O` is
/// `()` or an [`Outcome`].
///
/// `Ok` settles. An error, a panic or a timeout does not: the same envelope comes again. A future that is dropped
/// has not answered.
pub trait Handler<T>: Send + Sync + 'static {
    /// Handles one delivery.
    fn handle(
        &self,
        delivery: Delivery<T>,
    ) -> impl Future<Output = Result<Outcome, HandlerError>> + Send;
}

impl<T, F, A, O, E> Handler<T> for F
where
    F: Fn(Delivery<T>) -> A + Send + Sync + 'static,
    A: Future<Output = Result<O, E>> + Send,
    O: Into<Outcome>,
    E: Into<HandlerError>,
    T: Send + 'static,
{
    fn handle(
        &self,
        delivery: Delivery<T>,
    ) -> impl Future<Output = Result<Outcome, HandlerError>> + Send {
        let answer = self(delivery);
        async move { answer.await.map(Into::into).map_err(Into::into) }
    }
}
