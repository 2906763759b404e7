//! Who breaks things: cuts, kills, freezes and closes, each half second as the weather has it, and puts all right in the end.

use super::broker::SimBroker;
use super::fault::{Fault, Weather};
use super::life::{Common, Life};
use super::plan::{GROUP, GUESTS, TOPICS};
use crate::history::Phase;
use clearway::Runtime;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often each fault is drawn that comes by itself.
const EVERY: u64 = 500;

/// The processes of a run: at each place one life after the other.
pub struct Cast<B> {
    /// What they share.
    pub common: Arc<Common>,
    /// What they are connected to.
    pub broker: B,
    places: Mutex<Vec<Arc<Life>>>,
    numbers: AtomicU32,
}

impl<B: SimBroker> Cast<B> {
    /// As many processes as the plan has.
    pub fn begin(common: &Arc<Common>, broker: &B) -> Arc<Self> {
        let cast = Arc::new(Self {
            common: common.clone(),
            broker: broker.clone(),
            places: Mutex::default(),
            numbers: AtomicU32::new(1),
        });
        for _ in 0..common.plan.members {
            let life = cast.another();
            cast.places().push(life);
        }
        cast
    }

    fn places(&self) -> MutexGuard<'_, Vec<Arc<Life>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that are at their places now.
    pub fn lives(&self) -> Vec<Arc<Life>> {
        self.places().clone()
    }

    fn another(&self) -> Arc<Life> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let process = self.common.weather.world().process(number);
        Life::begin(&self.common, &self.broker, process)
    }

    /// Begins a life at every place whose last has ended or is dead.
    pub fn fill(&self) {
        let places = self.places().len();
        for place in 0..places {
            let of = self.places()[place].clone();
            if of.has_ended() || !of.process.is_alive() {
                let life = self.another();
                self.places()[place] = life;
            }
        }
    }

    fn some(&self, weather: &Weather) -> Arc<Life> {
        let places = self.places();
        places[weather.below(places.len() as u64) as usize].clone()
    }

    /// Breaks things until the weather is healed.
    pub async fn disturb(self: Arc<Self>) {
        let weather = self.common.weather.clone();
        let world = weather.world().clone();
        while !weather.is_calm() {
            world
                .sleep(Duration::from_millis(EVERY / 2 + weather.below(EVERY)))
                .await;
            self.fill();
            self.look();
            if weather.strikes(Fault::Disconnect) {
                self.broker.disconnect(self.some(&weather).process.number());
            }
            if weather.strikes(Fault::Crash) {
                let life = self.some(&weather);
                if life.process.is_alive() && !life.has_ended() {
                    weather.goal("a process killed");
                    life.kill(&self.broker);
                }
            }
            if weather.strikes(Fault::Close) {
                self.close(&self.some(&weather));
            }
            if weather.strikes(Fault::Rebalance) {
                self.joins();
            }
            if weather.strikes(Fault::Freeze) {
                self.freeze(&self.some(&weather));
            }
            if let Some(client) = B::OWN_THREADS
                && weather.strikes(Fault::Block)
            {
                self.block(&self.some(&weather), client);
            }
            if weather.strikes(Fault::ClockJump) {
                let milliseconds = weather.below(7_200_000) as i64 - 3_600_000;
                self.some(&weather).process.jump(milliseconds);
            }
            if weather.strikes(Fault::Deleted) {
                self.delete(TOPICS[weather.below(2) as usize]);
            }
            if weather.strikes(Fault::BrokerKill) {
                self.outage().await;
            }
        }
    }

    /// Asks the broker what the group has committed, where it can say.
    pub fn look(&self) {
        let recorder = &self.common.record.recorder;
        let groups = match self.common.weather.has(Fault::HandlerSubscribe) {
            true => &[GROUP, GUESTS][..],
            false => &[GROUP][..],
        };
        for (topic, group) in TOPICS
            .iter()
            .flat_map(|topic| groups.iter().map(move |group| (topic, group)))
        {
            for (partition, position) in self.broker.committed(topic, group) {
                recorder.committed(topic, group, partition, position);
            }
        }
    }

    fn close(&self, life: &Arc<Life>) {
        let weather = &self.common.weather;
        if !life.tell_to_close() {
            return;
        }
        weather.goal("a close in the middle of work");
        let limit = self.common.close_limit();
        let closing = life.clone();
        life.process.spawn(
            "sim-close",
            Box::pin(async move { drop(closing.close(limit).await) }),
        );
    }

    /// Another member for a while.
    fn joins(&self) {
        let weather = &self.common.weather;
        let places = self.places().len();
        if places <= self.common.plan.members {
            weather.goal("a member that joined");
            let life = self.another();
            self.places().push(life);
        } else if self.lives()[places - 1].is_open() {
            weather.goal("a member that left");
            let last = self.places().pop().expect("it was just there");
            self.close(&last);
        }
    }

    fn freeze(&self, life: &Arc<Life>) {
        if !life.is_open() || !life.process.freeze() {
            return;
        }
        self.common.weather.goal("a process that stood still");
        self.goes_on_later(life, 8000);
    }

    /// Often as a member comes and goes: what it has is dealt out anew meanwhile, and again.
    fn block(self: &Arc<Self>, life: &Arc<Life>, client: &'static str) {
        if !life.is_open() || !life.process.block_but(client) {
            return;
        }
        let weather = &self.common.weather;
        weather.goal("a bus that stood still beside its client");
        let length = self.goes_on_later(life, 16_000);
        if weather.below(4) == 0 {
            return;
        }
        self.joins();
        let (cast, half) = (self.clone(), weather.world().sleep(length / 2));
        weather.world().spawn(
            "sim-rebalance",
            Box::pin(async move {
                half.await;
                if !cast.common.weather.is_calm() {
                    cast.joins();
                }
            }),
        );
    }

    /// It stands still, for at most so long. Gives for how long.
    fn goes_on_later(&self, life: &Arc<Life>, milliseconds: u64) -> Duration {
        let (life, recorder) = (life.clone(), self.common.record.recorder.clone());
        life.stands_still();
        recorder.frozen(life.process.number(), Phase::Begin);
        let world = self.common.weather.world().clone();
        let length = Duration::from_millis(50 + self.common.weather.below(milliseconds));
        let sleep = world.sleep(length);
        world.spawn(
            "sim-freeze",
            Box::pin(async move {
                sleep.await;
                if life.process.is_alive() {
                    recorder.frozen(life.process.number(), Phase::End);
                    life.process.thaw();
                }
            }),
        );
        length
    }

    fn delete(&self, topic: &str) {
        let recorder = &self.common.record.recorder;
        recorder.erased(topic, Phase::Begin);
        if self.broker.delete_topic(topic) {
            self.common.weather.goal("a topic deleted under its users");
        }
        recorder.erased(topic, Phase::End);
    }

    async fn outage(&self) {
        let weather = &self.common.weather;
        weather.tell("broker-kill", Phase::Begin);
        weather.goal("a broker killed");
        self.broker.kill();
        let length = Duration::from_millis(50 + weather.below(3000));
        weather.world().sleep(length).await;
        self.broker.restart();
        weather.tell("broker-kill", Phase::End);
    }
}
