//! Threads: what of the client blocks runs on threads of its own, and a task waits for the answer.

use crate::error::{Failure, FailureKind};
use crate::protocol::sync::Mutex;
use crate::runtime;
use crate::signal::Signal;
use std::ops::Deref;
use std::sync::Arc;
use std::thread::Thread;

/// Says that something has ended when it is dropped: a thread that panics has ended too.
pub(super) struct Ends(pub(super) Arc<Signal<()>>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.say(());
    }
}

/// What blocks when it is dropped: wherever that is, its end is on a thread of its own.
pub(super) struct Elsewhere<T: Send + 'static>(Option<T>);

impl<T: Send> Elsewhere<T> {
    pub(super) fn new(it: T) -> Self {
        Self(Some(it))
    }

    /// Ends it on this thread, and has ended it when it returns.
    pub(super) fn end_here(mut self) {
        drop(self.0.take());
    }
}

impl<T: Send> Deref for Elsewhere<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("only its end takes it")
    }
}

impl<T: Send> Drop for Elsewhere<T> {
    fn drop(&mut self) {
        if let Some(it) = self.0.take() {
            // If there is no thread to be had it ends here.
            let _ = spawn("clearway-kafka-end", move || drop(it));
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    /// Says on which thread it ended.
    struct Says(mpsc::Sender<thread::ThreadId>);

    impl Drop for Says {
        fn drop(&mut self) {
            let _ = self.0.send(thread::current().id());
        }
    }

    #[test]
    fn what_blocks_ends_on_a_thread_of_its_own_or_where_it_is_told_to() {
        let (says, ended) = mpsc::channel();
        let here = thread::current().id();
        drop(Arc::new(Elsewhere::new(Says(says.clone()))));
        assert_ne!(ended.recv().expect("it ends"), here);
        Elsewhere::new(Says(says)).end_here();
        assert_eq!(ended.try_recv().expect("it has ended"), here);
    }
}
