//! Partitions: how far each one that is ours was settled, in its present epoch.

use super::job::Progress;
use crate::backend::Position;
use crate::protocol::watermark::{Refused, Watermark};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The partitions of a subscription that something was delivered from.
pub(super) struct Partitions {
    open: BTreeMap<u32, Open>,
    window: usize,
}

struct Open {
    epoch: u64,
    watermark: Arc<Watermark>,
}

/// What is known of a position that was delivered.
pub(super) enum Place {
    /// It is new.
    New(Progress),
    /// It was delivered before in this epoch.
    Again(Progress),
    /// Too much in front of it is not settled.
    Full,
}

impl Partitions {
    /// Of each partition at most `window` deliveries are counted from the first that is not settled.
    pub(super) fn new(window: usize) -> Self {
        Self {
            open: BTreeMap::new(),
            window,
        }
    }

    /// Counts a delivery.
    pub(super) fn deliver(&mut self, position: Position) -> Place {
        let open = self.at(position);
        let progress = |mark| Progress {
            watermark: open.watermark.clone(),
            mark,
        };
        match open.watermark.deliver(position.offset) {
            Ok(mark) => Place::New(progress(Some(mark))),
            Err(Refused::NotNew) => Place::Again(progress(None)),
            Err(Refused::Full) => Place::Full,
            Err(Refused::Retired) => unreachable!("an epoch that is retired is not kept"),
        }
    }

    fn at(&mut self, position: Position) -> &Open {
        let Position {
            partition,
            offset,
            epoch,
        } = position;
        if self
            .open
            .get(&partition)
            .is_some_and(|open| open.epoch != epoch)
        {
            self.retire(partition);
        }
        let window = self.window;
        self.open.entry(partition).or_insert_with(|| Open {
            epoch,
            // As far as anybody here knows all before the first delivery is settled.
            watermark: Arc::new(Watermark::new(epoch, offset, window)),
        })
    }

    /// The partition is not ours any more: what was delivered from it is void.
    pub(super) fn retire(&mut self, partition: u32) {
        if let Some(open) = self.open.remove(&partition) {
            open.watermark.retire();
        }
    }

    pub(super) fn retire_all(&mut self) {
        while let Some((_, open)) = self.open.pop_first() {
            open.watermark.retire();
        }
    }

    /// Whether `position` is of an epoch that is not over.
    pub(super) fn holds(&self, position: Position) -> bool {
        (self.open.get(&position.partition)).is_some_and(|open| open.epoch == position.epoch)
    }

    /// Each partition, the first position that is not settled, and how many deliveries are not.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u64, u64)> {
        self.open.iter().map(|(number, open)| {
            let Open { watermark, .. } = open;
            (*number, watermark.watermark(), watermark.in_flight())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(offset: u64, epoch: u64) -> Position {
        Position {
            partition: 1,
            offset,
            epoch,
        }
    }

    fn new(partitions: &mut Partitions, position: Position) -> Progress {
        match partitions.deliver(position) {
            Place::New(progress) => progress,
            Place::Again(_) => panic!("it was delivered before"),
            Place::Full => panic!("there is room"),
        }
    }

    #[test]
    fn a_new_epoch_voids_what_is_out_of_the_one_before() {
        let mut partitions = Partitions::new(8);
        let old = new(&mut partitions, at(5, 1));
        let new = new(&mut partitions, at(5, 2));
        assert!(old.is_stale() && !new.is_stale());
        assert!(!partitions.holds(at(5, 1)) && partitions.holds(at(5, 2)));
        old.settle();
        assert_eq!(partitions.iter().collect::<Vec<_>>(), [(1, 5, 1)]);
        new.settle();
        assert_eq!(partitions.iter().collect::<Vec<_>>(), [(1, 6, 0)]);
    }

    /// Offsets of Kafka have gaps: of compaction, of markers, of what was deleted.
    #[test]
    fn a_gap_is_nothing_to_wait_for() {
        let mut partitions = Partitions::new(8);
        let first = new(&mut partitions, at(5, 1));
        let behind = new(&mut partitions, at(90, 1));
        let settled = |partitions: &Partitions| {
            let mut each = partitions.iter();
            each.next().map(|(number, below, _)| (number, below))
        };
        behind.settle();
        assert_eq!(settled(&partitions), Some((1, 5)), "it is at work");
        first.settle();
        assert_eq!(settled(&partitions), Some((1, 91)));
    }
}
