//! Ordered: one in flight per key, for handles that asked for it.
//!
//! A publish whose key is busy waits here with its slot open; the outcome of the one before
//! sends it on. Whatever the outcome: order is kept, success is not promised. This takes a lock, which only
//! ordered handles pay.

use crate::envelope::Envelope;
use crate::protocol::ledger::Slot;
use crate::protocol::sync::Mutex;
use bytes::Bytes;
use foldhash::fast::FixedState;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// The keys with a publish in flight, and who waits behind it.
pub(crate) struct Lines<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    /// Busy keys of each topic, with those in line.
    busy: HashMap<LineKey, VecDeque<Waiting<T>>, FixedState>,
    /// Which key an ordered publish without an outcome belongs to. By slot and not by id: an envelope that is
    /// sent again has the id of one that may still be on its way out.
    keys: HashMap<Slot, LineKey, FixedState>,
}

type LineKey = (u32, Bytes);

/// A publish in line.
pub(crate) struct Waiting<T> {
    pub(crate) topic: Arc<T>,
    pub(crate) slot: Slot,
    pub(crate) envelope: Envelope,
}

impl<T> Lines<T> {
    pub(crate) fn new() -> Self {
        let state = State {
            busy: HashMap::default(),
            keys: HashMap::default(),
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// Gives the publish back if its key is free, and keeps the key busy with it; else it waits.
    pub(crate) fn enter(&self, topic: u32, waiting: Waiting<T>) -> Option<Waiting<T>> {
        let key = waiting.envelope.key.clone().unwrap_or_default();
        let mut state = self.state.lock();
        state.keys.insert(waiting.slot, (topic, key.clone()));
        match state.busy.get_mut(&(topic, key.clone())) {
            Some(line) => {
                line.push_back(waiting);
                None
            }
            None => {
                state.busy.insert((topic, key), VecDeque::new());
                Some(waiting)
            }
        }
    }

    /// The publish of `slot` has its outcome: the next of its key, which keeps the key busy, if it
    /// was the one in flight.
    pub(crate) fn leave(&self, slot: Slot) -> Option<Waiting<T>> {
        let mut state = self.state.lock();
        let key = state.keys.remove(&slot)?;
        let line = state.busy.get_mut(&key)?;
        if let Some(at) = line.iter().position(|waiting| waiting.slot == slot) {
            // It was settled while it waited: it was not the one in flight.
            line.remove(at);
            return None;
        }
        let next = line.pop_front();
        if next.is_none() {
            state.busy.remove(&key);
        }
        next
    }

    /// Takes away all that wait.
    pub(crate) fn take_waiting(&self) -> Vec<Slot> {
        let mut state = self.state.lock();
        let mut slots: Vec<_> = state
            .busy
            .values_mut()
            .flat_map(|line| line.drain(..))
            .map(|waiting| waiting.slot)
            .collect();
        // A map has no order to show.
        slots.sort_by_key(|slot| slot.index());
        slots
    }
}
