//! The network between clients and brokers: a request arrives after a while, and so does its answer, unless the connection is cut or
//! nobody is there.
//!
//! What is under way belongs to nobody's process: a request of a process that stands still, or was killed, arrives all the same. What a
//! client gave up does not arrive after what it sends later: it closes the connection.

use super::cluster::Cluster;
use super::produce::Pipe;
use super::settings::Settings;
use crate::sim::fault::Weather;
use clearway::{Failure, FailureKind, Runtime};
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// How often an answer that is held back is looked at again, though nothing has happened.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The brokers and the network to them.
pub(super) struct Shared {
    pub(super) weather: Weather,
    pub(super) settings: Settings,
    /// What is nobody's process.
    ground: Arc<dyn Runtime>,
    cluster: Mutex<Cluster>,
    /// By process: how often its connections were cut.
    cuts: Mutex<BTreeMap<u32, u64>>,
    /// Producers, by process.
    pub(super) pipes: Mutex<Vec<(u32, Weak<Pipe>)>>,
    /// Something that members or readers may wait for has happened.
    changed: Notify,
    epochs: AtomicU64,
}

/// A client's way to the brokers.
#[derive(Clone)]
pub(super) struct Net {
    pub(super) shared: Arc<Shared>,
    pub(super) process: u32,
    pub(super) runtime: Arc<dyn Runtime>,
    /// How often this client has closed its connections.
    closed: Arc<AtomicU64>,
}

impl Shared {
    pub(super) fn new(weather: &Weather, ground: Arc<dyn Runtime>, settings: Settings) -> Self {
        Self {
            weather: weather.clone(),
            cluster: Mutex::new(Cluster::new(settings.clone())),
            settings,
            ground,
            cuts: Mutex::default(),
            pipes: Mutex::default(),
            changed: Notify::new(),
            epochs: AtomicU64::new(0),
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.ground.now()
    }

    pub(super) fn unix_time(&self) -> Duration {
        self.ground.unix_time()
    }

    pub(super) fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock()
    }

    /// Has everybody look again who waits for something at the brokers.
    pub(super) fn changed(&self) {
        self.changed.notify_waiters();
    }

    /// An epoch that no assignment has had.
    pub(super) fn next_epoch(&self) -> u64 {
        self.epochs.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The connections of a process are cut.
    pub(super) fn cut(&self, process: u32) {
        *self.cuts.lock().entry(process).or_default() += 1;
        self.tell_cut(process);
        self.changed();
    }

    /// And those of all.
    pub(super) fn cut_all(&self) {
        let processes: Vec<u32> = self.cuts.lock().keys().copied().collect();
        processes.into_iter().for_each(|process| self.cut(process));
    }

    /// A process is dead: nobody tells of it any more.
    pub(super) fn forget(&self, process: u32) {
        self.cuts.lock().remove(&process);
        self.changed();
    }

    /// What was on its way may not have arrived.
    pub(super) fn tell_cut(&self, process: u32) {
        if let Some(recorder) = self.weather.recorder() {
            recorder.disconnect(process, false);
        }
    }

    /// How often they were. `None`: it is dead.
    fn cuts(&self, process: u32) -> Option<u64> {
        self.cuts.lock().get(&process).copied()
    }
}

impl Net {
    pub(super) fn new(shared: Arc<Shared>, process: u32, runtime: Arc<dyn Runtime>) -> Self {
        shared.cuts.lock().entry(process).or_default();
        Self {
            shared,
            process,
            runtime,
            closed: Arc::default(),
        }
    }

    /// Another client of the same process.
    pub(super) fn another(&self) -> Self {
        Self::new(self.shared.clone(), self.process, self.runtime.clone())
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    pub(super) fn now(&self) -> Duration {
        self.runtime.now()
    }

    pub(super) async fn sleep(&self, length: Duration) {
        self.runtime.sleep(length).await;
    }

    /// `work`, or nothing if it takes longer than `limit`.
    pub(super) async fn within<F: Future>(&self, limit: Duration, work: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.runtime.sleep(limit) => None,
        }
    }

    /// Asks the brokers, and gives up after a while.
    pub(super) async fn ask<R: Send + 'static>(
        &self,
        what: impl FnOnce(&mut Cluster, Duration) -> R + Send + 'static,
    ) -> Result<R, Failure> {
        let mut what = Some(what);
        let once = move |cluster: &mut Cluster, now: Duration| {
            let what = what.take()?;
            Some(what(cluster, now))
        };
        let answer = self.ask_until(Duration::ZERO, once).await?;
        answer.ok_or_else(disconnected)
    }

    /// Asks the brokers, who hold the answer back until there is one, as long as they are told to.
    pub(super) async fn ask_until<R: Send + 'static>(
        &self,
        hold: Duration,
        mut what: impl FnMut(&mut Cluster, Duration) -> Option<R> + Send + 'static,
    ) -> Result<Option<R>, Failure> {
        let (give, given) = oneshot::channel();
        let shared = self.shared.clone();
        let reaches = self.connection();
        let there = async move {
            shared.ground.sleep(shared.weather.delay()).await;
            let until = shared.now() + hold;
            let answer = loop {
                let mut changed = Box::pin(shared.changed.notified());
                changed.as_mut().enable();
                if !reaches(&shared) {
                    return;
                }
                let now = shared.now();
                let answer = {
                    let mut cluster = shared.cluster();
                    cluster.advance(now);
                    what(&mut cluster, now)
                };
                if hold.is_zero() {
                    shared.changed();
                }
                if answer.is_some() || now >= until {
                    break answer;
                }
                let wait = LOOK_EVERY.min(until - now);
                tokio::select! {
                    biased;
                    () = changed => {}
                    () = shared.ground.sleep(wait) => {}
                }
            };
            shared.ground.sleep(shared.weather.delay()).await;
            if reaches(&shared) {
                let _ = give.send(answer);
            }
        };
        self.shared.ground.spawn("kafka-request", Box::pin(there));
        let limit = hold + self.settings().request_timeout;
        match self.within(limit, given).await {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(_)) => Err(disconnected()),
            None => {
                // What is on its way now must not arrive behind what is sent next.
                self.hang_up();
                let text = "no broker has answered in time";
                Err(Failure::new(FailureKind::TimedOut, text))
            }
        }
    }

    /// Closes the connections of this client: what is on its way over them does not arrive.
    pub(super) fn hang_up(&self) {
        self.closed.fetch_add(1, Ordering::Relaxed);
        self.shared.tell_cut(self.process);
        self.shared.changed();
    }

    /// Runs something of the network's own.
    pub(super) fn under_way(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.shared.ground.spawn("kafka-under-way", Box::pin(work));
    }

    /// Runs something of the client's.
    pub(super) fn spawn(
        &self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        self.runtime.spawn(name, Box::pin(work));
    }

    /// A connection as it is now, for what is [under way](Self::under_way).
    pub(super) fn connection(&self) -> impl Fn(&Shared) -> bool + Send + use<> {
        let (process, cuts) = (self.process, self.shared.cuts(self.process));
        let (closed, times) = (self.closed.clone(), self.closed.load(Ordering::Relaxed));
        move |shared| {
            let is_open = closed.load(Ordering::Relaxed) == times;
            is_open && shared.cuts(process) == cuts && shared.cluster().up
        }
    }

    /// A message is under way.
    pub(super) async fn travel(shared: &Shared, more: Duration) {
        let delay = shared.weather.delay() + more;
        shared.ground.sleep(delay).await;
    }
}

pub(super) fn disconnected() -> Failure {
    Failure::new(
        FailureKind::Disconnected,
        "the connection to the broker was lost",
    )
}
