//! `verify replay` as somebody meets it: what it says of a plan, and with what it ends.

use clearway_verify::sim::breaks::Breaks;
use clearway_verify::sim::counterexample::{Broker, Counterexample};
use clearway_verify::sim::plan::Plan;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

fn replay(arguments: &[&str]) -> (i32, String) {
    let verify = Command::new(env!("CARGO_BIN_EXE_verify"))
        .arg("replay")
        .args(arguments)
        .output()
        .unwrap();
    let text = [&verify.stdout[..], &verify.stderr[..]].concat();
    let code = verify.status.code().expect("no signal ended it");
    (code, String::from_utf8(text).unwrap())
}

/// What it says of a file with this text in it. Its pictures have the file's name, so each test has one of its own.
fn of(name: &str, text: &str) -> (i32, String) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(format!("{name}.json"));
    fs::write(&path, text).unwrap();
    replay(&[path.to_str().unwrap()])
}

fn small() -> Counterexample {
    let plan = Plan::draw(3, 40);
    Counterexample::new(Broker::Kafka, Breaks::Liveness, &plan, "From a test.")
}

#[test]
fn a_plan_that_holds_ends_with_0_as_a_file_and_inline() {
    let (code, text) = of("holds", &small().to_text());
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("From a test.") && text.contains("holds: liveness"),
        "{text}"
    );
    let (code, inline) = replay(&[&small().in_short()]);
    assert_eq!(code, 0, "{inline}");
    let hash = |text: &str| {
        let at = text.find("hash ").expect("it says its hash");
        text[at..at + 21].to_owned()
    };
    assert_eq!(hash(&text), hash(&inline));
}

#[test]
fn what_is_no_plan_ends_with_2_and_says_where() {
    let good = small().to_text();
    for (text, expected) in [
        (String::new(), "line 1: it is empty"),
        ("hello\n".into(), "line 1, column 1: expected value"),
        (
            good.replace("\"clearway_plan\": 1", "\"clearway_plan\": 2"),
            "line 2: this plan is of version 2",
        ),
        (
            good.replace("\"seed\"", "\"sead\""),
            "line 7, column 10: unknown field `sead`",
        ),
        (good[..good.len() / 2].into(), "EOF"),
    ] {
        let (code, said) = of("unreadable", &text);
        assert_eq!(code, 2, "{text}\n{said}");
        assert!(
            said.contains("unreadable.json: line") && said.contains(expected),
            "{text}\n{said}"
        );
    }
    let (code, said) = replay(&["there-is-no-such-file.json"]);
    assert!(
        code == 2 && said.contains("there-is-no-such-file.json"),
        "{said}"
    );
}

#[test]
fn a_fault_that_there_is_no_more_is_said_and_the_rest_is_run() {
    let text = small()
        .to_text()
        .replace("\"faults\": {", "\"faults\": {\n\"moonlight\": 7,");
    let (code, said) = of("moonlight", &text);
    assert!(
        code == 0 && said.contains("there is no fault `moonlight`: left out"),
        "{said}"
    );
}

#[test]
fn the_history_is_kept_when_it_is_asked_for() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("kept-by-a-test.json");
    fs::write(&path, small().to_text()).unwrap();
    let (code, said) = replay(&[path.to_str().unwrap(), "--history"]);
    assert_eq!(code, 0, "{said}");
    let kept = said.lines().find_map(|line| line.strip_prefix("history: "));
    let top = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(top.join(kept.expect("it says where"))).unwrap();
    assert!(text.starts_with("{\"clearway_history\":1"), "{text}");
}

/// Who waits for a quarter of an hour between two publishes is not done when the calm is over: so this fails without a bug.
#[test]
fn a_plan_that_does_not_hold_ends_with_1_and_shows_what_matters() {
    let text = small()
        .to_text()
        .replace("\"pause_ms\": ", "\"pause_ms\": 1000000");
    let (code, said) = of("waits", &text);
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("liveness is violated: after 120s of calm"),
        "{said}"
    );
    let rows = said
        .lines()
        .filter(|line| line.contains(" s  bus ") || line.contains(" s  broker"));
    let rows: Vec<_> = rows.collect();
    assert!((3..=40).contains(&rows.len()), "{said}");
    // Aligned: what happened begins below its head.
    let head = said
        .lines()
        .find(|line| line.contains("values"))
        .expect("it has a head");
    let (what, values) = (head.find("what").unwrap(), head.find("values").unwrap());
    for row in rows {
        assert!(row[..what].ends_with("  "), "{row}");
        assert!(!row[what..].starts_with(' '), "{row}");
        assert!(row.len() < values || row[..values].ends_with("  "), "{row}");
    }
    let picture = said.lines().find_map(|line| line.strip_prefix("picture: "));
    let top = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(top.join(picture.expect("it says where"))).unwrap();
    assert!(
        page.contains("<svg") && page.contains("liveness is violated"),
        "{page}"
    );
}

/// Kept for something else, it does not hold either, and says what.
#[test]
fn one_that_violates_something_else_says_so() {
    let text = small().to_text().replace("liveness", "order");
    let text = text.replace("\"pause_ms\": ", "\"pause_ms\": 1000000");
    let (code, said) = of("other", &text);
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("not what it is kept for: order, but liveness"),
        "{said}"
    );
}
