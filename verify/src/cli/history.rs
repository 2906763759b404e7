//! `verify history FILE`: judges a recorded history, whoever recorded it.

use crate::check;
use anyhow::{Context, Result};
use std::path::Path;
use std::process::ExitCode;

/// Prints what was run, how much of everything there was, and what does not hold, with the lines
/// that show it. Succeeds if everything holds.
pub fn run(path: &Path) -> Result<ExitCode> {
    let verdict = check::file(path).with_context(|| format!("{} is no history", path.display()))?;
    println!("{verdict}");
    Ok(if verdict.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
