//! What the tests stand on: the broker, names that nobody else has, and a plain client beside ours.

use anyhow::{Result, anyhow, bail};
use clearway::kafka::{Kafka, Options};
use clearway::{Bus, BusBuilder};
use clearway_integration::KafkaBroker;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Runtime;

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const CLOSE: Duration = Duration::from_secs(10);

/// `host:port` of the broker.
pub(crate) fn broker() -> Result<String> {
    // Nobody drops it: it goes with the run, as all that a run has started.
    static BROKER: OnceLock<Result<(Runtime, KafkaBroker)>> = OnceLock::new();
    let started = BROKER.get_or_init(|| std::thread::spawn(start).join().expect("no panic"));
    match started {
        Ok((_, broker)) => Ok(broker.bootstrap().to_owned()),
        Err(error) => Err(anyhow!("{error:#}")),
    }
}

/// On a runtime that outlives the tests, each of which has one of its own.
fn start() -> Result<(Runtime, KafkaBroker)> {
    let runtime = Runtime::new()?;
    let broker = runtime.block_on(KafkaBroker::any())?;
    Ok((runtime, broker))
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
