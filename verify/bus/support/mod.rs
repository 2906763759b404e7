//! Shared by the tests of the bus.

// The world of the simulation: here a bus runs in it over the broker in memory.
#[path = "../../src/sim/world.rs"]
#[allow(dead_code, unreachable_pub, reason = "what only the simulation needs")]
pub(crate) mod world;
