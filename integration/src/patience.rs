//! Waiting for what must happen: a condition with a deadline, never a sleep and a hope.

use anyhow::{Result, bail};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long something that must happen may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Looks until it is so. An error counts as "not yet".
pub async fn until(what: &str, so: impl AsyncFn() -> Result<bool>) -> Result<()> {
    until_within(PATIENCE, what, so).await
}

/// The same, with a deadline of its own.
pub async fn until_within(
    limit: Duration,
    what: &str,
    so: impl AsyncFn() -> Result<bool>,
) -> Result<()> {
    let start = Instant::now();
    loop {
        let last = match so().await {
            Ok(true) => return Ok(()),
            Ok(false) => "it is not".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        if start.elapsed() > limit {
            bail!("not within {limit:?}: {what}: {last}");
        }
        sleep(BETWEEN_LOOKS).await;
    }
}
