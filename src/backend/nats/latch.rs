//! A latch: set once, seen by everybody who waits. For the ends of things, which are rare.

use crate::protocol::sync::Mutex;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// Something that happens once.
#[derive(Debug, Default)]
pub(super) struct Latch(Mutex<State>);

#[derive(Default)]
struct State {
    set: bool,
    waiting: Vec<Waker>,
}

/// Sets the latch when dropped, so that a task that is aborted or panics has ended too.
pub(super) struct SetOnDrop(pub(super) Arc<Latch>);

impl Latch {
    pub(super) fn set(&self) {
        let waiting = {
            let mut state = self.0.lock();
            state.set = true;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(super) async fn wait(&self) {
        poll_fn(|cx| {
            let mut state = self.0.lock();
            if state.set {
                return Poll::Ready(());
            }
            if !state
                .waiting
                .iter()
                .any(|there| there.will_wake(cx.waker()))
            {
                state.waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}
