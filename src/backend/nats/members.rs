//! Members: who else of a group reads the same topic, so that its partitions can be shared fairly. No I/O.
//!
//! The server gives a partition to whichever pull comes first, so one member may get all of them, and nothing of the server's evens it out.
//! So members tell each other that they are there. Each says so now and then over core NATS (a *beat*), to everybody of the
//! group on this topic. `m` members that have `p` partitions to share have `ceil(p / m)` each, at most:
//!
//! - Who has so many asks for no other.
//! - Who has had more for a while gives up one after the other, each once its handlers have ended.
//!
//! **What fails is safe.** Nobody is made to give anything up: who hears of no other takes all and keeps all. What was not heard for a while
//! does not count, so neither a dead member nor a wake after a long sleep holds back anybody for long. Members that may not
//! publish or subscribe to the subject are as good as alone.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// After so many beats that did not come a member is gone; halves, so that the last one may be late.
const GONE_AFTER_HALVES: u32 = 7;
/// For so many beats it must stay too many before a partition is given up: who joins in a crowd is waited for.
const SETTLE: u32 = 2;
/// Beats are not shorter, nor longer, whatever the ack wait is.
const BEAT: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(3));

/// What a member knows of the others.
#[derive(Debug)]
pub(super) struct Members {
    /// What this one is called.
    me: String,
    /// When the stream was made: members on another stream of its name are none of ours.
    born: String,
    every: Duration,
    others: BTreeMap<String, Other>,
    /// When the next beat is due.
    due: Duration,
    /// Since when there has been too much here, among the same members.
    too_many_since: Option<Duration>,
}

#[derive(Debug)]
struct Other {
    heard: Duration,
    every: Duration,
}

/// What a member's part is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Part {
    /// It has what it may have, and asks for no more.
    pub(super) is_full: bool,
    /// It is to give up one.
    pub(super) gives_up: bool,
}

impl Members {
    pub(super) fn new(me: &str, born: &str, ack_wait: Duration) -> Self {
        Self {
            me: me.to_owned(),
            born: born.to_owned(),
            every: (ack_wait / 8).clamp(BEAT.0, BEAT.1),
            others: BTreeMap::new(),
            due: Duration::ZERO,
            too_many_since: None,
        }
    }

    pub(super) fn is_due(&self, now: Duration) -> bool {
        now >= self.due
    }

    /// What this member says of itself now.
    pub(super) fn beat(&self, leaves: bool) -> Vec<u8> {
        let every = self.every.as_millis() as u64;
        json!({ "member": self.me, "stream_born": self.born, "every_ms": every, "leaves": leaves })
            .to_string()
            .into_bytes()
    }

    /// It was said.
    pub(super) fn said(&mut self, now: Duration) {
        self.due = now + self.every;
    }

    /// Another one, or this one, has said something.
    pub(super) fn hear(&mut self, beat: &[u8], now: Duration) {
        let Ok(beat) = serde_json::from_slice::<Value>(beat) else {
            return;
        };
        let (Some(member), Some(every)) = (beat["member"].as_str(), beat["every_ms"].as_u64())
        else {
            return;
        };
        if member == self.me || beat["stream_born"].as_str() != Some(&self.born) {
            return;
        }
        let known = if beat["leaves"].as_bool() == Some(true) {
            self.others.remove(member).is_none()
        } else {
            // Whoever says what we would not is not believed for longer.
            let every = Duration::from_millis(every).clamp(BEAT.0, BEAT.1);
            let other = Other { heard: now, every };
            self.others.insert(member.to_owned(), other).is_some()
        };
        if !known {
            self.too_many_since = None;
        }
    }

    /// What the part of this member is, which has `owned` of `partitions`.
    pub(super) fn part(&mut self, partitions: usize, owned: usize, now: Duration) -> Part {
        let before = self.others.len();
        self.others.retain(|_, other| {
            now.saturating_sub(other.heard) <= other.every * GONE_AFTER_HALVES / 2
        });
        if self.others.len() != before {
            self.too_many_since = None;
        }
        let share = partitions.div_ceil(self.others.len() + 1);
        if owned <= share {
            self.too_many_since = None;
            let is_full = owned == share && !self.others.is_empty();
            return Part {
                is_full,
                gives_up: false,
            };
        }
        let since = *self.too_many_since.get_or_insert(now);
        Part {
            is_full: true,
            gives_up: now.saturating_sub(since) >= self.every * SETTLE,
        }
    }

    /// The stream was made again.
    pub(super) fn made_again(&mut self, born: &str) {
        if self.born != born {
            self.born = born.to_owned();
            self.others.clear();
            self.too_many_since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACK_WAIT: Duration = Duration::from_secs(8);

    fn member(name: &str) -> Members {
        Members::new(name, "then", ACK_WAIT)
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn part(is_full: bool, gives_up: bool) -> Part {
        Part { is_full, gives_up }
    }

    #[test]
    fn alone_all_is_kept_and_all_is_asked_for() {
        let mut one = member("one");
        for owned in [0, 7, 8] {
            assert_eq!(one.part(8, owned, at(100)), part(false, false));
        }
        // Its own beat is no other's, and neither is what cannot be read.
        one.hear(&one.beat(false), at(100));
        one.hear(b"{}", at(100));
        one.hear(b"\xff", at(100));
        assert_eq!(one.part(8, 8, at(100)), part(false, false));
    }

    #[test]
    fn too_many_are_given_up_after_a_while_down_to_the_share() {
        let mut one = member("one");
        one.hear(&member("two").beat(false), at(0));
        assert_eq!(one.part(5, 5, at(0)), part(true, false));
        one.hear(&member("two").beat(false), at(1));
        assert_eq!(one.part(5, 5, at(1)), part(true, false));
        assert_eq!(one.part(5, 5, at(2)), part(true, true));
        assert_eq!(one.part(5, 4, at(2)), part(true, true));
        assert_eq!(one.part(5, 3, at(2)), part(true, false), "its share");
        assert_eq!(one.part(5, 2, at(2)), part(false, false));
    }

    #[test]
    fn a_change_among_the_members_begins_the_wait_anew() {
        let mut one = member("one");
        one.hear(&member("two").beat(false), at(0));
        assert_eq!(one.part(8, 8, at(0)), part(true, false));
        one.hear(&member("three").beat(false), at(2));
        assert_eq!(one.part(8, 8, at(2)), part(true, false));
        // Two was not heard again: three beats and a half are too long.
        one.hear(&member("three").beat(false), at(4));
        assert_eq!(one.part(8, 8, at(4)), part(true, false));
        one.hear(&member("three").beat(true), at(5));
        assert_eq!(one.part(8, 8, at(5)), part(false, false), "alone again");
    }

    #[test]
    fn who_was_not_heard_does_not_count_also_after_a_long_sleep() {
        let mut one = member("one");
        one.hear(&member("two").beat(false), at(0));
        one.part(8, 8, at(0));
        assert_eq!(one.part(8, 8, at(3)), part(true, true));
        assert_eq!(one.part(8, 8, at(60)), part(false, false));
    }

    #[test]
    fn members_on_another_stream_of_the_name_are_none_of_ours() {
        let (mut one, mut two) = (member("one"), member("two"));
        two.made_again("later");
        one.hear(&two.beat(false), at(0));
        assert_eq!(one.part(8, 8, at(0)), part(false, false));
        one.made_again("later");
        one.hear(&two.beat(false), at(0));
        assert_eq!(one.part(8, 8, at(0)), part(true, false));
    }
}
