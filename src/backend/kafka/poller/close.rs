//! The end of a consumer: a last commit that is waited for, and the group is left.
//!
//! It has a limit of its own and depends on no rebalance: one that comes meanwhile is answered at once.

use super::context::Happened;
use super::handover::Handover;
use super::{Commit, Poller};
use rdkafka::consumer::Consumer as _;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long the last commit may take.
const LAST_COMMIT_LIMIT: Duration = Duration::from_secs(2);

impl Poller {
    /// Commits for the last time, waits for that, leaves the group and ends the client.
    pub(super) fn close(mut self, commits: &[Commit]) {
        let mut open: BTreeMap<i32, i64> = BTreeMap::new();
        for commit in commits {
            open.insert(commit.partition as i32, commit.offset as i64);
        }
        self.commit(commits);
        let until = self.now() + LAST_COMMIT_LIMIT;
        while !open.is_empty() && self.now() < until {
            // Nothing is fetched any more: what comes is dropped, and comes again at whoever is next.
            let _ = self.consumer.poll(Duration::from_millis(10));
            while let Some(happened) = self.noted.take() {
                match happened {
                    Happened::Committed(offsets) => {
                        for (partition, offset) in offsets {
                            if open.get(&partition).is_some_and(|wanted| *wanted <= offset) {
                                open.remove(&partition);
                            }
                        }
                    }
                    Happened::CommitFailed(failure, partitions) => {
                        tracing::warn!(topic = %self.topic, %failure, ?partitions, "the last commit has failed: it comes again");
                        open.clear();
                    }
                    // Its un-assignment follows with the end.
                    Happened::Revoke { partitions, .. } => {
                        let all = partitions.into_iter().collect();
                        self.handovers.push(Handover::of_nothing(all));
                    }
                    _ => {}
                }
            }
        }
        self.noted.close();
        self.abandon_handovers();
        // Its drop leaves the group and waits for that.
        drop(self.consumer);
    }
}
