//! Verdict: what a run of named tests says of each.

use crate::bugs::matrix::{Cell, Kill};
use crate::child::{Ended, NoAnswer};
use crate::sim::{hunt, regressions};

/// What a harness exits with when a test has failed and nothing else was wrong.
const FAILED: i32 = 101;

/// What the run of a test harness says of `test`.
pub(super) fn judge(ended: &Result<Ended, NoAnswer>, test: &str) -> Cell {
    let ended = match ended {
        Ok(ended) => ended,
        Err(none) => {
            return Cell::Broken {
                why: none.to_string(),
            };
        }
    };
    let line = format!("test {test} ... ");
    let said = (ended.stdout.lines()).find_map(|said| said.strip_prefix(&line));
    match said {
        Some("ok") => Cell::Survived { executions: 1 },
        // It has failed by itself, and the others were still heard.
        Some("FAILED") if ended.status.code() == Some(FAILED) => Cell::Killed(Kill {
            engine: "test".to_owned(),
            message: message(&ended.stdout, test),
            executions: 1,
            timeline: Vec::new(),
        }),
        Some(other) => Cell::Broken {
            why: format!("`{other}`, and {}", ended.status),
        },
        None => Cell::Broken {
            why: error(&ended.stderr)
                .or_else(|| error(&ended.stdout))
                .unwrap_or_else(|| format!("no test `{test}` was run: {}", ended.status)),
        },
    }
}

/// What a hunt of the simulation says: its last line, in the words of [`crate::sim::hunt`].
pub(super) fn hunted(ended: &Result<Ended, NoAnswer>) -> Cell {
    let ended = match ended {
        Ok(ended) => ended,
        Err(none) => {
            let why = none.to_string();
            return Cell::Broken { why };
        }
    };
    let said = ended.stdout.lines().last().unwrap_or_default();
    if said.starts_with(hunt::FOUND) {
        return Cell::Killed(Kill {
            engine: "sim".to_owned(),
            message: said.to_owned(),
            executions: 1,
            timeline: Vec::new(),
        });
    }
    if said.starts_with(hunt::NOTHING) {
        return Cell::Survived { executions: 1 };
    }
    let why = error(&ended.stderr).unwrap_or_else(|| format!("`{said}`, and {}", ended.status));
    Cell::Broken { why }
}

/// What a replay says, in the words of [`crate::sim::regressions`]: only what it is kept for is a kill.
pub(super) fn replayed(ended: &Result<Ended, NoAnswer>) -> Cell {
    let ended = match ended {
        Ok(ended) => ended,
        Err(none) => {
            let why = none.to_string();
            return Cell::Broken { why };
        }
    };
    let said = |begins: &str| ended.stdout.lines().find(|line| line.starts_with(begins));
    if ended.status.success() && said(regressions::HOLDS).is_some() {
        return Cell::Survived { executions: 1 };
    }
    match (said(regressions::VIOLATED), said(regressions::OTHER)) {
        (Some(what), _) => Cell::Killed(Kill {
            engine: "sim".to_owned(),
            message: what.to_owned(),
            executions: 1,
            timeline: Vec::new(),
        }),
        (None, Some(other)) => Cell::Other {
            message: other.to_owned(),
        },
        (None, None) => Cell::Broken {
            why: error(&ended.stderr).unwrap_or_else(|| format!("no verdict, {}", ended.status)),
        },
    }
}

/// Why a catcher does not pass, if it does not.
pub(super) fn not_passed(cell: &Cell) -> Option<String> {
    match cell {
        Cell::Survived { .. } => None,
        Cell::Killed(kill) => Some(format!("it fails: {}", kill.message)),
        Cell::Other { message } => Some(message.clone()),
        Cell::Broken { why } => Some(why.clone()),
        Cell::NotRun => Some("it was not run".to_owned()),
    }
}

/// What the test said when it failed: where, and its first words.
fn message(stdout: &str, test: &str) -> String {
    let heading = format!("---- {test} stdout ----");
    let mut lines = stdout.lines().skip_while(|line| *line != heading).skip(1);
    // A test that gives a result back says so in its last line.
    let own = lines.clone().take_while(|line| !line.starts_with("---- "));
    if let Some(error) = own.filter_map(|line| line.strip_prefix("Error: ")).next() {
        return error.to_owned();
    }
    let place = lines.find_map(|line| line.split_once(" panicked at "));
    let place = place.map_or("", |(_, place)| place.trim_end_matches(':'));
    let says: Vec<&str> = lines
        .map(str::trim)
        .take_while(|line| {
            !line.is_empty() && !line.starts_with("note: ") && *line != "stack backtrace:"
        })
        .take(3)
        .collect();
    match says.is_empty() {
        true => "it failed".to_owned(),
        false => format!("{} ({place})", says.join(", ")),
    }
}

/// The first complaint of the compiler.
fn error(words: &str) -> Option<String> {
    let mut lines = words.lines();
    let found = lines.find(|line| line.contains("error[") || line.contains("error:"))?;
    Some(format!("it does not compile: {}", found.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    const OUTPUT: &str = "\
running 2 tests
test a::b ... ok
test a::c ... FAILED

failures:

---- a::c stdout ----

thread 'a::c' (7) panicked at src/x.rs:7:9:
assertion `left == right` failed: what goes with it
  left: 3
 right: 4
note: run with `RUST_BACKTRACE=1`
";

    fn ended(raw: i32, stdout: &str, stderr: &str) -> Result<Ended, NoAnswer> {
        Ok(Ended {
            status: ExitStatus::from_raw(raw),
            stdout: stdout.to_owned(),
            stderr: stderr.to_owned(),
        })
    }

    #[test]
    fn only_the_named_test_is_a_kill() {
        let failed = ended(FAILED << 8, OUTPUT, "");
        assert_eq!(judge(&failed, "a::b"), Cell::Survived { executions: 1 });
        let Cell::Killed(kill) = judge(&failed, "a::c") else {
            panic!("it has failed");
        };
        assert_eq!(
            kill.message,
            "assertion `left == right` failed: what goes with it, left: 3, right: 4 (src/x.rs:7:9)"
        );
        let why = not_passed(&judge(&failed, "a::d")).unwrap();
        assert!(why.contains("no test `a::d`"), "{why}");
    }

    #[test]
    fn a_test_that_gives_an_error_back_is_quoted() {
        let words = "test a::c ... FAILED\n\n---- a::c stdout ----\nError: committed 3 of 4\n\n";
        let Cell::Killed(kill) = judge(&ended(FAILED << 8, words, ""), "a::c") else {
            panic!("it has failed");
        };
        assert_eq!(kill.message, "committed 3 of 4");
    }

    #[test]
    fn a_counterexample_kills_by_what_it_is_kept_for() {
        let holds = ended(0, "seed 0\nholds: order is not violated\n", "");
        assert_eq!(replayed(&holds), Cell::Survived { executions: 1 });
        let again = ended(1 << 8, "seed 0\nviolated: order\n", "");
        assert!(replayed(&again).is_kill());
        let other = ended(1 << 8, "not what it is kept for: order, but loss\n", "");
        assert!(matches!(replayed(&other), Cell::Other { .. }));
        // A panic, and a build that fails: nobody has said anything.
        for stderr in ["", "error: could not compile"] {
            let none = ended(101 << 8, "seed 0\n", stderr);
            assert!(matches!(replayed(&none), Cell::Broken { .. }));
        }
    }

    #[test]
    fn what_crashes_does_not_compile_or_does_not_end_is_no_kill() {
        let aborted = ended(6, "running 1 test\n", "");
        let late = Err(NoAnswer::TimedOut { seconds: 9 });
        let wrong = ended(FAILED << 8, "", "src/x.rs:1:1: error[E0425]: cannot find\n");
        let crashed_beside = ended(6, OUTPUT, "");
        for (said, why) in [
            (aborted, "was run"),
            (late, "not done"),
            (wrong, "E0425"),
            (crashed_beside, "signal"),
        ] {
            let cell = judge(&said, "a::c");
            assert!(matches!(&cell, Cell::Broken { .. }), "{cell:?}");
            let told = not_passed(&cell).unwrap();
            assert!(told.contains(why), "{told}");
        }
    }
}
