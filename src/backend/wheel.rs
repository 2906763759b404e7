//! The timer wheel: when each publish in flight has waited long enough.
//!
//! One for all of them, owned by whoever owns the table of what is in flight. Time is cut
//! into ticks; a deadline is in the bucket of the first tick that is not before it, so nothing is
//! ever early and nothing more than a tick late. Buckets are lists linked through an array by the
//! table's indices: an entry that is answered leaves its bucket at once, and nothing is allocated
//! after the array has grown to the table's size.

use std::time::Duration;

const NONE: u32 = u32::MAX;

/// The deadlines of what is in flight, by index.
#[derive(Debug)]
pub(super) struct Wheel {
    tick: Duration,
    /// Everything up to and including this tick has been expired.
    now: u64,
    heads: Box<[u32]>,
    links: Vec<Link>,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    next: u32,
    previous: u32,
    bucket: u32,
}

const FREE: Link = Link {
    next: NONE,
    previous: NONE,
    bucket: NONE,
};

impl Wheel {
    /// A wheel for deadlines that are at most `reach` ahead.
    pub(super) fn new(reach: Duration) -> Self {
        let tick = (reach / 64).clamp(Duration::from_millis(1), Duration::from_millis(250));
        let buckets = reach.as_nanos().div_ceil(tick.as_nanos()) as usize + 2;
        Self {
            tick,
            now: 0,
            heads: vec![NONE; buckets].into(),
            links: Vec::new(),
            len: 0,
        }
    }

    #[cfg(any(feature = "nats", test))]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How long to sleep until something may be due.
    #[cfg(any(feature = "nats", test))]
    pub(super) fn tick(&self) -> Duration {
        self.tick
    }

    /// Puts `index` in, to come out at `deadline`. The wheel has been expired up to `now`.
    pub(super) fn insert(&mut self, index: u32, now: Duration, deadline: Duration) {
        self.remove(index);
        if self.len == 0 {
            self.now = self.tick_of(now);
        }
        let last = self.now + self.heads.len() as u64 - 1;
        let due = self.tick_after(deadline).clamp(self.now + 1, last);
        let bucket = (due % self.heads.len() as u64) as u32;
        if self.links.len() <= index as usize {
            self.links.resize(index as usize + 1, FREE);
        }
        let next = std::mem::replace(&mut self.heads[bucket as usize], index);
        if next != NONE {
            self.links[next as usize].previous = index;
        }
        self.links[index as usize] = Link {
            next,
            previous: NONE,
            bucket,
        };
        self.len += 1;
    }

    /// Takes `index` out, if it is in.
    pub(super) fn remove(&mut self, index: u32) {
        let Some(link) = self.links.get_mut(index as usize) else {
            return;
        };
        let Link {
            next,
            previous,
            bucket,
        } = std::mem::replace(link, FREE);
        if bucket == NONE {
            return;
        }
        if next != NONE {
            self.links[next as usize].previous = previous;
        }
        match previous {
            NONE => self.heads[bucket as usize] = next,
            _ => self.links[previous as usize].next = next,
        }
        self.len -= 1;
    }

    /// Takes out one that is due at `now`. Call until `None`.
    pub(super) fn expire(&mut self, now: Duration) -> Option<u32> {
        let target = self.tick_of(now);
        if self.len == 0 {
            return None;
        }
        let buckets = self.heads.len() as u64;
        if target.saturating_sub(self.now) > buckets {
            // Once round visits them all.
            self.now = target - buckets;
        }
        while self.now < target {
            let head = self.heads[((self.now + 1) % buckets) as usize];
            if head != NONE {
                self.remove(head);
                return Some(head);
            }
            self.now += 1;
        }
        None
    }

    fn tick_of(&self, time: Duration) -> u64 {
        (time.as_nanos() / self.tick.as_nanos()) as u64
    }

    fn tick_after(&self, time: Duration) -> u64 {
        time.as_nanos().div_ceil(self.tick.as_nanos()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn drain(wheel: &mut Wheel, now: Duration) -> Vec<u32> {
        let mut due: Vec<_> = std::iter::from_fn(|| wheel.expire(now)).collect();
        due.sort_unstable();
        due
    }

    #[test]
    fn a_wheel_that_slept_finds_everything() {
        let mut wheel = Wheel::new(Duration::from_secs(10));
        for index in 0..100 {
            let deadline = Duration::from_millis(100 * u64::from(index));
            wheel.insert(index, Duration::ZERO, deadline);
        }
        assert_eq!(drain(&mut wheel, Duration::from_secs(3600)).len(), 100);
        assert!(wheel.is_empty());
    }

    #[test]
    fn an_empty_wheel_takes_up_the_time_again() {
        let mut wheel = Wheel::new(Duration::from_secs(10));
        let late = Duration::from_secs(1000);
        wheel.insert(3, late, late + Duration::from_secs(10));
        assert!(drain(&mut wheel, late + Duration::from_secs(9)).is_empty());
        assert_eq!(drain(&mut wheel, late + Duration::from_secs(11)), [3]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u32, u64),
        Remove(u32),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..12u32, 0..=1000u64).prop_map(|(index, ahead)| Step::Insert(index, ahead)),
            (0..12u32).prop_map(Step::Remove),
            (0..1500u64).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Against a map: never early, at most a tick late, each once.
        #[test]
        fn each_comes_out_once_and_in_time(steps in prop::collection::vec(step(), 1..120)) {
            let mut wheel = Wheel::new(Duration::from_millis(1000));
            let tick = wheel.tick();
            let mut plain = BTreeMap::new();
            let mut now = Duration::ZERO;
            for step in steps {
                match step {
                    Step::Insert(index, ahead) => {
                        let deadline = now + Duration::from_millis(ahead);
                        wheel.insert(index, now, deadline);
                        plain.insert(index, deadline);
                    }
                    Step::Remove(index) => {
                        wheel.remove(index);
                        plain.remove(&index);
                    }
                    Step::Wait(ms) => {
                        now += Duration::from_millis(ms);
                        for index in drain(&mut wheel, now) {
                            let deadline = plain.remove(&index);
                            prop_assert!(deadline.is_some_and(|at| at <= now), "{index} at {now:?}: {deadline:?}");
                        }
                        let late = plain.values().find(|at| **at + tick * 2 <= now);
                        prop_assert_eq!(late, None, "at {:?}", now);
                    }
                }
                prop_assert_eq!(wheel.is_empty(), plain.is_empty());
            }
        }
    }
}
