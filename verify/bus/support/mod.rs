//! Shared by the tests of the bus.

pub(crate) mod virtual_time;
