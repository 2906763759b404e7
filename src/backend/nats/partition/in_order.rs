//! In order: what is kept for sequences of a stream, in their order.
//!
//! Almost all of it comes at the end and goes near the front, so it is a queue with holes, and moves nothing else when something comes or
//! goes. Holes are bounded: it never holds more of them than entries, and a few.

use std::collections::VecDeque;

/// See the module. Like a `BTreeMap<u64, T>`.
#[derive(Debug)]
pub(in super::super) struct InOrder<T> {
    /// Sorted. `None`: taken out. The first and the last are there.
    entries: VecDeque<(u64, Option<T>)>,
    len: usize,
}

/// As many holes are always borne.
const HOLES: usize = 64;

impl<T> InOrder<T> {
    pub(in super::super) fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            len: 0,
        }
    }

    pub(in super::super) fn len(&self) -> usize {
        self.len
    }

    pub(in super::super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(in super::super) fn first(&self) -> Option<u64> {
        self.entries.front().map(|(sequence, _)| *sequence)
    }

    /// Puts `value` to `sequence`, in the place of what was there.
    pub(in super::super) fn insert(&mut self, sequence: u64, value: T) {
        if self.entries.back().is_none_or(|(last, _)| *last < sequence) {
            self.entries.push_back((sequence, Some(value)));
            self.len += 1;
            return;
        }
        match self.find(sequence) {
            Ok(at) => self.len += usize::from(self.entries[at].1.replace(value).is_none()),
            Err(at) => {
                self.entries.insert(at, (sequence, Some(value)));
                self.len += 1;
            }
        }
    }

    pub(in super::super) fn get(&self, sequence: u64) -> Option<&T> {
        let at = self.find(sequence).ok()?;
        self.entries[at].1.as_ref()
    }

    pub(in super::super) fn contains(&self, sequence: u64) -> bool {
        self.get(sequence).is_some()
    }

    pub(in super::super) fn remove(&mut self, sequence: u64) -> Option<T> {
        let at = self.find(sequence).ok()?;
        let value = self.entries[at].1.take()?;
        self.len -= 1;
        self.tidy();
        Some(value)
    }

    pub(in super::super) fn pop_first(&mut self) -> Option<(u64, T)> {
        let (sequence, value) = self.entries.pop_front()?;
        self.len -= 1;
        self.tidy();
        Some((sequence, value.expect("the first is there")))
    }

    pub(in super::super) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let entries = self.entries.iter();
        entries.filter_map(|(sequence, value)| Some((*sequence, value.as_ref()?)))
    }

    pub(in super::super) fn clear(&mut self) {
        self.entries.clear();
        self.len = 0;
    }

    fn find(&self, sequence: u64) -> Result<usize, usize> {
        // What goes is near the front, mostly the very first.
        match self.entries.front() {
            Some((first, _)) if *first == sequence => Ok(0),
            _ => (self.entries).binary_search_by_key(&sequence, |(known, _)| *known),
        }
    }

    /// No hole at either end, and not too many between.
    fn tidy(&mut self) {
        while self
            .entries
            .front()
            .is_some_and(|(_, value)| value.is_none())
        {
            self.entries.pop_front();
        }
        while self
            .entries
            .back()
            .is_some_and(|(_, value)| value.is_none())
        {
            self.entries.pop_back();
        }
        if self.entries.len() > self.len * 2 + HOLES {
            self.entries.retain(|(_, value)| value.is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64),
        Next,
        Remove(u64),
        Pop,
        Clear,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            2 => (0..40_u64).prop_map(Step::Insert),
            6 => Just(Step::Next),
            4 => (0..40_u64).prop_map(Step::Remove),
            2 => Just(Step::Pop),
            1 => Just(Step::Clear),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_map_in_order(steps in prop::collection::vec(step(), 0..200)) {
            let mut model = BTreeMap::new();
            let mut kept = InOrder::new();
            for (value, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(sequence) => {
                        model.insert(sequence, value);
                        kept.insert(sequence, value);
                    }
                    Step::Next => {
                        let next = model.last_key_value().map_or(0, |(last, _)| last + 1);
                        model.insert(next, value);
                        kept.insert(next, value);
                    }
                    Step::Remove(sequence) => {
                        prop_assert_eq!(kept.remove(sequence), model.remove(&sequence));
                    }
                    Step::Pop => prop_assert_eq!(kept.pop_first(), model.pop_first()),
                    Step::Clear => {
                        model.clear();
                        kept.clear();
                    }
                }
                prop_assert_eq!(kept.len(), model.len());
                prop_assert_eq!(kept.is_empty(), model.is_empty());
                prop_assert_eq!(kept.first(), model.keys().next().copied());
                prop_assert!(kept.iter().eq(model.iter().map(|(sequence, value)| (*sequence, value))));
                for sequence in 0..50 {
                    prop_assert_eq!(kept.get(sequence), model.get(&sequence));
                    prop_assert_eq!(kept.contains(sequence), model.contains_key(&sequence));
                }
            }
        }
    }

    #[test]
    fn one_that_stays_does_not_keep_the_holes_behind_it() {
        let mut kept = InOrder::new();
        kept.insert(0, ());
        for sequence in 1..100_000 {
            kept.insert(sequence, ());
            kept.insert(sequence + 1, ());
            kept.remove(sequence);
        }
        assert_eq!(kept.len(), 2);
        assert!(kept.entries.len() <= 2 * kept.len() + HOLES + 1);
    }
}
