//! A seeded bug's file: a header for people and the runner, then a unified diff.
//!
//! Here are those of protocols. Those of a backend's [`stages`](super::stages) have the same header.

use crate::child::Checker;
use crate::tree::Tree;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// One tempting wrong version of a protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bug {
    /// `<protocol>-<slug>`: the file's name without its ending.
    pub name: String,
    /// The protocol it changes.
    pub protocol: String,
    /// The invariant it breaks.
    pub breaks: String,
    /// Who must catch it.
    pub caught_by: Vec<Checker>,
    /// Why somebody would write it, and what then happens.
    pub tempting: String,
    /// The change, as a unified diff.
    pub diff: String,
}

/// Why a seeded bug cannot be used.
#[derive(Debug)]
pub struct PatchError {
    /// The patch.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
}

impl std::fmt::Display for PatchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

impl std::error::Error for PatchError {}

/// All seeded bugs of protocols, by name. The first that cannot be read is the error.
pub fn load(tree: &Tree) -> Result<Vec<Bug>, PatchError> {
    read_all(tree, |name| !is_of_stages(name), Bug::parse)
}

/// Whether a bug of that name is of the stages, or a backend's, and no protocol's.
pub(super) fn is_of_stages(name: &str) -> bool {
    name.starts_with("kafka-") || name.starts_with("sim-")
}

/// The patches whose names are `wanted`, by name.
pub(super) fn read_all<B>(
    tree: &Tree,
    wanted: impl Fn(&str) -> bool,
    parse: impl Fn(&str, &str) -> Result<B, String>,
) -> Result<Vec<B>, PatchError> {
    let folder = tree.bugs();
    let fail = |path: &Path, error: std::io::Error| PatchError {
        path: path.to_owned(),
        what: error.to_string(),
    };
    let entries = fs::read_dir(&folder).map_err(|error| fail(&folder, error))?;
    let mut named = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| fail(&folder, error))?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        let name = name.unwrap_or_default().to_owned();
        if path.extension().is_some_and(|ending| ending == "patch") && wanted(&name) {
            named.push((name, path));
        }
    }
    named.sort();
    let read = |(name, path): (String, PathBuf)| {
        let text = fs::read_to_string(&path).map_err(|error| fail(&path, error))?;
        parse(&name, &text).map_err(|what| PatchError { path, what })
    };
    named.into_iter().map(read).collect()
}

/// What the header of a patch says, and its diff.
pub(super) struct Parts<'t> {
    header: &'t str,
    pub(super) diff: &'t str,
}

impl<'t> Parts<'t> {
    pub(super) fn of(text: &'t str) -> Result<Self, String> {
        let start = text.find("--- ").ok_or("there is no diff in it")?;
        let (header, diff) = text.split_at(start);
        Ok(Self { header, diff })
    }

    /// The file that the diff is against.
    pub(super) fn file(&self) -> &'t str {
        let first = self.diff.lines().next().unwrap_or_default();
        first.strip_prefix("--- ").unwrap_or_default().trim()
    }

    pub(super) fn breaks(&self) -> Result<String, String> {
        self.field(BREAKS)
    }

    pub(super) fn caught_by(&self) -> Result<String, String> {
        self.field(CAUGHT_BY)
    }

    pub(super) fn tempting(&self) -> Result<String, String> {
        self.field(TEMPTING)
    }

    fn field(&self, name: &str) -> Result<String, String> {
        let lines = (self.header.lines()).skip_while(|line| !line.starts_with(name));
        // A field goes on until the next one begins.
        let more = |line: &&str| !FIELDS.iter().any(|field| line.starts_with(field));
        let mut lines = lines
            .enumerate()
            .take_while(|(at, line)| *at == 0 || more(line));
        let first = lines
            .next()
            .ok_or_else(|| format!("its header does not say `{name}`"))?;
        let rest = lines.map(|(_, line)| line.trim());
        let words: Vec<_> = std::iter::once(first.1[name.len()..].trim())
            .chain(rest)
            .collect();
        Ok(words.join(" ").trim().to_owned())
    }
}

/// `source`, which is `file`, with `diff` in it.
pub(super) fn apply(diff: &str, file: &str, source: &str) -> Result<String, String> {
    let patch = diffy::Patch::from_str(diff)
        .map_err(|error| format!("its diff cannot be read: {error}"))?;
    let patched = diffy::apply(source, &patch)
        .map_err(|error| format!("it no longer applies to {file}: {error}"))?;
    if patched == source {
        return Err(format!("it changes nothing in {file}"));
    }
    Ok(patched)
}

impl Bug {
    /// Reads a bug from the text of its patch.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let (protocol, _) = name
            .split_once('-')
            .ok_or("the name is not `<protocol>-<slug>.patch`")?;
        let parts = Parts::of(text)?;
        let source = format!("src/protocol/{protocol}.rs");
        if parts.file() != source {
            return Err(format!("its diff is not against {source}"));
        }
        Ok(Self {
            name: name.to_owned(),
            protocol: protocol.to_owned(),
            breaks: parts.breaks()?,
            caught_by: checkers(&parts.caught_by()?, protocol)?,
            tempting: parts.tempting()?,
            diff: parts.diff.to_owned(),
        })
    }

    /// The source with the bug in it.
    pub fn apply(&self, source: &str) -> Result<String, String> {
        let file = format!("src/protocol/{}.rs", self.protocol);
        apply(&self.diff, &file, source)
    }

    /// Whether its patch says that `checker` catches it.
    pub fn is_promised(&self, checker: Checker) -> bool {
        self.caught_by.contains(&checker)
    }

    /// The bug's name as a module.
    pub fn module(&self) -> String {
        self.name.replace('-', "_")
    }
}

const BREAKS: &str = "Breaks:";
const CAUGHT_BY: &str = "Caught by:";
const TEMPTING: &str = "Tempting because:";
const FIELDS: [&str; 3] = [BREAKS, CAUGHT_BY, TEMPTING];

/// `loom gate, shuttle gate`.
fn checkers(list: &str, protocol: &str) -> Result<Vec<Checker>, String> {
    let one = |item: &str| match item.trim().split_once(' ') {
        Some((checker, of)) if of == protocol => checker.parse(),
        _ => Err(format!("`{}` is not `<checker> {protocol}`", item.trim())),
    };
    list.split(',').map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
Breaks: closed_admits_nobody
Caught by: loom gate, shuttle gate
Tempting because: it is short,
and it is fast.

--- src/protocol/gate.rs
+++ src/protocol/gate.rs
@@ -1,3 +1,3 @@
 a
-b
+B
 c
";

    #[test]
    fn a_patch_says_what_it_breaks() {
        let bug = Bug::parse("gate-shouts", TEXT).unwrap();
        assert_eq!(bug.protocol, "gate");
        assert_eq!(bug.breaks, "closed_admits_nobody");
        assert_eq!(bug.caught_by, [Checker::Loom, Checker::Shuttle]);
        assert_eq!(bug.tempting, "it is short, and it is fast.");
        assert_eq!(bug.apply("a\nb\nc\n").unwrap(), "a\nB\nc\n");
    }

    #[test]
    fn a_patch_that_no_longer_applies_says_so() {
        let bug = Bug::parse("gate-shouts", TEXT).unwrap();
        let error = bug.apply("a\nx\nc\n").unwrap_err();
        assert!(
            error.contains("no longer applies to src/protocol/gate.rs"),
            "{error}"
        );
    }

    #[test]
    fn a_header_that_lacks_something_is_refused() {
        for (from, to, expected) in [
            ("Breaks:", "Broken:", "does not say `Breaks:`"),
            (
                "loom gate",
                "loom credit",
                "`loom credit` is not `<checker> gate`",
            ),
            ("loom gate", "magic gate", "`magic` is no checker"),
            (
                "--- src/protocol/gate.rs",
                "--- src/protocol/credit.rs",
                "not against",
            ),
        ] {
            let error = Bug::parse("gate-shouts", &TEXT.replace(from, to)).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
