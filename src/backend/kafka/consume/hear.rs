//! Hearing: what the thread tells of assignments and commits.

use super::progress::Progress;
use super::{CONFIRM_AGAIN, KafkaConsumer};
use crate::backend::kafka::poller::News;
use crate::backend::{Incoming, Position};
use crate::error::{Failure, FailureKind};

impl KafkaConsumer {
    /// Hears what has happened.
    pub(super) fn hear(&mut self) {
        while let Some(news) = self.handle.wire.news.pop() {
            match news {
                News::Assigned { epoch, partitions } => self.assigned(epoch, &partitions),
                News::Revoked { epoch, partitions } => {
                    for partition in &partitions {
                        if let Some(progress) = self.partitions.get_mut(partition) {
                            progress.leaving = true;
                        }
                    }
                    // What is settled counts, though others of it are at work.
                    self.commit();
                    self.news.push_back(Incoming::Revoked { partitions, epoch });
                }
                News::Gone { partition, epoch } => {
                    if self.progress(partition, epoch).is_some() {
                        self.partitions.remove(&partition);
                    }
                    self.count_unanswered();
                }
                News::Committed { partition, offset } => self.committed(partition, offset),
                News::CommitFailed { partitions } => {
                    self.answered(partitions.len());
                    for partition in partitions {
                        if let Some(progress) = self.partitions.get_mut(&partition) {
                            progress.commit_failed();
                        }
                    }
                    let pause = if self.request.confirm {
                        CONFIRM_AGAIN
                    } else {
                        self.commit_every
                    };
                    self.commit_at = Some(self.now() + pause);
                }
                News::Failed(failure) => self.failed = Some(failure),
            }
        }
        if self.failed.is_none() && self.handle.wire.ended.said().is_some() {
            self.failed = Some(Failure::new(
                FailureKind::Disconnected,
                "the consumer's thread has ended",
            ));
        }
    }

    pub(super) fn assigned(&mut self, epoch: u64, partitions: &[(u32, Option<u64>)]) {
        for (partition, start) in partitions {
            let progress = Progress::new(epoch, *start);
            self.partitions.insert(*partition, progress);
        }
        self.news.push_back(Incoming::Assigned {
            partitions: partitions.iter().map(|(partition, _)| *partition).collect(),
            epoch,
        });
    }

    pub(super) fn committed(&mut self, partition: u32, offset: u64) {
        self.answered(1);
        let Some(progress) = self.partitions.get_mut(&partition) else {
            return;
        };
        progress.committed(offset);
        let epoch = progress.epoch;
        for offset in progress.take_confirmed() {
            let position = Position {
                partition,
                offset,
                epoch,
            };
            self.news.push_back(Incoming::Confirmed { position });
        }
    }

    /// What was answered and is not ours any more is not waited for.
    pub(super) fn count_unanswered(&mut self) {
        self.unanswered = self.partitions.values().map(Progress::unanswered).sum();
    }
}
