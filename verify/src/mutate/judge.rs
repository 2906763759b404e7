//! The verdict on a mutant: who looks at it, in which order, and what counts.

use super::child::{Against, Said};
use crate::child::{self, NoAnswer};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A judge, and how deep it looks. The cheap ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    Loom,
    Shuttle,
    Histories,
    LoomFull,
    ShuttleFull,
}

impl Stage {
    /// Those that every mutant is brought before.
    pub(super) const QUICK: [Self; 3] = [Self::Loom, Self::Shuttle, Self::Histories];
    /// And those for a mutant that got past them.
    pub(super) const ALL: [Self; 5] = [
        Self::Loom,
        Self::Shuttle,
        Self::Histories,
        Self::LoomFull,
        Self::ShuttleFull,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Loom => "loom",
            Self::Shuttle => "shuttle",
            Self::Histories => "histories",
            Self::LoomFull => "loom-full",
            Self::ShuttleFull => "shuttle-full",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }
}

/// What became of a mutant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A run failed that passes with the original.
    Killed(Kill),
    /// A run did not end that ends with the original. Counts as killed.
    TimedOut {
        /// Which.
        stage: String,
        /// How long it was given.
        seconds: u64,
        /// How long the original takes.
        original_ms: u64,
    },
    /// Everything passed.
    Survived {
        /// In so many executions.
        executions: u64,
        /// Whether every model went to its own depth.
        full: bool,
    },
    /// Nothing failed, but something gave no verdict. Counts as survived.
    Broken {
        /// What.
        why: String,
    },
    /// It does not compile. Counts for nothing.
    Unbuilt {
        /// The compiler's words.
        error: String,
    },
}

/// How a mutant was killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kill {
    /// The engine, or the scheduler of it.
    pub engine: String,
    /// The model that failed, or `all` for a spec.
    pub invariant: String,
    /// What it said.
    pub message: String,
    /// In which execution, from 1.
    pub executions: u64,
}

impl Verdict {
    /// Whether a judge noticed.
    pub const fn is_kill(&self) -> bool {
        matches!(self, Self::Killed(_) | Self::TimedOut { .. })
    }

    /// Whether it was a mutant at all.
    pub const fn is_built(&self) -> bool {
        !matches!(self, Self::Unbuilt { .. })
    }
}

/// How long the original takes before each judge.
pub(super) type Times = Vec<(Stage, Duration)>;

/// Brings the original before `stages`. It has to pass all of them, or nothing that is said of a
/// mutant means anything.
pub(super) fn control(program: &Path, stages: &[Stage]) -> Result<Times, String> {
    const LIMIT: Duration = Duration::from_secs(280);
    let mut times = Vec::new();
    for stage in stages {
        let started = Instant::now();
        let said = ask(program, 0, *stage, LIMIT).map_err(|none| none.to_string())?;
        if let Some(against) = said.against {
            return Err(format!("{}: {}", against.engine, against.message));
        }
        if let Some(model) = said.truncated {
            return Err(format!("{}: {model} was truncated", stage.name()));
        }
        times.push((*stage, started.elapsed()));
    }
    Ok(times)
}

/// Brings a mutant before those judges that the original was brought before, up to the first that
/// notices.
pub(super) fn judge(program: &Path, number: u32, times: &Times) -> Verdict {
    let mut executions = 0;
    let mut late = None;
    let mut why = None;
    for (stage, original) in times {
        let limit = limit(*original);
        match ask(program, number, *stage, limit) {
            Ok(Said {
                against: Some(against),
                ..
            }) => return Verdict::Killed(against.into()),
            Ok(said) => {
                executions += said.executions;
                if let Some(model) = said.truncated {
                    why.get_or_insert(format!("{model} was truncated"));
                }
            }
            Err(NoAnswer::TimedOut { seconds }) => {
                late.get_or_insert(Verdict::TimedOut {
                    stage: stage.name().to_owned(),
                    seconds,
                    original_ms: original.as_millis() as u64,
                });
            }
            Err(NoAnswer::Died { how }) => {
                _ = why.get_or_insert(format!("{}: {how}", stage.name()))
            }
        }
    }
    match (late, why) {
        (Some(late), _) => late,
        (None, Some(why)) => Verdict::Broken { why },
        (None, None) => Verdict::Survived {
            executions,
            full: times.iter().any(|(stage, _)| *stage == Stage::LoomFull),
        },
    }
}

/// Far more than the original takes, also beside load.
fn limit(original: Duration) -> Duration {
    const LEAST: Duration = Duration::from_secs(30);
    (original * 20).max(LEAST).min(Duration::from_secs(300))
}

fn ask(program: &Path, number: u32, stage: Stage, limit: Duration) -> Result<Said, NoAnswer> {
    let mut command = Command::new(program);
    command.args([&number.to_string(), stage.name()]);
    child::answer(&mut command, limit)
}

impl From<Against> for Kill {
    fn from(against: Against) -> Self {
        let Against {
            engine,
            invariant,
            message,
            executions,
        } = against;
        Self {
            engine,
            invariant,
            message,
            executions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// A program that says `answers[stage]` to the mutant and nothing against the original.
    fn program(folder: &Path, script: &str) -> std::path::PathBuf {
        let path = folder.join("judge");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    const PASSED: &str = r#"{"against":null,"executions":3,"truncated":null}"#;

    fn verdict(mutant: &str) -> Verdict {
        let folder = tempfile::tempdir().unwrap();
        let script = format!("test \"$1\" = 0 && {{ echo '{PASSED}'; exit; }}\n{mutant}");
        let program = program(folder.path(), &script);
        let mut times = control(&program, &Stage::QUICK).unwrap();
        times
            .iter_mut()
            .for_each(|(_, time)| *time = Duration::ZERO);
        judge(&program, 1, &times)
    }

    #[test]
    fn only_a_failing_run_kills() {
        let against = r#"{"against":{"engine":"loom","invariant":"bounded","message":"bounded: no","executions":2},"executions":2,"truncated":null}"#;
        assert!(verdict(&format!("echo '{against}'")).is_kill());
        let passed = verdict(&format!("echo '{PASSED}'"));
        assert_eq!(
            passed,
            Verdict::Survived {
                executions: 9,
                full: false
            }
        );
        let died = verdict("kill -ABRT $$");
        assert!(
            matches!(died, Verdict::Broken { .. }) && !died.is_kill(),
            "{died:?}"
        );
        let second = format!("case $2 in loom) kill -ABRT $$;; *) echo '{against}';; esac");
        assert!(verdict(&second).is_kill(), "another judge may still notice");
    }

    #[test]
    fn an_original_that_fails_judges_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let against = r#"{"against":{"engine":"loom","invariant":"bounded","message":"bounded: no","executions":2},"executions":2,"truncated":null}"#;
        let failing = program(folder.path(), &format!("echo '{against}'"));
        assert!(control(&failing, &Stage::QUICK).is_err());
        let truncated = r#"{"against":null,"executions":3,"truncated":"bounded"}"#;
        let cut = program(folder.path(), &format!("echo '{truncated}'"));
        assert!(
            control(&cut, &Stage::QUICK)
                .unwrap_err()
                .contains("truncated")
        );
    }
}
