//! Threads: what of the client blocks runs on threads of its own, and a task waits for the answer.

use crate::error::{Failure, FailureKind};
use crate::protocol::sync::Mutex;
use crate::runtime;
use crate::signal::Signal;
use std::sync::Arc;
use std::thread::Thread;

/// Says that something has ended when it is dropped: a thread that panics has ended too.
pub(super) struct Ends(pub(super) Arc<Signal<()>>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.say(());
    }
}

/// Runs `work`, which may block, on a thread and waits for it. Dropped, the thread goes on to its end: `work` has limits of its own.
pub(super) async fn off<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let place = Arc::new((Mutex::new(None), Arc::new(Signal::new())));
    let there = place.clone();
    spawn(name, move || {
        let _ends = Ends(there.1.clone());
        let done = work();
        *there.0.lock() = Some(done);
    })?;
    place.1.heard().await;
    let done = place.0.lock().take();
    done.ok_or_else(|| {
        Failure::new(
            FailureKind::Broker,
            "a call of the Kafka client has panicked",
        )
    })
}

/// Starts a thread.
pub(super) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<Thread, Failure> {
    runtime::thread(name, work).map_err(|error| {
        Failure::caused(
            FailureKind::NoRoom,
            format!("no thread `{name}`: {error}"),
            error,
        )
    })
}
