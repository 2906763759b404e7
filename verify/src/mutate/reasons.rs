//! Reasons: the mutants that nobody can tell from the original, and why not.
//!
//! `verify/mutants/<protocol>.txt`. A line that is not indented names a mutant as `verify mutate`
//! prints it; those that stand together have the reason that follows, which is indented. A `#` begins
//! a comment.

use crate::tree::Tree;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;

/// The reasons of one protocol, by the name of the mutant.
#[derive(Debug, Default)]
pub struct Reasons(BTreeMap<String, String>);

impl Reasons {
    /// Reads those of `protocol`. No file is no reason.
    pub fn load(tree: &Tree, protocol: &str) -> Result<Self, String> {
        let path = tree.mutants().join(format!("{protocol}.txt"));
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        Self::parse(&text).map_err(|error| format!("{}: {error}", tree.show(&path)))
    }

    /// Reads a file's text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut reasons: BTreeMap<String, String> = BTreeMap::new();
        let mut named: Vec<String> = Vec::new();
        let mut told = false;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let words = line.trim();
            if words.is_empty() {
                continue;
            }
            if line.starts_with(char::is_whitespace) {
                if named.is_empty() {
                    return Err(format!("`{words}` is the reason of no mutant"));
                }
                for name in &named {
                    let reason = reasons.entry(name.clone()).or_default();
                    if !reason.is_empty() {
                        reason.push(' ');
                    }
                    reason.push_str(words);
                }
                told = true;
                continue;
            }
            if std::mem::take(&mut told) {
                named.clear();
            }
            if reasons.contains_key(words) || named.iter().any(|name| name == words) {
                return Err(format!("`{words}` is named twice"));
            }
            named.push(words.to_owned());
        }
        match named.first() {
            Some(name) if !told => Err(format!("`{name}` has no reason")),
            _ => Ok(Self(reasons)),
        }
    }

    /// Why `mutant` is none.
    pub fn of(&self, mutant: &str) -> Option<&str> {
        self.0.get(mutant).map(String::as_str)
    }

    /// The mutants that are named.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutants_that_stand_together_share_a_reason() {
        let text = "# of all\nA::f | split | x\nA::g | split | x\n    One word,\n    one writer.\n\n\
                    A::h | swapped | a <-> b\n    Another.\n";
        let reasons = Reasons::parse(text).unwrap();
        assert_eq!(
            reasons.of("A::f | split | x"),
            Some("One word, one writer.")
        );
        assert_eq!(
            reasons.of("A::g | split | x"),
            reasons.of("A::f | split | x")
        );
        assert_eq!(reasons.of("A::h | swapped | a <-> b"), Some("Another."));
        assert_eq!(reasons.of("A::i"), None);
        assert_eq!(reasons.names().count(), 3);
    }

    #[test]
    fn a_name_without_a_reason_is_refused() {
        for (text, says) in [
            ("A::f | split | x\n", "has no reason"),
            ("    why\n", "is the reason of no mutant"),
            ("A::f\n  why\nA::f\n  why\n", "is named twice"),
            ("A::f\nA::f\n  why\n", "is named twice"),
        ] {
            let error = Reasons::parse(text).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
