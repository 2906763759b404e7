//! The survey: every model, spec and ordering of some protocols, each in a child of its own, and
//! then their seeded bugs.
//!
//! The same for Clearway's protocols and for [somebody else's](crate::own).

use crate::bugs::{self, Matrix, Scope};
use crate::child::{self, ALL, NoAnswer, ORDERINGS, ORIGINAL, SCHEDULERS, SPEC, Subject};
use crate::protocol::Checked;
use crate::report::{ModelReport, ProtocolReport};
use crate::tree::Tree;
use crate::work::{self, Progress};
use clap::ValueEnum;
use clearway_models::registry::{Run, Site};
use std::path::Path;
use std::time::Duration;
use std::{env, io};

/// A model may take a minute; a child has to load and to print as well.
const MODEL_LIMIT: Duration = Duration::from_secs(100);

/// Weakening a protocol's orderings is one exploration for each of them and each model.
const ORDERINGS_LIMIT: Duration = Duration::from_secs(300);

/// How deep to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Depth {
    /// Two minutes: loom at two preemptions, what the bugs' patches promise.
    Quick,
    /// Five minutes: every model to its own bound.
    Standard,
    /// For the night.
    Deep,
}

impl Depth {
    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Standard => "standard",
            Self::Deep => "deep",
        }
    }

    /// How many of a spec's programs are run, each under several schedules.
    const fn programs(self) -> &'static str {
        match self {
            Self::Quick => "50",
            Self::Standard => "250",
            Self::Deep => "10000",
        }
    }

    /// Which checkers get to see a seeded bug.
    pub const fn scope(self) -> Scope {
        match self {
            Self::Quick => Scope::Promised,
            Self::Standard => Scope::Wide,
            Self::Deep => Scope::Whole,
        }
    }

    /// What a child is told about the depth of an engine.
    fn flags(self, engine: &str) -> &'static [&'static str] {
        match (self, engine) {
            (Self::Quick, _) | (Self::Standard, "threads") => &[],
            _ => &["--full"],
        }
    }
}

/// Models, orderings and specs of `subjects`: every one a child of this program, which answers to
/// `child` as its first argument. Gives the complaints of those that gave no answer, too.
pub fn run(
    subjects: &[Subject],
    depth: Depth,
    progress: &Progress,
) -> io::Result<(Vec<ProtocolReport>, Vec<String>)> {
    let names: Vec<&'static str> = subjects.iter().map(|subject| subject.protocol).collect();
    let models = || subjects.iter().flat_map(|subject| subject.loom);
    let mut complaints = Vec::new();
    // What takes longest first, so that the cores are done at the same time.
    let mut jobs = Vec::new();
    if depth != Depth::Quick {
        jobs.extend(names.iter().copied().map(Job::Orderings));
    }
    for engine in ["loom", SCHEDULERS, "threads"] {
        jobs.extend(models().map(|model| Job::Model {
            engine,
            protocol: model.protocol,
            invariant: model.invariant,
        }));
    }
    jobs.extend(names.iter().copied().map(Job::Spec));
    progress.step(&format!("{} models, orderings and specs", jobs.len()));

    let program = env::current_exe()?;
    let answers = work::all(&jobs, progress, Job::name, |job| job.ask(&program, depth));

    let mut reports: Vec<ProtocolReport> = names
        .iter()
        .map(|name| ProtocolReport {
            protocol: (*name).to_owned(),
            ..ProtocolReport::default()
        })
        .collect();
    for (job, answer) in jobs.iter().zip(answers) {
        let known = reports
            .iter_mut()
            .find(|report| report.protocol == job.protocol());
        let report = known.expect("every job is of a protocol");
        match answer {
            Ok(answer) => job.file(answer, report),
            Err(why) => complaints.push(format!("{}: {why}", job.name())),
        }
    }
    Ok((reports, complaints))
}

/// The seeded bugs. A bug that cannot be read or built is a complaint, not the end of the run.
pub fn matrix(
    tree: &Tree,
    subjects: &[Subject],
    depth: Depth,
    progress: &Progress,
    complaints: &mut Vec<String>,
) -> Matrix {
    let seeded = match bugs::load(tree) {
        Ok(seeded) => seeded,
        Err(error) => {
            complaints.push(error.to_string());
            return Matrix::default();
        }
    };
    match bugs::run(tree, subjects, &seeded, |_| true, depth.scope(), progress) {
        Ok(matrix) => matrix,
        Err(error) => {
            complaints.push(error.to_string());
            Matrix::default()
        }
    }
}

/// What one child is asked for.
enum Job {
    Model {
        engine: &'static str,
        protocol: &'static str,
        invariant: &'static str,
    },
    Orderings(&'static str),
    Spec(&'static str),
}

/// What it said.
enum Answer {
    Runs(Vec<Run>),
    Sites(Vec<Site>),
    Spec(Option<Checked>),
}

impl Job {
    fn protocol(&self) -> &'static str {
        match self {
            Self::Model { protocol, .. } | Self::Orderings(protocol) | Self::Spec(protocol) => {
                protocol
            }
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Model {
                engine,
                protocol,
                invariant,
            } => {
                let engine = if *engine == SCHEDULERS {
                    "shuttle"
                } else {
                    engine
                };
                format!("{protocol}/{invariant} under {engine}")
            }
            Self::Orderings(protocol) => format!("{protocol}: one ordering weaker at a time"),
            Self::Spec(protocol) => format!("{protocol}: histories"),
        }
    }

    fn ask(&self, program: &Path, depth: Depth) -> Result<Answer, NoAnswer> {
        let ask = |checker, invariant| ["child", ORIGINAL, checker, self.protocol(), invariant];
        match self {
            Self::Model {
                engine, invariant, ..
            } => {
                let mut args = ask(engine, invariant).to_vec();
                args.extend(depth.flags(engine));
                child::runs(program, &args, MODEL_LIMIT).map(Answer::Runs)
            }
            Self::Orderings(_) => {
                child::sites(program, &ask(ORDERINGS, ALL), ORDERINGS_LIMIT).map(Answer::Sites)
            }
            Self::Spec(_) => {
                let args = ask(SPEC, depth.programs());
                child::spec(program, &args, MODEL_LIMIT).map(Answer::Spec)
            }
        }
    }

    /// Puts the answer where it belongs.
    fn file(&self, answer: Answer, report: &mut ProtocolReport) {
        match answer {
            Answer::Sites(sites) => report.orderings = Some(sites),
            Answer::Spec(checked) => report.histories = checked,
            Answer::Runs(runs) => {
                for run in runs {
                    let same = |model: &&mut ModelReport| model.invariant == run.invariant;
                    match report.models.iter_mut().find(same) {
                        Some(model) => model.runs.push(run),
                        None => report.models.push(ModelReport {
                            invariant: run.invariant.clone(),
                            runs: vec![run],
                        }),
                    }
                }
            }
        }
    }
}
