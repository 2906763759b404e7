//! The copy of the tree that bugs of stages are built in. The tree itself is never touched.
//!
//! It is built where this program was built, with the same dependencies: what is compiled for a bug is the library alone.

use super::patch::Catcher;
use super::verdict;
use crate::bugs::cargo::built_in;
use crate::bugs::lock::lock;
use crate::bugs::matrix::Cell;
use crate::bugs::workshop::{WorkshopError, write};
use crate::child::{self, Ended, NoAnswer};
use crate::tree::Tree;
use crate::work::Progress;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, io};

/// A build may be the first one, of librdkafka too.
const BUILD_LIMIT: Duration = Duration::from_secs(900);
/// Named unit tests take seconds.
const TEST_LIMIT: Duration = Duration::from_secs(180);
/// A server has to come up first, and the tests are compiled.
const BROKER_LIMIT: Duration = Duration::from_secs(900);

/// What is no part of the tree.
const NOT_COPIED: [&str; 2] = ["target", ".git"];

pub(super) struct Copy {
    root: PathBuf,
    folder: PathBuf,
    target: PathBuf,
}

impl Copy {
    pub(super) fn of(tree: &Tree) -> Self {
        let folder = tree.out().join("stages");
        let target = built_in().map(|(target, _)| target);
        Self {
            root: tree.root().to_owned(),
            target: target.unwrap_or_else(|| folder.join("target")),
            folder,
        }
    }

    fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// Waits until no other `verify` has the copy.
    pub(super) fn lock(&self, progress: &Progress) -> Result<File, WorkshopError> {
        lock(&self.folder, "the bugs of stages", progress)
    }

    /// Makes it like the tree. What is like it already keeps its time, and is not built again.
    pub(super) fn refresh(&self) -> Result<(), WorkshopError> {
        let copy = self.tree();
        let wanted = files(&self.root).map_err(|error| fail(&self.root, error))?;
        for file in &wanted {
            self.restore(file)?;
        }
        let there = match copy.exists() {
            true => files(&copy).map_err(|error| fail(&copy, error))?,
            false => BTreeSet::new(),
        };
        for gone in there.difference(&wanted) {
            let path = copy.join(gone);
            fs::remove_file(&path).map_err(|error| fail(&path, error))?;
        }
        Ok(())
    }

    /// Puts `text` in the place of `file`.
    pub(super) fn put(&self, file: &str, text: &str) -> Result<(), WorkshopError> {
        write(&self.tree().join(file), text)
    }

    /// Makes `file` like that of the tree.
    pub(super) fn restore(&self, file: &str) -> Result<(), WorkshopError> {
        let (from, to) = (self.root.join(file), self.tree().join(file));
        let bytes = fs::read(&from).map_err(|error| fail(&from, error))?;
        if fs::read(&to).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(|error| fail(folder, error))?;
        }
        // With its mode: scripts are run there.
        fs::copy(&from, &to).map_err(|error| fail(&to, error))?;
        Ok(())
    }

    /// What each of `catchers` says of what is there now.
    pub(super) fn ask(&self, catchers: &[Catcher], progress: &Progress) -> Vec<Cell> {
        let tests = catchers.iter().filter_map(|catcher| match catcher {
            Catcher::Test(test) => Some(test.as_str()),
            Catcher::Broker(..) | Catcher::Sim(..) | Catcher::Regression(_) => None,
        });
        let tests: Vec<&str> = tests.collect();
        let of_library = (!tests.is_empty()).then(|| self.library(&tests, progress));
        let ask = |catcher: &Catcher| match (catcher, &of_library) {
            (Catcher::Test(test), Some(ended)) => verdict::judge(ended, test),
            (Catcher::Test(_), None) => Cell::NotRun,
            (Catcher::Sim(broker, seeds), _) => {
                progress.now(&format!("{catcher}"));
                verdict::hunted(&self.simulation(broker, *seeds))
            }
            (Catcher::Regression(name), _) => {
                progress.now(&format!("{catcher}"));
                verdict::replayed(&self.replay(name))
            }
            (Catcher::Broker(target, test), _) => {
                progress.now(&format!("{catcher}"));
                verdict::judge(&self.integration(target, test), test)
            }
        };
        catchers.iter().map(ask).collect()
    }

    /// Runs unit tests of the library.
    fn library(&self, tests: &[&str], progress: &Progress) -> Result<Ended, NoAnswer> {
        let cargo = || {
            let mut command = self.command(&env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            command
                .args(["test", "-p", "clearway", "--lib", "--features", "kafka"])
                .args(["--message-format", "short"])
                // Compiling it is what takes the time.
                .args(["--config", "profile.dev.opt-level=0"])
                .args(["--config", "profile.dev.debug=false"]);
            command
        };
        progress.now("building the library");
        let built = child::run(cargo().arg("--no-run"), BUILD_LIMIT)?;
        if !built.status.success() {
            return Ok(built);
        }
        progress.now(&format!("{} named tests", tests.len()));
        child::run(cargo().args(["--", "--exact"]).args(tests), TEST_LIMIT)
    }

    /// Runs the simulation until it finds something.
    fn simulation(&self, broker: &str, seeds: u64) -> Result<Ended, NoAnswer> {
        let mut command = self.verify();
        command
            .args(["sim", "--hunt", "--broker", broker])
            .args(["--seeds", &seeds.to_string()]);
        child::run(&mut command, BUILD_LIMIT)
    }

    /// Runs a counterexample that is kept.
    fn replay(&self, name: &str) -> Result<Ended, NoAnswer> {
        let mut command = self.verify();
        command.args(["replay", &format!("verify/regressions/{name}.json")]);
        child::run(&mut command, BUILD_LIMIT)
    }

    /// The program that this is, with the bug in it.
    fn verify(&self) -> Command {
        let mut command = self.command(&env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .args(["run", "--quiet", "-p", "clearway-verify"])
            .args(["--bin", "verify", "--"]);
        for name in ["SEED", "SEEDS", "FIRST", "ENVELOPES", "BROKER", "WITHOUT"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs a test of the integration package, with the servers that it starts.
    fn integration(&self, target: &str, test: &str) -> Result<Ended, NoAnswer> {
        let mut command = self.command(self.tree().join("integration/run.sh").as_os_str());
        command.args(["--test", target, "--", "--exact", test]);
        child::run(&mut command, BROKER_LIMIT)
    }

    fn command(&self, program: &std::ffi::OsStr) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.tree())
            .env("CARGO_TARGET_DIR", &self.target)
            .env("RUST_BACKTRACE", "0");
        // Of the crate that cargo may be running us for, and not of this one.
        for name in [
            "CARGO_MANIFEST_DIR",
            "CARGO_MANIFEST_PATH",
            "CARGO_PKG_NAME",
        ] {
            command.env_remove(name);
        }
        command
    }
}

fn fail(path: &Path, error: io::Error) -> WorkshopError {
    WorkshopError::File(path.to_owned(), error)
}

/// The files below `root`, from there.
fn files(root: &Path) -> io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let name = entry.file_name();
            if NOT_COPIED.iter().any(|not| name == *not) {
                continue;
            }
            let path = folder.join(&name);
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if let Some(path) = path.to_str() {
                found.insert(path.to_owned());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_like_the_tree_and_a_bug_in_it_is_taken_back() {
        let top = tempfile::tempdir().unwrap();
        let root = top.path();
        fs::create_dir_all(root.join("src/a")).unwrap();
        fs::create_dir_all(root.join("target/debug")).unwrap();
        for file in ["src/a/b.rs", "src/c.rs", "target/debug/x"] {
            fs::write(root.join(file), file).unwrap();
        }
        let copy = Copy::of(&Tree::at(root));
        copy.refresh().unwrap();
        let there = || files(&copy.tree()).unwrap().into_iter().collect::<Vec<_>>();
        assert_eq!(there(), ["src/a/b.rs", "src/c.rs"]);
        copy.put("src/c.rs", "wrong").unwrap();
        copy.restore("src/c.rs").unwrap();
        fs::remove_file(root.join("src/a/b.rs")).unwrap();
        copy.refresh().unwrap();
        assert_eq!(there(), ["src/c.rs"]);
        let text = fs::read_to_string(copy.tree().join("src/c.rs")).unwrap();
        assert_eq!(text, "src/c.rs");
    }
}
