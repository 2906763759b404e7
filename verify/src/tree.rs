//! Where things are: the source that is verified and the place for what verifying makes.

use std::path::{Path, PathBuf};

/// A checkout of the repository.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// The checkout that this program was built from.
    pub fn of_this_build() -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = here.parent().unwrap_or(here);
        Self {
            root: root.to_owned(),
        }
    }

    /// A checkout somewhere else.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Its top.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Everything that `verify` writes is below.
    pub fn out(&self) -> PathBuf {
        self.root.join("target/verify")
    }

    /// A protocol's source.
    pub fn source(&self, protocol: &str) -> PathBuf {
        self.root.join(format!("src/protocol/{protocol}.rs"))
    }

    /// A protocol's model.
    pub fn model(&self, protocol: &str) -> PathBuf {
        self.root.join(format!("models/src/{protocol}.rs"))
    }

    /// A protocol's spec.
    pub fn spec(&self, protocol: &str) -> PathBuf {
        self.root.join(format!("verify/src/protocol/{protocol}.rs"))
    }

    /// The seeded bugs.
    pub fn bugs(&self) -> PathBuf {
        self.root.join("verify/bugs")
    }

    /// The mutants that nobody can tell from the original, with the reasons.
    pub fn mutants(&self) -> PathBuf {
        self.root.join("verify/mutants")
    }

    /// `path` from the top, for messages.
    pub fn show<'p>(&self, path: &'p Path) -> std::path::Display<'p> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}
