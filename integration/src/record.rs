//! A run on record: what a test does with a bus goes into one history file, and the checker that judges it is the one
//! of `verify history`.

use crate::origin::Origin;
use crate::run;
use anyhow::{Context, Result, ensure};
use clearway_verify::check::{self, Verdict};
use clearway_verify::history::{Deliver, Durability, Header, Log, Owners};
use clearway_verify::recorder::Recorder;
use rustix::time::{ClockId, clock_gettime};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A history that is being written. Clones write to the same one.
#[derive(Clone)]
pub struct Record {
    shared: Arc<Shared>,
}

struct Shared {
    recorder: Recorder,
    test: String,
    path: PathBuf,
    subscriptions: AtomicU32,
    owners: Mutex<Owners>,
}

impl Record {
    /// Begins the history of a test against `broker`, in `target/histories/<test>.jsonl`.
    pub fn begin(
        test: &str,
        broker: &impl AsRef<Origin>,
        workload: &str,
        seed: Option<u64>,
    ) -> Result<Self> {
        let path = histories()?.join(test).with_extension("jsonl");
        let header = header(broker.as_ref(), workload, seed);
        let log = Log::to_file(&path, header).with_context(|| path.display().to_string())?;
        Ok(Self::of(log, test, path, 0))
    }

    /// Begins the history of one process of several, at `path`: what was recorded is there though the process is killed.
    /// `first` is the number of its first subscription.
    pub(crate) fn of_process(path: &Path, header: Header, first: u32) -> Result<Self> {
        let log = Log::of_process(path, header, monotonic);
        let log = log.with_context(|| path.display().to_string())?;
        Ok(Self::of(log, "process", path.to_owned(), first))
    }

    fn of(log: Log, test: &str, path: PathBuf, first: u32) -> Self {
        let shared = Shared {
            recorder: Recorder::new(log),
            test: test.to_owned(),
            path,
            subscriptions: AtomicU32::new(first),
            owners: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// For what a test writes down itself.
    pub fn recorder(&self) -> &Recorder {
        &self.shared.recorder
    }

    /// Writes down a delivery. Its epoch is a bus's own count: in the history it is the group's.
    pub(crate) fn deliver(&self, mut deliver: Deliver) {
        let owners = &self.shared.owners;
        // Held while it is written: who is counted first has the upper line.
        let mut owners = owners.lock().unwrap_or_else(PoisonError::into_inner);
        let log = (&*deliver.topic, &*deliver.group, deliver.partition);
        deliver.epoch = owners.epoch(log, (deliver.subscription, deliver.epoch));
        self.recorder().record(deliver);
    }

    /// A number for a subscription.
    pub(crate) fn next_subscription(&self) -> u32 {
        self.shared.subscriptions.fetch_add(1, Ordering::Relaxed)
    }

    /// Where the history lies.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Closes the file, has it checked, says what was in it, and fails if something in it does not hold.
    ///
    /// Nobody else may be recording any more: every bus is closed, every publisher has ended.
    pub fn finish(self) -> Result<Verdict> {
        let test = self.shared.test.clone();
        let path = self.close()?;
        let verdict = check::file(&path)?;
        run::say(&told(&test, &verdict));
        ensure!(verdict.is_ok(), "{}:\n{verdict}", path.display());
        Ok(verdict)
    }

    /// Closes the file, and says where it is.
    pub(crate) fn close(self) -> Result<PathBuf> {
        let Shared { recorder, path, .. } = Arc::into_inner(self.shared)
            .context("the history is finished, and somebody still writes to it")?;
        recorder.finish()?;
        Ok(path)
    }
}

/// What a history says of itself first.
pub(crate) fn header(origin: &Origin, workload: &str, seed: Option<u64>) -> Header {
    let how = match &origin.image {
        Some(image) => format!("{image}, {}", origin.way),
        None => origin.way.clone(),
    };
    Header {
        server: Some(origin.server.clone()),
        how: Some(how),
        seed,
        workload: workload.to_owned(),
        durability: Some(Durability::Stored),
        ..Header::new(origin.backend)
    }
}

/// The clock that the processes of one machine share.
fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// One line about a history.
fn told(test: &str, verdict: &Verdict) -> String {
    let counts = &verdict.counts;
    let mut text = format!(
        "history {test}: {} operations checked (acked {}, rejected {}, unknown {}, deliveries {}",
        counts.ops, counts.acked, counts.rejected, counts.unknown, counts.deliveries
    );
    if counts.acked_again > 0 {
        text += &format!(", recognised by the server {}", counts.acked_again);
    }
    for (cause, count) in &counts.duplicates {
        let cause = serde_json::to_value(cause).expect("a cause is plain data");
        let cause = cause.as_str().unwrap_or_default().replace('_', " ");
        text += &format!(", again by {cause} {count}");
    }
    text + &format!(
        ", faults {}, reconnects {}), {} violations",
        counts.faults,
        counts.reconnects,
        verdict.total()
    )
}

/// Where histories go.
pub(crate) fn histories() -> Result<PathBuf> {
    let folder = target().join("histories");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Where everything goes that is made and not kept.
fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => target.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
    }
}
