//! Witness: a bus for a backend that is tested without one. It notes what it is told.

use crate::backend::{Host, Outcome, Slot};
use crate::error::Failure;
use crate::events::BusEvent;
use crate::protocol::sync::Mutex;
use crate::runtime::{Runtime, Tokio};
use std::sync::Arc;

pub(super) struct Witness {
    runtime: Arc<dyn Runtime>,
    pub(super) settled: Mutex<Vec<(Slot, Outcome)>>,
    pub(super) events: Mutex<Vec<BusEvent>>,
    pub(super) missing: Mutex<Vec<String>>,
    /// Timers are its. Dropped last.
    _tokio: tokio::runtime::Runtime,
}

impl Witness {
    pub(super) fn new() -> Arc<Self> {
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build()
            .expect("a runtime");
        let runtime = {
            let _inside = tokio.enter();
            Arc::new(Tokio::current().expect("inside of it"))
        };
        Arc::new(Self {
            runtime,
            settled: Mutex::default(),
            events: Mutex::default(),
            missing: Mutex::default(),
            _tokio: tokio,
        })
    }
}

impl Host for Witness {
    fn settle(&self, slot: Slot, outcome: Outcome) {
        self.settled.lock().push((slot, outcome));
    }

    fn lost(&self, _: u64, _: Failure) {}

    fn topic_missing(&self, topic: &str) {
        self.missing.lock().push(topic.to_owned());
    }

    fn event(&self, event: BusEvent) {
        self.events.lock().push(event);
    }

    fn slots(&self) -> usize {
        8
    }

    fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.runtime
    }
}
