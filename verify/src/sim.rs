//! The whole bus in a simulation: one seed is one run of the production stages, in virtual time, over a simulated broker that misbehaves as
//! real ones do. The history of a run is judged by the checker that judges real ones.

pub mod broker;
pub mod fault;
pub mod world;
