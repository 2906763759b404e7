//! The mutants as text: what can be said of them without building one. `verify mutate` runs them.

use clearway_verify::mutate::{Mutant, Operator, Reasons, Source, mutants, protocols};
use clearway_verify::tree::Tree;
use std::collections::BTreeSet;
use std::fs;

fn of(protocol: &str) -> (Source, Vec<Mutant>) {
    let text = fs::read_to_string(Tree::of_this_build().source(protocol)).unwrap();
    let source = Source::parse(&text).unwrap();
    let all = mutants(&source);
    (source, all)
}

#[test]
fn every_protocol_has_mutants_and_every_mutant_is_rust() {
    let mut used = BTreeSet::new();
    assert_eq!(protocols().len(), 11);
    for protocol in protocols() {
        let (source, all) = of(protocol);
        assert!(!all.is_empty(), "{protocol} has no mutant");
        for mutant in &all {
            used.insert(mutant.operator);
            if let Err(error) = Source::parse(&mutant.applied(&source)) {
                panic!("{protocol}: {}: {error}", mutant.name);
            }
        }
        let names: BTreeSet<&str> = all.iter().map(|mutant| mutant.name.as_str()).collect();
        assert_eq!(names.len(), all.len(), "{protocol}: two of one name");
    }
    assert_eq!(
        used.len(),
        Operator::ALL.len(),
        "one is never used: {used:?}"
    );
}

/// A reason goes by the name of its mutant, so an edit of that line asks for the reason again.
#[test]
fn every_reason_names_a_mutant() {
    let tree = Tree::of_this_build();
    for protocol in protocols() {
        let (_, all) = of(protocol);
        let reasons = Reasons::load(&tree, protocol).unwrap();
        for name in reasons.names() {
            assert!(
                all.iter().any(|mutant| mutant.name == name),
                "verify/mutants/{protocol}.txt: there is no mutant `{name}`"
            );
        }
    }
}

#[test]
fn every_file_of_reasons_is_of_a_protocol() {
    let folder = Tree::of_this_build().mutants();
    for entry in fs::read_dir(&folder).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let of = name
            .strip_suffix(".txt")
            .map(|stem| protocols().contains(&stem));
        assert_eq!(of, Some(true), "{name} is of no protocol");
    }
}
