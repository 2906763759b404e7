//! Handlers: the code that answers a delivery.

use crate::backend::Position;
use crate::codec::CodecError;
use crate::envelope::Envelope;
use std::error::Error;
use std::future::Future;
use std::sync::Arc;

/// What a handler may fail with.
pub type HandlerError = Box<dyn Error + Send + Sync>;

/// An envelope in a handler's hands.
#[derive(Debug)]
#[non_exhaustive]
pub struct Delivery<T> {
    /// The envelope as it came.
    pub envelope: Envelope,
    /// Its topic.
    pub topic: Arc<str>,
    /// Where it is.
    pub position: Position,
    /// How often it has been given to a handler, this time included, as far as is known.
    pub attempt: u32,
    pub(crate) value: Result<T, CodecError>,
}

impl<T> Delivery<T> {
    /// The value, or what the codec had against the payload.
    pub fn value(&self) -> Result<&T, &CodecError> {
        self.value.as_ref()
    }

    /// The value, taken out.
    pub fn into_value(self) -> Result<T, CodecError> {
        self.value
    }
}

/// User code that answers deliveries. Any `Fn(Delivery<T>) -> impl Future<Output = Result<(), E>>` is one.
///
/// `Ok` acknowledges. An error or a panic does not: the same envelope comes again. A future that is dropped
/// has not answered.
pub trait Handler<T>: Send + Sync + 'static {
    /// Handles one delivery.
    fn handle(
        &self,
        delivery: Delivery<T>,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send;
}

impl<T, F, A, E> Handler<T> for F
where
    F: Fn(Delivery<T>) -> A + Send + Sync + 'static,
    A: Future<Output = Result<(), E>> + Send,
    E: Into<HandlerError>,
    T: Send + 'static,
{
    fn handle(
        &self,
        delivery: Delivery<T>,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send {
        let answer = self(delivery);
        async move { answer.await.map_err(Into::into) }
    }
}
