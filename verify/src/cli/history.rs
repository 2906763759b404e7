//! `verify history FILE`: judges a recorded history, whoever recorded it.

use crate::check;
use crate::history::ReadError;
use std::path::Path;
use std::process::ExitCode;

/// The format, for whoever writes histories.
pub fn print_format() -> ExitCode {
    // Escaped for markdown, where a name in brackets is a link.
    let text = include_str!("../history/format.md");
    print!("{}", text.replace("\\[", "[").replace("\\]", "]"));
    ExitCode::SUCCESS
}

/// What cannot be read has no verdict, neither good nor bad.
const NO_HISTORY: u8 = 2;

/// Prints what was run, how much of everything there was, and what does not hold, with the lines
/// that show it. Succeeds if everything holds; 1 if something does not, 2 if it is no history.
pub fn run(path: &Path) -> ExitCode {
    match check::file(path) {
        Ok(verdict) => {
            println!("{verdict}");
            if verdict.is_ok() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            match &error {
                // It names the file; what is in it nobody knows.
                ReadError::Io { .. } => eprintln!("verify: cannot read {error}"),
                _ => eprintln!("verify: {} is no history: {error}", path.display()),
            }
            ExitCode::from(NO_HISTORY)
        }
    }
}
