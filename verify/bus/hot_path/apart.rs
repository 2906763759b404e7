//! Apart: the publisher alone on its thread, everything else on another, and what each has taken.

use crate::counting::allocations;
use clearway::protocol::sync::{Mutex, locks_taken};
use clearway::{BackendChoice, Bus, Runtime, Task};
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

/// Runs `work` on a tokio runtime of the calling thread alone.
pub(crate) fn block_on<F: Future>(work: F) -> F::Output {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

/// A clock that takes a lock of ours each time it is asked: what a control puts into the path.
pub(crate) fn locking_clock() -> impl Fn() + Send + Sync + 'static {
    let mutex = Mutex::new(0u64);
    move || *mutex.lock() += 1
}

/// A thread with a runtime of its own, until it is dropped.
pub(crate) struct Elsewhere {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Elsewhere {
    pub(crate) fn new() -> Self {
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

    /// A bus that was connected over there and whose tasks, and whose client's, all run there. `clock` is in the
    /// path of every publish: the bus asks it for the time.
    pub(crate) fn connect(
        &self,
        backend: impl Into<BackendChoice>,
        clock: impl Fn() + Send + Sync + 'static,
    ) -> Bus {
        let runtime = Apart {
            handle: self.handle.clone(),
            origin: Instant::now(),
            random: AtomicU64::new(1),
            clock: Box::new(clock),
        };
        let connecting = Bus::builder().backend(backend).runtime(Arc::new(runtime));
        self.run(connecting.connect()).unwrap()
    }

    /// What that thread has taken so far.
    pub(crate) fn taken(&self) -> Taken {
        self.run(async { Taken::by_this_thread() })
    }

    /// Runs `work` over there.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        block_on(self.handle.spawn(work)).unwrap()
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
    clock: Box<dyn Fn() + Send + Sync>,
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
