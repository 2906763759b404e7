//! The journey of a publish. Each line is one stage; each stage is one file.
//!
//! ```text
//! gate -> credit -> ledger slot -> topic snapshot -> (ensure) -> session -> backend -> outcome
//! ```
//!
//! Up to the slot everything belongs to the caller and comes back when its future is dropped. From
//! the slot on nothing does: the outcome brings it back.

pub(crate) mod admission;
pub(crate) mod dispatch;
pub(crate) mod ensure;
pub(crate) mod ordered;

use crate::backend::{Backend, Slot};
use crate::core::{Core, KeptOf, RouteOf};
use crate::envelope::Envelope;
use crate::error::PublishError;
use crate::receipt::Receipt;
use crate::topic::{TopicNow, TopicState};
use admission::{Admission, Entrance, ORDERED, poll_receipt};
use ordered::Waiting;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// What a publish goes to.
pub(crate) struct Target<'a, B: Backend> {
    pub(crate) core: &'a Arc<Core<B>>,
    pub(crate) topic: &'a Arc<TopicState<RouteOf<B>>>,
    /// What the caller has kept of the topic.
    pub(crate) known: Option<&'a TopicNow<RouteOf<B>>>,
    /// What the caller has kept of the bus.
    pub(crate) kept: Option<&'a KeptOf<B>>,
    pub(crate) ordered: bool,
}

/// Begins a publish without waiting for anything: the slot of what was accepted, or the envelope
/// handed back.
// A refusal is large because it hands the envelope back without allocating.
#[allow(clippy::result_large_err)]
pub(crate) fn enqueue<B: Backend>(
    target: &Target<'_, B>,
    envelope: Envelope,
) -> Result<Slot, (PublishError, Envelope)> {
    target
        .accept(envelope)
        .map_err(|(error, envelope)| (target.refuse(error), envelope))
}

/// Begins a publish to the topic of that name if it can be sent at once, or hands the envelope back.
///
/// The topic is borrowed from its snapshot: to count it in and out would be a cache line that all
/// publishers write to.
#[allow(clippy::result_large_err)]
pub(crate) fn accept_at_once<'a, B: Backend>(
    (core, kept): (&'a Arc<Core<B>>, &'a KeptOf<B>),
    topic: &str,
    envelope: Envelope,
) -> Result<Sent<'a>, Envelope> {
    let topics = core.shared.topics.load();
    let Some(topic) = topics.get(topic) else {
        return Err(envelope);
    };
    let target = Target {
        core,
        topic,
        known: None,
        kept: Some(kept),
        ordered: false,
    };
    match target.accept(envelope) {
        Ok(slot) => Ok(Sent {
            admission: &core.shared.admission,
            slot: Some(slot),
        }),
        Err((_, envelope)) => Err(envelope),
    }
}

/// Begins a publish, waiting for credit only: the slot of what was accepted. Cancel-safe: dropped before
/// it is ready, nothing is sent.
pub(crate) async fn accept<B: Backend>(
    target: Target<'_, B>,
    envelope: Envelope,
) -> Result<Slot, PublishError> {
    let mut publishing = Publishing::new(target, envelope);
    poll_fn(|cx| publishing.poll_accepted(cx)).await
}

/// A publish that waits: for credit, then for the outcome.
pub(crate) struct Publishing<'a, B: Backend> {
    target: Target<'a, B>,
    stage: Stage<'a>,
}

enum Stage<'a> {
    Outside(Envelope),
    InLine(Entrance<'a>, Envelope),
    Sent(Slot),
    Done,
}

impl<'a, B: Backend> Publishing<'a, B> {
    pub(crate) fn new(target: Target<'a, B>, envelope: Envelope) -> Self {
        Self {
            target,
            stage: Stage::Outside(envelope),
        }
    }

    /// Up to the slot. The caller has it then; the receipt is its own to ask for.
    fn poll_accepted(&mut self, cx: &mut Context<'_>) -> Poll<Result<Slot, PublishError>> {
        let accepted = ready!(self.advance(cx));
        if accepted.is_ok() {
            self.stage = Stage::Done;
        }
        Poll::Ready(accepted.map_err(|error| self.target.refuse(error)))
    }

    /// As far as it goes: in line for credit, or sent.
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<Result<Slot, PublishError>> {
        let target = &self.target;
        let stage = match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Outside(envelope) => target.now(|now| {
                let entrance = target.core.shared.admission.enter()?;
                target.check_size(now, &envelope)?;
                target.proceed(now, entrance, envelope, cx)
            })?,
            Stage::InLine(entrance, envelope) => {
                target.now(|now| target.proceed(now, entrance, envelope, cx))?
            }
            Stage::Sent(slot) => Stage::Sent(slot),
            Stage::Done => panic!("a publish is not polled after it was ready"),
        };
        let accepted = match stage {
            Stage::Sent(slot) => Poll::Ready(Ok(slot)),
            _ => Poll::Pending,
        };
        self.stage = stage;
        accepted
    }
}

impl<B: Backend> Future for Publishing<'_, B> {
    type Output = Result<Receipt, PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let slot = match ready!(self.advance(cx)) {
            Ok(slot) => slot,
            Err(error) => return Poll::Ready(Err(self.target.refuse(error))),
        };
        let receipt = ready!(poll_receipt(&self.target.core.shared.admission, slot, cx));
        self.stage = Stage::Done;
        Poll::Ready(receipt)
    }
}

impl<B: Backend> Drop for Publishing<'_, B> {
    fn drop(&mut self) {
        if let Stage::Sent(slot) = self.stage {
            self.target.core.shared.admission.ledger.drop_receipt(slot);
        }
    }
}

/// A publish that was sent: waits for its outcome. Dropped, it gives up the receipt.
pub(crate) struct Sent<'a> {
    admission: &'a Admission,
    slot: Option<Slot>,
}

impl Future for Sent<'_> {
    type Output = Result<Receipt, PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let slot = self
            .slot
            .expect("a publish is not polled after it was ready");
        let receipt = ready!(poll_receipt(self.admission, slot, cx));
        self.slot = None;
        Poll::Ready(receipt)
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.admission.ledger.drop_receipt(slot);
        }
    }
}

impl<'a, B: Backend> Target<'a, B> {
    /// Shows `each` the topic as it is now.
    fn now<T>(&self, each: impl FnOnce(&TopicNow<RouteOf<B>>) -> T) -> T {
        self.topic.with_now(self.known, each)
    }

    /// Sends it at once, or hands it back. A refusal is not counted yet.
    #[allow(clippy::result_large_err)]
    fn accept(&self, envelope: Envelope) -> Result<Slot, (PublishError, Envelope)> {
        self.now(|now| {
            let accept = |envelope: &Envelope| {
                let mut entrance = self.core.shared.admission.enter()?;
                self.check_size(now, envelope)?;
                entrance.take_credit(envelope)?;
                self.open(&mut entrance, envelope)
            };
            match accept(&envelope) {
                Ok(slot) => {
                    self.go(now, envelope, slot);
                    Ok(slot)
                }
                Err(error) => Err((error, envelope)),
            }
        })
    }

    /// Sends it if there is credit, or leaves it in line.
    fn proceed(
        &self,
        now: &TopicNow<RouteOf<B>>,
        mut entrance: Entrance<'a>,
        envelope: Envelope,
        cx: &mut Context<'_>,
    ) -> Result<Stage<'a>, PublishError> {
        match entrance.poll_credit(&envelope, cx) {
            Poll::Ready(credit) => credit?,
            Poll::Pending => return Ok(Stage::InLine(entrance, envelope)),
        }
        let slot = self.open(&mut entrance, &envelope)?;
        self.go(now, envelope, slot);
        Ok(Stage::Sent(slot))
    }

    /// Within the topic's size limit?
    fn check_size(
        &self,
        now: &TopicNow<RouteOf<B>>,
        envelope: &Envelope,
    ) -> Result<(), PublishError> {
        let (size, limit) = (envelope.size(), now.size_limit);
        if size > limit {
            return Err(PublishError::TooLarge {
                topic: self.topic.name.clone(),
                size,
                limit,
            });
        }
        Ok(())
    }

    /// The slot that the outcome will settle.
    fn open(&self, entrance: &mut Entrance<'_>, envelope: &Envelope) -> Result<Slot, PublishError> {
        let marks = if self.ordered { ORDERED } else { 0 };
        entrance.open(
            self.topic.index,
            marks,
            envelope,
            self.core.shared.runtime.now(),
        )
    }

    /// Sends it, or puts it in line behind its key.
    fn go(&self, now: &TopicNow<RouteOf<B>>, envelope: Envelope, slot: Slot) {
        if !self.ordered {
            return dispatch::dispatch_by((now, self.kept), self.core, self.topic, envelope, slot);
        }
        let waiting = Waiting {
            topic: self.topic.clone(),
            slot,
            envelope,
        };
        if let Some(first) = self.core.shared.lines.enter(self.topic.index, waiting) {
            dispatch::dispatch_by(
                (now, self.kept),
                self.core,
                self.topic,
                first.envelope,
                slot,
            );
        }
    }

    fn refuse(&self, error: PublishError) -> PublishError {
        self.core.shared.admission.refuse(error)
    }
}
