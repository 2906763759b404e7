//! A cluster and its clients, as simple as can be: what it records is legal by construction, and has everything that makes a history long to
//! judge: partitions, groups in both orders, handlers side by side, commits seen from outside, owners that change, processes that are killed,
//! envelopes that are stored twice, given back, or given again.

use clearway_verify::history::{
    Acked, Close, ClosePhase, Commit, Deliver, Disconnect, Drained, Durability, Event, Header,
    Invoke, Log, Order, Rebalance, Reconnect, Rejected, Resend, Settle, Settled, Subscribe,
    Unknown,
};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

const TOPICS: [&str; 2] = ["orders", "payments"];
const GROUPS: [(&str, Order); 2] = [("billing", Order::Key), ("audit", Order::Partition)];
const PARTITIONS: u32 = 8;
const KEYS: u32 = 500;
const PUBLISHERS: u32 = 16;
const BUSES: u32 = 4;
/// Handlers of a partition that run side by side, where the order is the key's.
const BESIDE: usize = 4;

/// The envelope that an op publishes: as long as ids are.
pub(crate) fn id_of(op: u64) -> String {
    format!("01932c07-{op:08x}-7aaa-8bbb-00000000{:04x}", op % 9973)
}

fn key_of(key: u32) -> String {
    format!("customer-{key}")
}

/// Writes the history of a run of about so many events.
pub(crate) fn record(path: &Path, events: u64, seed: u64) -> io::Result<()> {
    let header = Header {
        durability: Some(Durability::Stored),
        workload: format!("{PUBLISHERS} publishers, {} groups", GROUPS.len()),
        seed: Some(seed),
        ..Header::new("model")
    };
    let mut cluster = Cluster::new(Log::to_file(path, header)?, seed);
    while cluster.clock / STEP < events {
        cluster.step();
    }
    cluster.finish()
}

/// Nanoseconds between two events.
const STEP: u64 = 1000;

struct UnderWay {
    op: u64,
    topic: usize,
    key: u32,
}

/// What a group does in a partition.
struct Reading {
    topic: usize,
    group: usize,
    partition: u32,
    owner: u32,
    epoch: u64,
    next: u64,
    committed: u64,
    /// Position and attempt of what its handlers are at.
    at_work: Vec<(u64, u32)>,
    /// Done, and not committed.
    done: BTreeSet<u64>,
}

struct Cluster {
    log: Log,
    chance: fastrand::Rng,
    clock: u64,
    ops: u64,
    under_way: Vec<Option<UnderWay>>,
    /// Op and key, by topic, partition and position.
    stored: Vec<Vec<Vec<(u64, u32)>>>,
    readings: Vec<Reading>,
    /// The buses that live.
    buses: Vec<u32>,
    buses_made: u32,
    generations: u64,
}

impl Cluster {
    fn new(log: Log, seed: u64) -> Self {
        let mut cluster = Self {
            log,
            chance: fastrand::Rng::with_seed(seed),
            clock: 0,
            ops: 0,
            under_way: (0..PUBLISHERS).map(|_| None).collect(),
            stored: vec![vec![Vec::new(); PARTITIONS as usize]; TOPICS.len()],
            readings: Vec::new(),
            buses: Vec::new(),
            buses_made: 0,
            generations: 0,
        };
        (0..BUSES).for_each(|_| cluster.begin_bus());
        for topic in 0..TOPICS.len() {
            for group in 0..GROUPS.len() {
                cluster
                    .readings
                    .extend((0..PARTITIONS).map(|partition| Reading {
                        topic,
                        group,
                        partition,
                        owner: partition % BUSES,
                        epoch: 0,
                        next: 0,
                        committed: 0,
                        at_work: Vec::new(),
                        done: BTreeSet::new(),
                    }));
            }
        }
        cluster
    }

    fn record(&mut self, event: impl Into<Event>) {
        self.clock += STEP;
        self.log.record_at(self.clock, event);
    }

    fn begin_bus(&mut self) {
        let bus = self.buses_made;
        self.buses_made += 1;
        self.buses.push(bus);
        for (topic, of) in TOPICS.into_iter().enumerate() {
            for (group, (name, order)) in GROUPS.into_iter().enumerate() {
                self.record(Subscribe {
                    subscription: subscription(bus, topic, group),
                    bus,
                    topic: of.into(),
                    group: name.into(),
                    order,
                });
            }
        }
    }

    fn step(&mut self) {
        match self.chance.u32(..100_000) {
            0..3 => self.kill(),
            3..10 => self.reconnect(),
            10..100 => self.move_partition(),
            100..3_000 => self.commit(),
            3_000..35_000 => self.publish(),
            _ => {
                let reading = self.chance.usize(..self.readings.len());
                self.handle(reading);
            }
        }
    }

    fn publish(&mut self) {
        let process = self.chance.u32(..PUBLISHERS);
        match self.under_way[process as usize].take() {
            Some(publish) => self.answer(&publish),
            None => {
                let (topic, key) = (self.chance.usize(..TOPICS.len()), self.chance.u32(..KEYS));
                let op = self.ops;
                self.ops += 1;
                self.under_way[process as usize] = Some(UnderWay { op, topic, key });
                self.record(Invoke {
                    op,
                    process,
                    bus: self.buses[0],
                    topic: TOPICS[topic].into(),
                    id: id_of(op),
                    key: Some(key_of(key)),
                    seq: op,
                    size: 200,
                    ordered: false,
                    durability: None,
                });
            }
        }
    }

    /// It is stored and said so, or once more and said so, or not, or nobody knows.
    fn answer(&mut self, publish: &UnderWay) {
        let &UnderWay { op, topic, key } = publish;
        let fate = self.chance.u32(..1000);
        if fate < 5 {
            let reason = "no leader".into();
            return self.record(Rejected { op, reason });
        }
        let partition = key % PARTITIONS;
        let position = self.store(publish);
        if fate < 25 {
            self.record(Resend {
                op: None,
                id: Some(id_of(op)),
                topic: (fate < 20).then(|| TOPICS[topic].into()),
            });
            self.store(publish);
        }
        match fate {
            25..30 => {
                let reason = "connection lost".into();
                self.record(Unknown { op, reason });
            }
            _ => self.record(Acked {
                op,
                partition,
                position,
                duplicate: false,
                durability: Some(Durability::Stored),
            }),
        }
    }

    fn store(&mut self, publish: &UnderWay) -> u64 {
        let partition = publish.key % PARTITIONS;
        let log = &mut self.stored[publish.topic][partition as usize];
        log.push((publish.op, publish.key));
        log.len() as u64 - 1
    }

    /// A handler of the partition ends, or another begins.
    fn handle(&mut self, reading: usize) {
        let of = &self.readings[reading];
        let beside = match GROUPS[of.group].1 {
            Order::Key => BESIDE,
            _ => 1,
        };
        let log = &self.stored[of.topic][of.partition as usize];
        let may_begin = log.get(of.next as usize).is_some_and(|&(_, key)| {
            let is_free = |&(at, _): &(u64, u32)| log[at as usize].1 != key;
            of.at_work.len() < beside && of.at_work.iter().all(is_free)
        });
        if may_begin && (of.at_work.is_empty() || self.chance.bool()) {
            let position = of.next;
            self.readings[reading].next += 1;
            self.deliver(reading, position, 1);
        } else if !of.at_work.is_empty() {
            let at = self.chance.usize(..self.readings[reading].at_work.len());
            self.settle(reading, at);
        }
    }

    fn deliver(&mut self, reading: usize, position: u64, attempt: u32) {
        let of = &mut self.readings[reading];
        of.at_work.push((position, attempt));
        let (op, key) = self.stored[of.topic][of.partition as usize][position as usize];
        let deliver = Deliver {
            subscription: subscription(of.owner, of.topic, of.group),
            bus: of.owner,
            topic: TOPICS[of.topic].into(),
            group: GROUPS[of.group].0.into(),
            partition: of.partition,
            position,
            id: id_of(op),
            key: Some(key_of(key)),
            attempt: Some(attempt),
            epoch: of.epoch,
        };
        self.record(deliver);
    }

    /// The handler acknowledges, or gives back what it then is given again.
    fn settle(&mut self, reading: usize, at: usize) {
        let gives_back = self.chance.u32(..100) == 0;
        let of = &mut self.readings[reading];
        let (position, attempt) = of.at_work.swap_remove(at);
        let settle = Settle {
            subscription: subscription(of.owner, of.topic, of.group),
            topic: TOPICS[of.topic].into(),
            partition: of.partition,
            position,
            how: if gives_back {
                Settled::Nack
            } else {
                Settled::Ack
            },
            why: None,
        };
        if !gives_back {
            of.done.insert(position);
        }
        self.record(settle);
        if gives_back {
            self.deliver(reading, position, attempt + 1);
        }
    }

    fn commit(&mut self) {
        let reading = self.chance.usize(..self.readings.len());
        let of = &mut self.readings[reading];
        while of.done.remove(&of.committed) {
            of.committed += 1;
        }
        let commit = Commit {
            subscription: None,
            topic: TOPICS[of.topic].into(),
            group: GROUPS[of.group].0.into(),
            partition: of.partition,
            position: of.committed,
            epoch: 0,
        };
        self.record(commit);
    }

    /// The handlers end first; the next owner begins at what was committed.
    fn move_partition(&mut self) {
        let reading = self.chance.usize(..self.readings.len());
        while !self.readings[reading].at_work.is_empty() {
            self.settle(reading, 0);
        }
        let owner = self.buses[self.chance.usize(..self.buses.len())];
        self.give(reading, owner);
    }

    fn give(&mut self, reading: usize, owner: u32) {
        let of = &mut self.readings[reading];
        of.owner = owner;
        of.epoch += 1;
        of.next = of.committed;
        of.done.clear();
        let rebalance = Rebalance {
            topic: TOPICS[of.topic].into(),
            group: GROUPS[of.group].0.into(),
            epoch: of.epoch,
            subscription: Some(subscription(owner, of.topic, of.group)),
            from: None,
            partitions: vec![of.partition],
        };
        self.record(rebalance);
    }

    /// Its handlers end with it, and another takes its place.
    fn kill(&mut self) {
        let at = self.chance.usize(1..self.buses.len());
        let bus = self.buses.remove(at);
        self.record(Disconnect { bus, killed: true });
        self.begin_bus();
        for reading in 0..self.readings.len() {
            if self.readings[reading].owner == bus {
                self.readings[reading].at_work.clear();
                let owner = self.buses[self.chance.usize(..self.buses.len())];
                self.give(reading, owner);
            }
        }
    }

    fn reconnect(&mut self) {
        let bus = self.buses[self.chance.usize(..self.buses.len())];
        self.generations += 1;
        self.record(Disconnect { bus, killed: false });
        let generation = self.generations;
        self.record(Reconnect { bus, generation });
    }

    /// Everybody is told, everything is delivered, and every bus is closed.
    fn finish(mut self) -> io::Result<()> {
        for process in 0..PUBLISHERS {
            if let Some(publish) = self.under_way[process as usize].take() {
                self.answer(&publish);
            }
        }
        for reading in 0..self.readings.len() {
            let of = &self.readings[reading];
            let all = self.stored[of.topic][of.partition as usize].len() as u64;
            while self.readings[reading].next < all || !self.readings[reading].at_work.is_empty() {
                self.handle(reading);
            }
        }
        for topic in TOPICS {
            for (group, _) in GROUPS {
                let (topic, group) = (topic.into(), group.into());
                self.record(Drained { topic, group });
            }
        }
        for bus in self.buses.clone() {
            for phase in [ClosePhase::Invoke, ClosePhase::Return] {
                let (process, report) = (PUBLISHERS, None);
                self.record(Close {
                    process,
                    bus,
                    phase,
                    report,
                });
            }
        }
        self.log.finish()
    }
}

fn subscription(bus: u32, topic: usize, group: usize) -> u32 {
    (bus * TOPICS.len() as u32 + topic as u32) * GROUPS.len() as u32 + group as u32
}
