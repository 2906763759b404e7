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
                if job.is_settled() {
                    self.answer(job, consumer).await?;
                } else {
                    self.out.remove(job.number);
                }
            }
            Back::Parked(parked) => self.park(parked),
        }
        Ok(())
    }

    /// Tells the broker of a delivery that was handled.
    async fn answer(
        &mut self,
        job: Job,
        consumer: &mut Option<AnyConsumer>,
    ) -> Result<(), Failure> {
        if self.options.confirm {
            return self.answer_to_confirm(job, consumer).await;
        }
        let delivered = self.out.remove(job.number);
        self.settled(&job);
        if let (Some(token), Some(consumer)) = (delivered.token, consumer.as_mut()) {
            let answer = consumer.answer(&token, Answer::Ack);
            match self.control.killed.until(answer).await {
                Some(answered) => drop(answered?),
                None => self.unheard.push((job.position, job.envelope.id)),
            }
        }
        Ok(())
    }

    /// What follows when a delivery is not handled here any more.
    pub(super) fn done(&mut self, job: &Job) {
        // A double was nobody's but its lane's.
        if let (Some(dedup), false) = (&mut self.dedup, job.double) {
            dedup.done(job.envelope.id, job.is_settled());
            self.look_at_doubles = true;
        }
    }

    /// Decides about doubles: when the other one was handled, so is this; when it was not, this is the one.
    pub(super) async fn resolve_doubles(
        &mut self,
        consumer: &mut Option<AnyConsumer>,
    ) -> Result<(), Failure> {
        let mut at = 0;
        if !std::mem::take(&mut self.look_at_doubles) {
            return Ok(());
        }
        while let (Some(dedup), Some(parked)) = (&mut self.dedup, self.doubles.get(at)) {
            match dedup.take(parked.message.envelope.id) {
                Known::AtWork => at += 1,
                Known::New => {
                    let mut parked = self.doubles.remove(at);
                    parked.message.double = false;
                    self.dispatcher.resume(parked);
                    self.submitted += 1;
                }
                Known::Settled => {
                    let parked = self.doubles.remove(at);
                    let mut job = self.dispatcher.remove(parked);
                    self.submitted += 1;
                    job.verdict = Verdict::Settled;
                    if !self.options.confirm {
                        job.progress.settle();
                    }
                    let counters = &self.core.shared.admission.counters;
                    counters.count(Counter::DuplicatesSkipped);
                    self.answer(job, consumer).await?;
                }
            }
        }
        Ok(())
    }

    /// What follows when a delivery was settled.
    pub(super) fn settled(&mut self, job: &Job) {
        let OnFailure::DeadLetter(budget) = &self.options.on_failure else {
            return;
        };
        if job.double {
            return;
        }
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
            Verdict::Double => {
                self.doubles.push(parked);
                self.look_at_doubles = true;
            }
            Verdict::Yields => {
                self.dispatcher.resume(parked);
                self.submitted += 1;
            }
            _ => self.frozen.push(parked),
        }
    }
}
