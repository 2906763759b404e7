//! Pins: which partitions' durables are pinned to us, remembered across connections.
//!
//! The server pins one member of a group to a partition and lets go of it when it has not pulled
//! for a while. A bus that reconnects shows the pin it had and goes on at once.

use crate::protocol::sync::Mutex;
use std::collections::BTreeMap;

/// The pins of one backend, by stream and durable.
#[derive(Debug, Default)]
pub(super) struct Pins(Mutex<BTreeMap<(String, String), String>>);

impl Pins {
    pub(super) fn of(&self, stream: &str, durable: &str) -> Option<String> {
        let key = (stream.to_owned(), durable.to_owned());
        self.0.lock().get(&key).cloned()
    }

    pub(super) fn remember(&self, stream: &str, durable: &str, pin: Option<&str>) {
        let key = (stream.to_owned(), durable.to_owned());
        let mut pins = self.0.lock();
        match pin {
            Some(pin) => pins.insert(key, pin.to_owned()),
            None => pins.remove(&key),
        };
    }
}
