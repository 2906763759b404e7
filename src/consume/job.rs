//! Job: a delivery on its way through a lane, and what became of it there.

use crate::backend::Position;
use crate::envelope::Envelope;
use crate::protocol::watermark::{Mark, Watermark};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// What orders deliveries: those of one key are handled one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Key(Bytes),
    Partition(u32),
}

/// A delivery in a lane.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) envelope: Envelope,
    pub(super) position: Position,
    /// What it was published to, where the subscription reads no topic.
    pub(super) subject: Option<Arc<str>>,
    /// How often it has been given to a handler, the next time included.
    pub(super) attempt: u32,
    /// How often it has failed here.
    pub(super) failures: u32,
    /// The last failure that no other attempt follows: only the dead letter is left to do.
    pub(super) failed: Option<Failed>,
    /// Its place in the table of what is out.
    pub(super) number: usize,
    pub(super) progress: Progress,
    pub(super) verdict: Verdict,
    /// Whether the subscription was in recovery when it took this. What runs it never looks again.
    pub(super) recovery: bool,
    /// Whether another one with its id was taken before it. It has its place in its lane all the same: if the other is not
    /// handled, this is.
    pub(super) double: bool,
    /// Whether its key's limit has let it in.
    #[cfg(feature = "throttle")]
    pub(super) admitted: bool,
}

/// Where a delivery counts in its partition.
#[derive(Clone)]
pub(super) struct Progress {
    pub(super) watermark: Arc<Watermark>,
    /// `None`: it was delivered before, and is counted already.
    pub(super) mark: Option<Mark>,
}

/// Why a delivery goes to the dead letters.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    pub(crate) error: String,
    pub(crate) attempts: u32,
}

/// What became of a job when it was last given to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing yet; or its worker was stopped in the middle.
    None,
    /// Done with: to be acknowledged.
    Settled,
    /// Done with by going to the dead letters: to be acknowledged.
    Buried,
    /// Its partition is not ours any more: not to be answered.
    Stale,
    /// Again, not before this has passed.
    Again(Duration),
    /// Its id is another's as well: whether it is handled is not the worker's to say.
    Double,
    /// Again at once: others wait for the worker.
    Yields,
}

impl Job {
    /// Whether it is done with, and the broker is to hear so.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.verdict, Verdict::Settled | Verdict::Buried)
    }
}

impl Progress {
    /// Whether the epoch under which it was delivered is over.
    pub(super) fn is_stale(&self) -> bool {
        self.watermark.is_retired()
    }

    pub(super) fn settle(&self) {
        if let Some(mark) = self.mark {
            self.watermark.settle(mark);
        }
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Progress").field(&self.mark).finish()
    }
}
