//! Attending: what is to be done when its time has come, though nothing happens.

use super::*;

impl Intake {
    /// Does what its time has come for.
    pub(super) async fn on_time(
        &mut self,
        consumer: &mut Option<AnyConsumer>,
    ) -> Result<(), Failure> {
        let now = self.core.shared.runtime.now();
        if self.end_by().is_some_and(|end| end <= now) {
            self.killed = true;
            return Ok(());
        }
        while let Some(entry) = self.waiting.first_entry() {
            if entry.key().0 > now {
                break;
            }
            self.dispatcher.resume(entry.remove());
            self.submitted += 1;
        }
        let Some(consumer) = consumer else {
            return Ok(());
        };
        if self.pace.as_mut().is_some_and(|pace| pace.looks(now)) {
            self.look_at_lag(consumer).await;
        }
        let Some(every) = consumer.progress_every() else {
            return Ok(());
        };
        if now < self.progress + every / 2 {
            return Ok(());
        }
        self.progress = now;
        for delivered in self.out.iter() {
            // What has come since the last time is not waited for yet.
            if let Some(token) = &delivered.token
                && now >= delivered.since + every / 2
            {
                let told = consumer.answer(token, Answer::InProgress);
                let Some(told) = self.control.killed.until(told).await else {
                    break;
                };
                told?;
            }
        }
        Ok(())
    }

    /// Enters recovery or leaves it, by how far behind the subscription is.
    pub(super) async fn look_at_lag(&mut self, consumer: &mut AnyConsumer) {
        let runtime = &self.core.shared.runtime;
        let Some(Ok(lag)) = timeout(runtime, LAG_LIMIT, consumer.lag()).await else {
            return;
        };
        let lag = lag.into_iter().map(|(_, lag)| lag).sum();
        let change = self
            .pace
            .as_ref()
            .and_then(|pace| pace.observe(lag, runtime.now()));
        let Some(change) = change else {
            return;
        };
        let (topic, group) = (self.control.topic.clone(), self.control.group.clone());
        tracing::warn!(%topic, %group, lag, to = ?change.to, "recovery");
        self.core.shared.board.tell(match change.to {
            Kind::Recovery => {
                self.core
                    .shared
                    .admission
                    .counters
                    .count(Counter::Recoveries);
                BusEvent::RecoveryEntered { topic, group, lag }
            }
            Kind::Normal => BusEvent::RecoveryLeft { topic, group, lag },
        });
    }

    /// Until when what was taken may be handled, once it is to end: also when nobody waits any more who said so. Asked at every event: before it
    /// is to end there is no lock in it.
    fn end_by(&self) -> Option<Duration> {
        match self.want {
            Some(_) => None,
            None => self.control.deadline(),
        }
    }

    /// When there is something to do though nothing happens.
    pub(super) fn due(&self, consumer: Option<&AnyConsumer>) -> Option<Duration> {
        let retry = self.waiting.keys().next().map(|(due, _)| *due);
        let every = consumer.and_then(AnyConsumer::progress_every);
        let progress = every
            .filter(|_| self.out.len() > 0)
            .map(|every| self.progress + every / 2);
        let pace = consumer.and(self.pace.as_ref());
        let pace = pace.map(|pace| pace.due(self.core.shared.runtime.now()));
        #[cfg(feature = "throttle")]
        let limiter = self.limiter.as_ref().and_then(Limiter::due);
        #[cfg(not(feature = "throttle"))]
        let limiter = None;
        let all = [retry, progress, pace, limiter, self.end_by()];
        all.into_iter().flatten().min()
    }
}
