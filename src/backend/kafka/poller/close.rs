//! The end of a consumer: a last commit that is waited for, and the group is left.
//!
//! It has as long as it is given, and limits of its own, and depends on no rebalance. One that comes meanwhile is answered when the broker has the commit: it takes
//! none while members come and go, and what goes to another before it has it is done again there.

use super::context::Happened;
use super::{BATCH, Commit, Poller};
use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

/// How long the broker may refuse the last commit, if there is as long.
const LIMIT: Duration = Duration::from_secs(3);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(50);

impl Poller {
    /// Commits for the last time, not beyond `until`, leaves the group and ends the client.
    pub(super) fn close(mut self, commits: &[Commit], until: Duration) {
        let mut left = self.current(commits);
        let until = until.min(self.now() + LIMIT);
        self.until = Some(until);
        while self.now() < until {
            left = self.commit_places(&left);
            if left.is_empty() || self.gone {
                break;
            }
            thread::park_timeout(AGAIN);
            self.hear_the_rest(&mut left);
        }
        self.noted.close();
        self.hear_the_rest(&mut left);
        self.abandon_handovers();
        self.answer_with_nothing();
        // Its drop leaves the group and waits for that, up to 5 s if no broker answers. Nobody may be waiting for this thread any more.
        drop(self.consumer);
    }

    /// Lets the client tell what it has to. What it has fetched is the next owner's.
    fn hear_the_rest(&mut self, left: &mut BTreeMap<i32, i64>) {
        for _ in 0..BATCH {
            if self.consumer.poll(Duration::ZERO).is_none() {
                break;
            }
        }
        while let Some(happened) = self.noted.take() {
            match happened {
                Happened::Assign(_) => self.take_nothing(),
                Happened::Revoke { partitions, lost } => {
                    if lost {
                        left.retain(|at, _| !partitions.contains(at));
                    }
                    self.leaving.begin_of_nothing(partitions);
                }
                Happened::Nothing | Happened::AtEnd(_) | Happened::Stranded(_) => {}
            }
        }
    }
}
