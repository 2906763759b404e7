//! What a simulated broker is to a run: a backend for each process, levers for the faults, and what it has when all is over.
//!
//! A broker asks [`Weather`] for every fault and every delay, runs what is its own as tasks of [`Weather::world`], and what is a client's in the
//! runtime that its `Host` gives. It never draws chance of its own and never lists a map without an order.

pub mod jetstream;
pub mod kafka;

use super::fault::{Fault, Weather};
use super::world::Process;
use clearway::BackendChoice;
use std::collections::BTreeMap;
use uuid::Uuid;

/// The topic of dead letters: a broker asks for [`Fault::DeadLetter`] when it is to store one, and refuses it if that strikes.
pub const DEAD_LETTERS: &str = "dead";

/// A simulated broker. Clones are the same broker.
///
/// The history has to say when a connection is gone: whoever cuts one writes `recorder.disconnect(process, false)` in that moment, and once more
/// when its client finds out. What the bus says of it itself comes too late for a checker that goes by the order of lines.
pub trait SimBroker: Clone + Send + Sync + 'static {
    /// As `BROKER=` and the header of a history name it.
    const NAME: &'static str;

    /// The faults that it knows. Those of handlers, processes and clocks are the workload's, and every broker has them.
    const FAULTS: &'static [Fault];

    /// The tasks of a client that has threads of its own have names that begin so. It knows [`Fault::Block`].
    const OWN_THREADS: Option<&'static str> = None;

    /// What many seeds together have to come to, beside the goals of the workload: said by [`Weather::goal`].
    const GOALS: &'static [&'static str];

    /// A broker with nothing in it.
    fn new(weather: &Weather) -> Self;

    /// The backend of a bus that runs in `process`.
    fn backend(&self, process: &Process) -> BackendChoice;

    /// The process is about to be killed: its connections say nothing any more. The broker hears of it as of any that is gone.
    fn killed(&self, process: u32);

    /// Cuts the connections of a process.
    fn disconnect(&self, process: u32);

    /// The broker's process is killed: every connection is cut, and none is taken. The history has to say what was lost, by `erased`.
    fn kill(&self);

    /// It is up again.
    fn restart(&self);

    /// Takes a topic away with all it has. Says whether there was one.
    fn delete_topic(&self, topic: &str) -> bool;

    /// Where a group stands in each partition, as somebody who asks from outside is told: the first position that is not done. Empty where
    /// the broker has no such notion.
    fn committed(&self, topic: &str, group: &str) -> BTreeMap<u32, u64>;

    /// What a topic holds, by partition and position.
    fn stored(&self, topic: &str) -> BTreeMap<(u32, u64), Uuid>;

    /// How many envelopes a group has not acknowledged.
    fn lag(&self, topic: &str, group: &str) -> u64;
}
