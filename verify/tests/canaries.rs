//! The checker, checked: every canary in `canaries/` is a history that it must refuse, for the
//! property in the file's name; `good-*` it must accept.

use clearway_verify::check::{self, Property};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn canaries() -> Vec<(String, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("canaries");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let mut named: Vec<_> = files
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path))
        .collect();
    named.sort();
    named
}

/// The longest property the name begins with.
fn property(name: &str) -> Option<Property> {
    let fits = |property: &Property| {
        name.strip_prefix(property.name())
            .is_some_and(|slug| slug.starts_with('-'))
    };
    Property::ALL
        .into_iter()
        .filter(fits)
        .max_by_key(|property| property.name().len())
}

#[test]
fn every_canary_is_refused_for_its_property_and_no_other() {
    for (name, path) in canaries() {
        let verdict = check::file(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let found: BTreeSet<_> = verdict
            .violations
            .iter()
            .map(|found| found.property)
            .collect();
        let expected = property(&name).into_iter().collect();
        assert_eq!(found, expected, "{name}:\n{verdict}");
        assert!(
            property(&name).is_some() || name.starts_with("good-"),
            "{name}: a canary is named <property>-<slug> or good-<slug>"
        );
    }
}

#[test]
fn every_violation_names_lines_that_are_there() {
    for (name, path) in canaries() {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        for violation in check::file(&path).unwrap().violations {
            assert!(!violation.lines.is_empty(), "{name}: {violation}");
            let inside = violation
                .lines
                .iter()
                .all(|line| (2..=lines).contains(line));
            assert!(inside, "{name}: {violation}");
        }
    }
}

#[test]
fn every_property_has_a_canary() {
    let names: Vec<_> = canaries().into_iter().map(|(name, _)| name).collect();
    for wanted in Property::ALL {
        let there = names.iter().any(|name| property(name) == Some(wanted));
        assert!(there, "no canary for {wanted}");
    }
    assert!(names.iter().any(|name| name.starts_with("good-")));
}
