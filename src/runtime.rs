//! The one door for tasks, time and randomness.
//!
//! No other file of the bus may spawn, sleep, look at a clock or draw a random number. So the same
//! stages run on tokio in production and under a scheduler with a virtual clock in a test.

use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
#[cfg(feature = "kafka")]
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A task for [`Runtime::spawn`].
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the bus needs of the world it runs in.
///
/// [`Tokio`] is the default. Bring your own to run a bus on another executor, or in virtual time.
pub trait Runtime: Debug + Send + Sync + 'static {
    /// Runs `task` until it ends. `name` is for people who look at a list of tasks.
    fn spawn(&self, name: &'static str, task: Task);

    /// Ends after `length`. Dropping it takes the timer away.
    fn sleep(&self, length: Duration) -> Task;

    /// Time since some fixed moment. Never goes back.
    fn now(&self) -> Duration;

    /// Time since the Unix epoch, for people and for ids. May jump.
    fn unix_time(&self) -> Duration;

    /// 64 random bits.
    fn random(&self) -> u64;
}

/// The bus on tokio: the default.
#[derive(Debug)]
pub struct Tokio {
    handle: tokio::runtime::Handle,
    origin: Instant,
}

impl Tokio {
    /// The tokio runtime that the caller is in, or `None` outside of one.
    #[allow(clippy::disallowed_methods, reason = "this is the door")]
    pub fn current() -> Option<Self> {
        let handle = tokio::runtime::Handle::try_current().ok()?;
        Some(Self {
            handle,
            origin: Instant::now(),
        })
    }
}

#[allow(clippy::disallowed_methods, reason = "this is the door")]
impl Runtime for Tokio {
    fn spawn(&self, _name: &'static str, task: Task) {
        // Detached: whoever needs to know that it has ended counts it at a gate.
        drop(self.handle.spawn(task));
    }

    fn sleep(&self, length: Duration) -> Task {
        let _inside = self.handle.enter();
        Box::pin(tokio::time::sleep(length))
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn unix_time(&self) -> Duration {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
    }

    fn random(&self) -> u64 {
        fastrand::u64(..)
    }
}

/// Runs `work` on a thread of the operating system: for clients that block, which no task may. Whoever needs to know that it has
/// ended is told by `work`.
#[cfg(feature = "kafka")]
#[allow(clippy::disallowed_methods, reason = "this is the door")]
pub(crate) fn thread(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<thread::Thread> {
    let spawned = thread::Builder::new().name(name.into()).spawn(work)?;
    Ok(spawned.thread().clone())
}

/// `work`, or `None` if it takes longer than `limit`. `work` goes first when both are ready.
pub(crate) async fn timeout<F: Future>(
    runtime: &Arc<dyn Runtime>,
    limit: Duration,
    work: F,
) -> Option<F::Output> {
    let mut work = pin!(work);
    let mut sleep = runtime.sleep(limit);
    poll_fn(|cx| {
        if let Poll::Ready(output) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        sleep.as_mut().poll(cx).map(|()| None)
    })
    .await
}
