//! The work of many publishers, each in its own manner, all on record.

use crate::member::{Begun, Member, Publisher, RawTopic, envelope};
use bytes::Bytes;
use clearway::{Envelope, PublishError, Receipt};
use fastrand::Rng;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// So often a publish that was surely not stored is published again, under its id. One publisher in four never
/// does: if what it was told is not stored is delivered after all, no later success of that id hides it.
const RETRIES: u32 = 3;

/// What is published, and how.
#[derive(Clone, Debug)]
pub struct Load {
    /// How many publish side by side.
    pub publishers: usize,
    /// How many envelopes each publishes.
    pub each: u64,
    /// How many of its publishes a publisher has under way: the first has the first of these, and so on,
    /// round and round. With 1 it waits for room and answer, with more it enqueues. Every fourth publisher
    /// uses handles that keep one publish of a key in flight.
    pub windows: &'static [usize],
    /// How many keys each topic has.
    pub keys: u64,
    /// Bytes of payload.
    pub size: usize,
    /// Of topics and keys.
    pub seed: u64,
}

/// How many envelopes each publisher may have begun, so that the load lasts as long as the faults do.
pub struct Quota(watch::Sender<u64>);

impl Quota {
    /// Allows so many.
    pub fn of(count: u64) -> Self {
        Self(watch::Sender::new(count))
    }

    /// Allows so many in all.
    pub fn raise(&self, count: u64) {
        self.0.send_replace(count);
    }
}

impl Load {
    /// How many envelopes there are.
    pub fn total(&self) -> u64 {
        self.publishers as u64 * self.each
    }

    /// Publishes everything to `topics` over `member`, as far as `quota` allows, and returns when each has its
    /// outcome or the bus is closed.
    pub async fn run(&self, member: &Arc<Member>, topics: &[RawTopic], quota: &Quota) {
        let mut publishers = JoinSet::new();
        for number in 0..self.publishers {
            let (load, member) = (self.clone(), member.clone());
            let (topics, quota) = (topics.to_vec(), quota.0.subscribe());
            publishers.spawn(async move { load.publish(&member, number, topics, quota).await });
        }
        while let Some(ended) = publishers.join_next().await {
            ended.expect("a publisher does not panic");
        }
    }

    async fn publish(
        &self,
        member: &Member,
        number: usize,
        topics: Vec<RawTopic>,
        mut quota: watch::Receiver<u64>,
    ) {
        let window = self.windows[number % self.windows.len()];
        let ordered = number.is_multiple_of(4);
        let retries = if number % 4 == 2 { 0 } else { RETRIES };
        let topics: Vec<_> = topics
            .into_iter()
            .map(|topic| if ordered { topic.ordered() } else { topic })
            .collect();
        let publisher = member.publisher();
        let mut random = Rng::with_seed(self.seed.wrapping_add(number as u64));
        let payload = Bytes::from(vec![b'.'; self.size]);
        let mut under_way = FuturesUnordered::new();
        for n in 0..self.each {
            let allowed = quota.wait_for(|allowed| n < *allowed);
            if allowed.await.is_err() {
                break;
            }
            let topic = &topics[random.usize(..topics.len())];
            let key = format!("k{}", random.u64(..self.keys));
            let envelope = envelope(topic, &key, payload.clone());
            let ended = if window == 1 {
                Some(one(&publisher, topic, envelope.clone(), retries).await)
            } else if under_way.len() >= window {
                under_way.next().await
            } else {
                None
            };
            if ended.as_ref().is_some_and(is_closed) {
                break;
            }
            if window == 1 {
                continue;
            }
            // Begun here and not when it is first polled: their order is part of the history.
            let begun = publisher.begin(topic, envelope.clone(), ordered);
            under_way.push(end(&publisher, topic, envelope, begun, (ordered, retries)));
        }
        while under_way.next().await.is_some() {}
    }
}

/// How a publish ended, the last time it was tried.
type Ended = Result<Receipt, PublishError>;

/// Publishes and waits, again under its id while it is surely not stored.
async fn one(
    publisher: &Publisher<'_>,
    topic: &RawTopic,
    envelope: Envelope,
    retries: u32,
) -> Ended {
    for _ in 0..retries {
        match publisher.publish(topic, envelope.clone()).await {
            Err(error) if worth_a_retry(&error) => {}
            ended => return ended,
        }
    }
    publisher.publish(topic, envelope).await
}

/// Waits for what has begun, and does the same.
async fn end<'t>(
    publisher: &Publisher<'_>,
    topic: &'t RawTopic,
    envelope: Envelope,
    mut begun: Begun<'t>,
    (ordered, retries): (bool, u32),
) -> Ended {
    for _ in 0..retries {
        match publisher.end(begun).await {
            Err(error) if worth_a_retry(&error) => {
                begun = publisher.begin(topic, envelope.clone(), ordered);
            }
            ended => return ended,
        }
    }
    publisher.end(begun).await
}

fn is_closed(ended: &Ended) -> bool {
    matches!(ended, Err(PublishError::Closed))
}

fn worth_a_retry(error: &PublishError) -> bool {
    error.is_retryable() && !error.may_be_published()
}
