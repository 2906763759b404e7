//! Gone: a topic that is deleted under way, and one that is made again under the same name.
//!
//! The client tells that a topic is not there any more, and nothing when there is another in its place: then it goes on where it was, if the new
//! log is that long already, or where the new log begins. Three things are heard:
//!
//! | what | and then |
//! |---|---|
//! | the client says that there is no such topic | the bus ensures it, and the consumer ends: another begins with the new log |
//! | the group's commits are gone: the broker deletes them with their topic | the same. So they are looked at before each commit |
//! | an offset below what was delivered | what was delivered is another log's: a new epoch, in this consumer |

use super::{Assigned, News, Owned, Poller, begin};
use crate::error::{Failure, FailureKind};
use std::collections::BTreeMap;

impl Poller {
    /// The topic is not there: the bus is to make sure of it, by its policy.
    pub(super) fn miss(&mut self) {
        if !std::mem::replace(&mut self.gone, true) && !self.is_let_go() {
            self.host.topic_missing(&self.topic);
        }
    }

    /// What the group has committed in these partitions. A failure if the topic is not the one that it was committed for.
    pub(super) fn group_has(&mut self, partitions: &[i32]) -> Result<BTreeMap<i32, i64>, Failure> {
        let no_topic = |text| Failure::new(FailureKind::NoTopic, text);
        if self.gone {
            return Err(no_topic("the topic was deleted"));
        }
        let limit = self.answer_limit();
        let has = begin::committed(&self.consumer, &self.topic, partitions, limit)?;
        let mut known = partitions.iter().filter(|at| self.committed.contains(at));
        if known.all(|at| has.contains_key(at)) {
            return Ok(has);
        }
        let text = "the group's commits are gone: the topic was deleted, and made again";
        self.tell_lost(self.owned.keys(), text);
        self.miss();
        self.fail(no_topic(text));
        Err(no_topic(text))
    }
}

impl Owned {
    /// Whether `offset` is where this log cannot go on.
    pub(super) fn is_behind(&self, offset: i64) -> bool {
        self.next.is_some_and(|next| offset < next)
    }

    /// Goes on in another log, at `offset`, under a new epoch. What is to be told, in this order.
    pub(super) fn begin_anew(&mut self, partition: i32, offset: i64, epoch: u64) -> [News; 3] {
        let (partition, over) = (partition as u32, self.epoch);
        *self = Self {
            epoch,
            start: Some(offset),
            next: Some(offset),
            seen_end: false,
            is_empty: false,
            anew: true,
        };
        let begins = Assigned {
            partition,
            start: Some(offset as u64),
            // What the broker has is the old one's, if it has kept that.
            is_committed: false,
        };
        [
            News::Revoked {
                epoch: over,
                partitions: vec![partition],
            },
            News::Gone {
                partition,
                epoch: over,
            },
            News::Assigned {
                epoch,
                partitions: vec![begins],
            },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(next: Option<i64>) -> Owned {
        Owned {
            epoch: 7,
            start: Some(0),
            next,
            seen_end: true,
            is_empty: false,
            anew: false,
        }
    }

    #[test]
    fn a_log_that_begins_below_what_it_had_has_an_epoch_of_its_own() {
        let mut owned = owned(Some(341));
        assert!(!owned.is_behind(341) && !owned.is_behind(400), "a gap");
        assert!(owned.is_behind(0));
        let news = owned.begin_anew(2, 0, 8);
        let [
            News::Revoked { epoch: 7, .. },
            News::Gone {
                partition: 2,
                epoch: 7,
            },
            News::Assigned {
                epoch: 8,
                partitions,
            },
        ] = news
        else {
            panic!("{news:?}");
        };
        let told = partitions.first().expect("it is told");
        assert_eq!((told.partition, told.start), (2, Some(0)));
        assert!(!told.is_committed, "it is committed where it begins");
        assert_eq!((owned.epoch, owned.next), (8, Some(0)));
        assert!(owned.anew && !owned.seen_end, "old ends say nothing");
        assert!(!owned.is_behind(0), "once");
    }

    #[test]
    fn where_nobody_knows_the_place_nothing_is_behind() {
        assert!(!owned(None).is_behind(0));
    }
}
