//! Acked: which deliveries were acknowledged lately, for those that come again all the same.
//!
//! The server makes a delivery anew when its ack wait is over, when a member that lost the partition gives back what it had, or when a
//! new owner asks for what it is just being sent. It may do so in the moment in which the acknowledgement is on its way, and then a
//! handler that has done its work would do it once more. Whoever acknowledged it says so again instead.
//!
//! It knows at least the last [`WORDS`] × 64 sequences, and needs the same memory however many there are. What is older is delivered
//! again, as the server says. A delivery that counts as the first one is no repetition: a durable that was set back
//! begins with those.

use super::Partition;
use async_nats::Subject;

/// As many stretches of 64 sequences are known: 16 KiB, and about half a second of a stream at its fastest.
const WORDS: usize = 1 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Acked {
    /// Which stretch, and which of it. None of them before the first acknowledgement.
    words: Vec<(u64, u64)>,
}

impl Acked {
    fn insert(&mut self, sequence: u64) {
        if self.words.is_empty() {
            self.words = vec![(0, 0); WORDS];
        }
        let stretch = sequence / 64;
        let word = &mut self.words[stretch as usize % WORDS];
        if word.0 > stretch {
            // Older than all that is known here.
            return;
        }
        if word.0 < stretch {
            *word = (stretch, 0);
        }
        word.1 |= 1 << (sequence % 64);
    }

    fn remove(&mut self, sequence: u64) {
        if let Some(word) = self.words.get_mut(sequence as usize / 64 % WORDS)
            && word.0 == sequence / 64
        {
            word.1 &= !(1 << (sequence % 64));
        }
    }

    fn contains(&self, sequence: u64) -> bool {
        let word = self.words.get(sequence as usize / 64 % WORDS);
        word.is_some_and(|word| word.0 == sequence / 64 && word.1 & 1 << (sequence % 64) != 0)
    }

    pub(super) fn clear(&mut self) {
        self.words.fill((0, 0));
    }
}

impl Partition {
    /// The answer to a delivery is on its way, and was the last one.
    pub(in super::super) fn answered(&mut self, sequence: u64, is_ack: bool) {
        self.out.remove(sequence);
        if is_ack {
            self.acked.insert(sequence);
        }
    }

    /// Whether a delivery is one that was acknowledged, and nobody but the server has to hear of. It is to be acknowledged
    /// [again](Self::again).
    pub(super) fn was_acked(&mut self, sequence: u64, attempt: u32, reply: &Subject) -> bool {
        if attempt <= 1 {
            self.acked.remove(sequence);
            return false;
        }
        let was_acked = self.acked.contains(sequence);
        if was_acked {
            self.again.push(reply.clone());
        }
        was_acked
    }

    /// Where to say once more that something was done.
    pub(in super::super) fn again(&self) -> Option<&Subject> {
        self.again.last()
    }

    /// That was said.
    pub(in super::super) fn said_again(&mut self) {
        self.again.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        /// What is not older than the window is known exactly; what is older is never claimed unless it was acknowledged.
        #[test]
        fn it_is_a_set_of_the_latest(steps in prop::collection::vec((0..200_000_u64, any::<bool>()), 1..200)) {
            let mut model = BTreeSet::new();
            let mut acked = Acked::default();
            let mut last = 0;
            for (sequence, is_ack) in steps {
                last = last.max(sequence);
                if is_ack {
                    acked.insert(sequence);
                    model.insert(sequence);
                } else {
                    acked.remove(sequence);
                    model.remove(&sequence);
                }
                let known = (last / 64 + 1).saturating_sub(WORDS as u64) * 64;
                for &one in &model {
                    prop_assert!(acked.contains(one) || one < known, "{one} of {last}");
                }
                for one in [sequence, sequence ^ 1, sequence + 64, sequence + 64 * WORDS as u64] {
                    prop_assert!(model.contains(&one) || !acked.contains(one), "{one}");
                }
            }
            acked.clear();
            prop_assert!(model.iter().all(|one| !acked.contains(*one)));
        }
    }
}
