//! Context: what the client calls while it is polled. It notes what happened and does nothing: whoever polls decides.
//!
//! Nothing here waits. A commit that was waited for in here would wait for the thread that it is on.

use crate::backend::kafka::log::{self, Trouble};
use crate::backend::kafka::stranded::Stranded;
use crate::error::Failure;
use crate::protocol::sync::Mutex;
use crossbeam_queue::SegQueue;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Statistics, TopicPartitionList};
use std::sync::Arc;

/// What the client has called for.
#[derive(Debug, Default)]
pub(super) struct Noted {
    happened: SegQueue<Happened>,
    /// Whoever polls does not look any more: the client is being closed.
    closing: Mutex<bool>,
    pub(super) trouble: Trouble,
    stranded: Stranded,
    /// Records that brokers have sent, those that were thrown away again included.
    #[cfg(test)]
    pub(super) received: Mutex<i64>,
}

/// One of them.
#[derive(Debug)]
pub(super) enum Happened {
    /// A log line, an error, statistics: there may be more behind it.
    Nothing,
    Assign(Vec<i32>),
    Revoke {
        partitions: Vec<i32>,
        /// Others may have them already.
        lost: bool,
    },
    /// Nothing is fetched and not taken: the partition, and where its log ended.
    AtEnd(Vec<(i32, i64)>),
    /// The client does nothing any more.
    Stranded(Failure),
}

pub(super) struct Context {
    pub(super) noted: Arc<Noted>,
    pub(super) topic: Arc<str>,
}

impl Noted {
    /// The next of them.
    pub(super) fn take(&self) -> Option<Happened> {
        self.happened.pop()
    }

    /// From here on a rebalance is answered at once.
    pub(super) fn close(&self) {
        *self.closing.lock() = true;
    }

    fn note(&self, happened: Happened) {
        self.happened.push(happened);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log::tell(level, facility, line);
        self.noted.note(Happened::Nothing);
    }

    fn stats(&self, statistics: Statistics) {
        #[cfg(test)]
        {
            *self.noted.received.lock() = statistics.rxmsgs;
        }
        let topic = statistics.topics.get(&*self.topic);
        let partitions = topic
            .into_iter()
            .flat_map(|topic| topic.partitions.values());
        let mut at_end: Vec<_> = partitions
            .filter(|at| at.partition >= 0 && at.fetchq_cnt == 0 && at.eof_offset > 0)
            .map(|at| (at.partition, at.eof_offset))
            .collect();
        at_end.sort_unstable();
        self.noted.note(Happened::AtEnd(at_end));
        if let Some(failure) = self.noted.stranded.look(&statistics) {
            self.noted.note(Happened::Stranded(failure));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition comes this way too.
        if error.rdkafka_error_code() != Some(Code::PartitionEOF) {
            self.noted.trouble.note(&error, reason);
        }
        self.noted.note(Happened::Nothing);
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let partitions: Vec<i32> = list.elements().iter().map(|at| at.partition()).collect();
        let assigns = what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if *self.noted.closing.lock() {
            let protocol = consumer.rebalance_protocol();
            let cooperative = matches!(protocol, RebalanceProtocol::Cooperative);
            let done = match (assigns, cooperative) {
                (true, true) => consumer.incremental_assign(list),
                (true, false) => consumer.assign(list),
                (false, true) => consumer.incremental_unassign(list),
                (false, false) => consumer.unassign(),
            };
            if let Err(error) = done {
                tracing::warn!(target: "clearway::kafka", %error, "while leaving a group");
            }
            return;
        }
        let happened = if assigns {
            Happened::Assign(partitions)
        } else {
            let lost = consumer.assignment_lost();
            Happened::Revoke { partitions, lost }
        };
        self.noted.note(happened);
    }
}

#[cfg(test)]
mod mock {
    use super::*;
    use rdkafka::ClientConfig;
    use rdkafka::mocking::MockCluster;
    use std::sync::mpsc;
    use std::time::Duration;

    /// Whoever polls has to answer a rebalance, so a poll that waits for the answer waits for ever. On librdkafka's own mock of a cluster.
    #[test]
    fn a_rebalance_is_noted_and_not_waited_for() {
        let cluster = MockCluster::new(1).expect("a cluster in this process");
        cluster.create_topic("orders", 3, 1).expect("a topic");
        let noted = Arc::new(Noted::default());
        let context = Context {
            noted: noted.clone(),
            topic: "orders".into(),
        };
        let client: BaseConsumer<Context> = ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .set("group.id", "audit")
            .create_with_context(context)
            .expect("a client");
        client.subscribe(&["orders"]).expect("a topic to read");
        let (says, polled) = mpsc::channel();
        let polls = move || {
            loop {
                let _ = client.poll(Duration::from_millis(20));
                if let Some(Happened::Assign(partitions)) = noted.take() {
                    client.unassign().expect("it is answered");
                    noted.close();
                    let _ = says.send(partitions);
                    return;
                }
            }
        };
        crate::runtime::thread("polls", polls).expect("a thread");
        let partitions = polled.recv_timeout(Duration::from_secs(30));
        assert_eq!(partitions.as_deref(), Ok(&[0, 1, 2][..]), "still in a poll");
    }
}
