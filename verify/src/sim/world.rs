//! The world of one run: tasks, a clock that jumps to the next timer when nothing else can run, and chance. One seed is one run.
//!
//! One thread, no tokio: hours pass in milliseconds, and a run is the same again with the same seed, which its [hash](World::hash) says.
//! A world holds several [processes](Process): each is the runtime of one bus, and can stand still or be killed, with all its tasks, at any
//! await.
//!
//! Why an executor of our own and not shuttle: shuttle explores every access to an atomic, which is the models' work, and pays for it. Here whole
//! buses run, with brokers and faults around them, and what is explored is the order of tasks at their awaits. So a run is a hundred times
//! cheaper, and there are as many more of them.
//!
//! This file knows of the bus only what [`Runtime`] is: the bus's own tests in `verify/bus` take it in as well. It never looks at
//! a real clock, and at no chance but the seed's.

use clearway::{Runtime, Task};
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// As many polls without any time passing are a loop that does not end.
const STILL_MAX: u64 = 2_000_000;

/// The world, and as a runtime: what belongs to no process, as publishers of a test, brokers and networks.
#[derive(Clone)]
pub struct World(Arc<Mutex<State>>);

/// A process: the runtime of a bus.
#[derive(Clone)]
pub struct Process {
    world: World,
    number: u32,
}

/// Why a run came to no end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// Nothing can run and no timer is armed. These tasks wait.
    Deadlock(Vec<&'static str>),
    /// These tasks ran again and again, and no time passed.
    Loop(Vec<&'static str>),
    /// It was not done by then.
    Late(Duration),
}

/// In which order tasks run that could run both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Any of them, each time anew.
    Random,
    /// As they were woken.
    Woken,
    /// By a priority of its own each; now and then the one that would run falls behind all others. After "A randomized scheduler with
    /// probabilistic guarantees of finding bugs" (PCT).
    Priorities,
}

struct State {
    now: Duration,
    ready: Vec<Arc<Job>>,
    timers: BTreeMap<(Duration, u64), Waker>,
    timers_made: u64,
    alive: BTreeMap<u64, Arc<Job>>,
    jobs_made: u64,
    order: Order,
    /// Of a million polls, before so many the clock goes on though something could run.
    stalls: u32,
    /// Falls: the next one that falls behind all others gets it.
    lowest: u64,
    of_order: Rng,
    chance: Rng,
    hash: u64,
    polls: u64,
    /// Processes that stand still; but not those of their tasks whose names begin so.
    frozen: BTreeMap<u32, Option<&'static str>>,
    dead: BTreeSet<u32>,
    parked: Vec<Arc<Job>>,
    /// How far the wall clock of a process is off.
    jumps: BTreeMap<u32, i64>,
}

struct Job {
    world: World,
    number: u64,
    process: u32,
    name: &'static str,
    priority: AtomicU64,
    future: Mutex<Option<Task>>,
    queued: AtomicBool,
}

impl World {
    /// A world whose tasks run in any order.
    pub fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        Self(Arc::new(Mutex::new(State {
            now: Duration::ZERO,
            ready: Vec::new(),
            timers: BTreeMap::new(),
            timers_made: 0,
            alive: BTreeMap::new(),
            jobs_made: 0,
            order: Order::Random,
            stalls: 0,
            lowest: 1 << 32,
            of_order: random.fork(),
            chance: random.fork(),
            hash: seed,
            polls: 0,
            frozen: BTreeMap::new(),
            dead: BTreeSet::new(),
            parked: Vec::new(),
            jumps: BTreeMap::new(),
        })))
    }

    /// A world whose order of tasks is drawn from the seed as well.
    pub fn drawn(seed: u64) -> Self {
        let world = Self::new(seed);
        {
            let mut state = world.state();
            state.order = match state.of_order.u32(..5) {
                0 => Order::Woken,
                1 | 2 => Order::Priorities,
                _ => Order::Random,
            };
            state.stalls = [0, 0, 200, 2000][state.of_order.usize(..4)];
        }
        world
    }

    /// The order that it has.
    pub fn order(&self) -> Order {
        self.state().order
    }

    /// A process of that number, of which there was none before. 0 is the world itself.
    pub fn process(&self, number: u32) -> Process {
        Process {
            world: self.clone(),
            number,
        }
    }

    /// Runs `work` to its end, and tasks and time as it needs them.
    ///
    /// # Panics
    ///
    /// When it waits for something that nothing can bring.
    pub fn run<F: Future>(&self, work: F) -> F::Output {
        match self.run_until(Duration::MAX, work) {
            Ok(output) => output,
            Err(stuck) => panic!("{stuck}"),
        }
    }

    /// Runs `work` to its end, but not longer than until `limit` on the world's clock.
    ///
    /// # Errors
    ///
    /// When it comes to no end.
    pub fn run_until<F: Future>(&self, limit: Duration, work: F) -> Result<F::Output, Stuck> {
        let mut work = pin!(work);
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(woken.clone());
        let (mut since, mut polls) = (Duration::ZERO, 0);
        loop {
            if woken.0.swap(false, Ordering::SeqCst)
                && let Poll::Ready(output) = work.as_mut().poll(&mut Context::from_waker(&waker))
            {
                return Ok(output);
            }
            if woken.0.load(Ordering::SeqCst) || self.run_one() || self.skip_ahead() {
                let state = self.state();
                if state.now > since {
                    (since, polls) = (state.now, state.polls);
                }
                if state.polls - polls > STILL_MAX {
                    return Err(Stuck::Loop(state.names(&state.ready)));
                }
                if state.now > limit {
                    return Err(Stuck::Late(limit));
                }
                continue;
            }
            let state = self.state();
            let alive: Vec<_> = state.alive.values().cloned().collect();
            return Err(Stuck::Deadlock(state.names(&alive)));
        }
    }

    /// Runs tasks until none is ready and no timer is due; time stands still.
    pub fn settle(&self) {
        while self.run_one() || self.fire_due() {}
    }

    /// Lets time pass up to `to`, and runs what becomes ready on the way: for a world that keeps pace with a clock outside.
    pub fn advance(&self, to: Duration) {
        loop {
            while self.run_one() {}
            let next = self
                .state()
                .timers
                .first_key_value()
                .map(|((due, _), _)| *due);
            if next.is_none_or(|due| due > to) {
                break;
            }
            self.skip_ahead();
        }
        let mut state = self.state();
        state.now = state.now.max(to);
    }

    /// How many tasks have not ended.
    pub fn tasks(&self) -> u64 {
        self.state().alive.len() as u64
    }

    /// The names of a process's tasks that have not ended.
    pub fn names_of(&self, process: u32) -> Vec<&'static str> {
        let state = self.state();
        let of_it = state.alive.values().filter(|job| job.process == process);
        of_it.map(|job| job.name).collect()
    }

    /// Drops every task: what they hold holds the world.
    pub fn end(&self) {
        loop {
            let jobs = {
                let mut state = self.state();
                state.ready.clear();
                state.parked.clear();
                std::mem::take(&mut state.alive)
            };
            if jobs.is_empty() {
                return;
            }
            jobs.into_values().for_each(|job| job.end());
        }
    }

    /// How often a task was polled.
    pub fn polls(&self) -> u64 {
        self.state().polls
    }

    /// Something that happened, for the hash.
    pub fn note(&self, what: u64) {
        self.state().note(what);
    }

    /// Of all that has happened, in its order: two runs of a seed have the same.
    pub fn hash(&self) -> u64 {
        self.state().hash
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run_one(&self) -> bool {
        let job = {
            let mut state = self.state();
            if state.ready.is_empty() {
                return false;
            }
            if state.stalls > 0 && state.of_order.u32(..1_000_000) < state.stalls {
                drop(state);
                return self.skip_ahead() || self.run_one();
            }
            let job = state.pick();
            state.polls += 1;
            state.note(job.number);
            job
        };
        job.queued.store(false, Ordering::SeqCst);
        let waker = Waker::from(job.clone());
        let mut future = job.future.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = &mut *future
            && task
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
        {
            *future = None;
            self.state().alive.remove(&job.number);
        }
        true
    }

    fn fire_due(&self) -> bool {
        let due = {
            let mut state = self.state();
            let now = state.now;
            match state.timers.first_entry() {
                Some(first) if first.key().0 <= now => first.remove(),
                _ => return false,
            }
        };
        due.wake();
        true
    }

    /// To the next timer, and all that are due with it.
    fn skip_ahead(&self) -> bool {
        {
            let mut state = self.state();
            let Some(((due, _), _)) = state.timers.first_key_value() else {
                return false;
            };
            let now = state.now.max(*due);
            state.now = now;
            state.note(now.as_nanos() as u64);
        }
        while self.fire_due() {}
        true
    }

    fn spawn_in(&self, process: u32, name: &'static str, task: Task) {
        let job = {
            let mut state = self.state();
            if state.dead.contains(&process) {
                drop(state);
                drop(task);
                return;
            }
            state.jobs_made += 1;
            let job = Arc::new(Job {
                world: self.clone(),
                number: state.jobs_made,
                process,
                name,
                priority: AtomicU64::new((1 << 33) + state.of_order.u64(..1 << 32)),
                future: Mutex::new(Some(task)),
                queued: AtomicBool::new(false),
            });
            state.alive.insert(job.number, job.clone());
            job
        };
        job.wake();
    }

    fn unix_time_of(&self, process: u32) -> Duration {
        let state = self.state();
        let off = state.jumps.get(&process).copied().unwrap_or_default();
        let milliseconds = 1_800_000_000_000_u64.saturating_add_signed(off);
        Duration::from_millis(milliseconds) + state.now
    }
}

impl State {
    fn note(&mut self, what: u64) {
        self.hash = (self.hash.rotate_left(5) ^ what).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn pick(&mut self) -> Arc<Job> {
        match self.order {
            Order::Random => {
                let at = self.of_order.usize(..self.ready.len());
                self.ready.swap_remove(at)
            }
            Order::Woken => self.ready.remove(0),
            Order::Priorities => {
                let highest = (0..self.ready.len())
                    .max_by_key(|at| self.ready[*at].priority.load(Ordering::Relaxed));
                let at = highest.expect("something is ready");
                // The next change is never far: one that wakes itself would keep the world from going on.
                if self.of_order.u32(..64) == 0 {
                    self.lowest -= 1;
                    let priority = &self.ready[at].priority;
                    priority.store(self.lowest, Ordering::Relaxed);
                    return self.pick();
                }
                self.ready.swap_remove(at)
            }
        }
    }

    fn names(&self, jobs: &[Arc<Job>]) -> Vec<&'static str> {
        jobs.iter().map(|job| job.name).collect()
    }

    /// Takes jobs out of what is ready.
    fn take_ready(&mut self, which: impl Fn(&Job) -> bool) -> Vec<Arc<Job>> {
        let ready = std::mem::take(&mut self.ready);
        let (taken, others) = ready.into_iter().partition(|job| which(job));
        self.ready = others;
        taken
    }

    /// Whether it is a job of a process that stands still, and does so too.
    fn stands_still(&self, job: &Job) -> bool {
        let frozen = self.frozen.get(&job.process);
        frozen.is_some_and(|but| job.stands_still(*but))
    }
}

impl Job {
    /// Whether it is none of those whose names begin so.
    fn stands_still(&self, but: Option<&str>) -> bool {
        but.is_none_or(|but| !self.name.starts_with(but))
    }

    fn end(&self) {
        let mut future = self.future.lock().unwrap_or_else(PoisonError::into_inner);
        let task = future.take();
        drop(future);
        drop(task);
    }
}

impl Process {
    /// Its number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Whether it has not been killed.
    pub fn is_alive(&self) -> bool {
        !self.world.state().dead.contains(&self.number)
    }

    /// Ends it in the middle of whatever it does: none of its tasks is polled again. Not to be called by one of them.
    pub fn kill(&self) {
        let jobs: Vec<_> = {
            let mut state = self.world.state();
            state.dead.insert(self.number);
            state.frozen.remove(&self.number);
            state.take_ready(|job| job.process == self.number);
            state.parked.retain(|job| job.process != self.number);
            let of_it = |job: &Arc<Job>| job.process == self.number;
            let (dead, alive) = (std::mem::take(&mut state.alive).into_iter())
                .partition::<BTreeMap<_, _>, _>(|(_, job)| of_it(job));
            state.alive = alive;
            state.note(u64::from(self.number));
            dead.into_values().collect()
        };
        jobs.into_iter().for_each(|job| job.end());
    }

    /// It stands still: none of its tasks runs until it [goes on](Self::thaw). Time passes for it. Says whether it ran.
    pub fn freeze(&self) -> bool {
        self.freeze_but(None)
    }

    /// The same of its tasks but those whose names begin so.
    pub fn block_but(&self, names: &'static str) -> bool {
        self.freeze_but(Some(names))
    }

    fn freeze_but(&self, but: Option<&'static str>) -> bool {
        let mut state = self.world.state();
        if state.dead.contains(&self.number) || state.frozen.contains_key(&self.number) {
            return false;
        }
        state.frozen.insert(self.number, but);
        let number = self.number;
        let parked = state.take_ready(|job| job.process == number && job.stands_still(but));
        state.parked.extend(parked);
        true
    }

    /// It goes on.
    pub fn thaw(&self) {
        let mut state = self.world.state();
        state.frozen.remove(&self.number);
        let parked = std::mem::take(&mut state.parked);
        let (of_it, others) = parked
            .into_iter()
            .partition(|job| job.process == self.number);
        state.parked = others;
        let mut of_it: Vec<_> = of_it;
        state.ready.append(&mut of_it);
    }

    /// Its wall clock is set, so many milliseconds forward or back.
    pub fn jump(&self, milliseconds: i64) {
        let mut state = self.world.state();
        *state.jumps.entry(self.number).or_default() += milliseconds;
    }
}

impl Runtime for World {
    fn spawn(&self, name: &'static str, task: Task) {
        self.spawn_in(0, name, task);
    }

    fn sleep(&self, length: Duration) -> Task {
        let mut state = self.state();
        state.timers_made += 1;
        let key = (state.now.saturating_add(length), state.timers_made);
        Box::pin(Sleep {
            world: self.clone(),
            key,
        })
    }

    fn now(&self) -> Duration {
        self.state().now
    }

    fn unix_time(&self) -> Duration {
        self.unix_time_of(0)
    }

    fn random(&self) -> u64 {
        self.state().chance.u64(..)
    }
}

impl Runtime for Process {
    fn spawn(&self, name: &'static str, task: Task) {
        self.world.spawn_in(self.number, name, task);
    }

    fn sleep(&self, length: Duration) -> Task {
        self.world.sleep(length)
    }

    fn now(&self) -> Duration {
        self.world.now()
    }

    fn unix_time(&self) -> Duration {
        self.world.unix_time_of(self.number)
    }

    fn random(&self) -> u64 {
        self.world.random()
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Process").field(&self.number).finish()
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadlock(names) => {
                let names = names.join(", ");
                write!(
                    f,
                    "deadlock: nothing can run and no timer is armed; waiting: {names}"
                )
            }
            Self::Loop(names) => {
                let names = names.join(", ");
                write!(f, "no time passes any more; always ready: {names}")
            }
            Self::Late(limit) => write!(f, "not done after {limit:?}"),
        }
    }
}

impl std::error::Error for Stuck {}

impl Wake for Job {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::SeqCst) {
            let world = self.world.clone();
            let mut state = world.state();
            if state.dead.contains(&self.process) {
                return;
            }
            let list = match state.stands_still(&self) {
                true => &mut state.parked,
                false => &mut state.ready,
            };
            list.push(self);
        }
    }
}

struct Sleep {
    world: World,
    key: (Duration, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.world.state();
        if state.now >= self.key.0 {
            return Poll::Ready(());
        }
        state.timers.insert(self.key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        // Dropped after the lock is let go: a waker may hold the last of its task.
        let _waker = {
            let mut state = self.world.state();
            state.timers.remove(&self.key)
        };
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}
