//! A small runtime that is not tokio: one thread, tasks in an order drawn from a seed, and a clock
//! that jumps to the next timer when nothing else can run. Hours pass in milliseconds, and a
//! run is the same again with the same seed.

use clearway::{Runtime, Task};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// The runtime, and the executor behind it.
#[derive(Clone)]
pub(crate) struct VirtualTime(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    now: Duration,
    ready: Vec<Arc<Job>>,
    timers: BTreeMap<(Duration, u64), Waker>,
    timers_made: u64,
    tasks: u64,
    random: u64,
}

struct Job {
    runtime: VirtualTime,
    future: Mutex<Option<Task>>,
    queued: AtomicBool,
}

impl VirtualTime {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: seed,
            ..State::default()
        })))
    }

    /// Runs `work` to its end, and tasks and time as it needs them.
    ///
    /// # Panics
    ///
    /// When it waits for something that nothing can bring.
    pub(crate) fn run<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(woken.clone());
        loop {
            if woken.0.swap(false, Ordering::SeqCst)
                && let Poll::Ready(output) = work.as_mut().poll(&mut Context::from_waker(&waker))
            {
                return output;
            }
            if woken.0.load(Ordering::SeqCst) || self.run_one() || self.skip_ahead() {
                continue;
            }
            panic!("deadlock: nothing can run and no timer is armed");
        }
    }

    /// Runs tasks until none is ready and no timer is due; time stands still.
    pub(crate) fn settle(&self) {
        while self.run_one() || self.fire_due() {}
    }

    /// How many tasks have not ended.
    pub(crate) fn tasks(&self) -> u64 {
        self.0.lock().unwrap().tasks
    }

    fn run_one(&self) -> bool {
        let job = {
            let mut state = self.0.lock().unwrap();
            if state.ready.is_empty() {
                return false;
            }
            let at = state.draw() as usize % state.ready.len();
            state.ready.swap_remove(at)
        };
        job.queued.store(false, Ordering::SeqCst);
        let waker = Waker::from(job.clone());
        let mut future = job.future.lock().unwrap();
        if let Some(task) = &mut *future
            && task
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
        {
            *future = None;
            self.0.lock().unwrap().tasks -= 1;
        }
        true
    }

    fn fire_due(&self) -> bool {
        let due = {
            let mut state = self.0.lock().unwrap();
            let now = state.now;
            match state.timers.first_entry() {
                Some(first) if first.key().0 <= now => first.remove(),
                _ => return false,
            }
        };
        due.wake();
        true
    }

    fn skip_ahead(&self) -> bool {
        let mut state = self.0.lock().unwrap();
        let Some(((due, _), waker)) = state.timers.pop_first() else {
            return false;
        };
        state.now = state.now.max(due);
        drop(state);
        waker.wake();
        true
    }
}

impl State {
    /// SplitMix64.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Runtime for VirtualTime {
    fn spawn(&self, _name: &'static str, task: Task) {
        let job = Arc::new(Job {
            runtime: self.clone(),
            future: Mutex::new(Some(task)),
            queued: AtomicBool::new(false),
        });
        self.0.lock().unwrap().tasks += 1;
        job.wake();
    }

    fn sleep(&self, length: Duration) -> Task {
        let mut state = self.0.lock().unwrap();
        state.timers_made += 1;
        let key = (state.now + length, state.timers_made);
        Box::pin(Sleep {
            runtime: self.clone(),
            key,
        })
    }

    fn now(&self) -> Duration {
        self.0.lock().unwrap().now
    }

    fn unix_time(&self) -> Duration {
        Duration::from_secs(1_800_000_000) + self.now()
    }

    fn random(&self) -> u64 {
        self.0.lock().unwrap().draw()
    }
}

impl fmt::Debug for VirtualTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VirtualTime")
    }
}

impl Wake for Job {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::SeqCst) {
            let runtime = self.runtime.clone();
            runtime.0.lock().unwrap().ready.push(self);
        }
    }
}

struct Sleep {
    runtime: VirtualTime,
    key: (Duration, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.runtime.0.lock().unwrap();
        if state.now >= self.key.0 {
            return Poll::Ready(());
        }
        state.timers.insert(self.key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.runtime.0.lock().unwrap().timers.remove(&self.key);
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}
