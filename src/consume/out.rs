//! Out: the deliveries that the broker waits for an answer of, whatever stage they are in.

use crate::backend::Position;
use crate::backend::any::AnyToken;
use crate::subscription::LeftDelivery;
use std::time::Duration;
use uuid::Uuid;

/// What is out, by number.
pub(super) struct Out {
    places: Vec<Option<Delivered>>,
    free: Vec<usize>,
    bytes: usize,
}

/// One delivery, as the broker knows it.
pub(super) struct Delivered {
    pub(super) position: Position,
    pub(super) id: Uuid,
    /// `None`: it is not ours to answer any more.
    pub(super) token: Option<AnyToken>,
    pub(super) since: Duration,
    size: usize,
}

impl Out {
    pub(super) fn new(places: usize) -> Self {
        Self {
            places: (0..places).map(|_| None).collect(),
            free: (0..places).rev().collect(),
            bytes: 0,
        }
    }

    /// Notes a delivery. There is room: whoever takes one has looked.
    pub(super) fn add(
        &mut self,
        (position, id, size): (Position, Uuid, usize),
        token: AnyToken,
        now: Duration,
    ) -> usize {
        let number = self.free.pop().expect("looked at before it was taken");
        self.bytes += size;
        self.places[number] = Some(Delivered {
            position,
            id,
            token: Some(token),
            since: now,
            size,
        });
        number
    }

    /// Takes out what is done with.
    pub(super) fn remove(&mut self, number: usize) -> Delivered {
        let delivered = self.places[number].take().expect("taken out once");
        self.free.push(number);
        self.bytes -= delivered.size;
        delivered
    }

    /// For the answer to what has that number, if that is ours to give.
    pub(super) fn token(&self, number: usize) -> Option<&AnyToken> {
        self.places.get(number)?.as_ref()?.token.as_ref()
    }

    /// The delivery of that number, if it is out.
    pub(super) fn get(&self, number: usize) -> Option<LeftDelivery> {
        let delivered = self.places.get(number)?.as_ref()?;
        let (position, id) = (delivered.position, delivered.id);
        Some(LeftDelivery { position, id })
    }

    /// The delivery at `position` in its epoch, if it is out.
    pub(super) fn find(&mut self, position: Position) -> Option<&mut Delivered> {
        self.iter_mut()
            .find(|delivered| delivered.position == position && delivered.token.is_some())
    }

    /// Whether something of a partition that was revoked under `epoch` is out. What was taken under an epoch before may be at work still.
    pub(super) fn holds(&self, partition: u32, epoch: u64) -> bool {
        let mut out = self.iter().map(|delivered| delivered.position);
        out.any(|position| position.partition == partition && position.epoch <= epoch)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Delivered> {
        self.places.iter().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Delivered> {
        self.places.iter_mut().flatten()
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_held_by_what_is_out_of_it_also_from_before() {
        let mut out = Out::new(4);
        let mut add = |partition, epoch| {
            let number = out.free.pop().expect("there is room");
            out.places[number] = Some(Delivered {
                position: Position {
                    partition,
                    offset: 17,
                    epoch,
                },
                id: Uuid::nil(),
                token: None,
                since: Duration::ZERO,
                size: 0,
            });
            number
        };
        let (before, newer) = (add(1, 3), add(2, 8));
        assert!(out.holds(1, 3));
        assert!(out.holds(1, 5), "its handler has not ended");
        assert!(!out.holds(2, 5), "it is the next owner's, which is us");
        assert!(!out.holds(3, 5));
        out.remove(before);
        assert!(!out.holds(1, 5) && out.holds(2, 8));
        out.remove(newer);
        assert!(!out.holds(2, 8));
    }
}
