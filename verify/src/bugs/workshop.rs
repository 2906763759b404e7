//! The generated crate: every patched protocol file side by side, built once.
//!
//! One program for each protocol, because each then builds beside the others and only what has
//! changed is built again. In it one module for each bug, and one for the original.

use super::patch::Bug;
use crate::child::{NoAnswer, ORIGINAL};
use crate::protocol::SPECS;
use crate::tree::Tree;
use crate::work::Progress;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fmt, fs, io};

/// The generated crate of one checkout.
pub struct Workshop {
    tree: Tree,
    folder: PathBuf,
    target: PathBuf,
    profile: &'static str,
}

/// Why the generated crate could not be made.
#[derive(Debug)]
pub enum WorkshopError {
    /// A file could not be read or written.
    File(PathBuf, io::Error),
    /// It does not compile, for another reason than a bug's own source.
    Build(String),
}

impl fmt::Display for WorkshopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Build(words) => {
                write!(f, "the crate of the seeded bugs does not build:\n{words}")
            }
        }
    }
}

impl std::error::Error for WorkshopError {}

impl Workshop {
    /// The workshop of `tree`. It builds where this program was built, so that the dependencies
    /// are there already.
    pub fn new(tree: &Tree) -> Self {
        let folder = tree.out().join("bugs");
        let (target, profile) = built_in().unwrap_or_else(|| (folder.join("target"), "debug"));
        Self {
            tree: tree.clone(),
            folder,
            target,
            profile,
        }
    }

    /// The program that runs the bugs of `protocol`.
    pub fn program(&self, protocol: &str) -> PathBuf {
        self.target
            .join(self.profile)
            .join(format!("seeded-{protocol}"))
    }

    /// Where a bug's patched source is.
    pub fn patched(&self, bug: &Bug) -> PathBuf {
        self.folder
            .join("src")
            .join(&bug.name)
            .join(format!("{}.rs", bug.protocol))
    }

    /// Waits until no other `verify` builds or runs the bugs of this checkout.
    pub(super) fn lock(&self, progress: &Progress) -> Result<File, WorkshopError> {
        let path = self.folder.join("lock");
        let fail = |error| WorkshopError::File(path.clone(), error);
        fs::create_dir_all(&self.folder).map_err(fail)?;
        let file = File::create(&path).map_err(fail)?;
        if file.try_lock().is_err() {
            progress.step("waiting for another `verify` that runs the seeded bugs");
            file.lock().map_err(fail)?;
        }
        Ok(file)
    }

    /// Generates and builds the programs of `protocols` with `bugs`, each with its patched source.
    /// Gives the bugs that do not compile, with the first error of each.
    pub fn build(
        &self,
        protocols: &BTreeSet<&str>,
        bugs: &[(&Bug, String)],
        progress: &Progress,
    ) -> Result<BTreeMap<String, String>, WorkshopError> {
        for (bug, source) in bugs {
            write(&self.patched(bug), source)?;
        }
        let mut broken = BTreeMap::new();
        loop {
            let whole: Vec<&Bug> = bugs
                .iter()
                .map(|(bug, _)| *bug)
                .filter(|b| !broken.contains_key(&b.name))
                .collect();
            self.generate(protocols, &whole)?;
            let Err(words) = self.cargo(protocols, progress) else {
                return Ok(broken);
            };
            let errors = self.errors_of_bugs(&words);
            if errors.is_empty() {
                return Err(WorkshopError::Build(words));
            }
            broken.extend(errors);
        }
    }

    fn generate(&self, protocols: &BTreeSet<&str>, bugs: &[&Bug]) -> Result<(), WorkshopError> {
        let folder = self.folder.join("crate");
        let root = self.tree.root();
        let manifest = root.join("Cargo.toml");
        let workspace = read(&manifest)?;
        let names: Vec<_> = protocols.iter().copied().collect();
        write(
            &folder.join("Cargo.toml"),
            &self.manifest(&workspace, &names),
        )?;
        let lock = folder.join("Cargo.lock");
        if !lock.exists() {
            // The same versions as everywhere else; cargo adds what is ours.
            write(&lock, &read(&root.join("Cargo.lock"))?)?;
        }
        for protocol in protocols {
            let of_it = bugs.iter().filter(|bug| bug.protocol == *protocol);
            let program = self.program_text(protocol, of_it);
            write(&folder.join(format!("src/{protocol}.rs")), &program)?;
        }
        Ok(())
    }

    fn manifest(&self, workspace: &str, protocols: &[&str]) -> String {
        let root = self.tree.root().display();
        let mut text = format!(
            "# Generated by `verify`.\n\
             [package]\nname = \"clearway-seeded-bugs\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
             publish = false\nautobins = false\n\n[workspace]\n\n[dependencies]\n\
             clearway-models = {{ path = \"{root}/models\" }}\n\
             clearway-verify = {{ path = \"{root}/verify\" }}\n\
             proptest = \"*\"\nserde = {{ version = \"1\", features = [\"derive\"] }}\nshuttle = \"*\"\n"
        );
        for protocol in protocols {
            _ = write!(
                text,
                "\n[[bin]]\nname = \"seeded-{protocol}\"\npath = \"src/{protocol}.rs\"\n"
            );
        }
        text.push('\n');
        text.push_str(&profiles(workspace));
        for profile in ["dev", "release"] {
            // Many copies of small files, run for moments: compiling them is what takes the time.
            _ = write!(
                text,
                "\n[profile.{profile}.package.clearway-seeded-bugs]\nopt-level = 0\n\
                 debug = false\noverflow-checks = true\n"
            );
        }
        text
    }

    fn program_text<'b>(&self, protocol: &str, bugs: impl Iterator<Item = &'b &'b Bug>) -> String {
        let mut text = String::from(
            "// Generated by `verify`. One module for each bug, and one for the original.\n\
             #![allow(warnings)]\n",
        );
        let mut subjects = String::new();
        let mut add = |name: &str, module: &str, source: &Path| {
            self.module_text(&mut text, protocol, (name, module), source);
            _ = writeln!(subjects, "        {module}::SUBJECT,");
        };
        add(ORIGINAL, ORIGINAL, &self.tree.source(protocol));
        for bug in bugs {
            add(&bug.name, &bug.module(), &self.patched(bug));
        }
        _ = write!(
            text,
            "\nfn main() -> std::process::ExitCode {{\n    \
             let args: Vec<String> = std::env::args().skip(1).collect();\n    \
             let subjects = [\n{subjects}    ];\n    \
             clearway_verify::child::serve(&subjects, &args)\n}}\n"
        );
        text
    }

    fn module_text(
        &self,
        text: &mut String,
        protocol: &str,
        (name, module): (&str, &str),
        source: &Path,
    ) {
        let model = self.tree.model(protocol);
        let (source, model) = (source.display(), model.display());
        _ = write!(text, "\nmod {module} {{\n");
        for world in ["loom", "shuttle", "threads"] {
            _ = write!(
                text,
                "    pub mod under_{world} {{\n        \
                 pub use clearway_models::under_{world}::{{engine, sync}};\n        \
                 #[path = \"{source}\"]\n        pub mod {protocol};\n        \
                 #[path = \"{model}\"]\n        pub mod model;\n    }}\n"
            );
        }
        let spec = self.tree.spec(protocol);
        let histories = if has_spec(protocol) {
            _ = write!(
                text,
                "    pub mod specs {{\n        pub mod subject {{\n            \
                 pub use super::super::under_shuttle::{{engine, sync, {protocol}}};\n        }}\n        \
                 #[path = \"{}\"]\n        pub mod {protocol};\n    }}\n",
                spec.display()
            );
            format!("Some(specs::{protocol}::histories)")
        } else {
            "None".to_owned()
        };
        _ = write!(
            text,
            "    pub const SUBJECT: clearway_verify::child::Subject = clearway_verify::child::Subject {{\n        \
             name: \"{name}\",\n        protocol: \"{protocol}\",\n        \
             loom: under_loom::model::MODELS,\n        shuttle: under_shuttle::model::MODELS,\n        \
             threads: under_threads::model::MODELS,\n        histories: {histories},\n    }};\n}}\n"
        );
    }

    /// Builds. The error is what the compiler said.
    fn cargo(&self, protocols: &BTreeSet<&str>, progress: &Progress) -> Result<(), String> {
        let words = self.cargo_once(protocols, true, progress);
        match words {
            // What the lock names is on this machine, as this program was built from it. If not,
            // cargo may fetch it.
            Err(words) if words.contains("--offline") => {
                self.cargo_once(protocols, false, progress)
            }
            other => other,
        }
    }

    fn cargo_once(
        &self,
        protocols: &BTreeSet<&str>,
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
        command.arg(self.folder.join("crate/Cargo.toml"));
        command.arg("--target-dir").arg(&self.target);
        if offline {
            command.arg("--offline");
        }
        if self.profile == "release" {
            command.arg("--release");
        }
        for protocol in protocols {
            command.args(["--bin", &format!("seeded-{protocol}")]);
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
            progress.now(&format!("building the seeded bugs: {}", line.trim()));
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

    /// The first error in each bug's own source.
    fn errors_of_bugs(&self, words: &str) -> BTreeMap<String, String> {
        let sources = format!("{}/", self.folder.join("src").display());
        let mut errors = BTreeMap::new();
        for line in words.lines().filter(|line| line.contains(": error")) {
            let Some((_, rest)) = line.split_once(&sources) else {
                continue;
            };
            if let Some((name, error)) = rest.split_once('/') {
                errors
                    .entry(name.to_owned())
                    .or_insert_with(|| error.to_owned());
            }
        }
        errors
    }
}

/// Whether there is a spec of `protocol`.
pub(super) fn has_spec(protocol: &str) -> bool {
    SPECS.iter().any(|(name, _)| *name == protocol)
}

/// The target folder and the profile that this program was built in, if it lies in one.
pub(super) fn built_in() -> Option<(PathBuf, &'static str)> {
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
fn profiles(workspace: &str) -> String {
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

fn read(path: &Path) -> Result<String, WorkshopError> {
    fs::read_to_string(path).map_err(|error| WorkshopError::File(path.to_owned(), error))
}

/// Writes `text`, unless it is there already: an untouched file is not built again.
pub(super) fn write(path: &Path, text: &str) -> Result<(), WorkshopError> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let fail = |error| WorkshopError::File(path.to_owned(), error);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(fail)?;
    }
    fs::write(path, text).map_err(fail)
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
