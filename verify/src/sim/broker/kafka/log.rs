//! The log of one partition, as a broker keeps it: what was appended, in order, from the first that is kept to the last.
//!
//! Decides only: it knows no time, no network and no client. It never loses what was answered, never stores one number of a producer
//! twice, and never gives an offset a second time to a reader that could have seen the first.
//!
//! Offsets have gaps: markers of transactions take one and are no envelope, and compaction takes envelopes out of the middle. What is
//! appended is not safe before all replicas in sync have it: until then no reader sees it, and a new leader may not have it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// By so many of a producer's last envelopes its resends are known: five requests of it.
pub const REMEMBERED: usize = 80;

/// Which producer sent it, and as the how-manieth to this partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number {
    /// The producer's id.
    pub producer: u64,
    /// Counts from 0.
    pub sequence: u64,
}

/// Where an append ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its place.
    pub offset: u64,
    /// It was there before.
    pub duplicate: bool,
}

/// Why nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAppended {
    /// One before it is missing.
    OutOfOrder {
        /// The sequence that is next.
        expected: u64,
    },
    /// It was there before, so long ago that nobody knows where.
    LongAgo,
}

/// A read from a place that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange {
    /// The first offset that is kept.
    pub first: u64,
    /// Behind the last that can be read.
    pub end: u64,
}

/// What a read gave.
#[derive(Debug, PartialEq, Eq)]
pub struct Fetched<T> {
    /// Offsets and what is there.
    pub records: Vec<(u64, T)>,
    /// Where to go on. Beyond the last record there may be some that are no envelopes.
    pub next: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Log<T> {
    entries: BTreeMap<u64, Entry<T>>,
    first: u64,
    end: u64,
    safe: u64,
    term: u64,
    producers: BTreeMap<u64, Producer>,
}

#[derive(Debug)]
enum Entry<T> {
    Record { stored_at: Duration, value: T },
    Marker,
}

/// What a leader knows of a producer.
#[derive(Debug, Default)]
struct Producer {
    /// Sequence and offset of its last ones: as many as are remembered, and all that are not safe.
    last: VecDeque<(u64, u64)>,
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            first: 0,
            end: 0,
            safe: 0,
            term: 1,
            producers: BTreeMap::new(),
        }
    }
}

impl<T: Clone> Log<T> {
    /// Appends what is numbered, once.
    ///
    /// # Errors
    ///
    /// When its number is not the next, and it is not known to be there.
    pub fn append(
        &mut self,
        number: Number,
        stored_at: Duration,
        value: T,
    ) -> Result<Appended, NotAppended> {
        let producer = self.producers.entry(number.producer).or_default();
        if let Some((last, _)) = producer.last.back() {
            let mut known = producer.last.iter();
            if let Some((_, offset)) = known.find(|(sequence, _)| *sequence == number.sequence) {
                return Ok(Appended {
                    offset: *offset,
                    duplicate: true,
                });
            }
            let expected = last + 1;
            if number.sequence < expected {
                return Err(NotAppended::LongAgo);
            }
            if number.sequence > expected {
                return Err(NotAppended::OutOfOrder { expected });
            }
        }
        let offset = self.end;
        producer.last.push_back((number.sequence, offset));
        let is_safe = |at: &(u64, u64)| at.1 < self.safe;
        while producer.last.len() > REMEMBERED && producer.last.get(1).is_some_and(is_safe) {
            producer.last.pop_front();
        }
        self.entries
            .insert(offset, Entry::Record { stored_at, value });
        self.end += 1;
        Ok(Appended {
            offset,
            duplicate: false,
        })
    }

    /// Appends what takes an offset and is no envelope: the end of somebody's transaction.
    pub fn mark(&mut self) -> u64 {
        let offset = self.end;
        self.entries.insert(offset, Entry::Marker);
        self.end += 1;
        offset
    }

    /// All replicas in sync have what is below `offset`.
    pub fn replicated(&mut self, offset: u64) {
        self.safe = self.safe.max(offset.min(self.end));
    }

    /// Another leads, which has what is below `keeps`, or more: all that is safe.
    pub fn lead(&mut self, keeps: u64) {
        self.end = keeps.clamp(self.safe, self.end);
        self.entries.split_off(&self.end);
        self.term += 1;
        let end = self.end;
        for producer in self.producers.values_mut() {
            producer.last.retain(|(_, offset)| *offset < end);
        }
        // One of which nothing is left begins where it likes.
        (self.producers).retain(|_, producer| !producer.last.is_empty());
    }

    /// Takes one out of the middle, as compaction does. Says whether there was one.
    pub fn compact(&mut self, offset: u64) -> bool {
        offset < self.safe && self.entries.remove(&offset).is_some()
    }

    /// Deletes what is below `offset`, as far as it is safe.
    pub fn retain(&mut self, offset: u64) {
        self.first = self.first.max(offset.min(self.safe));
        self.entries = self.entries.split_off(&self.first);
    }

    /// Reads from `from` on, `most` at most. An end of the log is a place to read from.
    ///
    /// # Errors
    ///
    /// When that place is not there.
    pub fn fetch(&self, from: u64, most: usize) -> Result<Fetched<T>, OutOfRange> {
        let (first, end) = (self.first, self.safe);
        if from < first || from > end {
            return Err(OutOfRange { first, end });
        }
        let mut fetched = Fetched {
            records: Vec::new(),
            next: end,
        };
        for (offset, entry) in self.entries.range(from..end) {
            let Entry::Record { value, .. } = entry else {
                continue;
            };
            if fetched.records.len() == most {
                fetched.next = *offset;
                break;
            }
            fetched.records.push((*offset, value.clone()));
        }
        Ok(fetched)
    }

    /// All that can be read from `from` on, where it is.
    pub fn records_from(&self, from: u64) -> impl Iterator<Item = (u64, &T)> {
        let readable = self.entries.range(from.min(self.safe)..self.safe);
        readable.filter_map(|(offset, entry)| match entry {
            Entry::Record { value, .. } => Some((*offset, value)),
            Entry::Marker => None,
        })
    }

    /// The first offset whose envelope was stored then or later.
    pub fn since(&self, unix: Duration) -> Option<u64> {
        let mut readable = self.entries.range(..self.safe);
        let found = readable.find(
            |(_, entry)| matches!(entry, Entry::Record { stored_at, .. } if *stored_at >= unix),
        );
        found.map(|(offset, _)| *offset)
    }

    /// Whether all replicas in sync have what is at `offset`.
    pub fn is_safe(&self, offset: u64) -> bool {
        offset < self.safe
    }

    /// The first offset that is kept.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Behind the last that can be read.
    pub fn readable(&self) -> u64 {
        self.safe
    }

    /// Behind the last that the leader has.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Counts leaders.
    pub fn term(&self) -> u64 {
        self.term
    }
}

#[cfg(test)]
mod tests;
