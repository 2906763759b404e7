//! The end of a consumer: a last commit that is waited for, and the group is left.
//!
//! It has limits of its own and depends on no rebalance: one that comes meanwhile is answered at once.

use super::context::Happened;
use super::{Commit, Poller};

impl Poller {
    /// Commits for the last time, leaves the group and ends the client.
    pub(super) fn close(mut self, commits: &[Commit]) {
        self.commit(commits);
        self.noted.close();
        while let Some(happened) = self.noted.take() {
            // It came before, and waits for an answer.
            if let Happened::Revoke { partitions, .. } = happened {
                self.leaving.begin_of_nothing(partitions);
            }
        }
        self.abandon_handovers();
        self.answer_with_nothing();
        // Its drop leaves the group and waits for that.
        drop(self.consumer);
    }
}
