//! Batches: several deliveries in one call of a handler.
//!
//! There is no task for it: the delivery that fills a batch, or the first whose time is up, has its worker run the handler for
//! all of them. The others' workers wait for the answer.

use crate::answer::Answer;
use crate::handler::{Delivery, Handler, HandlerError, Outcome};
use crate::protocol::sync::Mutex;
use crate::runtime::Runtime;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// What a batch handler says: of all deliveries the same, or of each its own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BatchOutcome {
    /// Of all the same.
    All(Outcome),
    /// Of each its own, in the order of the batch. With fewer or more than the batch has, all have failed.
    Each(Vec<Outcome>),
}

impl From<()> for BatchOutcome {
    fn from((): ()) -> Self {
        Self::All(Outcome::Ack)
    }
}

impl From<Outcome> for BatchOutcome {
    fn from(outcome: Outcome) -> Self {
        Self::All(outcome)
    }
}

impl From<Vec<Outcome>> for BatchOutcome {
    fn from(outcomes: Vec<Outcome>) -> Self {
        Self::Each(outcomes)
    }
}

/// User code that answers several deliveries at a time. Any `Fn(Vec<Delivery<T>>) -> impl Future<Output = Result<O, E>>` is
/// one, where `O` is `()`, an [`Outcome`] for all, or a `Vec` of them, one for each.
///
/// An error, a panic or a timeout is each delivery's own: each is tried again, in whatever batch it is then in.
pub trait BatchHandler<T>: Send + Sync + 'static {
    /// Handles the deliveries of one batch.
    fn handle(
        &self,
        batch: Vec<Delivery<T>>,
    ) -> impl Future<Output = Result<BatchOutcome, HandlerError>> + Send;
}

impl<T, F, A, O, E> BatchHandler<T> for F
where
    F: Fn(Vec<Delivery<T>>) -> A + Send + Sync + 'static,
    A: Future<Output = Result<O, E>> + Send,
    O: Into<BatchOutcome>,
    E: Into<HandlerError>,
    T: Send + 'static,
{
    fn handle(
        &self,
        batch: Vec<Delivery<T>>,
    ) -> impl Future<Output = Result<BatchOutcome, HandlerError>> + Send {
        let answer = self(batch);
        async move { answer.await.map(Into::into).map_err(Into::into) }
    }
}

/// How large a batch may be and how long it may fill.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    pub(crate) deliveries_max: usize,
    pub(crate) fill_max: Duration,
}

/// The handler that gathers deliveries into batches.
pub(crate) struct Gather<T, H> {
    batch: Batch,
    runtime: Arc<dyn Runtime>,
    filling: Mutex<Vec<Entry<T>>>,
    handler: H,
}

/// A delivery in a batch, and its worker's answer.
struct Entry<T> {
    delivery: Delivery<T>,
    answer: Arc<Answer<Told>>,
}

/// What is said of one delivery, or why the batch failed.
type Told = Result<Outcome, Arc<str>>;

/// The rest of a batch failed.
#[derive(Debug, thiserror::Error)]
#[error("the batch failed: {0}")]
struct BatchFailed(Arc<str>);

#[derive(Debug, thiserror::Error)]
#[error("the batch has {of} deliveries and {answers} outcomes")]
struct WrongCount {
    of: usize,
    answers: usize,
}

impl<T, H> Gather<T, H> {
    pub(crate) fn new(batch: Batch, runtime: Arc<dyn Runtime>, handler: H) -> Self {
        Self {
            batch,
            runtime,
            filling: Mutex::new(Vec::new()),
            handler,
        }
    }

    /// Puts a delivery into the batch. The batch, if that has filled it.
    fn put(&self, entry: Entry<T>) -> Option<Vec<Entry<T>>> {
        let mut filling = self.filling.lock();
        filling.push(entry);
        (filling.len() >= self.batch.deliveries_max).then(|| std::mem::take(&mut *filling))
    }

    /// The batch as it is, if the delivery with this answer is in it. Else somebody has it already.
    fn take_with(&self, mine: &Arc<Answer<Told>>) -> Option<Vec<Entry<T>>> {
        let mut filling = self.filling.lock();
        let is_mine = |entry: &Entry<T>| Arc::ptr_eq(&entry.answer, mine);
        let there = filling.iter().any(is_mine);
        there.then(|| std::mem::take(&mut *filling))
    }
}

/// A delivery that waits in a batch: dropped, it is not in it any more.
struct InBatch<'g, T, H> {
    gather: &'g Gather<T, H>,
    answer: Arc<Answer<Told>>,
}

impl<T, H> Drop for InBatch<'_, T, H> {
    fn drop(&mut self) {
        let mut filling = self.gather.filling.lock();
        filling.retain(|entry| !Arc::ptr_eq(&entry.answer, &self.answer));
    }
}

/// The others of a batch that is being handled. Dropped, they hear that it failed.
struct Others {
    answers: Vec<Arc<Answer<Told>>>,
    failed: Arc<str>,
}

impl Others {
    /// Each hears its own.
    fn tell(&mut self, outcomes: impl Iterator<Item = Outcome>) {
        for (answer, outcome) in self.answers.drain(..).zip(outcomes) {
            answer.tell(Some(Ok(outcome)));
        }
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        for answer in &self.answers {
            answer.tell(Some(Err(self.failed.clone())));
        }
    }
}

impl<T: Send + 'static, H: BatchHandler<T>> Gather<T, H> {
    /// Handles a whole batch; the outcome of the delivery whose answer is `mine`.
    async fn run(
        &self,
        batch: Vec<Entry<T>>,
        mine: &Arc<Answer<Told>>,
    ) -> Result<Outcome, HandlerError> {
        let size = batch.len();
        let (deliveries, answers): (Vec<_>, Vec<_>) = (batch.into_iter())
            .map(|entry| (entry.delivery, entry.answer))
            .unzip();
        let at = answers.iter().position(|answer| Arc::ptr_eq(answer, mine));
        let at = at.expect("who runs a batch is in it");
        let mut others = Others {
            answers,
            failed: "its handler was stopped".into(),
        };
        // Here, and not before the guard: what panics while the future is made is the handler's as well.
        let outcomes = match self.handler.handle(deliveries).await {
            Ok(BatchOutcome::All(outcome)) => vec![outcome; size],
            Ok(BatchOutcome::Each(outcomes)) if outcomes.len() == size => outcomes,
            Ok(BatchOutcome::Each(outcomes)) => {
                let error = WrongCount {
                    of: size,
                    answers: outcomes.len(),
                };
                others.failed = error.to_string().into();
                return Err(error.into());
            }
            Err(error) => {
                others.failed = error.to_string().into();
                return Err(error);
            }
        };
        let own = outcomes[at].clone();
        others.tell(outcomes.into_iter());
        Ok(own)
    }
}

impl<T: Send + 'static, H: BatchHandler<T>> Handler<T> for Gather<T, H> {
    async fn handle(&self, delivery: Delivery<T>) -> Result<Outcome, HandlerError> {
        let answer = Arc::new(Answer::new());
        let in_batch = InBatch {
            gather: self,
            answer: answer.clone(),
        };
        let full = self.put(Entry {
            delivery,
            answer: answer.clone(),
        });
        if let Some(full) = full {
            return self.run(full, &answer).await;
        }
        let mut time = self.runtime.sleep(self.batch.fill_max);
        let mut waits = true;
        loop {
            let told = poll_fn(|cx| {
                if let Poll::Ready(told) = answer.poll(cx) {
                    return Poll::Ready(Some(told));
                }
                if waits && time.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                Poll::Pending
            })
            .await;
            match told {
                Some(Some(told)) => return told.map_err(|why| BatchFailed(why).into()),
                Some(None) => return Err(BatchFailed("nobody answered".into()).into()),
                None => {}
            }
            waits = false;
            if let Some(batch) = self.take_with(&answer) {
                let outcome = self.run(batch, &answer).await;
                drop(in_batch);
                return outcome;
            }
        }
    }
}
