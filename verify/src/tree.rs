//! Where things are: the source that is verified and the place for what verifying makes.
//!
//! Clearway's own checkout, or the folder of [somebody else's](crate::own) protocols.

use std::path::{Path, PathBuf};

/// A checkout of the repository, or a folder with protocols of one's own.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
    /// Where Clearway is, if that is another place.
    clearway: Option<PathBuf>,
}

impl Tree {
    /// The checkout that this program was built from.
    pub fn of_this_build() -> Self {
        Self::at(clearway())
    }

    /// A checkout somewhere else.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            clearway: None,
        }
    }

    /// A folder with protocols of one's own, beside the Clearway that this program was built with.
    pub fn own(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            clearway: Some(clearway().to_owned()),
        }
    }

    /// Its top.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where Clearway is, with the engines and the facades that every protocol is judged with.
    pub fn clearway(&self) -> &Path {
        self.clearway.as_deref().unwrap_or(&self.root)
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
        self.root.join(match self.clearway {
            None => format!("models/src/{protocol}.rs"),
            Some(_) => format!("models/{protocol}.rs"),
        })
    }

    /// A protocol's spec.
    pub fn spec(&self, protocol: &str) -> PathBuf {
        self.root.join(match self.clearway {
            None => format!("verify/src/protocol/{protocol}.rs"),
            Some(_) => format!("specs/{protocol}.rs"),
        })
    }

    /// The seeded bugs.
    pub fn bugs(&self) -> PathBuf {
        self.root.join(match self.clearway {
            None => "verify/bugs",
            Some(_) => "bugs",
        })
    }

    /// The counterexamples of the simulation that are kept.
    pub fn regressions(&self) -> PathBuf {
        self.root.join("verify/regressions")
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

/// The checkout that this program was built from.
fn clearway() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}
