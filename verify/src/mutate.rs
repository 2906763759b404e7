//! Mutants: what is done to a protocol by an operator instead of by somebody who was tempted.
//!
//! Every operator is applied wherever it can be to the source that ships, and everything that looks
//! at the original looks at what comes of it: the models under loom and under shuttle, the spec. A
//! mutant is killed by a run that fails where the original passes, or does not end where the original
//! does. One that does not compile is none. One that nobody can tell from the original stands in
//! `verify/mutants` with the reason; a reason that names no survivor fails.

mod build;
mod cache;
mod child;
mod judge;
pub mod operator;
mod reasons;
mod result;
mod run;
mod source;
mod weave;

pub use build::MutateError;
pub use child::{active, serve};
pub use judge::{Kill, Verdict};
pub use operator::{Mutant, Operator, mutants};
pub use reasons::Reasons;
pub use result::{MutantReport, Mutants, ProtocolMutants, Score};
pub use run::{Options, run};
pub use source::Source;

use clearway_models::models;

/// The protocols, by name.
pub fn protocols() -> Vec<&'static str> {
    let mut names: Vec<&str> = models().map(|model| model.protocol).collect();
    names.dedup();
    names
}
