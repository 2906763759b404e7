//! The files of the repository, in memory: so that a test can spoil one and see who notices.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What the rules look at. Everything else (`target`, `.git`) is not the repository.
const TOP: &[&str] = &[
    "src",
    "models",
    "verify",
    "integration",
    "benches",
    "examples",
    ".ci",
    ".github",
];

/// Path from the top, with `/`, and text.
#[derive(Clone)]
pub struct Tree(BTreeMap<String, String>);

impl Tree {
    /// The repository as it is.
    pub fn real() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("verify is below the top");
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(root).expect("the top can be read").flatten() {
            let name = entry.file_name().into_string().expect("names are UTF-8");
            if entry.path().is_file() {
                read(&entry.path(), name, &mut files);
            } else if TOP.contains(&name.as_str()) {
                walk(&entry.path(), &name, &mut files);
            }
        }
        Self(files)
    }

    /// The same tree with one file replaced or added.
    pub fn with(&self, path: &str, text: &str) -> Self {
        let mut tree = self.clone();
        tree.0.insert(path.into(), text.into());
        tree
    }

    /// The same tree with `old` replaced by `new` in one file.
    pub fn edited(&self, path: &str, old: &str, new: &str) -> Self {
        let text = self
            .text(path)
            .unwrap_or_else(|| panic!("there is no {path}"));
        assert!(text.contains(old), "{path} has no `{old}`");
        self.with(path, &text.replace(old, new))
    }

    /// The same tree without the files whose path begins so.
    pub fn without(&self, prefix: &str) -> Self {
        let mut tree = self.clone();
        tree.0.retain(|path, _| !path.starts_with(prefix));
        tree
    }

    /// One file.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    /// The files below `prefix` whose path ends so.
    pub fn files(&self, prefix: &str, suffix: &str) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .filter(move |(path, _)| path.starts_with(prefix) && path.ends_with(suffix))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The protocols: what `src/protocol` has beside its index and the facade.
    pub fn protocols(&self) -> Vec<&str> {
        self.files("src/protocol/", ".rs")
            .filter_map(|(path, _)| path.strip_prefix("src/protocol/")?.strip_suffix(".rs"))
            .filter(|name| !["mod", "sync"].contains(name))
            .collect()
    }
}

fn walk(folder: &Path, name: &str, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder)
        .expect("a folder can be read")
        .flatten()
    {
        let below = entry.file_name().into_string().expect("names are UTF-8");
        if below == "target" {
            continue;
        }
        let name = format!("{name}/{below}");
        if entry.path().is_dir() {
            walk(&entry.path(), &name, files);
        } else {
            read(&entry.path(), name, files);
        }
    }
}

fn read(path: &Path, name: String, files: &mut BTreeMap<String, String>) {
    // What is no text has nothing that a rule reads. A file that vanishes meanwhile was none of the repository's.
    if let Ok(text) = fs::read_to_string(path) {
        files.insert(name, text);
    }
}
