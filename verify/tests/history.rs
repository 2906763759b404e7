//! `verify history` as somebody meets it: what it says of a file, and with what it ends.

use clearway_verify::check::Property;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{fs, str};
use tempfile::TempDir;

const GOOD: &str = include_str!("../canaries/good-plain.jsonl");

fn verify(path: &Path) -> (i32, String) {
    let ended = Command::new(env!("CARGO_BIN_EXE_verify"))
        .arg("history")
        .arg(path)
        .output()
        .unwrap();
    said(&ended)
}

fn said(ended: &Output) -> (i32, String) {
    let text = [&ended.stdout[..], &ended.stderr[..]].concat();
    let code = ended.status.code().expect("no signal ended it");
    (code, String::from_utf8(text).unwrap())
}

/// What it says of a file with this text in it.
fn of(text: impl AsRef<[u8]>) -> (i32, String) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("run.jsonl");
    fs::write(&path, text).unwrap();
    verify(&path)
}

fn canaries() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("canaries");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn it_names_each_anomaly_with_the_lines_that_show_it() {
    let names = Property::ALL.map(Property::name);
    let mut seen = 0;
    for path in canaries() {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let (code, text) = verify(&path);
        let property = names.iter().filter(|property| name.starts_with(*property));
        match property.max_by_key(|property| property.len()) {
            None => assert_eq!(code, 0, "{name}: {text}"),
            Some(property) => {
                seen += 1;
                assert_eq!(code, 1, "{name}: {text}");
                assert!(text.contains(property), "{name}: {text}");
                assert!(text.contains("line"), "{name} shows no line: {text}");
            }
        }
    }
    assert!(seen > names.len(), "only {seen} canaries show something");
}

#[test]
fn what_is_no_history_has_no_verdict_and_the_error_says_where() {
    let cut = &GOOD[..GOOD.len() - 20];
    let garbled = GOOD.replace("\"invoke\"", "\"invoke\u{7}\"");
    let misspelt = GOOD.replacen("\"partition\":", "\"partitoin\":", 1);
    let later = GOOD.replace("\"clearway_history\":1", "\"clearway_history\":7");
    let headless = GOOD.split_once('\n').unwrap().1;
    for (text, words) in [
        ("", &["empty", "expected a header"][..]),
        (cut, &["line 11", "the line is cut off"]),
        (&garbled, &["line 3"]),
        (&misspelt, &["partitoin"]),
        (&later, &["version 7", "version 1 only"]),
        (headless, &["line 1"]),
    ] {
        let (code, said) = of(text);
        assert_eq!(code, 2, "{said}");
        for word in words.iter().chain(&["is no history"]) {
            assert!(said.contains(word), "expected `{word}` in: {said}");
        }
    }
    let (code, said) = of([b"\xff\xfe\x00", GOOD.as_bytes()].concat());
    assert_eq!(code, 2, "{said}");
    let (code, said) = verify(Path::new("no/such/file.jsonl"));
    assert_eq!(code, 2, "{said}");
    assert!(
        said.starts_with("verify: cannot read no/such/file.jsonl: No such file"),
        "{said}"
    );
}

/// Who saw nothing of a partition lost no part of what it saw.
#[test]
fn a_group_that_saw_nothing_is_told_so() {
    let everything = include_str!("../canaries/lost-everything.jsonl");
    let (code, said) = of(everything);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("(it saw nothing of the partition)"), "{said}");
}

/// A program in another language writes histories, and they are judged. Where there is no Python this shows nothing, and says so.
#[test]
fn a_history_written_in_python_is_judged() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/history.py");
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("run.jsonl");
    for (flag, code, words) in [
        (None, 0, "200"),
        (Some("--lose"), 1, "lost"),
        (Some("--overtake"), 1, "order"),
    ] {
        let mut python = Command::new("python3");
        let ended = match python.arg(&script).args(flag).arg(&path).output() {
            Ok(ended) => ended,
            Err(error) => return eprintln!("not run: python3: {error}"),
        };
        assert!(ended.status.success(), "{}", said(&ended).1);
        let (ended, text) = verify(&path);
        assert_eq!(ended, code, "{text}");
        assert!(text.contains(words), "{text}");
    }
}
