//! Seeded bugs: the tempting wrong versions of every protocol, and who catches them.
//!
//! A bug is a patch against the source that ships, with a header that says which invariant it
//! breaks, who must catch it and why somebody would write it. All patched files are compiled side
//! by side, each as one module of a generated crate, next to the same models and specs that judge
//! the original. Every run is a process of its own.
//!
//! A kill counts only when the named invariant fails with its message; a spec, which judges the
//! whole object at once, may name another invariant of the protocol, but has to name one. A crash, a time limit or a
//! patch that does not compile is no kill, and the unpatched copy has to pass the very same run
//! first.

//!
//! What only a backend's stages can get wrong is no protocol's, and no model sees it: such bugs are [`stages`]' own.

mod cache;
pub(crate) mod cargo;
mod lock;
mod matrix;
mod patch;
pub mod stages;
pub(crate) mod workshop;

pub(crate) use cache::add as add_to_checksum;
pub(crate) use lock::lock;
pub use matrix::{BugReport, Cell, Control, Matrix, Scope, run};
pub use patch::{Bug, PatchError, load};
pub use workshop::{Workshop, WorkshopError};
