//! The scene of a count: the publisher alone on its thread, everything else on another.

use crate::counting::allocations;
use clearway::memory::Memory;
use clearway::protocol::sync::locks_taken;
use clearway::{Bus, Runtime, Task};
use std::fmt;
use std::future::Future;
use std::ops::{Add, Sub};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// What a thread has taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) locks: u64,
    pub(crate) allocations: u64,
}

impl Taken {
    /// By the calling thread, since it started.
    pub(crate) fn by_this_thread() -> Self {
        Self {
            locks: locks_taken(),
            allocations: allocations(),
        }
    }
}

impl Sub for Taken {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            locks: self.locks - before.locks,
            allocations: self.allocations - before.allocations,
        }
    }
}

impl Add for Taken {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            locks: self.locks + more.locks,
            allocations: self.allocations + more.allocations,
        }
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} locks, {} allocations", self.locks, self.allocations)
    }
}

/// A broker, a bus on it, and the thread on which the tasks of both run.
pub(crate) struct Scene {
    pub(crate) broker: Memory,
    pub(crate) bus: Bus,
    elsewhere: Elsewhere,
}

impl Scene {
    /// `clock` is in the path of every publish: the bus asks it for the time.
    pub(crate) fn new(clock: Arc<dyn Fn() + Send + Sync>) -> Self {
        let elsewhere = Elsewhere::new();
        let runtime = Apart {
            handle: elsewhere.handle.clone(),
            origin: Instant::now(),
            random: AtomicU64::new(1),
            clock,
        };
        let broker = Memory::new();
        let connecting = Bus::builder()
            .backend(broker.clone())
            .runtime(Arc::new(runtime));
        let bus = block_on(connecting.connect()).unwrap();
        Self {
            broker,
            bus,
            elsewhere,
        }
    }

    /// What the other thread has taken so far: the broker, its queue, the tasks of the bus.
    pub(crate) fn taken_elsewhere(&self) -> Taken {
        let task = self
            .elsewhere
            .handle
            .spawn(async { Taken::by_this_thread() });
        block_on(task).unwrap()
    }
}

/// Runs `work` on a tokio runtime of the calling thread alone.
pub(crate) fn block_on<F: Future>(work: F) -> F::Output {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

/// A thread with a runtime of its own, until it is dropped.
struct Elsewhere {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Elsewhere {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let _ = runtime.block_on(stopped);
        });
        Self {
            handle,
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// The bus's door to the world, which leads to the other thread.
struct Apart {
    handle: Handle,
    origin: Instant,
    random: AtomicU64,
    clock: Arc<dyn Fn() + Send + Sync>,
}

impl Runtime for Apart {
    fn spawn(&self, _name: &'static str, task: Task) {
        drop(self.handle.spawn(task));
    }

    fn sleep(&self, length: Duration) -> Task {
        let _inside = self.handle.enter();
        Box::pin(tokio::time::sleep(length))
    }

    fn now(&self) -> Duration {
        (self.clock)();
        self.origin.elapsed()
    }

    fn unix_time(&self) -> Duration {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
    }

    fn random(&self) -> u64 {
        // Relaxed: any number will do, as long as it is another one each time.
        let seed = self
            .random
            .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        (seed ^ (seed >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb)
    }
}

impl fmt::Debug for Apart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Apart")
    }
}
