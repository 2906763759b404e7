//! How a life consumes: one subscription for each topic and group, and what of it is in the history.

use super::*;
use crate::history::{Order, Subscribe};
use crate::sim::handler::Witness;
use clearway::{OnFailure, SubscribeError};

/// So many handlers of guests run at the same time, at most.
const GUESTS_MAX: usize = 2;

impl Life {
    /// Subscribes to all topics. Says whether it could.
    pub(super) async fn consume(self: &Arc<Self>, bus: &Bus) -> bool {
        for topic in TOPICS {
            if self.subscribe(bus, (topic, GROUP)).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Subscribes, and notes that. Dropped in the middle, or refused, it has ended with nothing left.
    pub(super) async fn subscribe(
        self: &Arc<Self>,
        bus: &Bus,
        place: Place,
    ) -> Result<(), SubscribeError> {
        let (plan, (topic, group)) = (&self.common.plan, place);
        let Ok(handle) = bus.raw_topic(topic) else {
            return Err(SubscribeError::Closed);
        };
        let begun = self.begun(place);
        let witness = self.witness(bus, place, begun.number);
        let mut builder = handle.subscription(group).order(plan.order);
        builder = match group == GUESTS {
            // Which letters there were of a group is read in the end, and of one group alone.
            true => (builder.retry(plan.retry_for_ever()))
                .on_failure(OnFailure::Block)
                .concurrency(plan.concurrency.min(GUESTS_MAX)),
            false => (builder.retry(plan.retry()))
                .on_failure(plan.on_failure())
                .concurrency(plan.concurrency),
        };
        builder = builder
            .in_flight(plan.in_flight, 1 << 20)
            .timeout(plan.timeout);
        if plan.confirm {
            builder = builder.confirm_acks();
        }
        if let Some(window) = plan.dedup {
            builder = builder.dedup(window);
        }
        let of = builder.handler(witness).await?;
        let held = Held {
            number: begun.held(),
            of,
            is_draining: false,
        };
        self.state().subscriptions.insert(place, held);
        Ok(())
    }

    fn witness(self: &Arc<Self>, bus: &Bus, place: Place, subscription: u32) -> Witness {
        let Common {
            record,
            weather,
            plan,
            ..
        } = &*self.common;
        let echo = (place == (TOPICS[0], GROUP))
            .then(|| bus.raw_topic(TOPICS[1]).ok())
            .flatten();
        let publisher = || Arc::new(self.publisher(Whose::Handler));
        Witness {
            record: record.clone(),
            weather: weather.clone(),
            process: self.process.clone(),
            life: self.clone(),
            subscription,
            place,
            attempts: plan.attempts.filter(|_| place.1 == GROUP),
            echo: echo.map(|echo| (publisher(), echo)),
        }
    }

    /// A subscription is about to begin.
    fn begun(&self, (topic, group): Place) -> Begun<'_> {
        let record = &self.common.record;
        let number = record.next_subscription();
        record.recorder.record(Subscribe {
            subscription: number,
            bus: self.process.number(),
            topic: topic.to_owned(),
            group: group.to_owned(),
            order: match self.common.plan.order {
                clearway::Order::ByKey => Order::Key,
                clearway::Order::ByPartition => Order::Partition,
                clearway::Order::Unordered => Order::None,
            },
        });
        Begun {
            life: self,
            number,
            is_held: false,
        }
    }
}

/// A subscription that somebody begins, until he has it or it has ended.
struct Begun<'l> {
    life: &'l Life,
    number: u32,
    is_held: bool,
}

impl Begun<'_> {
    /// Its number, of a subscription that is somebody's.
    fn held(mut self) -> u32 {
        self.is_held = true;
        self.number
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.is_held && self.life.process.is_alive() {
            let recorder = &self.life.common.record.recorder;
            recorder.record(ended(self.number, &clearway::DrainReport::default()));
        }
    }
}
