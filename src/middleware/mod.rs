//! What stands between a delivery and its handler. One file each.
//!
//! Some of it is the engine's own, since it decides what becomes of a delivery beyond one call of its handler: retry,
//! dead letters, dedup, limits on rate and concurrency. The rest is code around a handler, and anybody's to write:
//! [`Middleware`].

pub(crate) mod concurrency;
pub mod dead_letter;
pub(crate) mod dedup;
pub(crate) mod panic;
pub(crate) mod retry;
#[cfg(feature = "throttle")]
pub(crate) mod throttle;
#[cfg(feature = "tower")]
pub(crate) mod tower;
pub(crate) mod trace;

use crate::handler::{Delivery, Handler, HandlerError, Outcome};
use std::future::Future;

/// Code around a handler: it sees each delivery before and each outcome after, and may answer in its place.
///
/// Each attempt goes through it. What panics in it counts as the handler's panic, and the time it takes as the
/// handler's.
///
/// ```
/// use clearway::{Bus, Delivery, Handler, HandlerError, Middleware, Outcome};
///
/// /// Nobody bills a test.
/// struct NoTests;
///
/// impl<T: Send + 'static> Middleware<T> for NoTests {
///     async fn handle<H: Handler<T>>(&self, delivery: Delivery<T>, next: &H) -> Result<Outcome, HandlerError> {
///         match delivery.envelope.headers.first("test") {
///             Some(_) => Ok(Outcome::Skip),
///             None => next.handle(delivery).await,
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let bus = Bus::connect("memory://").await?;
/// let orders = bus.topic::<u32>("orders")?;
/// let billing = orders
///     .subscription("billing")
///     .middleware(NoTests)
///     .handler(|order: Delivery<u32>| async move {
///         println!("bills order {}", order.value);
///         Ok::<_, HandlerError>(())
///     })
///     .await?;
/// # bus.close(std::time::Duration::from_secs(1)).await;
/// # let _ = billing;
/// # Ok(()) }
/// ```
pub trait Middleware<T>: Send + Sync + 'static {
    /// Handles one delivery, by `next` or without it. `next` may be called more than once if the value can be cloned.
    fn handle<H: Handler<T>>(
        &self,
        delivery: Delivery<T>,
        next: &H,
    ) -> impl Future<Output = Result<Outcome, HandlerError>> + Send;
}

/// The middleware of a subscription, the outermost first. Pairs of what a builder was given; nobody else's to implement.
pub trait Layers<T>: sealed::Sealed {
    /// A handler with all of it around.
    #[doc(hidden)]
    type Around<H: Handler<T>>: Handler<T>;

    #[doc(hidden)]
    fn around<H: Handler<T>>(self, handler: H) -> Self::Around<H>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for () {}
    impl<Outer: Sealed, M> Sealed for (Outer, M) {}
}

impl<T> Layers<T> for () {
    type Around<H: Handler<T>> = H;

    fn around<H: Handler<T>>(self, handler: H) -> H {
        handler
    }
}

impl<T: Send + 'static, Outer: Layers<T>, M: Middleware<T>> Layers<T> for (Outer, M) {
    type Around<H: Handler<T>> = Outer::Around<With<M, H>>;

    fn around<H: Handler<T>>(self, handler: H) -> Self::Around<H> {
        let (outer, middleware) = self;
        outer.around(With {
            middleware,
            handler,
        })
    }
}

/// A handler with middleware around.
#[doc(hidden)]
#[derive(Debug)]
pub struct With<M, H> {
    middleware: M,
    handler: H,
}

impl<T: Send + 'static, M: Middleware<T>, H: Handler<T>> Handler<T> for With<M, H> {
    fn handle(
        &self,
        delivery: Delivery<T>,
    ) -> impl Future<Output = Result<Outcome, HandlerError>> + Send {
        self.middleware.handle(delivery, &self.handler)
    }
}
