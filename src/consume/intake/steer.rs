//! Steering: what is asked of the subscription from outside, and what it says of itself.

use super::*;

impl Intake {
    /// Goes by what is asked from here on.
    pub(super) async fn apply(&mut self, consumer: &mut Option<AnyConsumer>) {
        let Some((version, asked)) = self.control.asked() else {
            return;
        };
        let ends = asked.contains_key(&Ask::End);
        self.want = asked.get(&Ask::Deliveries).copied().filter(|_| !ends);
        self.killed = asked.contains_key(&Ask::Kill);
        if self.want.is_none() {
            self.give_up_waiting();
        }
        if asked.keys().any(|ask| matches!(ask, Ask::Status(_))) {
            // Without an answer in time the lag is not known, and the rest is.
            let lag = match consumer {
                Some(consumer) => {
                    let asked = consumer.lag();
                    timeout(&self.core.shared.runtime, LAG_LIMIT, asked).await
                }
                None => None,
            };
            let lag = lag.and_then(Result::ok).unwrap_or_default();
            self.control.answer(self.status(lag));
        }
        self.control.interest.applied(version);
    }

    /// What waits for an attempt beyond the deadline does not wait here.
    pub(super) fn give_up_waiting(&mut self) {
        let Some(deadline) = self.control.deadline() else {
            return;
        };
        while let Some(entry) = self.waiting.last_entry() {
            if entry.key().0 <= deadline {
                break;
            }
            self.frozen.push(entry.remove());
        }
    }

    pub(super) fn status(&self, lag: Vec<(u32, u64)>) -> SubscriptionStatus {
        let now = self.core.shared.runtime.now();
        let mut partitions: BTreeMap<u32, PartitionStatus> = (self.partitions.iter())
            .map(|(number, watermark, in_flight)| {
                let status = PartitionStatus {
                    watermark: Some(watermark),
                    in_flight,
                    lag: None,
                };
                (number, status)
            })
            .collect();
        for (number, lag) in lag {
            partitions.entry(number).or_default().lag = Some(lag);
        }
        let oldest = self.out.iter().map(|delivered| delivered.since).min();
        SubscriptionStatus {
            state: match self.want {
                Some(Want::Active) => SubscriptionState::Active,
                Some(Want::Held) => SubscriptionState::Held,
                Some(Want::Paused) => SubscriptionState::Paused { because: None },
                None => SubscriptionState::Draining,
            },
            recovery: self.pace.as_ref().is_some_and(Pace::in_recovery),
            in_flight: self.out.len(),
            retrying: self.waiting.len(),
            lanes: self.dispatcher.busy(),
            bytes: self.out.bytes(),
            oldest: oldest.map(|since| now.saturating_sub(since)),
            partitions,
            ..SubscriptionStatus::default()
        }
    }
}
