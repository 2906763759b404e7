//! The client of a consumer, the queues of its partitions, and its end.
//!
//! Each partition has a queue of its own: what is fetched and not taken stays there, while the client is polled for all else. A client that is
//! paused would throw it away and fetch it again.
//!
//! The end leaves the group and waits for that. The group is not left before a rebalance was answered that the client has told of; so
//! what is unanswered is answered here, also when the thread panics.

use super::context::Context;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer as _, RebalanceProtocol};
use std::collections::BTreeMap;
use std::ops::{Bound, Deref};
use std::sync::Arc;
use std::thread;

pub(super) struct Client {
    /// Dropped first: they are the client's.
    queues: BTreeMap<i32, PartitionQueue<Context>>,
    client: Arc<BaseConsumer<Context>>,
}

impl Client {
    pub(super) fn new(client: BaseConsumer<Context>) -> Self {
        Self {
            queues: BTreeMap::new(),
            client: Arc::new(client),
        }
    }

    /// From here on what is fetched of the partition is in a queue of its own, which wakes this thread. Before it is assigned, so that
    /// none of it is elsewhere. `false`: the client has none for it.
    pub(super) fn split(&mut self, topic: &str, partition: i32) -> bool {
        // The end of the one before would take the waking from the next.
        self.queues.remove(&partition);
        let Some(mut queue) = self.client.split_partition_queue(topic, partition) else {
            return false;
        };
        let woken = thread::current();
        queue.set_nonempty_callback(move || woken.unpark());
        self.queues.insert(partition, queue);
        true
    }

    /// Nothing of the partition is taken any more.
    pub(super) fn forget(&mut self, partition: i32) {
        self.queues.remove(&partition);
    }

    pub(super) fn queue(&self, partition: i32) -> Option<&PartitionQueue<Context>> {
        self.queues.get(&partition)
    }

    /// The partitions that have one, from behind `last` on and around.
    pub(super) fn split_behind(&self, last: i32) -> Vec<i32> {
        let behind = self.queues.range((Bound::Excluded(last), Bound::Unbounded));
        let around = self.queues.range(..=last);
        behind.chain(around).map(|(at, _)| *at).collect()
    }
}

impl Deref for Client {
    type Target = BaseConsumer<Context>;

    fn deref(&self) -> &Self::Target {
        &self.client
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // From here on a rebalance is answered at once.
        self.context().noted.close();
        let answered = match self.rebalance_protocol() {
            RebalanceProtocol::Cooperative => {
                (self.assignment()).and_then(|assigned| self.incremental_unassign(&assigned))
            }
            RebalanceProtocol::Eager => self.unassign(),
            RebalanceProtocol::None => Ok(()),
        };
        if let Err(error) = answered {
            tracing::debug!(target: "clearway::kafka", %error, "while a consumer ends");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::context::{Happened, Noted};
    use super::*;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;
    use rdkafka::{ClientConfig, TopicPartitionList};
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_secs(30);

    type Cluster = MockCluster<'static, DefaultProducerContext>;

    /// A member that has three partitions, is told that they are revoked, and does not answer.
    fn revoked(strategy: &str) -> (Cluster, Client) {
        let cluster = MockCluster::new(1).expect("a broker in this process");
        cluster.create_topic("orders", 3, 1).expect("a topic");
        let noted = Arc::new(Noted::default());
        let context = Context {
            noted: noted.clone(),
            topic: "orders".into(),
        };
        let client: BaseConsumer<Context> = ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .set("group.id", "audit")
            .set("partition.assignment.strategy", strategy)
            .create_with_context(context)
            .expect("a client");
        client.subscribe(&["orders"]).expect("a topic to read");
        for _ in 0..600 {
            let _ = client.poll(Duration::from_millis(50));
            match noted.take() {
                Some(Happened::Assign(partitions)) => {
                    let mut list = TopicPartitionList::new();
                    for partition in partitions {
                        list.add_partition("orders", partition);
                    }
                    let assigned = match client.rebalance_protocol() {
                        RebalanceProtocol::Cooperative => client.incremental_assign(&list),
                        _ => client.assign(&list),
                    };
                    assigned.expect("it is taken");
                    client.unsubscribe();
                }
                Some(Happened::Revoke { partitions, .. }) => {
                    assert_eq!(partitions.len(), 3);
                    return (cluster, Client::new(client));
                }
                _ => {}
            }
        }
        panic!("nothing was revoked");
    }

    #[test]
    fn a_revocation_that_nobody_answered_does_not_keep_it_from_ending() {
        for strategy in ["range", "cooperative-sticky"] {
            let (_cluster, client) = revoked(strategy);
            let (says, ended) = mpsc::channel();
            let ends = move || {
                drop(client);
                let _ = says.send(());
            };
            crate::runtime::thread("ends", ends).expect("a thread");
            ended.recv_timeout(LIMIT).expect(strategy);
        }
    }
}
