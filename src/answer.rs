//! Answer: the place of one answer between the worker that waits for it and whoever gives it.

use crate::protocol::sync::Mutex;
use std::task::{Context, Poll, Waker};

/// One answer. Given once; dropped without one, the giver says so by `None`.
pub(crate) struct Answer<A>(Mutex<Told<A>>);

struct Told<A> {
    /// `Some(None)`: there will be none.
    answer: Option<Option<A>>,
    worker: Option<Waker>,
}

impl<A> Answer<A> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Told {
            answer: None,
            worker: None,
        }))
    }

    /// The first counts.
    pub(crate) fn tell(&self, answer: Option<A>) {
        let mut told = self.0.lock();
        told.answer.get_or_insert(answer);
        let worker = told.worker.take();
        drop(told);
        worker.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<A>> {
        let mut told = self.0.lock();
        match told.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                told.worker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
