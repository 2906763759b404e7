//! The life of a process: a bus that publishes and consumes, from its connection to its close or its death.

mod close;
mod consume;
mod door;
mod publisher;
mod results;
mod within;

pub use publisher::Publisher;

use super::broker::SimBroker;
use super::fault::Weather;
use super::plan::{GROUP, GUESTS, Plan, TOPICS};
use super::record::{Open, Record};
use super::world::Process;
use crate::history::{Durability, Ended};
use crate::recorder::Publish;
use bytes::Bytes;
use clearway::{
    Bus, BusEvent, CloseReport, Envelope, LeftDelivery, PublishError, Raw, Receipt, Runtime,
    Subscription, SubscriptionState, Topic, TopicConfig,
};
use close::ended;
use door::{Door, Whose};
use fastrand::Rng;
use publisher::Outcome;
use results::Results;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A topic whose values are payloads as they are.
pub type RawTopic = Topic<Bytes, Raw>;

/// So often a publish that was surely not stored is published again, under its id.
const RETRIES: u32 = 3;

/// What all lives of a run share.
pub struct Common {
    /// What is written down.
    pub record: Arc<Record>,
    /// What strikes.
    pub weather: Weather,
    /// What is done.
    pub plan: Arc<Plan>,
    /// How many envelopes publishers have begun.
    pub begun: AtomicU64,
    /// How many publishers are at work.
    pub publishing: AtomicU64,
    /// The topics that handlers have subscribed to.
    pub guested: Mutex<BTreeSet<&'static str>>,
}

/// See the module.
pub struct Life {
    /// Its process.
    pub process: Process,
    common: Arc<Common>,
    door: Arc<Door>,
    results: Arc<Results>,
    state: Mutex<State>,
    /// How often its process was made to stand still.
    still: AtomicU64,
}

/// Topic and group.
type Place = (&'static str, &'static str);

#[derive(Default)]
struct State {
    bus: Option<Bus>,
    subscriptions: BTreeMap<Place, Held>,
    /// Where a handler subscribes just now.
    begins: BTreeSet<Place>,
    /// Somebody is about to close it, as soon as its process runs.
    is_told: bool,
    is_closing: bool,
    has_ended: bool,
}

/// A subscription.
struct Held {
    /// In the history.
    number: u32,
    of: Subscription,
    /// A handler has told it to end.
    is_draining: bool,
}

impl Common {
    /// The topics that handlers have subscribed to.
    pub fn guested(&self) -> MutexGuard<'_, BTreeSet<&'static str>> {
        self.guested.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a bus that is closed in the middle of work has for it.
    pub fn close_limit(&self) -> Duration {
        // What goes to the dead letters is said when its handler ends: then it must get there.
        match self.plan.attempts {
            Some(_) => Duration::from_secs(60),
            None => Duration::from_millis([0, 50, 1000, 10_000][self.weather.below(4) as usize]),
        }
    }
}

impl Life {
    /// A life that begins in `process`.
    pub fn begin<B: SimBroker>(common: &Arc<Common>, broker: &B, process: Process) -> Arc<Self> {
        let life = Arc::new(Self {
            process: process.clone(),
            common: common.clone(),
            door: Arc::default(),
            results: Arc::default(),
            state: Mutex::default(),
            still: AtomicU64::new(0),
        });
        let (living, backend) = (life.clone(), broker.backend(&process));
        process.clone().spawn(
            "sim-life",
            Box::pin(async move { living.live(backend).await }),
        );
        life
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it can be told to close.
    pub fn is_open(&self) -> bool {
        let state = self.state();
        state.bus.is_some() && !state.is_closing && !state.is_told && self.process.is_alive()
    }

    /// Tells it to close, if nobody has.
    pub fn tell_to_close(&self) -> bool {
        let is_open = self.is_open();
        self.state().is_told |= is_open;
        is_open
    }

    /// Whether its bus is closed.
    pub fn has_ended(&self) -> bool {
        self.state().has_ended
    }

    /// Whether its handlers have subscribed to the topic for others, and that goes on.
    pub fn has_guests(&self, topic: &'static str) -> bool {
        let state = self.state();
        let held = state.subscriptions.get(&(topic, GUESTS));
        held.is_some_and(|held| !held.is_draining)
    }

    /// Its process stands still from here on: what has a limit may take longer.
    pub fn stands_still(&self) {
        self.still.fetch_add(1, Ordering::Relaxed);
    }

    fn still(&self) -> u64 {
        self.still.load(Ordering::Relaxed)
    }

    async fn live(self: Arc<Self>, backend: clearway::BackendChoice) {
        let plan = self.common.plan.clone();
        let mut backend = Some(backend);
        let mut builder = Bus::builder().runtime(Arc::new(self.process.clone()));
        builder = builder
            .in_flight(256, 1 << 20)
            .ensure_timeout(Duration::from_secs(30))
            .reconnect_delay(Duration::from_millis(20), Duration::from_millis(500));
        for topic in TOPICS {
            builder = builder.topic(TopicConfig::new(topic).partitions(plan.partitions));
        }
        // A process that does not get through the door ends, and another takes its place: so does this one, under its name.
        let Ok(bus) = builder
            .backend(backend.take().expect("it was just put there"))
            .connect()
            .await
        else {
            self.state().has_ended = true;
            return;
        };
        self.watch(&bus);
        if plan.results {
            self.read_results(&bus);
        }
        self.state().bus = Some(bus.clone());
        if !self.consume(&bus).await {
            drop(bus);
            self.clone().close(Duration::from_secs(5)).await;
            return;
        }
        for number in 0..plan.publishers {
            let life = self.clone();
            let bus = bus.clone();
            let publishing = async move { life.publish(&bus, number).await };
            self.process.spawn("sim-publisher", Box::pin(publishing));
        }
    }

    fn watch(&self, bus: &Bus) {
        let (mut events, recorder, number) = (
            bus.events(),
            self.common.record.recorder.clone(),
            self.process.number(),
        );
        let weather = self.common.weather.clone();
        let watching = async move {
            while let Some(event) = events.next().await {
                match event {
                    BusEvent::Reconnected { generation, .. } => {
                        weather.goal("a reconnect");
                        recorder.reconnect(number, generation);
                    }
                    BusEvent::PartitionsLost {
                        topic,
                        group,
                        partitions,
                        ..
                    } => recorder.taken_away(number, &topic, &group, &partitions),
                    _ => {}
                }
            }
        };
        self.process.spawn("sim-events", Box::pin(watching));
    }

    fn publisher(&self, whose: Whose) -> Publisher {
        let (door, results) = (self.door.clone(), self.results.clone());
        Publisher::new(&self.common, &self.process, (whose, door, results))
    }

    async fn publish(&self, bus: &Bus, number: usize) {
        let Common { plan, weather, .. } = &*self.common;
        let Ok(topic) = bus.raw_topic(TOPICS[0]) else {
            return;
        };
        let _at_work = AtWork::new(&self.common);
        let topic = if plan.ordered { topic.ordered() } else { topic };
        let publisher = self.publisher(Whose::Outside);
        let mut random =
            Rng::with_seed(plan.seed ^ (u64::from(self.process.number()) << 32) ^ number as u64);
        let mut under_way: VecDeque<Pin<Box<dyn Future<Output = Outcome> + Send + '_>>> =
            VecDeque::new();
        while self.common.begun.load(Ordering::Relaxed) < plan.envelopes {
            self.common.begun.fetch_add(1, Ordering::Relaxed);
            let key = format!("k{}", random.u64(..plan.keys));
            let mut ended = None;
            if plan.window == 1 {
                ended = Some(publisher.publish(&topic, &key).await);
            } else {
                under_way.push_back(Box::pin(publisher.begin(&topic, &key, plan.ordered)));
                if under_way.len() >= plan.window
                    && let Some(first) = under_way.pop_front()
                {
                    ended = Some(first.await);
                }
            }
            if matches!(ended, Some(Err(PublishError::Unknown(_)))) {
                weather.goal("a publish whose outcome is unknown");
            }
            if matches!(ended, Some(Err(PublishError::Closed))) {
                break;
            }
            if !plan.pause.is_zero() {
                let pause = plan.pause.as_micros() as u64;
                self.process
                    .sleep(Duration::from_micros(random.u64(..pause)))
                    .await;
            }
        }
        while let Some(first) = under_way.pop_front() {
            let _ = first.await;
        }
    }

    /// Deliveries that its subscriptions have taken and not settled.
    pub async fn in_flight(&self) -> usize {
        let subscriptions: Vec<_> = self
            .state()
            .subscriptions
            .values()
            .map(|held| held.of.clone())
            .collect();
        let mut in_flight = 0;
        for subscription in subscriptions {
            let status = subscription.status().await;
            // One that has ended has what it left, and says what it had before.
            if status.state != SubscriptionState::Ended {
                in_flight += status.in_flight;
            }
        }
        in_flight
    }

    /// Its process is killed, in the middle of whatever it does.
    pub fn kill<B: SimBroker>(&self, broker: &B) {
        self.common
            .record
            .recorder
            .disconnect(self.process.number(), true);
        broker.killed(self.process.number());
        self.process.kill();
        // Dead before its handles are dropped: a bus that loses them would begin to close.
        *self.state() = State::default();
    }
}

struct AtWork(Arc<Common>);

impl AtWork {
    fn new(common: &Arc<Common>) -> Self {
        common.publishing.fetch_add(1, Ordering::Relaxed);
        Self(common.clone())
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.publishing.fetch_sub(1, Ordering::Relaxed);
    }
}
