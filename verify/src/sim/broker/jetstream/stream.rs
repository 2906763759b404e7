//! A stream: what is stored, by sequence, and which ids it has seen lately. No time passes here, and nobody is told anything.

use super::durable::Durable;
use clearway::{Envelope, TopicConfig};
use foldhash::HashMap;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// For how long an id that comes again is recognised.
pub(super) const DUPLICATE_WINDOW: Duration = Duration::from_secs(60);

/// What was stored as long ago is on the disk for sure.
pub(super) const SYNC_INTERVAL: Duration = Duration::from_secs(2);

/// The stream of one topic, all its partitions in one sequence from 1.
pub(super) struct Stream {
    pub(super) config: TopicConfig,
    /// No other has had it: a stream that is made again is another one.
    pub(super) born: u64,
    /// Of each partition, its sequences in order.
    pub(super) partitions: Vec<Vec<u64>>,
    records: BTreeMap<u64, Record>,
    last: u64,
    /// Looked up by id, never listed.
    seen: HashMap<Uuid, (u64, Duration)>,
    seen_order: VecDeque<(Duration, Uuid)>,
    pub(super) durables: BTreeMap<(Arc<str>, u32), Durable>,
}

struct Record {
    partition: u32,
    envelope: Envelope,
    at: Duration,
    unix: Duration,
}

/// Where an envelope is.
pub(super) struct Stored {
    pub(super) sequence: u64,
    pub(super) duplicate: bool,
}

impl Stream {
    pub(super) fn new(config: TopicConfig, partitions: u32, born: u64) -> Self {
        Self {
            config,
            born,
            partitions: vec![Vec::new(); partitions as usize],
            records: BTreeMap::new(),
            last: 0,
            seen: HashMap::default(),
            seen_order: VecDeque::new(),
            durables: BTreeMap::new(),
        }
    }

    /// Stores an envelope, unless one of its id is there already and not too long.
    pub(super) fn store(
        &mut self,
        partition: u32,
        envelope: Envelope,
        now: Duration,
        unix: Duration,
    ) -> Stored {
        while let Some((at, id)) = self
            .seen_order
            .front()
            .copied()
            .filter(|(at, _)| *at + DUPLICATE_WINDOW < now)
        {
            self.seen_order.pop_front();
            if self.seen.get(&id).is_some_and(|(_, seen)| *seen == at) {
                self.seen.remove(&id);
            }
        }
        if let Some((sequence, _)) = self.seen.get(&envelope.id) {
            return Stored {
                sequence: *sequence,
                duplicate: true,
            };
        }
        self.last += 1;
        let sequence = self.last;
        self.seen.insert(envelope.id, (sequence, now));
        self.seen_order.push_back((now, envelope.id));
        self.partitions[partition as usize].push(sequence);
        let record = Record {
            partition,
            envelope,
            at: now,
            unix,
        };
        self.records.insert(sequence, record);
        Stored {
            sequence,
            duplicate: false,
        }
    }

    /// The next sequence stays unused.
    pub(super) fn leave_gap(&mut self) {
        self.last += 1;
    }

    pub(super) fn envelope(&self, sequence: u64) -> Option<&Envelope> {
        self.records.get(&sequence).map(|record| &record.envelope)
    }

    /// All that is there: partition, sequence and id.
    pub(super) fn listed(&self) -> impl Iterator<Item = (u32, u64, Uuid)> {
        let records = self.records.iter();
        records.map(|(sequence, record)| (record.partition, *sequence, record.envelope.id))
    }

    /// The first sequence that was stored at `unix` or later, or the next one to come.
    pub(super) fn since(&self, unix: Duration) -> u64 {
        let mut later = self
            .records
            .iter()
            .filter(|(_, record)| record.unix >= unix);
        later
            .next()
            .map_or(self.last + 1, |(sequence, _)| *sequence)
    }

    /// The next sequence to come.
    pub(super) fn end(&self) -> u64 {
        self.last + 1
    }

    /// Loses what was stored less than the sync interval before `now`. Says whether there was any.
    pub(super) fn lose_unsynced(&mut self, now: Duration) -> bool {
        let synced = now.saturating_sub(SYNC_INTERVAL);
        let Some(first) = self.records.iter().find(|(_, record)| record.at > synced) else {
            return false;
        };
        let first = *first.0;
        for record in self.records.split_off(&first).into_values() {
            self.seen.remove(&record.envelope.id);
        }
        self.last = first - 1;
        for sequences in &mut self.partitions {
            sequences.retain(|sequence| *sequence < first);
        }
        for durable in self.durables.values_mut() {
            durable.forget_from(first);
        }
        true
    }
}
