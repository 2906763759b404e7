//! Signal: said once, heard by everybody who waits and by everybody who comes later.

use crate::protocol::sync::Mutex;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// A thing that is said once, with a value.
#[derive(Debug)]
pub(crate) struct Signal<T>(Mutex<State<T>>);

#[derive(Debug)]
struct State<T> {
    said: Option<T>,
    waiting: Vec<Waker>,
}

impl<T: Clone> Signal<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State {
            said: None,
            waiting: Vec::new(),
        }))
    }

    /// Says it. Only the first time counts.
    pub(crate) fn say(&self, value: T) {
        let waiting = {
            let mut state = self.0.lock();
            state.said.get_or_insert(value);
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// What was said, if it was.
    pub(crate) fn said(&self) -> Option<T> {
        self.0.lock().said.clone()
    }

    /// Waits until it is said. Cancel-safe.
    pub(crate) async fn heard(&self) -> T {
        poll_fn(|cx| self.poll_heard(cx)).await
    }

    /// Ready when it was said. Otherwise who polls is woken.
    pub(crate) fn poll_heard(&self, cx: &mut Context<'_>) -> Poll<T> {
        let mut state = self.0.lock();
        if let Some(said) = &state.said {
            return Poll::Ready(said.clone());
        }
        state.waiting.retain(|waker| !waker.will_wake(cx.waker()));
        state.waiting.push(cx.waker().clone());
        Poll::Pending
    }

    /// `work`, or `None` if the signal is heard before it is done. `work` goes first when both are.
    pub(crate) async fn until<F: Future>(&self, work: F) -> Option<F::Output> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            self.poll_heard(cx).map(|_| None)
        })
        .await
    }
}
