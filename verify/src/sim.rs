//! The whole bus in a simulation: one seed is one run of the production stages, in virtual time, over a simulated broker that misbehaves as
//! real ones do. The history of a run is judged by the checker that judges real ones.
//!
//! | file | what |
//! |---|---|
//! | `world` | tasks in an order drawn from the seed, a clock that jumps, processes that stand still and die |
//! | `fault` | what can go wrong, how likely, and when it does |
//! | `broker` | what a simulated broker is; one file or folder each |
//! | `plan` | what one seed does |
//! | `life`, `handler`, `nemesis`, `letters` | processes, what their handlers do, also with the bus they are called from, who breaks them, who reads the dead letters |
//! | `record`, `run` | what is written down, and one run from its begin to its verdict |
//! | `seeds`, `hunt` | many runs, and what they came to; how soon something is found |
//! | `breaks`, `shrink` | what a run violated, by name; a failing plan made small |
//! | `counterexample`, `regressions` | such a plan as a file; those that are kept with the source |
//! | `timeline` | of a failing run the lines that matter |

pub mod breaks;
pub mod broker;
pub mod counterexample;
pub mod fault;
pub mod handler;
pub mod hunt;
pub mod letters;
pub mod life;
pub mod nemesis;
pub mod plan;
pub mod record;
pub mod regressions;
pub mod run;
pub mod seeds;
pub mod shrink;
pub mod timeline;
pub mod world;
