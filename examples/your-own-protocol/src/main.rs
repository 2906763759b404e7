//! A protocol that is not Clearway's, judged by Clearway's testbed: see this package's README.

use std::process::ExitCode;

clearway_verify::protocol!(
    latch,
    "protocol/latch.rs",
    "../models/latch.rs",
    "../specs/latch.rs"
);

fn main() -> ExitCode {
    clearway_verify::own::main(env!("CARGO_MANIFEST_DIR"), &[latch::SUBJECT])
}

#[cfg(test)]
mod tests {
    use clearway_verify::{bugs, tree::Tree};
    use std::fs;

    #[test]
    fn every_seeded_bug_applies() {
        let tree = Tree::own(env!("CARGO_MANIFEST_DIR"));
        let seeded = bugs::load(&tree).unwrap();
        assert_eq!(seeded.len(), 3);
        for bug in seeded {
            let source = fs::read_to_string(tree.source(&bug.protocol)).unwrap();
            bug.apply(&source).unwrap();
        }
    }
}
