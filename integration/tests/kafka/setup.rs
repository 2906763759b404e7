//! What the tests stand on: the broker, names that nobody else has, and a plain client beside ours.

use anyhow::{Context, Result, bail};
use clearway::kafka::{Kafka, Options};
use clearway::{Bus, BusBuilder};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const CLOSE: Duration = Duration::from_secs(10);

/// `host:port` of the broker.
pub(crate) fn broker() -> Result<String> {
    std::env::var("CLEARWAY_TEST_KAFKA")
        .context("these tests need a Kafka broker: CLEARWAY_TEST_KAFKA=host:port")
}

pub(crate) fn url() -> Result<String> {
    Ok(format!("kafka://{}", broker()?))
}

pub(crate) fn options() -> Result<Options> {
    Ok(Options::from_url(&url()?)?)
}

pub(crate) fn builder(options: Options) -> BusBuilder {
    Bus::builder().backend(Kafka::new(options))
}

pub(crate) async fn bus() -> Result<Bus> {
    Ok(builder(options()?).connect().await?)
}

/// A name of this run only.
pub(crate) fn fresh_name(what: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    format!(
        "{what}.{}.{}",
        std::process::id(),
        now.unwrap_or_default().as_nanos()
    )
}

/// Waits until `so` holds, asking again and again.
pub(crate) async fn eventually(what: &str, so: impl AsyncFn() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !so().await {
        if begun.elapsed() > PATIENCE {
            bail!("not within {PATIENCE:?}: {what}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
