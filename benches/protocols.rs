//! Every protocol beside what it replaces, one file each. One program, because each has to be linked.
//!
//! Criterion gives the nanoseconds, alone and with a rival; the lines `ratio:` compare variants that took
//! turns. `cargo bench --bench protocols -- gate` runs one group.

#[path = "common/mod.rs"]
mod common;
mod credit;
mod gate;
mod interest;
mod lane;
mod ledger;
mod mode;
mod session;
mod singleflight;
mod snapshot;
mod tally;
mod watermark;

fn main() {
    let mut criterion = common::quick();
    gate::bench(&mut criterion);
    credit::bench(&mut criterion);
    snapshot::bench(&mut criterion);
    session::bench(&mut criterion);
    singleflight::bench(&mut criterion);
    ledger::bench(&mut criterion);
    tally::bench(&mut criterion);
    mode::bench(&mut criterion);
    watermark::bench(&mut criterion);
    interest::bench(&mut criterion);
    lane::bench(&mut criterion);
    criterion.final_summary();
}
