//! Taking: what is delivered goes to the lane of its key, if there is room.

use super::*;

impl Intake {
    /// Whether there is room for another delivery, and it is wanted.
    pub(super) fn takes(&mut self) -> bool {
        let takes = self.want == Some(Want::Active)
            && self.stashed.is_empty()
            && !self.out.is_full()
            && (self.out.bytes() as u64) < self.options.in_flight.bytes
            && (self.pace.as_ref())
                .is_none_or(|pace| pace.admits(self.at_work(), self.core.shared.runtime.now()));
        // Last: what it lets in is taken next.
        #[cfg(feature = "throttle")]
        let takes = takes && self.limiter.as_mut().is_none_or(Limiter::admits);
        takes
    }

    /// How many deliveries a worker has, or may take.
    pub(super) fn at_work(&self) -> usize {
        self.out.len() - self.waiting.len() - self.confirming.len()
    }

    pub(super) fn hear(&mut self, incoming: Incoming<AnyToken>) {
        match incoming {
            // Epochs are told by the deliveries.
            Incoming::Assigned { .. } => {}
            Incoming::Revoked { partitions, epoch } => {
                for partition in partitions {
                    self.partitions.retire(partition);
                    self.revoked.push((partition, epoch));
                }
                self.drop_stale();
            }
            Incoming::Confirmed { position } => self.confirmed(position),
            Incoming::Delivery {
                envelope,
                position,
                attempt,
                subject,
                token,
            } => {
                self.pauses.begin_anew();
                self.deliver(Stashed {
                    envelope,
                    position,
                    attempt,
                    subject,
                    token,
                    progress: None,
                });
            }
        }
    }

    /// Submits what there was no room for, as far as there is some now.
    pub(super) fn deliver_stashed(&mut self) {
        for _ in 0..self.stashed.len() {
            let Some(first) = self.stashed.pop_front() else {
                return;
            };
            let others = self.stashed.len();
            self.deliver(first);
            if self.stashed.len() > others {
                return;
            }
        }
    }

    /// Submits a delivery to the lane of its key, or keeps it until there is room.
    pub(super) fn deliver(&mut self, mut delivery: Stashed) {
        let progress = match delivery.progress.take() {
            Some(progress) => progress,
            None => match self.partitions.deliver(delivery.position) {
                Place::New(progress) => progress,
                Place::Again(progress) => match self.out.find(delivery.position) {
                    // The broker has lost patience, and the first of the two is still in hand.
                    Some(known) => {
                        known.token = Some(delivery.token);
                        return;
                    }
                    None => progress,
                },
                Place::Full => {
                    self.stashed.push_front(delivery);
                    return;
                }
            },
        };
        self.submit(delivery, progress);
    }

    /// When a delivery is taken. Not exact while one comes after the other: it is for those that are out long.
    fn taken_at(&mut self) -> Duration {
        match self.readings_left.checked_sub(1) {
            Some(left) => self.readings_left = left,
            None => {
                self.taken_at = self.core.shared.runtime.now();
                self.readings_left = ONE_READING - 1;
            }
        }
        self.taken_at
    }

    pub(super) fn submit(&mut self, delivery: Stashed, progress: Progress) {
        let now = self.taken_at();
        let id = delivery.envelope.id;
        let known = (self.dedup.as_mut()).map_or(Known::New, |dedup| dedup.take(id));
        let Stashed {
            envelope,
            position,
            attempt,
            subject,
            token,
            ..
        } = delivery;
        let key = match self.options.order {
            Order::ByKey => envelope.key.clone().map(Key::Key),
            Order::ByPartition => Some(Key::Partition(position.partition)),
            Order::Unordered => None,
        };
        if self.out.len() == 0 {
            self.progress = now;
        }
        let what = (position, envelope.id, envelope.size());
        let failed = self
            .suspects
            .give_up(&self.options.retry, position, attempt);
        if let Some(Failed { error, .. }) = &failed {
            let (topic, group) = (&self.control.topic, &self.control.group);
            tracing::error!(%topic, %group, ?position, id = %envelope.id, error, "given up");
            self.control.note_error(error.clone());
        }
        let number = self.out.add(what, token, now);
        let job = Job {
            envelope,
            position,
            subject,
            attempt,
            failures: 0,
            failed,
            number,
            progress,
            verdict: Verdict::None,
            recovery: self.pace.as_ref().is_some_and(Pace::in_recovery),
            double: known != Known::New,
            #[cfg(feature = "throttle")]
            admitted: false,
        };
        if let Err(Full { message, .. }) = self.dispatcher.submit(key, job) {
            if let (Some(dedup), false) = (&mut self.dedup, message.double) {
                // Not taken after all: the next try must not find itself.
                dedup.done(message.envelope.id, false);
            }
            if let Some(token) = self.out.remove(message.number).token {
                self.stashed.push_front(Stashed {
                    envelope: message.envelope,
                    position,
                    attempt,
                    subject: message.subject,
                    token,
                    progress: Some(message.progress),
                });
            }
            return;
        }
        if let Some(pace) = &mut self.pace {
            pace.took(self.core.shared.runtime.now());
        }
        #[cfg(feature = "throttle")]
        if let Some(limiter) = &mut self.limiter {
            limiter.took();
        }
        self.submitted += 1;
        if self.submitted >= ANNOUNCE_EVERY {
            self.announce();
        }
    }
}
