//! Pins: which partitions' durables are pinned to us, and where we were in those of a consumer that was lost, remembered
//! across connections.
//!
//! The server pins one member of a group to a partition and lets go of it when it has not pulled
//! for a while. A bus that reconnects shows the pin it had and goes on at once. If somebody deleted the durable meanwhile, it is made again
//! where the lost consumer was, and not where a new group would begin.

use crate::protocol::sync::Mutex;
use std::collections::BTreeMap;

/// The pins and places of one backend, by stream and durable.
#[derive(Debug, Default)]
pub(super) struct Pins(Mutex<BTreeMap<(String, String), Known>>);

#[derive(Debug, Default)]
struct Known {
    pin: Option<String>,
    place: Option<Place>,
}

/// Where a group was in a partition.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    /// When the stream was made: sequences of another one mean nothing.
    pub(super) born: String,
    /// The first sequence that may not be answered.
    pub(super) sequence: u64,
}

impl Pins {
    pub(super) fn of(&self, stream: &str, durable: &str) -> Option<String> {
        let key = (stream.to_owned(), durable.to_owned());
        self.0.lock().get(&key)?.pin.clone()
    }

    pub(super) fn place(&self, stream: &str, durable: &str) -> Option<Place> {
        let key = (stream.to_owned(), durable.to_owned());
        self.0.lock().get(&key)?.place.clone()
    }

    pub(super) fn remember(&self, stream: &str, durable: &str, pin: Option<&str>) {
        self.change(stream, durable, |known| known.pin = pin.map(str::to_owned));
    }

    /// Notes where a lost consumer was; `None` when it ended in order, and what it had is given back.
    pub(super) fn remember_place(&self, stream: &str, durable: &str, place: Option<Place>) {
        self.change(stream, durable, |known| known.place = place);
    }

    fn change(&self, stream: &str, durable: &str, change: impl FnOnce(&mut Known)) {
        let key = (stream.to_owned(), durable.to_owned());
        let mut all = self.0.lock();
        let known = all.entry(key.clone()).or_default();
        change(known);
        if known.pin.is_none() && known.place.is_none() {
            all.remove(&key);
        }
    }
}
