//! Admission: what every publish under way holds, and how it comes back.
//!
//! Gate, credit and ledger, and the counters beside them. What is taken here on the way in
//! belongs to the ledger's slot from `open` on and comes back in `settle`, whatever the caller does.

use crate::backend::Outcome;
use crate::envelope::Envelope;
use crate::error::{Failure, FailureKind, FullReason, PublishError};
use crate::inside::is_inside;
use crate::metrics::{Counter, Counters};
use crate::protocol::credit::{Budget, Credit, Refused, Waiter};
use crate::protocol::gate::{Gate, Pass};
use crate::protocol::ledger::{Audience, Entry, Ledger, Slot};
use crate::protocol::sync::Mutex;
use crate::results::Overflow;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// The publish waits for others of its key (`Topic::ordered`).
pub(crate) const ORDERED: u8 = 1;
/// The result reader was promised this one; its credit comes back when it is read.
pub(crate) const TOLD: u8 = 2;
/// A handler's own, through the inner gate: begun after the outer one was shut.
const INSIDE: u8 = 4;

pub(crate) struct Admission {
    pub(crate) gate: Gate,
    /// For handlers that are at work when the other gate is shut.
    pub(crate) inner: Gate,
    pub(crate) credit: Credit,
    pub(crate) ledger: Ledger<Failure>,
    pub(crate) counters: Counters,
    overflow: Mutex<Overflow>,
}

/// A publish on its way in: admitted, and perhaps in line for credit. Dropped, it leaves.
pub(crate) struct Entrance<'a> {
    admission: &'a Admission,
    pass: Option<Pass>,
    /// `INSIDE`, or nothing.
    marks: u8,
    waiter: Waiter,
    waited: bool,
    credit: Option<u64>,
}

impl Admission {
    pub(crate) fn new(in_flight: Budget, receipts_max: usize) -> Self {
        Self {
            gate: Gate::new(),
            inner: Gate::new(),
            credit: Credit::new(in_flight),
            ledger: Ledger::new(receipts_max),
            counters: Counters::new(),
            overflow: Mutex::new(Overflow::Block),
        }
    }

    /// Through the gate, or `Closed`. A handler of this bus gets in as long as handlers may finish.
    pub(crate) fn enter(&self) -> Result<Entrance<'_>, PublishError> {
        let (pass, marks) = match self.gate.enter() {
            Some(pass) => (pass, 0),
            None if is_inside(self) => match self.inner.enter() {
                Some(pass) => (pass, INSIDE),
                None => return Err(PublishError::Closed),
            },
            None => return Err(PublishError::Closed),
        };
        Ok(Entrance {
            admission: self,
            pass: Some(pass),
            marks,
            waiter: Waiter::default(),
            waited: false,
            credit: None,
        })
    }

    /// Back through the gate that it came by.
    fn leave(&self, pass: Pass, marks: u8) {
        let gate = if marks & INSIDE == 0 {
            &self.gate
        } else {
            &self.inner
        };
        gate.leave(pass);
    }

    /// Ready when nothing is under way any more. Both gates must be shut.
    pub(crate) fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.inner.poll_drained(cx));
        self.gate.poll_drained(cx)
    }

    /// Counts a refusal by its sort.
    pub(crate) fn refuse(&self, error: PublishError) -> PublishError {
        self.counters.count(match &error {
            PublishError::Closed => Counter::RefusedClosed,
            PublishError::TooLarge { .. } => Counter::RefusedTooLarge,
            PublishError::Full(_) => Counter::RefusedFull,
            _ => Counter::RefusedTopic,
        });
        error
    }

    /// Settles a slot. `None`: it had its outcome, or the token is stale.
    ///
    /// The pass goes last: when close sees the gate drained, all the rest is back.
    pub(crate) fn settle(&self, slot: Slot, outcome: Outcome, now: Duration) -> Option<Entry> {
        let (counter, duplicate) = match &outcome {
            Outcome::Acked { duplicate, .. } => (Counter::Acked, *duplicate),
            Outcome::Rejected(_) => (Counter::Rejected, false),
            Outcome::Unknown(_) => (Counter::Unknown, false),
        };
        let Some(entry) = self.ledger.settle(slot, outcome) else {
            self.counters.count(Counter::LateAnswers);
            return None;
        };
        self.counters.count(counter);
        if duplicate {
            self.counters.count(Counter::Duplicates);
        }
        self.release(&entry, now);
        Some(entry)
    }

    /// Settles as `Unknown` whatever is open, and hands each entry to `each`.
    pub(crate) fn settle_rest(
        &self,
        failure: &Failure,
        now: Duration,
        mut each: impl FnMut(Entry),
    ) {
        self.ledger.settle_rest(failure, |entry| {
            self.counters.count(Counter::Unknown);
            self.release(&entry, now);
            each(entry);
        });
    }

    fn release(&self, entry: &Entry, now: Duration) {
        let took = now.saturating_sub(Duration::from_nanos(entry.opened_at));
        self.counters.record_latency(took);
        self.counters.count(Counter::Settled);
        if entry.marks & TOLD == 0 {
            self.credit.give(entry.bytes);
        } else if !self.ledger.is_heard() {
            self.discard_results();
        }
        self.leave(Pass::from_bits(entry.pass), entry.marks);
    }

    pub(crate) fn set_overflow(&self, overflow: Overflow) {
        *self.overflow.lock() = overflow;
    }

    /// Gives back what results hold that nobody will read.
    pub(crate) fn discard_results(&self) {
        for entry in self.ledger.discard() {
            self.credit.give(entry.bytes);
        }
    }

    /// Whether unread results hold some of the credit. Asked only when there is too little of it.
    fn results_are_behind(&self) -> bool {
        if !self.ledger.has_reader() {
            return false;
        }
        let out = self
            .credit
            .limit()
            .envelopes
            .saturating_sub(self.credit.free().envelopes);
        out > self.counters.in_flight()
    }
}

impl Entrance<'_> {
    /// Credit now, or `Full`.
    pub(crate) fn take_credit(&mut self, envelope: &Envelope) -> Result<(), PublishError> {
        let bytes = envelope.size() as u64;
        match self.admission.credit.try_take(bytes) {
            Ok(()) => {
                self.credit = Some(bytes);
                Ok(())
            }
            Err(Refused::Full) => {
                let behind = self.admission.results_are_behind();
                Err(PublishError::Full(if behind {
                    FullReason::Results
                } else {
                    FullReason::InFlight
                }))
            }
            Err(refused) => Err(self.refused(refused, envelope)),
        }
    }

    /// Credit, waiting for it in line.
    pub(crate) fn poll_credit(
        &mut self,
        envelope: &Envelope,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), PublishError>> {
        let bytes = envelope.size() as u64;
        let admission = self.admission;
        match admission.credit.poll_take(&mut self.waiter, bytes, cx) {
            Poll::Ready(Ok(())) => {
                self.credit = Some(bytes);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(refused)) => Poll::Ready(Err(self.refused(refused, envelope))),
            Poll::Pending => {
                if !std::mem::replace(&mut self.waited, true) {
                    admission.counters.count(Counter::CreditWaits);
                    if admission.results_are_behind() {
                        admission.counters.count(Counter::ResultWaits);
                        if *admission.overflow.lock() == Overflow::Refuse {
                            return Poll::Ready(Err(PublishError::Full(FullReason::Results)));
                        }
                    }
                }
                Poll::Pending
            }
        }
    }

    /// Opens the slot: from here on pass and credit are the slot's.
    pub(crate) fn open(
        &mut self,
        topic: u32,
        marks: u8,
        envelope: &Envelope,
        now: Duration,
    ) -> Result<Slot, PublishError> {
        let admission = self.admission;
        let (Some(pass), Some(bytes)) = (self.pass.take(), self.credit.take()) else {
            unreachable!("a slot is opened once, with a pass and credit");
        };
        let told = admission.ledger.has_reader();
        let entry = Entry {
            pass: pass.into_bits(),
            marks: marks | self.marks | if told { TOLD } else { 0 },
            topic,
            bytes,
            id: envelope.id.as_u128(),
            opened_at: now.as_nanos() as u64,
        };
        // Before the slot is open, so that its end is never counted before its beginning.
        admission.counters.count(Counter::Begun);
        match admission.ledger.open(
            entry,
            Audience {
                receipt: true,
                results: told,
            },
        ) {
            Some(slot) => {
                admission.counters.count(Counter::Accepted);
                Ok(slot)
            }
            None => {
                admission.counters.count(Counter::Settled);
                self.pass = Some(Pass::from_bits(entry.pass));
                self.credit = Some(bytes);
                Err(PublishError::Full(FullReason::Receipts))
            }
        }
    }

    fn refused(&self, refused: Refused, envelope: &Envelope) -> PublishError {
        match refused {
            Refused::Full => PublishError::Full(FullReason::InFlight),
            Refused::Closed => PublishError::Closed,
            Refused::TooLarge => PublishError::TooLarge {
                topic: "(any)".into(),
                size: envelope.size(),
                limit: self.admission.credit.limit().bytes as usize,
            },
        }
    }
}

impl Drop for Entrance<'_> {
    fn drop(&mut self) {
        self.admission.credit.cancel(&mut self.waiter);
        if let Some(bytes) = self.credit.take() {
            self.admission.credit.give(bytes);
        }
        if let Some(pass) = self.pass.take() {
            self.admission.leave(pass, self.marks);
        }
    }
}

/// The receipt of a slot: polled until ready, or dropped.
pub(crate) fn poll_receipt(
    admission: &Admission,
    slot: Slot,
    cx: &mut Context<'_>,
) -> Poll<Result<crate::Receipt, PublishError>> {
    Poll::Ready(outcome_to_result(ready!(
        admission.ledger.poll_receipt(slot, cx)
    )))
}

/// What the caller hears of an outcome.
pub(crate) fn outcome_to_result(outcome: Outcome) -> Result<crate::Receipt, PublishError> {
    match outcome {
        Outcome::Acked {
            partition,
            position,
            duplicate,
        } => Ok(crate::Receipt {
            partition,
            position,
            duplicate,
        }),
        Outcome::Rejected(failure) => Err(PublishError::Rejected(failure)),
        Outcome::Unknown(failure) => Err(PublishError::Unknown(failure)),
    }
}

/// Why everything that is left at the end of a close has no answer.
pub(crate) fn closed_failure() -> Failure {
    Failure::new(
        FailureKind::Closed,
        "the bus was closed before the broker answered",
    )
}
