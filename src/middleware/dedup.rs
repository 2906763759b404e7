//! Dedup: a delivery of an id that was settled before is settled without a handler.
//!
//! A window of ids, the oldest out first. One task's own: whoever takes deliveries looks here before it
//! submits one, and notes it when it is settled.

use foldhash::fast::SeedableRandomState;
use std::collections::{HashSet, VecDeque};
use uuid::Uuid;

/// The ids of the last deliveries that were settled.
pub(crate) struct Dedup {
    known: HashSet<Uuid, SeedableRandomState>,
    order: VecDeque<Uuid>,
    window: usize,
    /// Taken and not settled.
    at_work: HashSet<Uuid, SeedableRandomState>,
}

/// What is known of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing: its delivery is the first.
    New,
    /// One is being handled.
    AtWork,
    /// One was settled.
    Settled,
}

impl Dedup {
    /// Remembers `window` ids.
    pub(crate) fn new(window: usize, hasher: SeedableRandomState) -> Self {
        Self {
            known: HashSet::with_capacity_and_hasher(2 * window, hasher.clone()),
            order: VecDeque::with_capacity(window),
            window,
            at_work: HashSet::with_hasher(hasher),
        }
    }

    /// Takes a delivery of this id, if nothing is known of it.
    pub(crate) fn take(&mut self, id: Uuid) -> Known {
        if self.known.contains(&id) {
            Known::Settled
        } else if self.at_work.insert(id) {
            Known::New
        } else {
            Known::AtWork
        }
    }

    /// What was taken is not handled any more: settled or not.
    pub(crate) fn done(&mut self, id: Uuid, settled: bool) {
        self.at_work.remove(&id);
        if !settled || !self.known.insert(id) {
            return;
        }
        if self.order.len() == self.window
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foldhash::SharedSeed;

    #[test]
    fn the_window_holds_the_last_ids_and_no_more() {
        let hasher = SeedableRandomState::with_seed(1, SharedSeed::global_fixed());
        let mut dedup = Dedup::new(2, hasher);
        let ids = [1, 2, 3].map(Uuid::from_u128);
        assert_eq!(dedup.take(ids[0]), Known::New);
        assert_eq!(dedup.take(ids[0]), Known::AtWork);
        dedup.done(ids[0], false);
        assert_eq!(dedup.take(ids[0]), Known::New);
        dedup.done(ids[0], true);
        dedup.done(ids[1], true);
        assert_eq!(
            ids.map(|id| dedup.take(id)),
            [Known::Settled, Known::Settled, Known::New]
        );
        dedup.done(ids[2], true);
        assert_eq!(
            ids.map(|id| dedup.take(id)),
            [Known::New, Known::Settled, Known::Settled]
        );
    }
}
