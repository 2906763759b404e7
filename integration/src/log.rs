//! Log: what a bus and the clients below it tell while a test runs, for whoever has to find out why it failed.
//!
//! `CLEARWAY_TEST_LOG=debug` (or another level) writes it to standard error, each line with the time since the process began to tell.
//! Without it nothing is written, and nothing is decided by it ever.

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self, time};
use tracing_subscriber::layer::SubscriberExt as _;

const LOG: &str = "CLEARWAY_TEST_LOG";

/// From here on the process tells, if it is asked to.
pub(crate) fn begin() {
    let Some(level) = std::env::var(LOG)
        .ok()
        .and_then(|text| text.parse::<Level>().ok())
    else {
        return;
    };
    let ours = Targets::new().with_target("clearway", level);
    // Past the test harness, which would keep it.
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_timer(time::uptime());
    let log = tracing_subscriber::registry().with(lines).with(ours);
    // Who has set another has a reason.
    let _ = tracing::subscriber::set_global_default(log);
}
