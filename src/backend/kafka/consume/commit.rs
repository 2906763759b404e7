//! Committing: what is settled is told to the thread now and then, and at once where somebody waits for it.

use super::{KafkaConsumer, Token};
use crate::backend::Answered;
use crate::backend::kafka::poller::{Commit, Order};
use std::task::Context;
use std::time::Duration;

/// After so many answers the clock is looked at: between two that come far from each other, the timer is.
const LOOK_AT_CLOCK_EVERY: u32 = 32;

impl KafkaConsumer {
    /// The broker has answered commits.
    pub(super) fn answered(&mut self, count: usize) {
        self.committing = self.committing.saturating_sub(count);
    }

    /// Commits when its time has come. Says whether it did.
    pub(super) fn poll_commit(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(due) = self.commit_at else {
            self.timer = None;
            return false;
        };
        if self.request.confirm && self.committing > 0 {
            // One at a time: what is settled meanwhile goes with the next.
            return false;
        }
        let now = self.now();
        if due <= now {
            self.commit();
            return true;
        }
        if self.timer.as_ref().is_none_or(|(armed, _)| *armed != due) {
            let timer = self.host.runtime().sleep(due - now);
            self.timer = Some((due, timer));
        }
        if let Some((_, timer)) = &mut self.timer
            && timer.as_mut().poll(cx).is_ready()
        {
            self.timer = None;
            self.commit();
            return true;
        }
        false
    }

    /// Commits in its time. Where answers are confirmed that is at once, also for a gap that nobody waits for: an answer that comes next goes
    /// with the commit that is due, and would wait as long.
    pub(super) fn commit_soon(&mut self) {
        if self.commit_at.is_none() {
            self.commit_at = Some(match self.request.confirm {
                true => Duration::ZERO,
                false => self.now() + self.commit_every,
            });
        }
    }

    /// Tells the thread what is settled and not told yet.
    pub(super) fn commit(&mut self) {
        self.commit_at = None;
        let commits = self.commits();
        if commits.is_empty() {
            return;
        }
        self.committing += commits.len();
        self.handle.order(Order::Commit(commits));
    }

    pub(super) fn commits(&mut self) -> Vec<Commit> {
        let partitions = self.partitions.iter_mut();
        let commits = partitions.filter_map(|(partition, progress)| {
            let offset = progress.to_commit()?;
            progress.committing(offset);
            Some(Commit {
                partition: *partition,
                epoch: progress.epoch,
                offset,
            })
        });
        commits.collect()
    }

    pub(super) fn acknowledge(&mut self, token: &Token) -> Answered {
        let confirm = self.request.confirm;
        let Some(progress) = self.progress(token.partition, token.epoch) else {
            // Of an epoch that is over: it comes again, to whoever has it now. That it is over is news that is heard next.
            return Answered::Pending;
        };
        if !progress.settle(token.offset) {
            return Answered::Final;
        }
        let leaving = progress.leaving;
        if confirm {
            progress.confirm(token.offset);
        }
        self.unanswered = self.unanswered.saturating_sub(1);
        if leaving {
            // Now: when the time for the hand-over is up nobody asks again.
            self.commit();
        } else if confirm {
            self.commit_soon();
        } else {
            self.commit_in_time();
        }
        if confirm {
            Answered::Pending
        } else {
            Answered::Final
        }
    }

    /// Commits if its time has come though nobody asks for more.
    pub(super) fn commit_in_time(&mut self) {
        match self.commit_at {
            None => self.commit_soon(),
            Some(due) => {
                self.answers = self.answers.wrapping_add(1);
                if self.answers.is_multiple_of(LOOK_AT_CLOCK_EVERY) && due <= self.now() {
                    self.commit();
                }
            }
        }
    }
}
