//! Touched: the partitions that are to be attended to, each once, the first one first.

use std::collections::VecDeque;

/// See the module.
#[derive(Debug)]
pub(super) struct Touched {
    waiting: VecDeque<u32>,
    is_waiting: Vec<bool>,
}

impl Touched {
    /// All of so many partitions.
    pub(super) fn all(count: usize) -> Self {
        Self {
            waiting: (0..count as u32).collect(),
            is_waiting: vec![true; count],
        }
    }

    pub(super) fn insert(&mut self, number: u32) {
        if let Some(waits @ false) = self.is_waiting.get_mut(number as usize) {
            *waits = true;
            self.waiting.push_back(number);
        }
    }

    /// It stays until it is [done](Self::done): whoever attends to it may be dropped in the middle.
    pub(super) fn first(&self) -> Option<u32> {
        self.waiting.front().copied()
    }

    /// The first was attended to.
    pub(super) fn done(&mut self) {
        if let Some(number) = self.waiting.pop_front() {
            self.is_waiting[number as usize] = false;
        }
    }
}
