//! Loss: a consumer that failed, and partitions that went to another.

use super::*;

/// How long a consumer that failed may take to end, if nobody closes the subscription.
const LOST_LIMIT: Duration = Duration::from_secs(5);

impl Intake {
    /// All that was taken over a consumer is void without it.
    pub(super) fn lose(&mut self) {
        self.note_unconfirmed();
        self.drop_unconfirmed(|_| true);
        self.partitions.retire_all();
        self.revoked.clear();
        self.drop_stale();
        self.out
            .iter_mut()
            .for_each(|delivered| delivered.token = None);
    }

    /// Takes what is void out of the lanes that wait. What workers have at hand comes back by itself.
    pub(super) fn drop_stale(&mut self) {
        let stale: Vec<_> = (self.waiting.iter())
            .filter(|(_, parked)| parked.message.progress.is_stale())
            .map(|(when, _)| *when)
            .collect();
        for when in stale {
            if let Some(parked) = self.waiting.remove(&when) {
                self.park(parked);
            }
        }
        let is_stale = |parked: &mut Parked<Job>| parked.message.progress.is_stale();
        let doubles: Vec<_> = self.doubles.extract_if(.., is_stale).collect();
        doubles.into_iter().for_each(|parked| self.park(parked));
        self.drop_unconfirmed(|job| job.progress.is_stale());
        let partitions = &self.partitions;
        (self.stashed).retain(|stashed| partitions.holds(stashed.position));
    }

    /// Gives back what was revoked and is not handled here any more: only then another may have it.
    pub(super) async fn release(
        &mut self,
        consumer: &mut Option<AnyConsumer>,
    ) -> Result<(), Failure> {
        let Some(consumer) = consumer else {
            return Ok(());
        };
        for (partition, epoch) in std::mem::take(&mut self.revoked) {
            if self.out.holds(partition, epoch) {
                self.revoked.push((partition, epoch));
            } else {
                consumer.release(partition, epoch).await?;
            }
        }
        Ok(())
    }

    /// Ends a consumer that failed. When the subscription is to end meanwhile it has as long as one that has not failed.
    pub(super) async fn part_with(&mut self, lost: AnyConsumer) {
        let mut ending = pin!(lost.close(LOST_LIMIT));
        while self.unless_asked(ending.as_mut()).await.is_none() {
            self.apply(&mut None).await;
            if self.want.is_none() || self.killed {
                let runtime = &self.core.shared.runtime;
                let left = self.control.left(runtime.now());
                timeout(runtime, left, ending.as_mut()).await;
                return;
            }
        }
    }

    /// A new consumer in the place of one that failed, or `None` when there is to be no other.
    pub(super) async fn again(&mut self, failure: Failure) -> Option<AnyConsumer> {
        let (core, control) = (self.core.clone(), self.control.clone());
        let (topic, options) = (self.topic.clone(), self.options.clone());
        tracing::warn!(topic = %control.topic, group = %control.group, %failure, "consumer lost");
        crate::consume::look_again(&topic, &failure);
        control.note_error(failure.to_string());
        let mut kind = failure.kind();
        let mut start = options.start;
        loop {
            if kind == FailureKind::NoTopic {
                // All that is in a topic that is made again is new to a group that is begun again.
                start = StartAt::Earliest;
            }
            let pause = self.pauses.after(kind);
            let mut attempt = pin!(async {
                core.shared.runtime.sleep(pause).await;
                crate::consume::consumer(&core, &topic, &control.group, &options, start).await
            });
            let subscribed = loop {
                if control.interest.changed() {
                    self.apply(&mut None).await;
                }
                if self.want.is_none() || self.killed {
                    return None;
                }
                // What is asked is answered and does not begin it anew: it may be asked all the time.
                if let Some(subscribed) = self.unless_asked(attempt.as_mut()).await {
                    break subscribed;
                }
            };
            match subscribed {
                Ok(consumer) => {
                    core.shared.board.tell(BusEvent::ConsumerRestarted {
                        topic: control.topic.clone(),
                        group: control.group.clone(),
                        reason: failure.to_string(),
                    });
                    return Some(consumer);
                }
                Err(error) => {
                    tracing::warn!(topic = %control.topic, %error, "subscribing again failed");
                    kind = kind_of(error);
                }
            }
        }
    }

    /// `work`, unless something is asked meanwhile. What comes back is taken in passing: without a consumer there is
    /// nothing to answer.
    pub(super) async fn unless_asked<F: Future>(&mut self, work: F) -> Option<F::Output> {
        let mut work = pin!(work);
        let control = self.control.clone();
        let asked = poll_fn(|cx| {
            while let Poll::Ready(back) = self.dispatcher.poll_back(cx) {
                match back {
                    Back::Done(job) => {
                        self.out.remove(job.number);
                        self.done(&job);
                    }
                    Back::Parked(parked) => self.park(parked),
                }
            }
            self.announce();
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            control.interest.poll_change(cx).map(|_| None)
        });
        asked.await
    }
}
