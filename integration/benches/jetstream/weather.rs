//! The weather: how busy the machine is with the work of others, seen while nobody here does anything.
//!
//! The client and the server need all of a small machine, so while they work nothing tells them from others.

use std::time::Duration;

/// How long one look takes. The system counts in hundredths of a second.
const LOOK: Duration = Duration::from_millis(200);

/// The share of the processors' time that is used while nobody here does anything. Nothing where the system does not
/// say.
pub(crate) async fn busy() -> f64 {
    let before = ticks();
    tokio::time::sleep(LOOK).await;
    match (before, ticks()) {
        (Some(before), Some(after)) if after.all > before.all => {
            (after.busy - before.busy) as f64 / (after.all - before.all) as f64
        }
        _ => 0.0,
    }
}

/// Of all processors since the machine was started.
struct Ticks {
    busy: u64,
    all: u64,
}

fn ticks() -> Option<Ticks> {
    let told = std::fs::read_to_string("/proc/stat").ok()?;
    let line = told.lines().next()?.strip_prefix("cpu ")?;
    // user nice system idle iowait irq softirq steal; what guests use is in the first two again.
    let numbers = line
        .split_whitespace()
        .take(8)
        .map(|number| number.parse().ok());
    let numbers: Vec<u64> = numbers.collect::<Option<_>>()?;
    let all = numbers.iter().sum();
    let idle = numbers.get(3)? + numbers.get(4)?;
    Some(Ticks {
        busy: all - idle,
        all,
    })
}
