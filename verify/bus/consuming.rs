//! Consuming on memory against a plain model of what it promises, one operation after the other.
//!
//! proptest makes up the operations and shrinks what fails; virtual time makes every run the same again. The model
//! knows nothing of lanes, workers or watermarks: what a group has settled, what a subscription has taken, what waits. Which of
//! several ready deliveries runs first is the bus's to choose; that it is one of them, and that as many run as may, is
//! checked after every operation.

#[path = "consuming/handlers.rs"]
mod handlers;
#[path = "consuming/ops.rs"]
mod ops;
mod support;

use clearway::backend::partition_of;
use clearway::memory::Memory;
use clearway::{
    Bus, Delivery, Order, Retry, Runtime, SubscribeError, Subscription, SubscriptionState,
};
use handlers::{AtWork, Running, handle};
use ops::{How, Op, op};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use support::world::World;

const TOPIC: &str = "orders";
const PARTITIONS: u32 = 4;
const GROUPS: [&str; 2] = ["billing", "shipping"];
const CONCURRENCY: usize = 2;
const PAUSE: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// An envelope that the broker has.
#[derive(Clone, Copy)]
struct Stored {
    key: Option<u8>,
    partition: u32,
}

/// What is true of one group.
#[derive(Default)]
struct Group {
    settled: BTreeSet<u32>,
    /// There while a subscription of ours is.
    open: Option<Open>,
}

/// What is true of a subscription.
struct Open {
    order: Order,
    held: bool,
    paused: bool,
    taken: BTreeSet<u32>,
    /// When each that failed may be tried again.
    due: BTreeMap<u32, Duration>,
}

/// What one after the other is handled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Line {
    Key(u8),
    Partition(u32),
    Alone(u32),
}

impl Open {
    fn takes(&self) -> bool {
        !self.held && !self.paused
    }

    fn line(&self, value: u32, stored: Stored) -> Line {
        match (self.order, stored.key) {
            (Order::ByKey, Some(key)) => Line::Key(key),
            (Order::ByPartition, _) => Line::Partition(stored.partition),
            _ => Line::Alone(value),
        }
    }
}

/// The bus under test, beside its model.
struct Machine {
    runtime: World,
    broker: Memory,
    bus: Option<Bus>,
    subscriptions: BTreeMap<usize, Subscription>,
    at_work: AtWork,
    published: u32,
    stored: BTreeMap<u32, Stored>,
    groups: [Group; 2],
    /// The last attempt that was seen of a delivery in one subscription.
    attempts: BTreeMap<(usize, u32), u32>,
}

impl Machine {
    fn new() -> Self {
        let runtime = World::new(11);
        Self {
            runtime,
            broker: Memory::new(),
            bus: None,
            subscriptions: BTreeMap::new(),
            at_work: AtWork::default(),
            published: 0,
            stored: BTreeMap::new(),
            groups: Default::default(),
            attempts: BTreeMap::new(),
        }
    }

    fn bus(&mut self) -> Bus {
        let (broker, runtime) = (&self.broker, &self.runtime);
        let bus = self.bus.get_or_insert_with(|| {
            let builder = Bus::builder().backend(broker.clone());
            let connecting = builder.runtime(Arc::new(runtime.clone())).connect();
            runtime.run(connecting).unwrap()
        });
        bus.clone()
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Subscribe { group, order, held } => self.subscribe(group, order, held),
            Op::Publish { key } => self.publish(key),
            Op::Answer { which, how } => self.answer(which, how),
            Op::Pause(group) => {
                if let Some(subscription) = self.subscriptions.get(&group) {
                    assert!(self.runtime.run(subscription.pause()));
                    self.open(group).paused = true;
                }
            }
            Op::Resume(group) => {
                if let Some(subscription) = self.subscriptions.get(&group) {
                    subscription.resume();
                    self.open(group).paused = false;
                }
            }
            Op::Activate(group) => {
                if let Some(subscription) = self.subscriptions.get(&group) {
                    let was_held = subscription.activate();
                    let held = std::mem::take(&mut self.open(group).held);
                    assert_eq!(was_held, held);
                }
            }
            Op::Drain { group, millis } => self.drain(group, millis),
            Op::Close(millis) => self.close(millis),
            Op::Advance(millis) => {
                let sleep = self.runtime.sleep(Duration::from_millis(millis));
                self.runtime.run(sleep);
            }
        }
        self.runtime.settle();
        self.compare();
    }

    fn open(&mut self, group: usize) -> &mut Open {
        self.groups[group].open.as_mut().expect("it is subscribed")
    }

    fn subscribe(&mut self, group: usize, order: Order, held: bool) {
        let orders = self.bus().topic::<u32>(TOPIC).unwrap();
        let (at_work, publishes) = (self.at_work.clone(), orders.clone());
        let builder = orders
            .subscription(GROUPS[group])
            .order(order)
            .concurrency(CONCURRENCY)
            .retry(Retry::new().delays(PAUSE, PAUSE));
        let builder = if held { builder.hold() } else { builder };
        let subscribing = builder.handler(move |delivery: Delivery<u32>| {
            handle(delivery, group, at_work.clone(), publishes.clone())
        });
        match self.runtime.run(subscribing) {
            Ok(subscription) => {
                assert!(self.groups[group].open.is_none(), "a group is taken once");
                self.subscriptions.insert(group, subscription);
                self.attempts.retain(|(of, _), _| *of != group);
                self.groups[group].open = Some(Open {
                    order,
                    held,
                    paused: false,
                    taken: BTreeSet::new(),
                    due: BTreeMap::new(),
                });
            }
            Err(SubscribeError::Taken { .. }) => assert!(self.groups[group].open.is_some()),
            Err(other) => panic!("{other}"),
        }
    }

    fn publish(&mut self, key: Option<u8>) {
        let orders = self.bus().topic::<u32>(TOPIC).unwrap();
        let value = self.published;
        let publish = orders.publish(&value);
        let publish = match key {
            Some(key) => publish.key(vec![key]),
            None => publish,
        };
        let receipt = self.runtime.run(publish.into_future()).unwrap();
        let partition = receipt.partition;
        assert!(key.is_none_or(|key| partition == partition_of(&[key], PARTITIONS)));
        self.publishes(key, partition);
    }

    /// The next value is one of this key, in this partition.
    fn publishes(&mut self, key: Option<u8>, partition: u32) {
        let value = self.published;
        self.stored.insert(value, Stored { key, partition });
        self.published += 1;
    }

    fn answer(&mut self, which: usize, how: How) {
        let running = {
            let mut at_work = self.at_work.lock().unwrap();
            if at_work.is_empty() {
                return;
            }
            let which = which % at_work.len();
            at_work.remove(which)
        };
        let Running { group, value, .. } = running;
        let due = match how {
            How::PublishAndAck(key, _) => {
                self.publishes(Some(key), partition_of(&[key], PARTITIONS));
                None
            }
            How::Ack | How::Skip => None,
            How::Fail | How::Panic => Some(PAUSE),
            How::Again(millis) => Some(Duration::from_millis(millis)),
        };
        let how = match how {
            How::PublishAndAck(key, _) => How::PublishAndAck(key, self.published - 1),
            how => how,
        };
        let now = self.runtime.now();
        match due {
            None => {
                self.groups[group].settled.insert(value);
            }
            Some(pause) => {
                self.open(group).due.insert(value, now + pause);
            }
        }
        running.answer.send(how).unwrap();
    }

    fn drain(&mut self, group: usize, millis: u64) {
        let Some(subscription) = self.subscriptions.remove(&group) else {
            return;
        };
        let limit = Duration::from_millis(millis);
        let begun = self.runtime.now();
        let at_work = self.at_work.lock().unwrap();
        let idle = at_work.iter().all(|running| running.group != group);
        drop(at_work);
        let mut due = self.open(group).due.values();
        let idle = idle && due.all(|due| *due > begun + limit);
        let report = self.runtime.run(subscription.drain(limit));
        let end = if idle { begun } else { begun + limit + MS };
        assert!(
            self.runtime.now() <= end,
            "a drain of {limit:?} took longer"
        );
        self.ended(group, report.left.len());
        assert_eq!(report.drained, report.left.is_empty());
        assert!(!report.blocked);
        let state = self.runtime.run(subscription.status()).state;
        assert_eq!(state, SubscriptionState::Ended);
        assert!(!self.runtime.run(subscription.pause()));
    }

    /// A subscription is over: what it had taken and not settled is as it was before.
    fn ended(&mut self, group: usize, left: usize) {
        let Group { settled, open } = &mut self.groups[group];
        let open = open.take().expect("it was subscribed");
        let unsettled = open.taken.difference(settled).count();
        assert_eq!(
            left, unsettled,
            "what was left is what was taken and not settled"
        );
        let at_work = self.at_work.lock().unwrap();
        assert!(
            at_work.iter().all(|running| running.group != group),
            "nothing is handled after the end"
        );
    }

    fn close(&mut self, millis: u64) {
        let Some(bus) = self.bus.take() else {
            return;
        };
        let report = self.runtime.run(bus.close(Duration::from_millis(millis)));
        let mut left = 0;
        for (group, name) in GROUPS.into_iter().enumerate() {
            if self.subscriptions.remove(&group).is_some() {
                let place = (TOPIC.into(), name.into());
                let of_group = report.subscriptions.get(&place);
                let of_group = of_group.map_or(0, |report| report.left.len());
                left += of_group as u64;
                self.ended(group, of_group);
            }
        }
        assert_eq!(report.deliveries_left, left);
        assert_eq!(self.runtime.tasks(), 0, "nothing runs after close returned");
    }

    /// What runs is what may run, and as much of it as may.
    fn compare(&mut self) {
        let now = self.runtime.now();
        for group in 0..GROUPS.len() {
            let Group { settled, open } = &mut self.groups[group];
            let Some(open) = open else { continue };
            if open.takes() {
                open.taken.extend(self.stored.keys());
            }
            open.due
                .retain(|value, due| *due > now && !settled.contains(value));
            // The first of each line that is not settled, in the order of the log.
            let mut heads = BTreeMap::new();
            for &value in open.taken.difference(settled) {
                let line = open.line(value, self.stored[&value]);
                heads.entry(line).or_insert(value);
            }
            let ready: BTreeSet<_> = (heads.into_values())
                .filter(|value| !open.due.contains_key(value))
                .collect();
            let at_work = self.at_work.lock().unwrap();
            let mut running = BTreeSet::new();
            for at_work in at_work.iter().filter(|at_work| at_work.group == group) {
                let value = at_work.value;
                assert!(ready.contains(&value), "{value} runs, and may not");
                assert!(running.insert(value), "{value} runs twice");
                let last = self.attempts.entry((group, value)).or_default();
                assert!(*last <= at_work.attempt, "attempts grow");
                *last = at_work.attempt;
            }
            assert_eq!(running.len(), ready.len().min(CONCURRENCY), "of {ready:?}");
            drop(at_work);
            let (unsettled, retrying) = (open.taken.difference(settled).count(), open.due.len());
            let behind = (self.stored.len() - settled.len()) as u64;
            let status = self.runtime.run(self.subscriptions[&group].status());
            assert_eq!((status.in_flight, status.retrying), (unsettled, retrying));
            let lag: Option<u64> = status.partitions.values().map(|of| of.lag).sum();
            assert!(self.stored.is_empty() || lag == Some(behind), "{status:?}");
        }
    }

    /// Everything is handled in the end: once this is over, nothing was lost.
    fn finish(&mut self) {
        for group in 0..GROUPS.len() {
            if self.groups[group].open.is_none() {
                self.step(&Op::Subscribe {
                    group,
                    order: Order::ByKey,
                    held: false,
                });
            }
            self.step(&Op::Resume(group));
            self.step(&Op::Activate(group));
        }
        let all = GROUPS.len() * self.stored.len();
        let settled = |machine: &Self| -> usize {
            (machine.groups.iter())
                .map(|group| group.settled.len())
                .sum()
        };
        for _ in 0..4 * all + 1 {
            self.step(&Op::Advance(1));
            self.step(&Op::Answer {
                which: 0,
                how: How::Ack,
            });
            if self.at_work.lock().unwrap().is_empty() {
                self.step(&Op::Advance(3_000));
            }
            if settled(self) == all {
                break;
            }
        }
        assert_eq!(settled(self), all, "every group has settled everything");
        self.step(&Op::Close(1_000));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        max_shrink_iters: 4_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn consuming_does_what_the_model_does(ops in prop::collection::vec(op(), 1..60)) {
        let mut machine = Machine::new();
        for op in &ops {
            machine.step(op);
        }
        machine.finish();
    }
}
