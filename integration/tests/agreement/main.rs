//! The simulated brokers agree with the real ones: the same workloads through the production bus against both, and what is seen compared.
//!
//! What `make sim` finds on a simulated broker is worth what the simulation is: here it is held against the server. A workload is drawn from
//! a seed and its steps are taken one by one, each when nothing happens any more, so that the broker's rules decide what is seen and not
//! the time. `CLEARWAY_TEST_AGREEMENT=300` compares so many workloads, `CLEARWAY_TEST_SEED=17` that one alone.
//!
//! | file | what |
//! |---|---|
//! | `workload`, `draw` | what is done, and how it is drawn |
//! | `handler` | what handlers answer, and what they see |
//! | `side` | a broker and those who talk to it |
//! | `drive` | does it |
//! | `rest` | waits until nothing happens any more |
//! | `said` | what calls say |
//! | `observed` | what was seen |
//! | `facts` | what has to be the same of it |
//! | `verdict` | many workloads, and the line at the end |
//! | `jetstream`, `kafka` | both sides of each |
//! | `altered` | what a comparison has to notice |

mod altered;
mod draw;
mod drive;
mod facts;
mod handler;
mod jetstream;
#[cfg(feature = "kafka")]
mod kafka;
mod observed;
mod rest;
mod said;
mod side;
mod verdict;
mod workload;
