//! The testbed for protocols of your own: models, spec, orderings, seeded bugs and report, without a change to Clearway.
//!
//! A program of yours names its protocols with [`protocol!`](crate::protocol!) and hands them to [`main`]. What belongs to a protocol
//! `p` lies in your package's folder:
//!
//! | file | what it is |
//! |---|---|
//! | `src/protocol/p.rs` | the source that ships; its atomics and locks come from `super::sync` |
//! | `models/p.rs` | one model for each invariant, as a list `MODELS` |
//! | `specs/p.rs` | the object as if there were one thread, and `histories`; may be absent |
//! | `bugs/p-*.patch` | seeded bugs, as diffs against `src/protocol/p.rs` |
//!
//! `examples/your-own-protocol` is such a package, and its README the way through it.

use crate::child::{self, Subject};
use crate::cli;
use std::path::Path;
use std::process::ExitCode;

/// What `main` of your program does: all of it without arguments; `bugs NAME` shows how one seeded bug is caught. `folder` is your
/// package's: `env!("CARGO_MANIFEST_DIR")`.
pub fn main(folder: &str, subjects: &[Subject]) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        // One check in a process of its own: what this program starts itself.
        Some((first, args)) if first == "child" => child::serve(subjects, args),
        _ => cli::own::main(Path::new(folder), subjects),
    }
}

/// A protocol of yours in the three worlds, as a module of its name with a `SUBJECT` in it.
///
/// To be written in `src/main.rs`. The paths are from there: `clearway_verify::protocol!(latch, "protocol/latch.rs",
/// "../models/latch.rs", "../specs/latch.rs")`. Without a spec the last one is left out.
#[macro_export]
macro_rules! protocol {
    ($name:ident, $source:literal, $models:literal $(, $spec:literal)?) => {
        #[path = "."]
        #[allow(dead_code, unreachable_pub, missing_docs, clippy::duplicate_mod)]
        mod $name {
            $crate::protocol!(@world under_loom, $name, $source, $models);
            $crate::protocol!(@world under_shuttle, $name, $source, $models);
            $crate::protocol!(@world under_threads, $name, $source, $models);
            $crate::protocol!(@spec $name $(, $spec)?);

            /// The protocol, with everything that looks at it.
            pub const SUBJECT: $crate::child::Subject = $crate::child::Subject {
                name: $crate::child::ORIGINAL,
                protocol: stringify!($name),
                loom: under_loom::models::MODELS,
                shuttle: under_shuttle::models::MODELS,
                threads: under_threads::models::MODELS,
                histories: HISTORIES,
            };
        }
    };
    (@world $world:ident, $name:ident, $source:literal, $models:literal) => {
        #[path = "."]
        pub mod $world {
            pub use $crate::clearway_models::$world::{engine, sync};
            #[path = $source]
            pub mod $name;
            #[path = $models]
            pub mod models;
        }
    };
    (@spec $name:ident) => {
        const HISTORIES: Option<$crate::protocol::Histories> = None;
    };
    (@spec $name:ident, $spec:literal) => {
        #[path = "."]
        pub mod subject {
            pub use super::under_shuttle::{engine, sync, $name};
        }
        #[path = $spec]
        pub mod spec;
        const HISTORIES: Option<$crate::protocol::Histories> = Some(spec::histories);
    };
}
