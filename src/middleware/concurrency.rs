//! Concurrency: one budget of handlers at work that several subscriptions share.

use crate::protocol::credit::{Budget, Credit, Waiter};
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;

/// How many handlers may be at work at the same time in all the subscriptions that share this. Who waits is served in the
/// order of waiting.
///
/// Each subscription still has its own [`concurrency`](crate::SubscriptionBuilder::concurrency), so that one that is busy leaves
/// something for the others.
///
/// ```
/// use clearway::{Bus, Concurrency, Delivery, HandlerError};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let bus = Bus::connect("memory://").await?;
/// let database = Concurrency::new(32);
/// for topic in ["orders", "payments"] {
///     let topic = bus.topic::<u32>(topic)?;
///     let subscription = topic.subscription("store").shared(&database);
///     let _running = subscription
///         .handler(|delivery: Delivery<u32>| async move {
///             println!("stores {}", delivery.value);
///             Ok::<_, HandlerError>(())
///         })
///         .await?;
/// }
/// # bus.close(std::time::Duration::from_secs(1)).await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Concurrency(Arc<Credit>);

/// A handler's place. Dropped, it is the next one's.
pub(crate) struct Seat<'c>(&'c Concurrency);

/// In line for a place.
struct InLine<'c>(&'c Concurrency, Waiter);

/// What a place costs beside itself: nothing is counted by size here.
const BYTES: u64 = 0;

impl Concurrency {
    /// So many handlers at the same time.
    ///
    /// # Panics
    ///
    /// When it is zero, or more than 4,194,303.
    pub fn new(handlers: u64) -> Self {
        Self(Arc::new(Credit::new(Budget {
            envelopes: handlers,
            bytes: 1,
        })))
    }

    /// A place, when there is one. Cancel-safe.
    pub(crate) async fn seat(&self) -> Seat<'_> {
        let mut line = InLine(self, Waiter::default());
        let taken = poll_fn(|cx| self.0.poll_take(&mut line.1, BYTES, cx)).await;
        debug_assert!(
            taken.is_ok(),
            "it is never closed, and nothing is too large"
        );
        Seat(self)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.0.give(BYTES);
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.0.cancel(&mut self.1);
    }
}

impl fmt::Debug for Concurrency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.0.limit().envelopes;
        f.debug_tuple("Concurrency").field(&limit).finish()
    }
}
