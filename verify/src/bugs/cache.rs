//! Verdicts of earlier runs, by the checksum of everything they depend on.

use super::matrix::Cell;
use crate::child::Checker;
use crate::tree::Tree;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

/// Verdicts by checksum, in one file.
pub(super) struct Cache {
    path: PathBuf,
    known: BTreeMap<String, Known>,
    /// What every verdict depends on: the engines, the facades and the compiler.
    common: u64,
}

/// A verdict, and the checksum of what it was given on.
#[derive(Serialize, Deserialize)]
struct Known {
    checksum: String,
    cell: Cell,
}

/// Which cell, and the checksum of what its verdict depends on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    cell: String,
    checksum: String,
}

impl Cache {
    /// What the file says, or nothing if it cannot be read: then everything is run.
    pub(super) fn open(tree: &Tree) -> Self {
        let path = tree.out().join("bugs/verdicts.json");
        let known = fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self {
            path,
            known: known.unwrap_or_default(),
            common: common(tree),
        }
    }

    /// The key of one cell: what `name` with this `source` is to `checker`.
    pub(super) fn key(
        &self,
        tree: &Tree,
        (name, protocol, invariant): (&str, &str, &str),
        checker: Checker,
        source: &str,
    ) -> Key {
        let mut hasher = DefaultHasher::new();
        self.common.hash(&mut hasher);
        (protocol, invariant, checker, source).hash(&mut hasher);
        let judge = match checker {
            Checker::Histories => tree.spec(protocol),
            _ => tree.model(protocol),
        };
        fs::read(judge).ok().hash(&mut hasher);
        Key {
            cell: format!("{name} {protocol}/{invariant} {checker}"),
            checksum: format!("{:016x}", hasher.finish()),
        }
    }

    pub(super) fn find(&self, key: &Key) -> Option<&Cell> {
        let known = self.known.get(&key.cell)?;
        (known.checksum == key.checksum).then_some(&known.cell)
    }

    /// Remembers a verdict. What was no verdict is tried again next time.
    pub(super) fn remember(&mut self, Key { cell: id, checksum }: Key, cell: &Cell) {
        if cell.is_verdict() {
            let cell = cell.clone();
            self.known.insert(id, Known { checksum, cell });
        }
    }

    /// Writes the file.
    pub(super) fn save(self) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&self.path, serde_json::to_vec(&self.known)?)
    }
}

fn common(tree: &Tree) -> u64 {
    let mut hasher = DefaultHasher::new();
    let models = tree.clearway().join("models/src");
    let verify = tree.clearway().join("verify/src");
    for path in [
        models.join("engine"),
        models.join("sync"),
        models.join("atomics.rs"),
        models.join("recorder.rs"),
        models.join("registry.rs"),
        models.join("report.rs"),
        models.join("weaken.rs"),
        verify.join("linear.rs"),
        verify.join("linear"),
        verify.join("protocol.rs"),
        verify.join("child.rs"),
        verify.join("bugs"),
        tree.root().join("Cargo.lock"),
    ] {
        add(&path, &mut hasher);
    }
    cfg!(debug_assertions).hash(&mut hasher);
    env!("CARGO_PKG_RUST_VERSION").hash(&mut hasher);
    hasher.finish()
}

/// Adds a file, or the Rust files of a folder; what is not there is nothing.
pub(crate) fn add(path: &Path, hasher: &mut DefaultHasher) {
    if let Ok(bytes) = fs::read(path) {
        bytes.hash(hasher);
        return;
    }
    let Ok(entries) = fs::read_dir(path) else {
        return;
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
    {
        add(path, hasher);
    }
}
