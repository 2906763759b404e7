//! Confirming: what was handled and answered is settled when the broker has confirmed the answer, and not before.
//!
//! Nobody waits here: the next delivery of its key is at its handler, and others are taken and answered, while a confirmation
//! is on its way. Until it comes the delivery is out like one that is handled. The ids of handled ones are known from the
//! answer on: one that comes again, since its answer was lost, is answered without a handler.

use super::*;

impl Intake {
    /// Answers a delivery that was handled, and keeps it until the broker has confirmed that.
    pub(super) async fn answer_to_confirm(
        &mut self,
        job: Job,
        consumer: &mut Option<AnyConsumer>,
    ) -> Result<(), Failure> {
        let token = self.out.token(job.number);
        let (Some(token), Some(consumer)) = (token, consumer) else {
            // Its consumer was lost in the meantime: it comes again.
            self.out.remove(job.number);
            return Ok(());
        };
        let answer = consumer.answer(token, Answer::Ack);
        let Some(answered) = self.control.killed.until(answer).await else {
            // Out to the end, and left.
            self.confirming.insert(job.position, job);
            return Ok(());
        };
        match answered {
            Ok(Answered::Final) => {
                self.out.remove(job.number);
                self.confirmed_now(&job);
                self.settled(&job);
            }
            // Its partition went to another: there is nobody to confirm it to.
            Ok(Answered::Pending) if job.progress.is_stale() => {
                self.out.remove(job.number);
            }
            Ok(Answered::Pending) => {
                self.confirming.insert(job.position, job);
            }
            Err(failure) => {
                // Void with its consumer, like those that wait for a confirmation.
                self.confirming.insert(job.position, job);
                return Err(failure);
            }
        }
        Ok(())
    }

    /// The broker has confirmed it with the answer.
    pub(super) fn confirmed_now(&self, job: &Job) {
        if self.options.confirm {
            job.progress.settle();
        }
    }

    /// The broker has confirmed the answer to what is at `position`.
    pub(super) fn confirmed(&mut self, position: Position) {
        if let Some(job) = self.confirming.remove(&position) {
            self.out.remove(job.number);
            job.progress.settle();
            self.settled(&job);
        }
    }

    /// Whether a confirmation is waited for.
    pub(super) fn is_confirming(&self) -> bool {
        !self.confirming.is_empty()
    }

    /// No confirmation comes any more for what `is_void`: it comes again.
    pub(super) fn drop_unconfirmed(&mut self, is_void: impl Fn(&Job) -> bool) {
        let out = &mut self.out;
        self.confirming.retain(|_, job| {
            let void = is_void(job);
            if void {
                out.remove(job.number);
            }
            !void
        });
    }

    /// Notes what nobody will confirm without a consumer, in case that there is not to be another.
    pub(super) fn note_unconfirmed(&mut self) {
        if !self.options.confirm {
            return;
        }
        let out = (self.out.iter()).filter(|delivered| delivered.token.is_some());
        let out = out.map(|delivered| (delivered.position, delivered.id));
        let stashed = self.stashed.iter();
        let stashed = stashed.map(|stashed| (stashed.position, stashed.envelope.id));
        self.unconfirmed.extend(out.chain(stashed));
    }
}
