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
    stored_at: Now,
}

/// The time on both clocks of the runtime.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// Since some fixed moment.
    pub(super) clock: Duration,
    /// Since the Unix epoch.
    pub(super) unix: Duration,
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
        now: Now,
        room: Room,
        needed: u64,
    ) -> Option<u64> {
        let size = envelope.size() as u64;
        while let Some(oldest) = self.records.front() {
            let full =
                self.records.len() as u64 >= room.envelopes || self.bytes + size > room.bytes;
            let aged = room
                .age
                .is_some_and(|age| now.clock.saturating_sub(oldest.stored_at.clock) > age);
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
        // The wall clock may jump back; the log is in the order of its times all the same.
        let last = self.records.back().map(|record| record.stored_at.unix);
        let unix = now.unix.max(last.unwrap_or_default());
        let stored_at = Now { unix, ..now };
        self.records.push_back(Record {
            envelope,
            stored_at,
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

    /// The offset of the first that is kept and was stored at `unix` or later, by the time since the Unix epoch.
    pub(super) fn since(&self, unix: Duration) -> u64 {
        let earlier = |record: &Record| record.stored_at.unix < unix;
        self.first + self.records.partition_point(earlier) as u64
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Headers;
    use bytes::Bytes;
    use uuid::Uuid;

    const ROOM: Room = Room {
        envelopes: 4,
        bytes: 1 << 20,
        age: None,
    };

    fn envelope() -> Envelope {
        Envelope {
            id: Uuid::nil(),
            key: None,
            headers: Headers::default(),
            payload: Bytes::new(),
            time_ms: 0,
            trace: None,
        }
    }

    #[test]
    fn a_time_finds_the_first_that_was_stored_then_or_later() {
        let mut log = PartitionLog::default();
        let seconds = Duration::from_secs;
        // The wall clock is set back after the third.
        for (clock, unix) in [(1, 10), (2, 20), (3, 30), (4, 5), (5, 40), (6, 50)] {
            let now = Now {
                clock: seconds(clock),
                unix: seconds(unix),
            };
            log.append(envelope(), now, ROOM, u64::MAX).expect("room");
        }
        assert_eq!(log.first(), 2);
        let found = [0, 10, 30, 31, 40, 41, 60].map(|unix| log.since(seconds(unix)));
        assert_eq!(found, [2, 2, 2, 4, 4, 5, 6]);
    }
}
