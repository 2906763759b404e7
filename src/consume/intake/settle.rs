//! Settling: what came back from the lanes is answered, waits for its next attempt, or is given up.

use super::*;

impl Intake {
    pub(super) async fn take_back(
        &mut self,
        back: Back<Job>,
        consumer: &mut Option<AnyConsumer>,
    ) -> Result<(), Failure> {
        match back {
            Back::Done(job) => {
                self.done(&job);
                if self.options.confirm && job.is_settled() {
                    return self.answer_to_confirm(job, consumer).await;
                }
                let delivered = self.out.remove(job.number);
                if job.is_settled() {
                    self.settled(&job);
                    if let (Some(token), Some(consumer)) = (delivered.token, consumer.as_mut()) {
                        consumer.answer(&token, Answer::Ack).await?;
                    }
                }
            }
            Back::Parked(parked) => self.park(parked),
        }
        Ok(())
    }

    /// What follows when a delivery is not handled here any more.
    pub(super) fn done(&mut self, job: &Job) {
        let Some(dedup) = &mut self.dedup else {
            return;
        };
        let settled = job.is_settled();
        dedup.done(job.envelope.id, settled);
        for mut double in std::mem::take(&mut self.doubles) {
            if double.settled || double.delivery.envelope.id != job.envelope.id {
                self.doubles.push(double);
            } else if settled {
                double.settled = true;
                self.doubles.push(double);
            } else if !double.progress.is_stale() {
                // What it waited for was not handled, perhaps because its consumer was lost: now it is this one's turn.
                double.delivery.progress = Some(double.progress);
                self.stashed.push_back(double.delivery);
            }
        }
    }

    /// What follows when a delivery was settled.
    pub(super) fn settled(&mut self, job: &Job) {
        let OnFailure::DeadLetter(budget) = &self.options.on_failure else {
            return;
        };
        let letter = job.verdict == Verdict::Buried;
        if let Some(reason) = self.spent.count(letter, budget) {
            let control = &self.control;
            tracing::error!(topic = %control.topic, group = %control.group, reason, "paused");
            control.pause_because(reason.as_str().into());
            self.core.shared.board.tell(BusEvent::SubscriptionPaused {
                topic: control.topic.clone(),
                group: control.group.clone(),
                reason,
            });
        }
    }

    /// Decides about a lane that stands still.
    pub(super) fn park(&mut self, parked: Parked<Job>) {
        if parked.message.progress.is_stale() {
            let job = self.dispatcher.remove(parked);
            self.out.remove(job.number);
            self.done(&job);
            self.submitted += 1;
            return;
        }
        match parked.message.verdict {
            Verdict::Again(after) => {
                let due = self.core.shared.runtime.now().saturating_add(after);
                if self
                    .control
                    .deadline()
                    .is_some_and(|deadline| due > deadline)
                {
                    self.frozen.push(parked);
                } else {
                    self.waiting.insert((due, parked.message.number), parked);
                }
            }
            Verdict::Yields => {
                self.dispatcher.resume(parked);
                self.submitted += 1;
            }
            _ => self.frozen.push(parked),
        }
    }
}
