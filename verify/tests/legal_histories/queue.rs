//! A tiny queue and its clients, as simple as can be: what it records is legal by construction.

use clearway_verify::history::{
    Acked, Close, ClosePhase, Deliver, Disconnect, Drained, Durability, Event, Fault, Header,
    History, Invoke, Log, Order, Phase, Rebalance, Rejected, Resend, Settle, Settled, Subscribe,
    Unknown,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

const PARTITIONS: u32 = 2;
const KEYS: u32 = 3;
const PROCESSES: u32 = 3;
const TOPIC: &str = "orders";
const GROUP: &str = "billing";

/// One thing that happens next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// A process that waits for nothing publishes.
    Invoke {
        process: u32,
        key: u32,
    },
    /// The broker stores what a process has under way, once more if its answer is lost.
    Store {
        process: u32,
        answer_lost: bool,
    },
    /// The process is told.
    Answer {
        process: u32,
        ambiguous: bool,
    },
    /// The next envelope of a partition goes to the handler.
    Deliver {
        partition: u32,
        nack: bool,
    },
    /// The session is lost, and the broker hands the last one out again, though its handler has acked it.
    Redeliver {
        partition: u32,
    },
    /// The partition gets another owner, who begins before the last envelope.
    NewOwner {
        partition: u32,
    },
    Fault,
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let process = || 0..PROCESSES;
    let partition = || 0..PARTITIONS;
    prop_oneof![
        6 => (process(), 0..KEYS).prop_map(|(process, key)| Step::Invoke { process, key }),
        6 => (process(), prop::bool::weighted(0.2))
            .prop_map(|(process, answer_lost)| Step::Store { process, answer_lost }),
        6 => (process(), prop::bool::weighted(0.1))
            .prop_map(|(process, ambiguous)| Step::Answer { process, ambiguous }),
        6 => (partition(), prop::bool::weighted(0.2))
            .prop_map(|(partition, nack)| Step::Deliver { partition, nack }),
        1 => partition().prop_map(|partition| Step::Redeliver { partition }),
        1 => partition().prop_map(|partition| Step::NewOwner { partition }),
        1 => Just(Step::Fault),
    ]
}

/// A publish under way.
struct UnderWay {
    op: u64,
    key: u32,
    stored: Option<u64>,
    resent: bool,
}

#[derive(Default)]
struct Partition {
    /// Id and key by position.
    log: Vec<(String, u32)>,
    next: usize,
    /// How often each position was handed out by its present owner.
    attempts: BTreeMap<usize, u32>,
    epoch: u64,
}

/// The queue and its clients, as simple as can be.
struct Queue {
    log: Log,
    clock: u64,
    ops: u64,
    under_way: BTreeMap<u32, UnderWay>,
    partitions: Vec<Partition>,
}

impl Queue {
    fn new() -> Self {
        let header = Header {
            durability: Some(Durability::Stored),
            ..Header::new("model")
        };
        let mut queue = Self {
            log: Log::in_memory(header),
            clock: 0,
            ops: 0,
            under_way: BTreeMap::new(),
            partitions: (0..PARTITIONS).map(|_| Partition::default()).collect(),
        };
        queue.record(Subscribe {
            subscription: 0,
            bus: 0,
            topic: TOPIC.into(),
            group: GROUP.into(),
            order: Order::Partition,
        });
        queue
    }

    fn record(&mut self, event: impl Into<Event>) {
        self.clock += 10;
        self.log.record_at(self.clock, event);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Invoke { process, key } => self.invoke(process, key),
            Step::Store {
                process,
                answer_lost,
            } => self.store(process, answer_lost),
            Step::Answer { process, ambiguous } => self.answer(process, ambiguous),
            Step::Deliver { partition, nack } => {
                let at = self.partitions[partition as usize].next;
                if at < self.partitions[partition as usize].log.len() {
                    self.deliver(partition, at, nack);
                    self.partitions[partition as usize].next += 1;
                }
            }
            Step::Redeliver { partition } => {
                if let Some(last) = self.partitions[partition as usize].next.checked_sub(1) {
                    self.record(Disconnect {
                        bus: 0,
                        killed: false,
                    });
                    self.deliver(partition, last, false);
                }
            }
            Step::NewOwner { partition } => {
                let number = partition;
                let partition = &mut self.partitions[number as usize];
                partition.epoch += 1;
                partition.attempts.clear();
                partition.next = partition.next.saturating_sub(1);
                let epoch = partition.epoch;
                self.record(Rebalance {
                    topic: TOPIC.into(),
                    group: GROUP.into(),
                    epoch,
                    subscription: Some(0),
                    from: None,
                    partitions: vec![number],
                });
            }
            Step::Fault => {
                for phase in [Phase::Begin, Phase::End] {
                    let what = "connections cut".to_owned();
                    self.record(Fault { what, phase });
                }
            }
        }
    }

    fn invoke(&mut self, process: u32, key: u32) {
        if self.under_way.contains_key(&process) {
            return;
        }
        let op = self.ops;
        self.ops += 1;
        self.under_way.insert(
            process,
            UnderWay {
                op,
                key,
                stored: None,
                resent: false,
            },
        );
        self.record(Invoke {
            op,
            process,
            bus: 0,
            topic: TOPIC.into(),
            id: format!("e{op}"),
            key: Some(format!("k{key}")),
            seq: op,
            size: 1,
            ordered: false,
            durability: None,
        });
    }

    fn store(&mut self, process: u32, answer_lost: bool) {
        let Some(publish) = self.under_way.get_mut(&process) else {
            return;
        };
        if publish.stored.is_some() && !publish.resent {
            return;
        }
        let log = &mut self.partitions[(publish.key % PARTITIONS) as usize].log;
        // What is sent once more may come to lie twice, and it is the first that counts.
        publish.stored.get_or_insert(log.len() as u64);
        log.push((format!("e{}", publish.op), publish.key));
        publish.resent = false;
        if answer_lost {
            publish.resent = true;
            let id = format!("e{}", publish.op);
            self.record(Resend {
                op: None,
                id: Some(id),
                topic: Some(TOPIC.into()),
            });
        }
    }

    fn answer(&mut self, process: u32, ambiguous: bool) {
        let Some(publish) = self.under_way.remove(&process) else {
            return;
        };
        let op = publish.op;
        match publish.stored {
            Some(position) if !ambiguous => self.record(Acked {
                op,
                partition: publish.key % PARTITIONS,
                position,
                duplicate: false,
                durability: Some(Durability::Synced),
            }),
            None if !ambiguous => self.record(Rejected {
                op,
                reason: "no responders".into(),
            }),
            _ => self.record(Unknown {
                op,
                reason: "connection lost".into(),
            }),
        }
    }

    fn deliver(&mut self, number: u32, at: usize, nack: bool) {
        let partition = &mut self.partitions[number as usize];
        let (id, key) = partition.log[at].clone();
        let epoch = partition.epoch;
        let position = at as u64;
        let endings: &[Settled] = if nack {
            &[Settled::Nack, Settled::Ack]
        } else {
            &[Settled::Ack]
        };
        for &how in endings {
            let attempts = self.partitions[number as usize]
                .attempts
                .entry(at)
                .or_insert(0);
            *attempts += 1;
            let attempt = Some(*attempts);
            self.record(Deliver {
                subscription: 0,
                bus: 0,
                topic: TOPIC.into(),
                group: GROUP.into(),
                partition: number,
                position,
                id: id.clone(),
                key: Some(format!("k{key}")),
                attempt,
                epoch,
            });
            let topic = TOPIC.into();
            self.record(Settle {
                subscription: 0,
                topic,
                partition: number,
                position,
                how,
                why: None,
            });
        }
    }

    /// Everybody is told, everything is delivered, and the bus is closed.
    fn finish(mut self) -> History {
        for process in 0..PROCESSES {
            self.answer(process, false);
        }
        for partition in 0..PARTITIONS {
            while self.partitions[partition as usize].next
                < self.partitions[partition as usize].log.len()
            {
                self.step(Step::Deliver {
                    partition,
                    nack: false,
                });
            }
        }
        self.record(Drained {
            topic: TOPIC.into(),
            group: GROUP.into(),
        });
        for phase in [ClosePhase::Invoke, ClosePhase::Return] {
            self.record(Close {
                process: 9,
                bus: 0,
                phase,
                report: None,
            });
        }
        self.log.into_history().expect("it was kept in memory")
    }
}

/// What the queue records on the way through `steps`, to a quiet end.
pub(crate) fn legal(steps: &[Step]) -> History {
    let mut queue = Queue::new();
    for &step in steps {
        queue.step(step);
    }
    queue.finish()
}
