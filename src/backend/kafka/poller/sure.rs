//! Sure: until when what was delivered is surely ours.
//!
//! The thread polls, and so hears when the broker takes partitions away. A thread that has not heard for a while may have been frozen,
//! with its process and the client's own threads: then the client itself may not know yet what it has lost. So after a silence the
//! broker is asked, and in such a way that only a member gets the answer: it is given a commit that changes nothing, marked as this
//! one, and looked for behind it. A broker takes no commit of who has left the group, or was put out.

use super::{Poller, codes};
use crate::error::{Failure, FailureKind};
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long the broker may take to answer each question.
const LIMIT: Duration = Duration::from_secs(1);
/// Between an answer that was no good and the next question.
const AGAIN: Duration = Duration::from_millis(100);

/// When the thread heard last, and whether that still means something.
pub(super) struct Sure {
    /// So long after it was heard last nobody is sure any more.
    silence: Duration,
    heard: Duration,
    in_doubt: bool,
    /// When the broker is asked, at the earliest.
    ask_at: Duration,
    asked: u64,
}

impl Sure {
    pub(super) fn new(silence: Duration, now: Duration) -> Self {
        Self {
            silence,
            heard: now,
            in_doubt: false,
            ask_at: Duration::ZERO,
            asked: 0,
        }
    }

    /// All that the client had to tell at `now` was heard, if `all`. `Some`: until when we are sure. `None`: as before.
    fn hear(&mut self, now: Duration, all: bool) -> Option<Duration> {
        self.in_doubt |= now >= self.heard + self.silence;
        if self.in_doubt || !all {
            return None;
        }
        self.heard = now;
        Some(now + self.silence)
    }

    fn is_to_ask(&self, now: Duration) -> bool {
        self.in_doubt && now >= self.ask_at
    }

    /// What was asked at `begun` was answered, well or not.
    fn answered(&mut self, begun: Duration, is_ours: bool, now: Duration) {
        self.ask_at = now + AGAIN;
        if is_ours {
            self.in_doubt = false;
            self.heard = begun;
        }
    }
}

impl Poller {
    /// What the client had to tell at `begun` was heard and done, to the end if `all`.
    pub(super) fn attend_sure(&mut self, begun: Duration, all: bool) {
        if let Some(until) = self.sure.hear(begun, all) {
            self.wire.note_sure(until);
        }
        if self.gone || !self.sure.is_to_ask(begun) {
            return;
        }
        let is_ours = self.is_ours();
        if let Err(failure) = &is_ours {
            tracing::debug!(topic = %self.topic, %failure, "the broker has not said that we are a member");
        }
        let now = self.now();
        self.sure.answered(begun, is_ours.is_ok(), now);
    }

    /// Has the broker take a mark that it takes of a member only.
    fn is_ours(&mut self) -> Result<(), Failure> {
        let partitions: Vec<i32> = self.owned.keys().copied().collect();
        if partitions.is_empty() {
            // Nothing of ours can be another's.
            return Ok(());
        }
        let mut places = self.group_has(&partitions)?;
        for (partition, owned) in &self.owned {
            if let Some(start) = owned.start {
                places.entry(*partition).or_insert(start);
            }
        }
        self.sure.asked += 1;
        let mark = format!("clearway {:x} {}", self.member, self.sure.asked);
        let list = self.marked(&places, &mark)?;
        let sent = self.consumer.commit(&list, CommitMode::Async);
        drop(list);
        sent.map_err(|error| codes::failure(&error))?;
        let has = self.marks(&places)?;
        match has.iter().all(|has| *has == mark) {
            true => Ok(()),
            false => Err(Failure::new(
                FailureKind::Broker,
                "the broker has not taken a commit",
            )),
        }
    }

    fn marked(
        &self,
        places: &BTreeMap<i32, i64>,
        mark: &str,
    ) -> Result<TopicPartitionList, Failure> {
        let mut list = TopicPartitionList::with_capacity(places.len());
        for (partition, offset) in places {
            let mut place = list.add_partition(&self.topic, *partition);
            place.set_metadata(mark);
            let set = place.set_offset(Offset::Offset(*offset));
            set.map_err(|error| codes::failure(&error))?;
        }
        Ok(list)
    }

    /// What each place is marked with at the broker.
    fn marks(&self, places: &BTreeMap<i32, i64>) -> Result<Vec<String>, Failure> {
        let numbers: Vec<i32> = places.keys().copied().collect();
        let list = self.consumer.committed_offsets(self.list(&numbers), LIMIT);
        let list = list.map_err(|error| codes::failure(&error))?;
        let marks = list
            .elements()
            .iter()
            .map(|at| at.metadata().to_owned())
            .collect();
        Ok(marks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn after_a_silence_only_the_brokers_word_counts() {
        let mut sure = Sure::new(at(5), at(0));
        assert_eq!(sure.hear(at(1), true), Some(at(6)));
        assert_eq!(sure.hear(at(2), false), None, "there is more to hear");
        assert!(!sure.is_to_ask(at(2)));
        assert_eq!(sure.hear(at(6), true), None, "it may have been frozen");
        assert_eq!(sure.hear(at(7), true), None);
        assert!(sure.is_to_ask(at(7)));
        sure.answered(at(7), false, at(8));
        assert!(!sure.is_to_ask(at(8)) && sure.is_to_ask(at(9)));
        sure.answered(at(9), true, at(10));
        assert!(!sure.is_to_ask(at(20)));
        assert_eq!(sure.hear(at(11), true), Some(at(16)));
        assert_eq!(sure.hear(at(16), false), None);
        assert!(
            sure.is_to_ask(at(16)),
            "so much to hear that nothing is known"
        );
    }
}
