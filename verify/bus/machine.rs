//! The bus on memory against a plain model of what it promises, one operation after the other.
//!
//! proptest makes up the operations and shrinks what fails; virtual time makes every run the same
//! again, and failing seeds are kept beside this file. The model knows nothing of stages, slots
//! or tasks: a counter here, a list of what has no answer there.

mod support;

use bytes::Bytes;
use clearway::backend::partition_of;
use clearway::memory::Memory;
use clearway::{
    Bus, Ensure, FullReason, PublishError, Raw, Receipt, ReceiptFuture, Runtime, Topic, TopicConfig,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use support::world::World;

const TOPICS: [&str; 2] = ["orders", "payments"];
const IN_FLIGHT: usize = 4;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const PARTITIONS: u32 = 4;

#[derive(Clone, Debug)]
enum Op {
    Enqueue {
        topic: usize,
        key: Option<u8>,
        size: usize,
    },
    DropReceipt {
        which: usize,
    },
    Hold,
    Release,
    Disconnect,
    LoseAnswers(u64),
    Refuse(u64),
    DeleteTopic(usize),
    SizeLimit {
        topic: usize,
        limit: usize,
    },
    Advance(u64),
    Close(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let topic = 0..TOPICS.len();
    prop_oneof![
        8 => (topic.clone(), prop::option::of(0..3_u8), prop_oneof![Just(10), Just(300)])
            .prop_map(|(topic, key, size)| Op::Enqueue { topic, key, size }),
        2 => (0..8_usize).prop_map(|which| Op::DropReceipt { which }),
        1 => Just(Op::Hold),
        2 => Just(Op::Release),
        1 => Just(Op::Disconnect),
        1 => (1..3_u64).prop_map(Op::LoseAnswers),
        1 => (1..3_u64).prop_map(Op::Refuse),
        1 => topic.clone().prop_map(Op::DeleteTopic),
        1 => (topic, prop_oneof![Just(100), Just(1000)])
            .prop_map(|(topic, limit)| Op::SizeLimit { topic, limit }),
        2 => (1..8_000_u64).prop_map(Op::Advance),
        1 => (0..12_000_u64).prop_map(Op::Close),
    ]
}

/// What the model says of one accepted publish.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Acked { partition: u32, position: u64 },
    Rejected,
    Unknown,
}

/// A publish without an outcome.
#[derive(Clone, Copy, Debug)]
enum Open {
    /// The broker stands still and has not taken it.
    Held {
        topic: usize,
        life: u64,
        partition: u32,
        until: Duration,
    },
    /// Stored, and the answer is lost.
    Unanswered { until: Duration },
}

/// The promises, sequentially.
#[derive(Default)]
struct Model {
    now: Duration,
    closed: bool,
    held: bool,
    refuse: u64,
    lose: u64,
    size_limits: [Option<usize>; 2],
    /// Which life of the topic the broker has, and which one the bus knows the way to. A topic that
    /// is deleted and made again is another.
    alive: [Option<u64>; 2],
    known: [Option<u64>; 2],
    lives: u64,
    ends: BTreeMap<(usize, u32), u64>,
    open: BTreeMap<usize, Open>,
    fates: BTreeMap<usize, Fate>,
}

impl Model {
    fn accept(&mut self, id: usize, topic: usize, partition: u32) {
        // The first publish to a topic to which no way is known ensures it.
        let life = match self.known[topic] {
            Some(life) => life,
            None => self.ensure(topic),
        };
        if self.held {
            let until = self.now + ANSWER_TIMEOUT;
            self.open.insert(
                id,
                Open::Held {
                    topic,
                    life,
                    partition,
                    until,
                },
            );
        } else {
            self.take(id, topic, life, partition);
        }
    }

    fn ensure(&mut self, topic: usize) -> u64 {
        self.lives += 1;
        let life = *self.alive[topic].get_or_insert(self.lives);
        self.known[topic] = Some(life);
        life
    }

    /// The broker takes it.
    fn take(&mut self, id: usize, topic: usize, life: u64, partition: u32) {
        if self.refuse > 0 {
            self.refuse -= 1;
            self.fates.insert(id, Fate::Rejected);
        } else if self.alive[topic] != Some(life) {
            self.known[topic] = None;
            self.fates.insert(id, Fate::Rejected);
        } else {
            let end = self.ends.entry((topic, partition)).or_default();
            let position = *end;
            *end += 1;
            if self.lose > 0 {
                self.lose -= 1;
                self.open.insert(
                    id,
                    Open::Unanswered {
                        until: self.now + ANSWER_TIMEOUT,
                    },
                );
            } else {
                self.fates.insert(
                    id,
                    Fate::Acked {
                        partition,
                        position,
                    },
                );
            }
        }
    }

    fn release(&mut self) {
        self.held = false;
        let open = std::mem::take(&mut self.open);
        for (id, open) in open {
            match open {
                Open::Held {
                    topic,
                    life,
                    partition,
                    ..
                } => self.take(id, topic, life, partition),
                unanswered => {
                    self.open.insert(id, unanswered);
                }
            }
        }
    }

    fn disconnect(&mut self) {
        let until = self.now + ANSWER_TIMEOUT;
        let open = std::mem::take(&mut self.open);
        for (id, open) in open {
            match open {
                // Not sent: it goes over the next session, with all the time in the world again.
                Open::Held {
                    topic,
                    life,
                    partition,
                    ..
                } => {
                    self.open.insert(
                        id,
                        Open::Held {
                            topic,
                            life,
                            partition,
                            until,
                        },
                    );
                }
                Open::Unanswered { .. } => {
                    self.fates.insert(id, Fate::Unknown);
                }
            }
        }
    }

    fn advance(&mut self, to: Duration) {
        self.now = to;
        let open = std::mem::take(&mut self.open);
        for (id, open) in open {
            match open {
                Open::Held { until, .. } if until <= to => {
                    self.fates.insert(id, Fate::Rejected);
                }
                Open::Unanswered { until } if until <= to => {
                    self.fates.insert(id, Fate::Unknown);
                }
                open => {
                    self.open.insert(id, open);
                }
            }
        }
    }

    /// At the deadline everything that is left is unknown.
    fn close(&mut self, deadline: Duration) {
        self.advance(deadline);
        for id in std::mem::take(&mut self.open).into_keys() {
            self.fates.insert(id, Fate::Unknown);
        }
        self.closed = true;
    }

    fn count(&self, of: impl Fn(&Fate) -> bool) -> u64 {
        self.fates.values().filter(|fate| of(fate)).count() as u64
    }
}

/// The bus under test, beside its model.
struct Machine {
    runtime: World,
    broker: Memory,
    bus: Bus,
    topics: Vec<Topic<Bytes, Raw>>,
    model: Model,
    receipts: BTreeMap<usize, ReceiptFuture>,
    accepted: usize,
}

impl Machine {
    fn new() -> Self {
        let runtime = World::new(7);
        let broker = Memory::new().answer_timeout(ANSWER_TIMEOUT);
        let builder = Bus::builder()
            .backend(broker.clone())
            .runtime(Arc::new(runtime.clone()))
            .in_flight(IN_FLIGHT as u64, 1 << 20)
            .receipts_max(1024);
        let bus = runtime.run(builder.connect()).unwrap();
        let topics = TOPICS
            .iter()
            .map(|name| bus.raw_topic(name).unwrap())
            .collect();
        let (model, receipts) = (Model::default(), BTreeMap::new());
        Self {
            runtime,
            broker,
            bus,
            topics,
            model,
            receipts,
            accepted: 0,
        }
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Enqueue { topic, key, size } => self.enqueue(topic, key, size),
            Op::DropReceipt { which } => {
                if let Some(id) = self.receipts.keys().copied().nth(which) {
                    self.receipts.remove(&id);
                }
            }
            Op::Hold => {
                self.broker.faults().hold();
                self.model.held = true;
            }
            Op::Release => {
                self.broker.faults().release();
                self.model.release();
            }
            Op::Disconnect if !self.model.closed => {
                self.broker.faults().disconnect();
                self.model.disconnect();
            }
            Op::Disconnect => {}
            Op::LoseAnswers(count) => {
                self.broker.faults().lose_answers(count);
                self.model.lose = count;
            }
            Op::Refuse(count) => {
                self.broker.faults().refuse(count);
                self.model.refuse = count;
            }
            Op::DeleteTopic(topic) => self.delete_topic(topic),
            Op::SizeLimit { topic, limit } => self.configure(topic, limit),
            Op::Advance(millis) => {
                let to = self.runtime.now() + Duration::from_millis(millis);
                self.runtime
                    .run(self.runtime.sleep(Duration::from_millis(millis)));
                self.runtime.settle();
                self.model.advance(to);
            }
            Op::Close(millis) => self.close(Duration::from_millis(millis)),
        }
        self.runtime.settle();
        self.compare();
    }

    fn enqueue(&mut self, topic: usize, key: Option<u8>, size: usize) {
        let payload = Bytes::from(vec![0; size]);
        let mut publish = self.topics[topic].publish(&payload);
        if let Some(key) = key {
            publish = publish.key(vec![key]);
        }
        let envelope = publish.envelope().unwrap().clone();
        let model = &mut self.model;
        let too_large = model.size_limits[topic].filter(|limit| envelope.size() > *limit);
        match publish.enqueue() {
            Ok(receipt) => {
                assert!(!model.closed && too_large.is_none() && model.open.len() < IN_FLIGHT);
                let key = envelope.key.as_deref().unwrap_or(envelope.id.as_bytes());
                let id = self.accepted;
                self.accepted += 1;
                model.accept(id, topic, partition_of(key, PARTITIONS));
                self.receipts.insert(id, receipt);
            }
            Err(refused) => {
                assert_eq!(*refused.envelope, envelope, "handed back whole");
                match refused.error {
                    PublishError::Closed => assert!(model.closed),
                    PublishError::TooLarge { limit, .. } => assert_eq!(Some(limit), too_large),
                    PublishError::Full(FullReason::InFlight) => {
                        assert_eq!(model.open.len(), IN_FLIGHT)
                    }
                    other => panic!("{other}"),
                }
            }
        }
    }

    fn delete_topic(&mut self, topic: usize) {
        assert_eq!(
            self.broker.faults().delete_topic(TOPICS[topic]),
            self.model.alive[topic].is_some()
        );
        self.model.alive[topic] = None;
        for partition in 0..PARTITIONS {
            self.model.ends.remove(&(topic, partition));
        }
    }

    fn configure(&mut self, topic: usize, limit: usize) {
        let config = TopicConfig::new(TOPICS[topic])
            .size_limit(limit)
            .ensure(Ensure::CreateOrUpdate);
        match self.runtime.run(self.bus.configure(config)) {
            Ok(()) => {
                assert!(!self.model.closed);
                self.model.size_limits[topic] = Some(limit);
                self.model.ensure(topic);
            }
            Err(error) => assert!(self.model.closed, "{error}"),
        }
    }

    fn close(&mut self, limit: Duration) {
        let first = !self.model.closed;
        let left_before = self.model.open.len() as u64;
        let deadline = self.runtime.now() + limit;
        let report = self.runtime.run(self.bus.close(limit));
        if first {
            let unknown = |model: &Model| model.count(|fate| *fate == Fate::Unknown);
            let before = unknown(&self.model);
            self.model.advance(self.runtime.now().min(deadline));
            let ambiguous = unknown(&self.model) - before;
            let told: u64 = report.topics.values().map(|t| t.ambiguous).sum();
            assert_eq!(told, ambiguous, "{report:?}");
            let drained = ambiguous == 0 && self.model.open.is_empty();
            assert_eq!(report.drained, drained, "{report:?}");
            let told: u64 = report
                .topics
                .values()
                .map(|t| t.drained + t.ambiguous + t.unknown + t.unsent)
                .sum();
            assert_eq!(told, left_before, "{report:?}");
            self.model.close(self.runtime.now().min(deadline));
        }
        self.model.now = self.runtime.now();
        assert_eq!(self.runtime.tasks(), 0, "nothing runs after close returned");
    }

    /// What is known of every publish, and the counters, are what the model says.
    fn compare(&mut self) {
        let settled: Vec<_> = self
            .receipts
            .keys()
            .copied()
            .filter(|id| self.model.fates.contains_key(id))
            .collect();
        for id in settled {
            let receipt = self.receipts.remove(&id).unwrap();
            assert_eq!(
                fate(self.runtime.run(receipt)),
                self.model.fates[&id],
                "publish {id}"
            );
        }
        let metrics = self.bus.metrics();
        assert_eq!(metrics.in_flight, self.model.open.len() as u64);
        assert_eq!(metrics.accepted, self.accepted as u64);
        assert_eq!(
            metrics.acked,
            self.model.count(|fate| matches!(fate, Fate::Acked { .. }))
        );
        assert_eq!(
            metrics.rejected,
            self.model.count(|fate| *fate == Fate::Rejected)
        );
        assert_eq!(
            metrics.unknown,
            self.model.count(|fate| *fate == Fate::Unknown)
        );
    }
}

fn fate(result: Result<Receipt, PublishError>) -> Fate {
    match result {
        Ok(receipt) => Fate::Acked {
            partition: receipt.partition,
            position: receipt.position,
        },
        Err(PublishError::Rejected(_)) => Fate::Rejected,
        Err(PublishError::Unknown(_)) => Fate::Unknown,
        Err(other) => panic!("no outcome of an accepted publish: {other}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5000, ..ProptestConfig::default() })]

    #[test]
    fn the_bus_does_what_the_model_says(ops in prop::collection::vec(op(), 1..40)) {
        let mut machine = Machine::new();
        for op in &ops {
            machine.step(op);
        }
        machine.step(&Op::Release);
        machine.step(&Op::Close(20_000));
    }
}
