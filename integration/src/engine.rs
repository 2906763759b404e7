//! The container engine and the broker images, as `engine.sh` finds or makes them.

use anyhow::{Context, Result, anyhow, bail};
use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;
use tokio::sync::OnceCell;

type Found = OnceCell<Result<Engine, String>>;

/// What `engine.sh up` found or made.
pub(crate) struct Engine {
    found: HashMap<String, String>,
}

impl Engine {
    /// The engine of this process, with an image of NATS. The first caller pays for finding it.
    pub(crate) async fn nats() -> Result<&'static Self> {
        static ENGINE: Found = Found::const_new();
        Self::with(&ENGINE, "nats").await
    }

    /// The same with an image of Kafka.
    pub(crate) async fn kafka() -> Result<&'static Self> {
        static ENGINE: Found = Found::const_new();
        Self::with(&ENGINE, "kafka").await
    }

    async fn with(engine: &'static Found, image: &str) -> Result<&'static Self> {
        // The refusal is kept too: forty tests must not try to install an engine one after the other.
        let engine = engine
            .get_or_init(async || up(image).await.map_err(|e| format!("{e:#}")))
            .await;
        engine.as_ref().map_err(|why| anyhow!("{why}"))
    }

    /// One finding by its key, for example `nats.image`.
    pub(crate) fn found(&self, key: &str) -> Result<&str> {
        let value = self.found.get(key);
        value
            .map(String::as_str)
            .ok_or_else(|| anyhow!("engine.sh up said nothing of {key}"))
    }

    /// Labels that say whose a container, volume or network is, for `engine.sh sweep`.
    pub(crate) fn labels(&self) -> Result<HashMap<String, String>> {
        Ok(HashMap::from([
            ("clearway.scope".into(), self.found("scope")?.into()),
            (
                "clearway.owner".into(),
                format!("{}.{}", std::process::id(), start_time()),
            ),
        ]))
    }
}

async fn up(image: &str) -> Result<Engine> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("engine.sh");
    let mut command = Command::new("bash");
    // Its words go straight to the terminal: an installation takes long enough to want them.
    command
        .arg(&script)
        .args(["up", image])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output = command
        .output()
        .await
        .with_context(|| format!("cannot run {}", script.display()))?;
    if !output.status.success() {
        bail!("there is no broker to test against; what is missing stands above");
    }
    let text = String::from_utf8(output.stdout)?;
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    Ok(Engine {
        found: pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
    })
}

/// When this process started, in the kernel's ticks: a process id alone is given out again.
fn start_time() -> String {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Field 22; the second is the command's name in brackets and may hold spaces.
    let rest = stat
        .rsplit_once(") ")
        .map(|(_, rest)| rest)
        .unwrap_or_default();
    rest.split(' ').nth(19).unwrap_or("0").to_owned()
}
