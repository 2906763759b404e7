//! Panic: a handler's panic is an error like another.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// A handler's panic, as an error.
#[derive(Debug, thiserror::Error)]
#[error("the handler panicked: {0}")]
pub(crate) struct Panicked(String);

/// `work`, with a panic turned into an error.
pub(crate) async fn caught<T>(work: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        // The future is never polled again after a panic, so nobody sees it half done.
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => {
                let told = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
                let told = told.or_else(|| panic.downcast_ref::<String>().cloned());
                let told = told.unwrap_or_else(|| "(no text)".into());
                Poll::Ready(Err(Panicked(told)))
            }
        }
    })
    .await
}
