//! What is said once a run, whichever test or test program comes first.
//!
//! `run.sh` gives all programs of a run one folder. Without it a program is a run of its own.

use crate::origin::Origin;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;

/// Prints the origin of the first server of each backend in a run.
pub(crate) fn announce(origin: &Origin) {
    static SAID: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
    let backend = origin.backend;
    let mut said = SAID.lock().expect("nobody panics under it");
    if !said.insert(backend) {
        return;
    }
    let first = match folder() {
        // Fails for every program but one.
        Some(run) => OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(run.join(format!("announced-{backend}")))
            .is_ok(),
        None => true,
    };
    if first {
        say(&format!("broker: {origin}"));
    }
}

/// Notes that the running test did not run, so that the run can end by listing it.
pub(crate) fn skip(why: &str) {
    // The test harness names the thread after the test.
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test on a thread without a name");
    say(&format!("skipped {name}: {why}"));
    if let Some(run) = folder() {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(run.join("skipped"));
        // One write a line, so that programs side by side do not mix theirs.
        let noted = file.and_then(|mut file| file.write_all(format!("{name}\n").as_bytes()));
        noted.expect("the run's folder takes a line");
    }
}

fn folder() -> Option<PathBuf> {
    std::env::var_os("CLEARWAY_RUN_DIR").map(PathBuf::from)
}

/// Says what a test has found, past the test harness, which would keep the output of a test that passes.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "integration: {text}");
}
