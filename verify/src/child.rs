//! One check in a process of its own.
//!
//! A failing execution may abort its process or never come back, so nothing that may fail runs in
//! the process that reports. The child prints its runs as JSON; whatever else it does is no
//! answer.

use crate::protocol::{Checked, Histories, SPECS};
use clearway_models::registry::{Depth, Model, Run, Site};
use clearway_models::{report, under_loom, under_shuttle, under_threads, weaken};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

/// Who looks for a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checker {
    /// The models under loom.
    Loom,
    /// The models under shuttle's schedulers.
    Shuttle,
    /// Recorded histories that must have a sequential explanation.
    Histories,
    /// The models on plain threads.
    Threads,
}

impl Checker {
    /// Every checker, in the order of the matrix.
    pub const ALL: [Self; 4] = [Self::Loom, Self::Shuttle, Self::Histories, Self::Threads];

    /// The name that patches and the command line use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loom => "loom",
            Self::Shuttle => "shuttle",
            Self::Histories => "histories",
            Self::Threads => "threads",
        }
    }
}

impl fmt::Display for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Checker {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|checker| checker.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("`{name}` is no checker; there are {names}")
        })
    }
}

/// One copy of one protocol, shipped or patched, with everything that looks at it.
#[derive(Clone, Copy)]
pub struct Subject {
    /// `original`, or the name of the bug.
    pub name: &'static str,
    /// The protocol.
    pub protocol: &'static str,
    /// Its models under loom.
    pub loom: &'static [Model],
    /// Its models under shuttle.
    pub shuttle: &'static [Model],
    /// Its models on plain threads.
    pub threads: &'static [Model],
    /// Its spec.
    pub histories: Option<Histories>,
}

impl Subject {
    /// What its models check.
    pub fn invariants(&self) -> Vec<&'static str> {
        self.loom.iter().map(|model| model.invariant).collect()
    }

    /// Runs the models of `invariant`, or all, or the spec.
    pub(crate) fn run(&self, checker: Checker, invariant: &str, depth: Depth) -> Vec<Run> {
        let (models, explore): (_, fn(&Model, Depth) -> Vec<Run>) = match checker {
            Checker::Loom => (self.loom, under_loom::engine::explore_each),
            // Up to the first scheduler that finds something.
            Checker::Shuttle => (self.shuttle, |model, depth| {
                vec![under_shuttle::engine::explore(model, depth)]
            }),
            Checker::Threads => (self.threads, |model, depth| {
                let mut run = under_threads::engine::explore(model, depth);
                // Real threads meet rarely: a goal that was not reached says nothing.
                run.goals.clear();
                vec![run]
            }),
            Checker::Histories => {
                let checked = self.histories.map(|histories| histories(PROGRAMS, SEED));
                return checked.iter().map(Checked::to_run).collect();
            }
        };
        of(models, invariant)
            .flat_map(|model| explore(model, depth))
            .collect()
    }

    fn schedulers(&self, invariant: &str, depth: Depth) -> Vec<Run> {
        let explore = |model| under_shuttle::engine::explore_each(model, depth);
        of(self.shuttle, invariant).flat_map(explore).collect()
    }
}

/// The models of `invariant`, or all.
fn of<'i>(
    models: &'static [Model],
    invariant: &'i str,
) -> impl Iterator<Item = &'static Model> + use<'i> {
    models
        .iter()
        .filter(move |model| invariant == ALL || model.invariant == invariant)
}

/// The protocols as they ship.
pub fn originals() -> Vec<Subject> {
    let of = |models: &'static [Model]| models[0].protocol;
    let find = |world: &'static [&'static [Model]], protocol: &str| {
        *world
            .iter()
            .find(|models| of(models) == protocol)
            .expect("every world has every protocol")
    };
    let subject = |loom: &&'static [Model]| Subject {
        name: ORIGINAL,
        protocol: of(loom),
        loom,
        shuttle: find(under_shuttle::MODELS, of(loom)),
        threads: find(under_threads::MODELS, of(loom)),
        histories: SPECS
            .iter()
            .find(|(name, _)| *name == of(loom))
            .map(|(_, run)| *run),
    };
    under_loom::MODELS.iter().map(subject).collect()
}

/// The name of the protocol as it ships, among its seeded bugs.
pub const ORIGINAL: &str = "original";

/// How many of a spec's programs a bug has to get past.
const PROGRAMS: u32 = 150;

/// The same programs and schedules every time.
const SEED: u64 = 0x00c1_ea12_4a70_11e7;

/// Instead of an invariant: all of them.
pub const ALL: &str = "all";

/// Instead of a checker: every scheduler of shuttle, whatever the others find.
pub const SCHEDULERS: &str = "schedulers";

/// Instead of a checker: the spec, with the number of its programs as the invariant.
pub const SPEC: &str = "spec";

/// Instead of a checker: the mutation of orderings.
pub const ORDERINGS: &str = "orderings";

/// The child's side: `<subject> <checker> <protocol> <invariant|all> [--full] [--show]`.
///
/// Prints the runs as one line of JSON, or as tables with `--show`. Succeeds if it could run at
/// all: whether something was found is in the answer.
pub fn serve(subjects: &[Subject], args: &[String]) -> ExitCode {
    let flag = |name: &str| args.iter().any(|arg| arg == name);
    let depth = if flag("--full") {
        Depth::Full
    } else {
        Depth::Quick
    };
    let words = args.iter().map(String::as_str);
    let words: Vec<&str> = words.filter(|arg| !arg.starts_with("--")).collect();
    let &[name, checker, protocol, invariant] = &words[..] else {
        eprintln!("expected: <subject> <checker> <protocol> <invariant|all> [--full] [--show]");
        return ExitCode::FAILURE;
    };
    let found = subjects
        .iter()
        .find(|s| s.name == name && s.protocol == protocol);
    let Some(subject) = found else {
        eprintln!("there is no `{name}` of {protocol} here");
        return ExitCode::FAILURE;
    };
    match checker {
        ORDERINGS => return print(&weaken::orderings(subject.loom)),
        SCHEDULERS => return print(&subject.schedulers(invariant, depth)),
        SPEC => {
            let programs = invariant.parse().unwrap_or(PROGRAMS);
            return print(&subject.histories.map(|histories| histories(programs, SEED)));
        }
        _ => {}
    }
    let checker: Checker = match checker.parse() {
        Ok(checker) => checker,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let runs = subject.run(checker, invariant, depth);
    if flag("--show") {
        runs.iter().for_each(show);
        return ExitCode::SUCCESS;
    }
    print(&runs)
}

fn print(answer: &impl Serialize) -> ExitCode {
    match serde_json::to_string(answer) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("the answer cannot be written: {error}");
            ExitCode::FAILURE
        }
    }
}

fn show(run: &Run) {
    println!(
        "{} {}/{}: {} executions, {}",
        run.engine, run.protocol, run.invariant, run.executions, run.verdict
    );
    if let Some(complaint) = run.complaint() {
        println!("{complaint}\n{}", report::timeline(run));
    }
}

/// Why a child gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoAnswer {
    /// It was not done in time and was ended.
    TimedOut {
        /// After so many seconds.
        seconds: u64,
    },
    /// It ended without one.
    Died {
        /// How, and its last words.
        how: String,
    },
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut { seconds } => write!(f, "not done after {seconds} s"),
            Self::Died { how } => f.write_str(how),
        }
    }
}

/// The runs that a child reports.
pub fn runs(program: &Path, args: &[&str], limit: Duration) -> Result<Vec<Run>, NoAnswer> {
    answer(Command::new(program).args(args), limit)
}

/// The orderings that a child reports.
pub fn sites(program: &Path, args: &[&str], limit: Duration) -> Result<Vec<Site>, NoAnswer> {
    answer(Command::new(program).args(args), limit)
}

/// What a child's spec says; `None` if its protocol has no spec.
pub fn spec(program: &Path, args: &[&str], limit: Duration) -> Result<Option<Checked>, NoAnswer> {
    answer(Command::new(program).args(args), limit)
}

pub(crate) fn answer<A: for<'de> Deserialize<'de>>(
    command: &mut Command,
    limit: Duration,
) -> Result<A, NoAnswer> {
    let ended = run(command, limit)?;
    let line = ended.stdout.lines().next_back().unwrap_or_default();
    serde_json::from_str(line).map_err(|error| {
        let words = last_words(&ended.stderr);
        NoAnswer::Died {
            how: format!("{}, {error}: {words}", ended.status),
        }
    })
}

/// A child that has ended by itself.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

/// Runs `command` to its end, or ends it when its time is up.
pub fn run(command: &mut Command, limit: Duration) -> Result<Ended, NoAnswer> {
    let died = |how: String| NoAnswer::Died { how };
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|error| died(format!("cannot start: {error}")))?;
    // Read beside the wait: a child whose pipe is full would never end.
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let started = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if started.elapsed() < limit => thread::sleep(Duration::from_millis(5)),
            Ok(None) => {
                // It may have ended just now; then there is nothing to end.
                _ = child.kill();
                _ = child.wait();
                return Err(NoAnswer::TimedOut {
                    seconds: limit.as_secs(),
                });
            }
            Err(error) => return Err(died(format!("cannot wait for it: {error}"))),
        }
    };
    let text = |reader: thread::JoinHandle<String>| reader.join().unwrap_or_default();
    Ok(Ended {
        status,
        stdout: text(stdout),
        stderr: text(stderr),
    })
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What came before an error is still worth showing.
            _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The last line that says something.
fn last_words(stderr: &str) -> &str {
    stderr
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("without a word")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_is_not_done_in_time_is_ended() {
        let limit = Duration::from_millis(200);
        let started = Instant::now();
        let ended = run(&mut shell("sleep 30"), limit);
        assert_eq!(ended.unwrap_err(), NoAnswer::TimedOut { seconds: 0 });
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_child_that_dies_gives_its_last_words() {
        let limit = Duration::from_secs(10);
        let answer = answer::<Vec<Run>>(&mut shell("echo boom >&2; kill -ABRT $$"), limit);
        let how = answer.unwrap_err().to_string();
        assert!(how.contains("boom") && how.contains("signal"), "{how}");
    }

    #[test]
    fn more_output_than_a_pipe_holds_is_read() {
        let script = "head -c 300000 /dev/zero | tr '\\0' x";
        let ended = run(&mut shell(script), Duration::from_secs(10)).unwrap();
        assert_eq!(ended.stdout.len(), 300_000);
    }
}
