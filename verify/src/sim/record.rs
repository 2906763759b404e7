//! A run on record: what its processes do goes into one history, by the world's clock.
//!
//! A process that is dead writes nothing. What its publishes came to is not known; the line of its death ends its handlers.

use super::plan::{GROUP, Plan};
use super::world::{Process, World};
use crate::history::{
    Deliver, Durability, Entry, Event, Header, History, Log, Order, Owners, Settle, Settled,
};
use crate::recorder::{OpId, Recorder};
use clearway::Runtime;
use foldhash::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module.
pub struct Record {
    /// For what is written as it is.
    pub recorder: Arc<Recorder>,
    owners: Mutex<Owners>,
    subscriptions: AtomicU32,
    open_handlers: AtomicU64,
    /// What a handler has given up, by the attempt, unless it was delivered again.
    buried: Mutex<BTreeMap<String, u32>>,
    /// What some handler has done.
    done: Mutex<BTreeSet<String>>,
    /// What does not hold, and no line of a history says.
    complaints: Mutex<Vec<String>>,
}

impl Record {
    /// Begins the record of a run over the broker of that name.
    pub fn begin(broker: &str, world: &World, plan: &Plan) -> Self {
        let header = Header {
            how: Some("simulated".into()),
            seed: Some(plan.seed),
            workload: plan.to_string(),
            durability: Some(Durability::Stored),
            ..Header::new(broker)
        };
        let clock = world.clone();
        let log = Log::in_memory_by(header, move || clock.now().as_nanos() as u64);
        Self {
            recorder: Arc::new(Recorder::new(log)),
            owners: Mutex::default(),
            subscriptions: AtomicU32::new(0),
            open_handlers: AtomicU64::new(0),
            buried: Mutex::default(),
            done: Mutex::default(),
            complaints: Mutex::default(),
        }
    }

    /// A number for a subscription.
    pub fn next_subscription(&self) -> u32 {
        self.subscriptions.fetch_add(1, Ordering::Relaxed)
    }

    /// A handler begins. Its epoch is a bus's own count: in the history it is the group's.
    pub fn deliver(&self, mut deliver: Deliver) {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let log = (&*deliver.topic, &*deliver.group, deliver.partition);
        deliver.epoch = owners.epoch(log, (deliver.subscription, deliver.epoch));
        self.open_handlers.fetch_add(1, Ordering::Relaxed);
        if deliver.group == GROUP {
            self.buried().remove(&deliver.id);
        }
        self.recorder.record(deliver);
    }

    /// A handler of that group has ended.
    pub fn settle(&self, group: &str, (id, attempt): (&str, u32), settle: Settle) {
        self.open_handlers.fetch_sub(1, Ordering::Relaxed);
        // Another group's handlers give nothing up, and what they have done is not done for this one.
        match settle.how {
            Settled::DeadLetter => drop(self.buried().insert(id.to_owned(), attempt)),
            Settled::Ack if group == GROUP => drop(self.done().insert(id.to_owned())),
            _ => {}
        }
        self.recorder.record(settle);
    }

    /// A handler has ended with its process.
    pub fn died(&self) {
        self.open_handlers.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many handlers are at work.
    pub fn open_handlers(&self) -> u64 {
        self.open_handlers.load(Ordering::Relaxed)
    }

    /// The envelopes that have to be among the dead letters, and after how many attempts.
    pub fn buried(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        self.buried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The envelopes that some handler has done.
    pub fn done(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something does not hold that no line of a history says.
    pub fn complain(&self, what: String) {
        let mut complaints = (self.complaints.lock()).unwrap_or_else(PoisonError::into_inner);
        complaints.push(what);
    }

    /// All of that.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = (self.complaints.lock()).unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut complaints)
    }

    /// The history, once nobody else writes. `letters` are the dead letters that were read, by id and attempt.
    pub fn into_history(self, letters: &BTreeSet<(String, u32)>) -> Option<History> {
        let mut history = Arc::into_inner(self.recorder)?.into_history()?;
        bury(&mut history, letters);
        Some(history)
    }
}

/// A delivery is put aside when its letter is stored, of which its handler knows nothing. One without a letter was cut off, by a revoke or a
/// close, and comes again; so was one whose letter is there and came again with no connection lost in between: nobody had told its bus. Unless
/// its lane went on: then its bus knew, and what was in front of it in the partition kept the broker from knowing.
fn bury(history: &mut History, letters: &BTreeSet<(String, u32)>) {
    let mut orders = BTreeMap::new();
    let mut given = BTreeMap::new();
    let mut buried = Vec::new();
    for (at, entry) in history.entries.iter().enumerate() {
        match &entry.event {
            Event::Subscribe(subscribe) => {
                orders.insert(subscribe.subscription, subscribe.order);
            }
            Event::Deliver(of) => {
                let place = (of.subscription, &*of.topic, of.partition, of.position);
                given.insert(place, of);
            }
            Event::Settle(of) if of.how == Settled::DeadLetter => {
                let place = (of.subscription, &*of.topic, of.partition, of.position);
                buried.extend(given.get(&place).map(|of| (at, *of)));
            }
            _ => {}
        }
    }
    if buried.is_empty() {
        return;
    }
    let mut delivered: HashMap<&str, Vec<usize>> = HashMap::default();
    for (at, entry) in history.entries.iter().enumerate() {
        if let Event::Deliver(of) = &entry.event
            && of.group == GROUP
        {
            delivered.entry(&of.id).or_default().push(at);
        }
    }
    let mut cut_off = Vec::new();
    for (at, of) in buried {
        let all = &delivered[&*of.id];
        let again = all.get(all.partition_point(|of| *of <= at)).copied();
        // A letter has the id of what it is about: the broker knows the second of an envelope for the first.
        let attempt = of.attempt.unwrap_or_default();
        let of_it = (of.id.clone(), 0)..=(of.id.clone(), attempt);
        let is_there = letters.range(of_it).next().is_some();
        let order = orders.get(&of.subscription).copied().unwrap_or_default();
        let is_told = |entry: &Entry| match &entry.event {
            Event::Disconnect(cut) => cut.bus == of.bus,
            Event::Deliver(next) => is_behind(of, next, order),
            _ => false,
        };
        let untold = again.is_some_and(|again| !history.entries[at + 1..again].iter().any(is_told));
        if untold || !is_there {
            cut_off.push(at);
        }
    }
    for at in cut_off {
        if let Event::Settle(settle) = &mut history.entries[at].event {
            settle.how = Settled::Cancelled;
        }
    }
}

/// Whether `next` begins only when its owner is done with `of`.
fn is_behind(of: &Deliver, next: &Deliver, order: Order) -> bool {
    let owner = |of: &Deliver| (of.subscription, of.partition, of.epoch);
    let is_of_its_lane = match order {
        Order::Partition => true,
        Order::Key => next.key.is_some() && next.key == of.key,
        Order::None => false,
    };
    owner(of) == owner(next) && next.position > of.position && is_of_its_lane
}

/// A publish that has begun: dropped without an outcome, nobody knows it.
pub struct Open {
    recorder: Arc<Recorder>,
    op: Option<OpId>,
    process: Process,
}

impl Open {
    /// Of this process.
    pub fn new(recorder: &Arc<Recorder>, op: OpId, process: &Process) -> Self {
        Self {
            recorder: recorder.clone(),
            op: Some(op),
            process: process.clone(),
        }
    }

    /// It has an outcome, and this writes it down.
    pub fn ended(mut self, write: impl FnOnce(&Recorder, OpId)) {
        if let Some(op) = self.op.take() {
            write(&self.recorder, op);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(op) = self.op.take() {
            let why = match self.process.is_alive() {
                true => "whoever waited for it was cut off",
                false => "its process is dead",
            };
            self.recorder.unknown(op, why);
        }
    }
}
