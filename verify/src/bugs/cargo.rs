//! Building a generated crate where this program was built, so that the dependencies are there already.

use crate::child::NoAnswer;
use crate::work::Progress;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, io};

/// A generated crate and where it is built.
pub(crate) struct Build<'b> {
    pub(crate) manifest: &'b Path,
    pub(crate) target: &'b Path,
    pub(crate) profile: &'static str,
    /// For messages.
    pub(crate) what: &'static str,
}

impl Build<'_> {
    /// Builds these programs. The error is what the compiler said.
    pub(crate) fn run(
        &self,
        programs: impl Iterator<Item = String> + Clone,
        progress: &Progress,
    ) -> Result<(), String> {
        match self.once(programs.clone(), true, progress) {
            // What the lock names is on this machine, as this program was built from it. If not,
            // cargo may fetch it.
            Err(words) if words.contains("--offline") => self.once(programs, false, progress),
            other => other,
        }
    }

    fn once(
        &self,
        programs: impl Iterator<Item = String>,
        offline: bool,
        progress: &Progress,
    ) -> Result<(), String> {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args([
            "build",
            "--keep-going",
            "--message-format=short",
            "--manifest-path",
        ]);
        command.arg(self.manifest);
        command.arg("--target-dir").arg(self.target);
        if offline {
            command.arg("--offline");
        }
        if self.profile == "release" {
            command.arg("--release");
        }
        for program in programs {
            command.args(["--bin", &program]);
        }
        // Of the crate that cargo may be running us for, and not of this one.
        for name in [
            "CARGO_MANIFEST_DIR",
            "CARGO_MANIFEST_PATH",
            "CARGO_PKG_NAME",
            "CARGO_TARGET_DIR",
        ] {
            command.env_remove(name);
        }
        let died = |error: io::Error| {
            NoAnswer::Died {
                how: error.to_string(),
            }
            .to_string()
        };
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(died)?;
        let mut words = String::new();
        for line in BufReader::new(child.stderr.take().expect("it is piped")).lines() {
            let line = line.map_err(died)?;
            progress.now(&format!("building {}: {}", self.what, line.trim()));
            if !line.contains("warning:") {
                words.push_str(&line);
                words.push('\n');
            }
        }
        progress.clear();
        if child.wait().map_err(died)?.success() {
            Ok(())
        } else {
            Err(words)
        }
    }
}

/// The target folder and the profile that this program was built in, if it lies in one.
pub(crate) fn built_in() -> Option<(PathBuf, &'static str)> {
    let program = env::current_exe().ok()?;
    let mut folder = program.parent()?;
    if folder.file_name()? == "deps" {
        folder = folder.parent()?;
    }
    let profile = match folder.file_name()?.to_str()? {
        "debug" => "debug",
        "release" => "release",
        _ => return None,
    };
    Some((folder.parent()?.to_owned(), profile))
}

/// The profiles of the workspace's manifest: with others, every dependency would be built again.
pub(crate) fn profiles(workspace: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for line in workspace.lines() {
        if line.starts_with('[') {
            inside = line.starts_with("[profile.");
        }
        if inside && !line.trim().is_empty() {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profiles_are_taken_over() {
        let workspace = "[package]\nname = \"a\"\n\n[profile.dev]\nopt-level = 1\n\n\
                         [lints]\nb = 1\n\n[profile.dev.package.\"*\"]\nopt-level = 2\n";
        assert_eq!(
            profiles(workspace),
            "[profile.dev]\nopt-level = 1\n[profile.dev.package.\"*\"]\nopt-level = 2\n"
        );
    }
}
