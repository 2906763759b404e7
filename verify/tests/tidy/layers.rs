//! Rules of the layers: what may know of what, and where atomics and locks may stand.

use super::facade::FACADE;
use super::rust::{code, production, uses, words};
use super::tree::Tree;

/// Names of things that order or exclude threads.
const SYNCHRONIZATION: &[&str] = &[
    "Mutex",
    "RwLock",
    "Condvar",
    "Barrier",
    "Once",
    "OnceLock",
    "OnceCell",
    "LazyLock",
    "ReentrantLock",
    "Semaphore",
    "Notify",
    "ArcCell",
    "ArcSwap",
    "ArcSwapOption",
    "AtomicWaker",
    "parking_lot",
    "arc_swap",
    "atomic_waker",
    "Relaxed",
    "Acquire",
    "Release",
    "AcqRel",
    "SeqCst",
    "fence",
];

/// Tasks, time and randomness have one door.
const DOORS: &[(&str, &str)] = &[
    ("src/runtime.rs", "the door"),
    (
        "src/backend/nats/connect.rs",
        "asks whether there is a tokio runtime, which the client needs",
    ),
    (
        "src/backend/kafka/witness.rs",
        "a test's bus, with a runtime of its own; no part of what ships",
    ),
    (
        "src/middleware/throttle.rs",
        "`Instant` is what the limiter calls the runtime's time",
    ),
];

/// Maps without an order, where none can show.
const UNORDERED: &[(&str, &str)] = &[
    (
        "src/middleware/dedup.rs",
        "looked up on every delivery; never listed",
    ),
    (
        "src/middleware/throttle.rs",
        "the limiter's own table of keys; never listed",
    ),
    (
        "src/protocol/lane.rs",
        "looked up on every delivery; never listed, and its hasher is given",
    ),
    (
        "src/protocol/snapshot.rs",
        "looked up on every publish; whoever lists it sorts",
    ),
    (
        "src/publish/ordered.rs",
        "looked up by key; sorted where it is listed",
    ),
];

/// `unsafe` outside of the models.
const UNSAFE: &[(&str, &str)] = &[(
    "verify/bus/hot_path/counting.rs",
    "an allocator that counts cannot be written without",
)];

/// An atomic, a lock or an ordering stands in src/protocol, or in a file of the list.
pub fn synchronization_stays_in_protocols(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.files("src/", ".rs") {
        if path.starts_with("src/protocol/") {
            continue;
        }
        let allowed = FACADE
            .iter()
            .find(|(listed, ..)| *listed == path)
            .map_or(&[][..], |(_, names, _)| names);
        let code = code(production(text));
        for (line, word) in words(&code) {
            let atomic = word.starts_with("Atomic") && word.len() > 6;
            if (atomic || SYNCHRONIZATION.contains(&word)) && !allowed.contains(&word) {
                found.push(format!(
                    "{path}:{line} has `{word}`; it belongs to src/protocol"
                ));
            }
        }
        for word in allowed {
            if !uses(&code)
                .iter()
                .any(|path| path == &format!("crate::protocol::sync::{word}"))
            {
                found.push(format!(
                    "{path} is on the list for `{word}`, which it does not take from the facade"
                ));
            }
        }
    }
    let gone = FACADE.iter().filter(|(path, ..)| tree.text(path).is_none());
    found.extend(
        gone.map(|(path, ..)| format!("{path} is on the facade's list and does not exist")),
    );
    found
}

/// Publishing and consuming know nothing of each other; nor does one backend of another; nor a backend of a protocol.
pub fn layers_are_apart(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    let mut forbid = |path: &str, text: &str, what: &[String]| {
        let code = code(text);
        for bad in what
            .iter()
            .filter(|bad| code.contains(&format!("{bad}::")) || imports(&code, bad))
        {
            found.push(format!("{path} reaches for {bad}"));
        }
    };
    for (path, text) in tree.files("src/publish/", ".rs") {
        forbid(path, text, &["crate::consume".into()]);
    }
    for (path, text) in tree.files("src/consume/", ".rs") {
        forbid(path, text, &["crate::publish".into()]);
    }
    for (path, text) in tree.files("src/backend/", ".rs") {
        let Some((own, _)) = path["src/backend/".len()..].split_once('/') else {
            continue;
        };
        let mut bad = vec![
            "crate::publish".into(),
            "crate::consume".into(),
            "crate::bus".into(),
            "crate::core".into(),
        ];
        for other in ["memory", "nats", "kafka"]
            .iter()
            .filter(|other| **other != own)
        {
            bad.extend([
                format!("crate::backend::{other}"),
                format!("crate::{other}"),
                format!("super::super::{other}"),
            ]);
        }
        bad.extend(
            tree.protocols()
                .iter()
                .map(|protocol| format!("crate::protocol::{protocol}")),
        );
        forbid(path, text, &bad);
    }
    for (path, text) in tree.files("verify/src/", ".rs") {
        let mut bad = vec!["clearway::protocol".into()];
        // A simulated broker is a backend: it fills the seam from outside.
        if !path.starts_with("verify/src/sim/broker/") {
            bad.push("clearway::backend".into());
        }
        forbid(path, text, &bad);
    }
    for (path, text) in tree.files("integration/", ".rs") {
        forbid(path, text, &["clearway::protocol".into()]);
    }
    let models = tree.text("models/Cargo.toml").unwrap_or_default();
    if models.lines().any(|line| line.starts_with("clearway")) {
        found.push(
            "models/Cargo.toml depends on something of ours; `--cfg loom` would reach tokio".into(),
        );
    }
    found
}

/// What spawns, waits, looks at a clock or draws at random.
pub fn the_runtime_is_the_only_door(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.files("src/", ".rs") {
        if DOORS.iter().any(|(listed, _)| *listed == path) {
            continue;
        }
        let code = code(production(text));
        for (line, word) in words(&code) {
            if ["tokio", "fastrand", "Instant"].contains(&word) {
                found.push(format!("{path}:{line} has `{word}`; tasks, time and randomness come through src/runtime.rs"));
            }
        }
        for allow in ["clippy::disallowed_methods", "clippy::disallowed_types"] {
            let allowed = code
                .lines()
                .any(|line| line.contains("allow(") && line.contains(allow));
            if allowed && path != "src/protocol/mod.rs" {
                found.push(format!("{path} allows {allow}"));
            }
        }
    }
    found
}

/// A map without an order gives another order in every run.
pub fn unordered_maps_do_not_show(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.files("src/", ".rs") {
        let code = code(production(text));
        for (line, word) in words(&code).filter(|(_, word)| ["HashMap", "HashSet"].contains(word)) {
            if !UNORDERED.iter().any(|(listed, _)| *listed == path) {
                found.push(format!(
                    "{path}:{line} has a `{word}`; take a BTreeMap, or show that no order is seen"
                ));
            }
        }
        if code.contains("HashMap::new()") || code.contains("HashSet::new()") {
            found.push(format!("{path} has a map whose hasher is drawn at random"));
        }
    }
    found
}

/// `select!` without `biased` draws at random which branch is looked at first.
pub fn select_is_biased(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.files("", ".rs") {
        let code = code(text);
        for (at, _) in code.match_indices("select!") {
            let inside = code[at..]
                .split_once('{')
                .map_or("", |(_, rest)| rest)
                .trim_start();
            if !inside.starts_with("biased;") {
                let line = code[..at].lines().count().max(1);
                found.push(format!(
                    "{path}:{line} has a `select!` that does not begin with `biased;`"
                ));
            }
        }
    }
    found
}

/// The compiler forbids it where the attribute stands; so the attribute must stand.
pub fn unsafe_stays_in_models(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for path in ["src/lib.rs", "verify/src/lib.rs", "integration/src/lib.rs"] {
        if !tree
            .text(path)
            .is_some_and(|text| text.contains("#![forbid(unsafe_code)]"))
        {
            found.push(format!("{path} does not forbid unsafe code"));
        }
    }
    for (path, text) in tree.files("", ".rs") {
        if path.starts_with("models/") || UNSAFE.iter().any(|(listed, _)| *listed == path) {
            continue;
        }
        let code = code(text);
        if let Some((line, _)) = words(&code).find(|(_, word)| *word == "unsafe") {
            found.push(format!("{path}:{line} has unsafe code"));
        }
    }
    found
}

fn imports(code: &str, what: &str) -> bool {
    uses(code).iter().any(|path| {
        path.strip_prefix(what)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::") || rest.starts_with(' '))
    })
}
