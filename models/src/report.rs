//! The line that a test prints for a run, and the failing execution as a table.

use crate::registry::{Run, Verdict};
use std::fmt;
use std::io::Write;

/// Prints one line for `run` past the capture of the test harness: how many executions a model
/// had is part of a test's answer. What speaks against the run is the error.
pub fn print_run(run: &Run) -> Result<(), Complaint> {
    let line = format!(
        "{:8} {:45} {:>9} executions  {:12} {:>6} ms\n",
        run.engine,
        format!("{}/{}", run.protocol, run.invariant),
        run.executions,
        run.verdict.to_string(),
        run.elapsed_ms,
    );
    // A closed terminal is no reason to fail a model.
    _ = std::io::stderr().write_all(line.as_bytes());
    match run.complaint() {
        None => Ok(()),
        Some(text) => Err(Complaint {
            text,
            timeline: timeline(run),
        }),
    }
}

/// Why a run is no pass, and the execution that shows it.
pub struct Complaint {
    text: String,
    timeline: String,
}

impl fmt::Debug for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.text, self.timeline)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exhaustive => f.write_str("exhaustive"),
            Self::Bounded(preemptions) => write!(f, "bounded({preemptions})"),
            Self::Truncated => f.write_str("truncated"),
            Self::Sampled => f.write_str("sampled"),
            Self::Failed => f.write_str("FAILED"),
        }
    }
}

/// The failing execution as a table with one column a thread.
pub fn timeline(run: &Run) -> String {
    let steps = run.failure.as_ref().map_or(&[][..], |f| &f.timeline);
    let mut threads: Vec<&str> = Vec::new();
    for step in steps {
        if !threads.contains(&step.thread.as_str()) {
            threads.push(&step.thread);
        }
    }
    let cell = |step: &crate::registry::Step| match &step.site {
        Some(site) => format!("{} {}", short(site), step.what),
        None => step.what.to_uppercase(),
    };
    let width = steps.iter().map(|step| cell(step).chars().count()).max();
    let width = width.unwrap_or(0).max(8);
    let mut table = String::new();
    let mut row = |at: &str, cells: Vec<String>| {
        let cells: Vec<_> = cells.iter().map(|cell| format!("{cell:width$}")).collect();
        table.push_str(format!("{at:>4}  {}", cells.join(" | ")).trim_end());
        table.push('\n');
    };
    if !steps.is_empty() {
        row("", threads.iter().map(|name| (*name).to_owned()).collect());
    }
    for step in steps {
        let here = |name: &&&str| **name == step.thread;
        let column = threads.iter().position(|name| here(&name)).unwrap_or(0);
        let mut cells = vec![String::new(); threads.len()];
        cells[column] = cell(step);
        row(&step.at.to_string(), cells);
    }
    table
}

/// `src/protocol/gate.rs:76` as `gate.rs:76`.
fn short(site: &str) -> &str {
    site.rsplit('/').next().unwrap_or(site)
}
