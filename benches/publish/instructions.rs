//! Instructions for each publish core, counted by callgrind where it is installed.

use std::process::Command;

const FEW: u64 = 10_000;
const MANY: u64 = 30_000;

/// The argument that makes this program do nothing but publish: `--publishes WAY COUNT`.
pub(crate) const FLAG: &str = "--publishes";

/// Whether callgrind can be run.
pub(crate) fn are_counted_here() -> bool {
    Command::new("valgrind")
        .arg("--version")
        .output()
        .is_ok_and(|told| told.status.success())
}

/// Instructions for each publish: what a longer run takes more than a shorter one.
pub(crate) fn per_publish(way: &str) -> Option<f64> {
    let (few, many) = (collected(way, FEW)?, collected(way, MANY)?);
    Some((many - few) as f64 / (MANY - FEW) as f64)
}

fn collected(way: &str, count: u64) -> Option<u64> {
    let told = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().ok()?)
        .args([FLAG, way, &count.to_string()])
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&told.stderr);
    let line = said.lines().find(|line| line.contains("Collected :"))?;
    line.rsplit(' ').next()?.parse().ok()
}
