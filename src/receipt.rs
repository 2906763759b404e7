//! Receipt: the broker's answer to a publish, and the future that brings it.

use crate::backend::Slot;
use crate::backend::any::Any;
use crate::core::Core;
use crate::error::PublishError;
use crate::publish::admission::poll_receipt;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// The broker has the envelope, and this is where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Receipt {
    /// The partition of the topic.
    pub partition: u32,
    /// The place in it: offset or stream sequence.
    pub position: u64,
    /// The broker recognised the id: it had stored the envelope before.
    pub duplicate: bool,
}

/// The receipt to come of a publish that was accepted.
///
/// Dropping it changes nothing for the publish: it goes on, and only nobody hears how it
/// ended (but [`Bus::publish_results`](crate::Bus::publish_results)). While it is held unread it keeps a
/// place in the bus's ledger (`BusBuilder::receipts_max`).
#[must_use = "a receipt that is not awaited says nothing about the outcome"]
pub struct ReceiptFuture {
    core: Arc<Core<Any>>,
    slot: Option<Slot>,
}

impl ReceiptFuture {
    pub(crate) fn new(core: Arc<Core<Any>>, slot: Slot) -> Self {
        Self {
            core,
            slot: Some(slot),
        }
    }
}

impl Future for ReceiptFuture {
    type Output = Result<Receipt, PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let slot = self
            .slot
            .expect("a receipt is not polled after it was ready");
        let result = ready!(poll_receipt(&self.core.shared.admission, slot, cx));
        self.slot = None;
        Poll::Ready(result)
    }
}

impl Drop for ReceiptFuture {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.core.shared.admission.ledger.drop_receipt(slot);
        }
    }
}

impl fmt::Debug for ReceiptFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiptFuture")
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}
