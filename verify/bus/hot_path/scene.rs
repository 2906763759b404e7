//! The scene of a count on memory: a broker and a bus whose tasks run on a thread of their own.

use crate::apart::{Elsewhere, Taken};
use clearway::Bus;
use clearway::memory::Memory;

/// A broker, a bus on it, and the thread on which the tasks of both run.
pub(crate) struct Scene {
    pub(crate) broker: Memory,
    pub(crate) bus: Bus,
    elsewhere: Elsewhere,
}

impl Scene {
    /// `clock` is in the path of every publish: the bus asks it for the time.
    pub(crate) fn new(clock: impl Fn() + Send + Sync + 'static) -> Self {
        let elsewhere = Elsewhere::new();
        let broker = Memory::new();
        let bus = elsewhere.connect(broker.clone(), clock);
        Self {
            broker,
            bus,
            elsewhere,
        }
    }

    /// Runs `work` on the other thread.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        self.elsewhere.run(work)
    }

    /// What the other thread has taken so far: the broker, its queue, the tasks of the bus.
    pub(crate) fn taken_elsewhere(&self) -> Taken {
        self.elsewhere.taken()
    }
}
