//! The log of one partition: what was stored, from the first that is kept to the last.

use crate::envelope::Envelope;
use std::collections::VecDeque;
use std::time::Duration;

/// Envelopes in the order they were stored.
#[derive(Debug, Default)]
pub(super) struct PartitionLog {
    records: VecDeque<Record>,
    first: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Record {
    envelope: Envelope,
    stored_at: Duration,
}

/// What a partition may keep.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) envelopes: u64,
    pub(super) bytes: u64,
    pub(super) age: Option<Duration>,
}

impl PartitionLog {
    /// Stores `envelope` and gives its offset. `needed` is the first offset that a group still needs:
    /// what is below may go to make room; if that is not enough, `None`.
    pub(super) fn append(
        &mut self,
        envelope: Envelope,
        now: Duration,
        room: Room,
        needed: u64,
    ) -> Option<u64> {
        let size = envelope.size() as u64;
        while let Some(oldest) = self.records.front() {
            let full =
                self.records.len() as u64 >= room.envelopes || self.bytes + size > room.bytes;
            let aged = room
                .age
                .is_some_and(|age| now.saturating_sub(oldest.stored_at) > age);
            if !full && !aged {
                break;
            }
            if full && !aged && self.first >= needed {
                return None;
            }
            self.bytes -= oldest.envelope.size() as u64;
            self.records.pop_front();
            self.first += 1;
        }
        let offset = self.end();
        self.bytes += size;
        self.records.push_back(Record {
            envelope,
            stored_at: now,
        });
        Some(offset)
    }

    /// The envelope at `offset`, if it is kept.
    pub(super) fn at(&self, offset: u64) -> Option<&Envelope> {
        let index = offset.checked_sub(self.first)?;
        self.records
            .get(index as usize)
            .map(|record| &record.envelope)
    }

    /// The first offset that is kept.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The offset of the next to be stored.
    pub(super) fn end(&self) -> u64 {
        self.first + self.records.len() as u64
    }
}
