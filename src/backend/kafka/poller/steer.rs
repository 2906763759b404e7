//! Steer: how much is held ready for the task, and what the end of a log means.
//!
//! What there is no room for stays with the client, in the queue of its partition, and the client fetches no more of that once it has enough.

use super::{BATCH, Fetched, Poller, headers, next_epoch};
use crate::envelope::Envelope;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use std::time::Duration;

/// As many deliveries are held ready, at most.
const AHEAD: usize = 1024;
/// The same in bytes.
const AHEAD_BYTES: usize = 4 << 20;

impl Poller {
    /// Takes what is fetched, as far as there is room, and a batch at most. No partition twice while another has some. Says how much it took.
    pub(super) fn take_fetched(&mut self) -> usize {
        self.owned
            .values_mut()
            .for_each(|owned| owned.is_empty = false);
        let partitions = self.consumer.split_behind(self.last);
        let share = (BATCH / partitions.len().max(1)).max(1);
        let mut took = 0;
        for partition in partitions {
            for _ in 0..share {
                if !self.has_room() || !self.take_one(partition) {
                    break;
                }
                self.last = partition;
                took += 1;
            }
        }
        if took > 0 {
            self.wire.task.wake();
        }
        took
    }

    fn has_room(&self) -> bool {
        self.ahead < AHEAD && self.ahead_bytes < AHEAD_BYTES
    }

    /// The next of a partition. `false`: there is none.
    fn take_one(&mut self, partition: i32) -> bool {
        let queue = self.consumer.queue(partition);
        match queue.and_then(|queue| queue.poll(Duration::ZERO)) {
            None => {
                if let Some(owned) = self.owned.get_mut(&partition) {
                    owned.is_empty = true;
                }
                return false;
            }
            Some(Ok(record)) => {
                let (offset, envelope) = (record.offset(), headers::decode(&record));
                drop(record);
                self.deliver(partition, offset, envelope);
            }
            Some(Err(KafkaError::PartitionEOF(_))) => {
                if let Some(owned) = self.owned.get_mut(&partition) {
                    owned.seen_end = true;
                }
            }
            Some(Err(error)) => self.trouble(&error),
        }
        true
    }

    fn deliver(&mut self, partition: i32, offset: i64, envelope: Envelope) {
        // Of a partition that is not ours, or not any more: nobody handles it here.
        let Some(owned) = self.owned.get_mut(&partition) else {
            return;
        };
        if owned.is_behind(offset) {
            let news = owned.begin_anew(partition, offset, next_epoch(&self.epochs));
            self.committed.remove(&partition);
            self.tell_lost([&partition], "its log begins again below what it had");
            news.into_iter().for_each(|news| self.wire.tell(news));
        }
        let Some(owned) = self.owned.get_mut(&partition) else {
            return;
        };
        owned.next = Some(offset + 1);
        owned.seen_end = false;
        self.ahead += 1;
        self.ahead_bytes += envelope.size();
        self.wire.fetched.push(Fetched::Delivery {
            partition: partition as u32,
            epoch: owned.epoch,
            offset: offset as u64,
            envelope,
        });
    }

    /// The log ended there, and all before was taken: a marker, or what was deleted, is nothing to wait for. That all was taken is for us to say:
    /// the client counts what waits and looks at the end in two moments, and what came in between waits here if there was no room for it.
    pub(super) fn at_end(&mut self, ends: Vec<(i32, i64)>) {
        for (partition, end) in ends {
            let Some(owned) = self.owned.get_mut(&partition) else {
                continue;
            };
            let took_all = owned.seen_end && owned.is_empty && !owned.anew;
            if took_all && owned.next.is_none_or(|next| next < end) {
                self.wire.fetched.push(Fetched::End {
                    partition: partition as u32,
                    epoch: owned.epoch,
                    seen: owned.next.map(|next| next as u64),
                    offset: end as u64,
                });
                owned.next = Some(end);
                self.wire.task.wake();
            }
        }
    }
}
