//! Rules of words and size: the glossary, the length of a file, the top level, no particular machine.

use super::rust::{code, parts, words};
use super::tree::Tree;
use std::collections::BTreeSet;

/// Words that have another name here: see src/docs/glossary.md.
const BANNED: &[(&str, &str)] = &[
    ("msg", "envelope"),
    ("mailbox", "lane"),
    ("conn", "connection or session"),
    ("listener", "handler or subscription"),
    ("callback", "handler"),
];

/// Names that are others' to choose.
const FOREIGN: &[&str] = &[
    "TcpListener",
    "event_callback",
    "reconnect_delay_callback",
    // rdkafka's.
    "set_nonempty_callback",
    "msg_cnt",
    "msg_size",
];

const LINES_MAX: usize = 400;

/// Longer files, each with the reason why it is one.
const LONG: &[(&str, &str)] = &[
    (
        "benches/publish.rs",
        "every row of the publish tables beside the others, so that they are measured alike",
    ),
    (
        "models/src/lane.rs",
        "one model for each of seven invariants",
    ),
    (
        "models/src/ledger.rs",
        "one model for each of nine invariants",
    ),
    ("models/src/recorder.rs", "one recorder for three engines"),
    (
        "models/src/singleflight.rs",
        "one model for each of seven invariants",
    ),
    (
        "models/src/session.rs",
        "one model for each invariant of one protocol",
    ),
    (
        "src/backend/memory/connection.rs",
        "produce, ensure and the task of one connection share its state",
    ),
    (
        "src/backend/nats/pipeline.rs",
        "what is on its way, what comes back and when it is too late are one task's state",
    ),
    (
        "src/backend/nats/plan.rs",
        "every setting of a stream is compared in one place; a third of it is tests",
    ),
    (
        "src/error.rs",
        "one type for each verb, side by side so that they stay alike",
    ),
    (
        "src/backend/nats/partition.rs",
        "the states of one partition, which no part of it can be told without",
    ),
    (
        "src/protocol/lane.rs",
        "one protocol: lanes cannot be told apart from the queue that they are taken from",
    ),
    (
        "src/protocol/ledger.rs",
        "one protocol; a quarter of it says what it keeps and why",
    ),
    (
        "verify/bus/machine.rs",
        "one plain model of the whole bus and the machine that compares them",
    ),
    (
        "verify/bus/publish.rs",
        "one test for each promise of the publish journey",
    ),
    (
        "verify/src/bugs/matrix.rs",
        "what a kill is, beside the run that decides it; a fifth of it is tests",
    ),
    (
        "verify/src/history/event.rs",
        "one format: every event beside the others",
    ),
    (
        "verify/src/recorder.rs",
        "one call for each event of a history",
    ),
    (
        "verify/src/sim/world.rs",
        "tasks, clock and processes are one state; the tests of the bus take it in as one file",
    ),
    (
        "verify/src/protocol/credit.rs",
        "a spec that has to know waiting lines, and its programs",
    ),
    (
        "verify/src/protocol/lane.rs",
        "a spec with a queue for each key, its programs and both hands that play them",
    ),
    (
        "verify/src/protocol/ledger/program.rs",
        "the programs of a protocol with three hands on a slot",
    ),
];

/// What belongs to the user: the top level holds this and nothing else.
const TOP: &[&str] = &[
    ".gitignore",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "Makefile",
    "README.md",
    "clippy.toml",
    "rustfmt.toml",
];

/// Where somebody's files are on somebody's machine.
const PLACES: &[&str] = &[
    "/home/",
    "/root/",
    "/Users/",
    "/work/",
    "/workspace/",
    "C:\\Users",
];

/// Identifiers keep to the glossary.
pub fn identifiers_keep_to_the_glossary(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.files("", ".rs") {
        let code = code(text);
        let mut seen = BTreeSet::new();
        for (line, word) in words(&code) {
            if FOREIGN.contains(&word) || !seen.insert(word) {
                continue;
            }
            for part in parts(word) {
                let one = part.strip_suffix('s').unwrap_or(&part);
                if let Some((bad, good)) =
                    BANNED.iter().find(|(bad, _)| *bad == part || *bad == one)
                {
                    found.push(format!("{path}:{line}: `{word}`; not {bad} but {good}"));
                }
            }
        }
    }
    found
}

/// A file that can be read at one sitting.
pub fn files_are_short(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.files("", ".rs") {
        let (lines, listed) = (
            text.lines().count(),
            LONG.iter().any(|(listed, _)| *listed == path),
        );
        if lines > LINES_MAX && !listed {
            found.push(format!(
                "{path} has {lines} lines; more than {LINES_MAX} need a reason in the list"
            ));
        }
        if lines <= LINES_MAX && listed {
            found.push(format!(
                "{path} has {lines} lines and needs no place in the list any more"
            ));
        }
    }
    let gone = LONG.iter().filter(|(path, _)| tree.text(path).is_none());
    found.extend(
        gone.map(|(path, _)| format!("{path} is in the list of long files and does not exist")),
    );
    found
}

/// One screen for whoever comes.
pub fn the_top_level_is_the_users(tree: &Tree) -> Vec<String> {
    let files = tree.files("", "").filter(|(path, _)| !path.contains('/'));
    let mut found: Vec<_> = files
        .filter(|(path, _)| !TOP.contains(path))
        .map(|(path, _)| format!("{path} does not belong to the top level"))
        .collect();
    let missing = TOP.iter().filter(|path| tree.text(path).is_none());
    found.extend(missing.map(|path| format!("{path} is missing")));
    found
}

/// The repository is at home anywhere.
pub fn no_machine_is_named(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.files("", "") {
        if path.starts_with("verify/tests/tidy") {
            continue; // names them to find them
        }
        for (at, line) in text.lines().enumerate() {
            for place in PLACES {
                let names = line.match_indices(place).any(|(n, _)| {
                    // `src/work/` is a folder of ours; `/work/` after a quote or a space is a place on a machine.
                    !line[..n].ends_with(|c: char| c.is_alphanumeric() || "_-.*/{}$)".contains(c))
                });
                if names {
                    found.push(format!(
                        "{path}:{} names a place on a machine: {place}",
                        at + 1
                    ));
                }
            }
        }
    }
    found
}
