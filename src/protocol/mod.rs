//! The concurrency protocols: small objects with named invariants, and the only files of the bus that name an
//! atomic, an ordering or (but for the control plane's `Mutex`) a lock.
//!
//! A protocol is one member of a *set* of the same name: its source here, its model in `models/src`, its
//! spec in `verify/src/protocol`, its seeded bugs in `verify/bugs` and its bench in `benches`. A test fails
//! when one is missing. Each file says first what it keeps (`# Invariants`), then how (`# States`), then why each
//! ordering is as strong as it is and no stronger (`# Orderings`).
//!
//! | protocol | keeps | used by |
//! |---|---|---|
//! | [`gate`] | who may be inside, and when the last has left | publish: admission; the bus: its tasks; close |
//! | [`credit`] | never more in flight than the limit, and all of it comes back | publish: admission |
//! | [`ledger`] | exactly one outcome for every accepted publish | publish: admission; receipts; results; close |
//! | [`snapshot`] | readers see whole versions, writers lose no update | publish: topics by name |
//! | [`session`] | one connection, swapped whole, retired once | publish: dispatch; reconnect; close |
//! | [`singleflight`] | one attempt for each key, everybody gets its answer | publish: ensuring topics; configure; subscribe |
//! | [`tally`] | counting without losing | metrics, everywhere |
//! | [`interest`] | what is consumed becomes what is wanted, and nothing is taken while it is held | consume: hold, pause, resume |
//! | [`mode`] | normal or recovery: two thresholds and a hold time, every change seen once | consume: recovery mode |
//! | [`watermark`] | a commit never passes what is unsettled | consume: partitions |
//! | [`lane`] | one runner for each key, first in first out | consume: the dispatcher and its workers |
//!
//! The files import [`sync`], `core` and plain parts of `std`, and nothing else: the models compile them again beside
//! a `sync` of their own.
//!
//! This module is public for the testbed and the benches. It is no part of the API: it may change in any release.

#![allow(
    clippy::disallowed_types,
    reason = "the one place for atomics and locks"
)]

pub mod credit;
pub mod gate;
pub mod interest;
pub mod lane;
pub mod ledger;
pub mod mode;
pub mod session;
pub mod singleflight;
pub mod snapshot;
pub mod sync;
pub mod tally;
pub mod watermark;
