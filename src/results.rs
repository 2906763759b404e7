//! Results: every outcome of the bus in one stream, for an outbox.
//!
//! Nothing is lost and nothing grows: a result that is not read keeps its place and its credit, and
//! when all are taken publishing waits, or is refused. Both are counted.

use crate::backend::any::Any;
use crate::core::Core;
use crate::error::PublishError;
use crate::protocol::ledger::ResultReader;
use crate::publish::admission::outcome_to_result;
use crate::receipt::Receipt;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use uuid::Uuid;

/// What publishing does while unread results hold all the credit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// Wait until results are read.
    #[default]
    Block,
    /// Refuse with [`FullReason::Results`](crate::FullReason::Results).
    Refuse,
}

/// How one publish ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PublishResult {
    /// The envelope's id.
    pub id: Uuid,
    /// Its topic.
    pub topic: Arc<str>,
    /// Its outcome.
    pub outcome: Result<Receipt, PublishError>,
}

/// The outcomes of all publishes since it was asked for, in the order in which they were settled.
///
/// Ends when the bus is closed and everything was read. Dropped, it leaves unread results unread.
pub struct PublishResults {
    core: Arc<Core<Any>>,
    reader: Option<ResultReader>,
    names: Vec<Arc<str>>,
}

impl PublishResults {
    /// `None` while another stream is out.
    pub(crate) fn begin(core: &Arc<Core<Any>>, overflow: Overflow) -> Option<Self> {
        let reader = core.shared.admission.ledger.result_reader()?;
        core.shared.admission.set_overflow(overflow);
        Some(Self {
            core: core.clone(),
            reader: Some(reader),
            names: Vec::new(),
        })
    }

    /// The next outcome, or `None` after the last one of a closed bus. Cancel-safe.
    pub async fn next(&mut self) -> Option<PublishResult> {
        poll_fn(|cx| self.poll_one(cx)).await
    }

    fn poll_one(&mut self, cx: &mut Context<'_>) -> Poll<Option<PublishResult>> {
        let Some(reader) = &mut self.reader else {
            return Poll::Ready(None);
        };
        let admission = &self.core.shared.admission;
        // Looked at before the ring: everything is settled before close is said.
        let closed = self.core.closing.report.said().is_some();
        match admission.ledger.poll_result(reader, cx) {
            Poll::Ready((entry, outcome)) => {
                admission.credit.give(entry.bytes);
                let topic = self.name(entry.topic);
                let outcome = outcome_to_result(outcome);
                Poll::Ready(Some(PublishResult {
                    id: Uuid::from_u128(entry.id),
                    topic,
                    outcome,
                }))
            }
            Poll::Pending if closed => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }

    fn name(&mut self, index: u32) -> Arc<str> {
        if self.names.len() <= index as usize {
            let mut topics: Vec<_> = self.core.shared.topics.load().values().cloned().collect();
            topics.sort_by_key(|topic| topic.index);
            self.names = topics.iter().map(|topic| topic.name.clone()).collect();
        }
        self.names[index as usize].clone()
    }
}

impl futures_core::Stream for PublishResults {
    type Item = PublishResult;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PublishResult>> {
        self.poll_one(cx)
    }
}

impl Drop for PublishResults {
    fn drop(&mut self) {
        let admission = &self.core.shared.admission;
        if let Some(reader) = self.reader.take() {
            admission.ledger.return_reader(reader);
            admission.discard_results();
        }
    }
}

impl fmt::Debug for PublishResults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishResults").finish_non_exhaustive()
    }
}
