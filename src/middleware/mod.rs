//! Middleware: what stands between a lane and a handler, one concern a file.
//!
//! What decides about a failure ([`retry`], [`dead_letter`]) is data that the worker asks; nothing here spawns, sleeps or
//! publishes by itself.

pub mod dead_letter;
pub(crate) mod dedup;
pub(crate) mod panic;
pub(crate) mod retry;
