//! Hearing: what the thread tells of assignments and commits.

use super::progress::Progress;
use super::{CONFIRM_AGAIN, KafkaConsumer};
use crate::backend::kafka::poller::{Assigned, News};
use crate::backend::{Incoming, Position};
use crate::error::{Failure, FailureKind};
use std::task::Context;

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
    }

    /// What ends it, and is told by nobody: the connection is closed, or the thread has ended. Looked at before it waits, and not at each
    /// delivery.
    pub(super) fn hear_end(&mut self, cx: &mut Context<'_>) {
        if self.failed.is_some() {
            return;
        }
        let text = if self.closed.poll_heard(cx).is_ready() {
            "the connection was closed"
        } else if self.handle.wire.ended.said().is_some() {
            "the consumer's thread has ended"
        } else {
            return;
        };
        self.failed = Some(Failure::new(FailureKind::Disconnected, text));
    }

    pub(super) fn assigned(&mut self, epoch: u64, partitions: &[Assigned]) {
        for at in partitions {
            let progress = Progress::new(epoch, at.start, at.is_committed);
            self.partitions.insert(at.partition, progress);
        }
        self.news.push_back(Incoming::Assigned {
            partitions: partitions.iter().map(|at| at.partition).collect(),
            epoch,
        });
        if partitions.iter().any(|at| !at.is_committed) {
            // So that the next member begins at the same place.
            self.commit();
        }
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
