//! Inside: whether the code that runs right now is a handler of this bus.
//!
//! A bus that closes refuses whoever publishes from outside; its handlers may finish, and what they publish, and the dead
//! letters, belong to that. Only what a handler publishes in its own task is known as its own: a task that it
//! spawned is outside.
//!
//! Looked at only when the gate is shut already, so no publish pays for it before.

use crate::publish::admission::Admission;
use std::cell::Cell;

thread_local!(static BUS: Cell<usize> = const { Cell::new(0) });

/// While it is there, the code on this thread is a handler of one bus.
pub(crate) struct Inside {
    before: usize,
}

impl Inside {
    /// From here on until it is dropped.
    pub(crate) fn of(admission: &Admission) -> Self {
        let before = BUS.replace(name(admission));
        Self { before }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        BUS.set(self.before);
    }
}

/// Whether a handler of the bus with this admission runs on this thread.
pub(crate) fn is_inside(admission: &Admission) -> bool {
    BUS.get() == name(admission)
}

/// An admission is where it is as long as there is a bus.
fn name(admission: &Admission) -> usize {
    std::ptr::from_ref(admission).addr()
}
