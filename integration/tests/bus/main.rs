//! The bus on a real NATS server. One file a theme; what happens is recorded, and the checker of `verify history`
//! reads what was recorded.

mod close;
mod close_frozen;
mod confirm;
mod consume;
mod deleted;
mod drift;
mod ensure;
mod faults;
mod give_back;
mod login;
mod policies;
mod publish;
mod refused;
mod round_trip;
mod setup;
mod share;
mod successor;
mod wildcards;
