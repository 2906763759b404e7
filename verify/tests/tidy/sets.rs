//! Rules of the protocol sets: every member is there, and they speak of the same things.

use super::rust::{code, production, uses};
use super::tree::Tree;

/// What a protocol file may take from `std` and `core`: the plain parts, which are the same in every world.
const PLAIN: &[&str] = &[
    "array",
    "borrow",
    "cmp",
    "collections",
    "convert",
    "error",
    "fmt",
    "future",
    "hash",
    "iter",
    "marker",
    "mem",
    "num",
    "ops",
    "option",
    "pin",
    "slice",
    "task",
];

const ORDERINGS: &[&str] = &["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"];

/// Source, model, spec, bugs, bench, and a row in the index.
pub fn every_member_is_there(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    let index = tree.text("src/protocol/mod.rs").unwrap_or_default();
    for protocol in tree.protocols() {
        let members = [
            ("model", format!("models/src/{protocol}.rs")),
            ("spec", format!("verify/src/protocol/{protocol}.rs")),
            ("bench", format!("benches/{protocol}.rs")),
        ];
        for (member, path) in members {
            if tree.text(&path).is_none() {
                found.push(format!("`{protocol}` has no {member}: {path}"));
            }
        }
        if tree
            .files(&format!("verify/bugs/{protocol}-"), ".patch")
            .next()
            .is_none()
        {
            found.push(format!(
                "`{protocol}` has no seeded bug: verify/bugs/{protocol}-*.patch"
            ));
        }
        if !index.contains(&format!("//! | [`{protocol}`] | ")) {
            found.push(format!("`{protocol}` has no row in src/protocol/mod.rs"));
        }
    }
    for (path, _) in tree.files("verify/bugs/", ".patch") {
        let of_stages = OF_STAGES.iter().any(|of| path.starts_with(of));
        if !of_stages
            && !tree
                .protocols()
                .iter()
                .any(|p| path.starts_with(&format!("verify/bugs/{p}-")))
        {
            found.push(format!("{path} is of no protocol"));
        }
    }
    found
}

/// Seeded bugs of stages, which are no protocol's.
const OF_STAGES: [&str; 2] = ["verify/bugs/kafka-", "verify/bugs/sim-"];

/// What a seeded bug of a stage breaks is guaranteed somewhere, and the tests that are to catch it are there.
pub fn bugs_of_stages_name_what_there_is(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    let guarantees = tree.text("src/docs/guarantees.md").unwrap_or_default();
    let patches = OF_STAGES.iter().flat_map(|of| tree.files(of, ".patch"));
    for (path, patch) in patches {
        for breaks in header(patch, "Breaks:") {
            if !guarantees.contains(&format!("\n# {breaks}: ")) {
                found.push(format!("{path} breaks `{breaks}`, which nobody guarantees"));
            }
        }
        for catcher in header(patch, "Caught by:") {
            let words: Vec<&str> = catcher.split_whitespace().collect();
            let there = match words[..] {
                ["test", test] => is_test_below(tree, "src", test),
                ["broker", target, test] => {
                    is_test_below(tree, &format!("integration/tests/{target}"), test)
                }
                ["sim", broker, _] => tree
                    .text(&format!("verify/src/sim/broker/{broker}.rs"))
                    .is_some(),
                ["regression", name] => tree
                    .text(&format!("verify/regressions/{name}.json"))
                    .is_some(),
                _ => false,
            };
            if !there {
                found.push(format!("{path}: there is no `{catcher}`"));
            }
        }
    }
    found
}

/// Whether the module that `test` is in, or one of those that it is nested in, has a test of its name.
fn is_test_below(tree: &Tree, top: &str, test: &str) -> bool {
    let mut parts: Vec<&str> = test.split("::").collect();
    let name = format!("fn {}(", parts.pop().unwrap_or_default());
    for depth in (0..=parts.len()).rev() {
        let below = [&[top], &parts[..depth]].concat().join("/");
        for path in [
            format!("{below}.rs"),
            format!("{below}/mod.rs"),
            format!("{below}/main.rs"),
        ] {
            if tree.text(&path).is_some_and(|text| text.contains(&name)) {
                return true;
            }
        }
    }
    false
}

/// Only the facade and what is the same in every world.
pub fn protocols_import_the_facade_only(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.files("src/protocol/", ".rs") {
        if path.ends_with("/mod.rs") || path.ends_with("/sync.rs") {
            continue;
        }
        let code = code(production(text));
        let imported = uses(&code).into_iter();
        let written = code
            .split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
            .map(String::from);
        for name in imported.chain(written.filter(|word| word.contains("::"))) {
            let mut parts = name.split("::");
            let allowed = match parts.next().unwrap_or_default() {
                "super" => parts.next() == Some("sync"),
                "std" | "core" => parts.next().is_some_and(|part| PLAIN.contains(&part)),
                first => ![
                    "crate",
                    "tokio",
                    "clearway",
                    "parking_lot",
                    "crossbeam_utils",
                    "arc_swap",
                    "atomic_waker",
                ]
                .contains(&first),
            };
            if !allowed {
                found.push(format!(
                    "{path} reaches for `{name}`; only super::sync and plain parts of std"
                ));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// What a source promises its model checks and a seeded bug breaks; and nobody speaks of an invariant that there is not.
pub fn every_invariant_is_checked_and_broken(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for protocol in tree.protocols() {
        let promised = invariants(tree, protocol);
        if promised.is_empty() {
            found.push(format!("src/protocol/{protocol}.rs names no invariant"));
        }
        let model = tree
            .text(&format!("models/src/{protocol}.rs"))
            .unwrap_or_default();
        let mut broken = Vec::new();
        for (path, patch) in tree.files(&format!("verify/bugs/{protocol}-"), ".patch") {
            let breaks = header(patch, "Breaks:");
            if breaks.is_empty() {
                found.push(format!("{path} does not say what it `Breaks:`"));
            }
            for name in breaks {
                if !promised.contains(&name) {
                    found.push(format!(
                        "{path} breaks `{name}`, which src/protocol/{protocol}.rs does not promise"
                    ));
                }
                broken.push(name);
            }
        }
        for name in promised {
            if !model.contains(&format!("\"{name}\"")) || !model.contains(&format!("fn {name}()")) {
                found.push(format!(
                    "models/src/{protocol}.rs has no model and test of `{name}`"
                ));
            }
            if !broken.contains(&name) {
                found.push(format!(
                    "no bug of verify/bugs/{protocol}-*.patch breaks `{name}`"
                ));
            }
        }
    }
    found
}

/// At every site, why it is as strong as it is: `// Acquire: pairs with ...` right above the statement.
pub fn every_ordering_says_why(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.files("src/protocol/", ".rs") {
        let lines: Vec<_> = text.lines().collect();
        let code = code(text);
        for (at, line) in code.lines().enumerate() {
            if orderings(line).next().is_some() && !has_reason(&lines, &code, at) {
                found.push(format!(
                    "{path}:{} has an ordering without a reason above it",
                    at + 1
                ));
            }
        }
    }
    found
}

/// The table of the README says what the sources say.
pub fn the_readme_tells_what_the_sources_promise(tree: &Tree) -> Vec<String> {
    let readme = tree.text("README.md").unwrap_or_default();
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    let table = readme
        .lines()
        .skip_while(|line| !line.starts_with("| protocol |"))
        .skip(2);
    for row in table.take_while(|line| line.starts_with('|')) {
        let cells: Vec<_> = row.trim_matches('|').split('|').collect();
        let name = quoted(cells[0]).into_iter().next().unwrap_or_default();
        rows.push((
            name,
            cells.get(1).map(|cell| quoted(cell)).unwrap_or_default(),
        ));
    }
    let sources: Vec<_> = tree
        .protocols()
        .into_iter()
        .map(|name| (name.to_owned(), invariants(tree, name)))
        .collect();
    let mut found = Vec::new();
    for (name, promised) in &sources {
        match rows.iter().find(|(row, _)| row == name) {
            None => found.push(format!("README.md has no row for `{name}`")),
            Some((_, told)) => {
                for missing in promised.iter().filter(|name| !told.contains(name)) {
                    found.push(format!("README.md, row `{name}`: `{missing}` is missing"));
                }
                for extra in told.iter().filter(|name| !promised.contains(name)) {
                    found.push(format!(
                        "README.md, row `{name}`: `{extra}` is promised nowhere"
                    ));
                }
            }
        }
    }
    for (name, _) in rows
        .iter()
        .filter(|(row, _)| sources.iter().all(|(name, _)| name != row))
    {
        found.push(format!(
            "README.md has a row for `{name}`, which is no protocol"
        ));
    }
    found
}

/// The names in the list below `# Invariants`.
fn invariants(tree: &Tree, protocol: &str) -> Vec<String> {
    let text = tree
        .text(&format!("src/protocol/{protocol}.rs"))
        .unwrap_or_default();
    let docs = text.lines().map_while(|line| line.strip_prefix("//!"));
    let list = docs
        .map(str::trim)
        .skip_while(|line| *line != "# Invariants")
        .skip(1);
    let list = list.take_while(|line| !line.starts_with("# "));
    list.filter_map(|line| {
        line.strip_prefix("* `")?
            .split('`')
            .next()
            .map(String::from)
    })
    .collect()
}

/// The comma-separated values of a patch's header line.
fn header(patch: &str, name: &str) -> Vec<String> {
    let lines = patch.lines().take_while(|line| !line.starts_with("--- "));
    lines
        .filter_map(|line| line.strip_prefix(name))
        .flat_map(|rest| rest.split(','))
        .map(|value| value.trim().to_owned())
        .filter(|value| !value.is_empty())
        .collect()
}

fn quoted(cell: &str) -> Vec<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(String::from)
        .collect()
}

fn orderings(line: &str) -> impl Iterator<Item = &str> {
    line.split("Ordering::").skip(1).filter_map(|rest| {
        ORDERINGS
            .iter()
            .copied()
            .find(|name| rest.starts_with(name))
    })
}

/// Goes up from the site to the comment above its statement, which must name one of the orderings on the way.
fn has_reason(lines: &[&str], code: &str, site: usize) -> bool {
    let code: Vec<_> = code.lines().collect();
    let mut named: Vec<_> = orderings(code[site]).collect();
    for at in (0..site).rev() {
        if let Some(comment) = lines[at].trim_start().strip_prefix("// ") {
            if named
                .iter()
                .any(|name| comment.contains(&format!("{name}:")))
            {
                return true;
            }
            // A comment may have several lines; its reason then begins in an earlier one.
            if !lines[at.saturating_sub(1)].trim_start().starts_with("// ") {
                return false;
            }
            continue;
        }
        if code[at].trim_end().ends_with(';') {
            return false;
        }
        named.extend(orderings(code[at]));
    }
    false
}
