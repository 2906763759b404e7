//! Verdicts of earlier runs, by the checksum of all that they depend on.

use super::judge::Verdict;
use crate::bugs::add_to_checksum;
use crate::tree::Tree;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::PathBuf;

/// Verdicts by the name of the protocol and of the mutant.
pub(super) struct Cache {
    path: PathBuf,
    known: BTreeMap<String, Known>,
}

#[derive(Serialize, Deserialize)]
struct Known {
    checksum: String,
    verdict: Verdict,
}

impl Cache {
    /// What the file says, or nothing if it cannot be read: then everything is run.
    pub(super) fn open(tree: &Tree) -> Self {
        let path = tree.out().join("mutants/verdicts.json");
        let known = fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self {
            path,
            known: known.unwrap_or_default(),
        }
    }

    /// The verdict on `text`. A survivor that has to go `deep` and did not is run again.
    pub(super) fn find(&self, key: &Key, deep: bool) -> Option<&Verdict> {
        let known = self.known.get(&key.name)?;
        let shallow = matches!(known.verdict, Verdict::Survived { full: false, .. });
        (known.checksum == key.checksum && !(deep && shallow)).then_some(&known.verdict)
    }

    /// Remembers a verdict. What may be otherwise next time is tried again.
    pub(super) fn remember(&mut self, key: Key, verdict: &Verdict) {
        if !matches!(verdict, Verdict::TimedOut { .. } | Verdict::Broken { .. }) {
            let Key { name, checksum } = key;
            let verdict = verdict.clone();
            self.known.insert(name, Known { checksum, verdict });
        }
    }

    pub(super) fn save(&self) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&self.path, serde_json::to_vec(&self.known)?)
    }
}

/// Which mutant, and the checksum of what its verdict depends on.
pub(super) struct Key {
    name: String,
    checksum: String,
}

impl Key {
    /// Of a mutant with this `text`, judged by what `judges` is the checksum of.
    pub(super) fn new(protocol: &str, name: &str, judges: u64, text: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        (judges, text).hash(&mut hasher);
        Self {
            name: format!("{protocol}: {name}"),
            checksum: format!("{:016x}", hasher.finish()),
        }
    }
}

/// The checksum of the judges of a protocol: its models and its spec, the engines, the compiler.
pub(super) fn judges(tree: &Tree, protocol: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    let models = tree.root().join("models/src");
    let verify = tree.root().join("verify/src");
    for path in [
        tree.model(protocol),
        tree.spec(protocol),
        models.join("engine"),
        models.join("sync"),
        models.join("atomics.rs"),
        models.join("recorder.rs"),
        models.join("registry.rs"),
        models.join("oracle.rs"),
        verify.join("linear.rs"),
        verify.join("linear"),
        verify.join("protocol/run.rs"),
        verify.join("child.rs"),
        verify.join("mutate/child.rs"),
        verify.join("mutate/judge.rs"),
        tree.root().join("Cargo.lock"),
    ] {
        add_to_checksum(&path, &mut hasher);
    }
    env!("CARGO_PKG_RUST_VERSION").hash(&mut hasher);
    hasher.finish()
}

/// The checksum of everything that is said of a protocol's mutants.
pub(super) fn all(tree: &Tree, protocol: &str) -> String {
    let mut hasher = DefaultHasher::new();
    judges(tree, protocol).hash(&mut hasher);
    for path in [
        tree.source(protocol),
        tree.mutants().join(format!("{protocol}.txt")),
        tree.root().join("verify/src/mutate/operator.rs"),
        tree.root().join("verify/src/mutate/operator"),
        tree.root().join("verify/src/mutate/source.rs"),
    ] {
        add_to_checksum(&path, &mut hasher);
    }
    format!("{:016x}", hasher.finish())
}
