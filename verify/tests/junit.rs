//! The JUnit XML beside a report says what the report says: read back, it has a case for each thing that the JSON has, and fails where the
//! report has a complaint and nowhere else.

use clearway_verify::report::{self, HotPath, Report, VERSION};
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use serde_json::{Value, json};
use std::fs;
use tempfile::TempDir;

fn run(engine: &str, failure: &Value, reached: u64) -> Value {
    let verdict = if failure.is_null() {
        "exhaustive"
    } else {
        "failed"
    };
    json!({
        "engine": engine, "protocol": "gate", "invariant": "limit_holds", "executions": 7, "verdict": verdict,
        "goals": [["somebody waits", reached]], "classes": null, "failure": failure, "elapsed_ms": 1500
    })
}

fn bug(name: &str, cells: &Value, complaint: Option<&str>) -> Value {
    json!({
        "bug": {
            "name": name, "protocol": "gate", "breaks": "limit_holds", "caught_by": ["loom"], "tempting": "", "diff": ""
        },
        "cells": cells, "complaint": complaint
    })
}

/// A report as its JSON reads, with something in every section; with `wrong`, something in every section is wrong.
fn report(wrong: bool) -> Report {
    let said = |why: &str| wrong.then(|| why.to_owned());
    // What threads print may hold anything.
    let failure = match wrong {
        true => {
            json!({ "message": "limit_holds: \u{1b}[1m<3> & \"]]>\" of 2\nand more", "timeline": [
            { "at": 0, "thread": "main", "what": "a & b < c", "site": null }
        ] })
        }
        false => Value::Null,
    };
    let survived = json!([["loom", { "survived": { "executions": 9 } }, false]]);
    let killed = json!({ "killed": { "engine": "loom", "message": "limit_holds: no", "executions": 3, "timeline": [] } });
    let control = |checker: &str, complaint: Option<String>, cached: bool| json!({ "protocol": "gate", "invariant": "limit_holds", "checker": checker, "complaint": complaint, "cached": cached });
    let site = |line: u32, needed: bool| {
        json!({ "file": "src/protocol/gate.rs", "line": line, "operation": "load", "ordering": "Acquire",
            "weakened_to": "Relaxed", "needed": needed, "caught_by": null })
    };
    let left = json!({ "survived": { "executions": 5, "full": true } });
    let mutant = |name: &str, reason: Option<&str>| json!({ "name": name, "verdict": left, "reason": reason });
    let json = json!({
        "version": VERSION, "name": "Clearway", "depth": "standard", "at": 1, "cores": 2, "elapsed_ms": 61_000,
        "protocols": [
            {
                "protocol": "gate",
                "models": [{ "invariant": "limit_holds", "runs": [
                    run("loom", &failure, 4), run("shuttle/random", &Value::Null, 0),
                    run("shuttle/pct2", &Value::Null, u64::from(!wrong)), run("threads", &Value::Null, 0)
                ] }],
                "histories": { "protocol": "gate", "programs": 1, "histories": 20, "calls": 60,
                    "goals": [["a refusal", u64::from(!wrong)]], "failure": null, "elapsed_ms": 250 },
                "orderings": [site(3, true), site(9, !wrong)]
            },
            { "protocol": "lane", "models": [], "histories": null, "orderings": null }
        ],
        "canaries": [
            { "name": "lost-middle", "expected": "lost", "found": if wrong { json!([]) } else { json!(["lost"]) }, "error": null },
            { "name": "good-plain", "expected": null, "found": [], "error": said("line 3: EOF") }
        ],
        "matrix": {
            "bugs": [
                bug("gate-a", &if wrong { survived } else { json!([["loom", killed, false]]) }, said("nobody catches it").as_deref()),
                bug("gate-b", &json!([["loom", killed, true]]), None)
            ],
            "controls": [control("loom", said("limit_holds: no"), false), control("shuttle", None, true)],
            "elapsed_ms": 2000, "build_ms": 3000
        },
        "elsewhere": [["kafka-a", true], ["sim-b", false]],
        "mutants": { "protocols": [{ "protocol": "gate", "checksum": "", "mutants": [
            mutant("gate:3 swap", if wrong { None } else { Some("the same") }), mutant("gate:4 swap", Some("the same"))
        ], "complaints": said("a reason names nothing") }] },
        "simulations": [{ "broker": "jetstream", "seeds": 5, "publishes": 9, "deliveries": 9, "faults": [], "goals": [],
            "failed": if wrong { json!([3]) } else { json!([]) }, "elapsed_ms": 4000 }],
        "hot_path": { "rows": [
            { "way": "by handle", "locks": u64::from(wrong), "allocations": 0, "publishes": 100 }
        ], "notes": [], "not_run": null, "build_ms": 0 },
        "not_verified": [], "complaints": []
    });
    let mut json = json;
    let complaints = &mut json["mutants"]["protocols"][0]["complaints"];
    *complaints = complaints
        .take()
        .as_str()
        .map_or(json!([]), |why| json!([why]));
    let mut report: Report = serde_json::from_value(json).unwrap();
    report.complaints.extend(said("gate under loom: no answer"));
    report.complaints.extend(report.find_complaints());
    report
}

/// What was written: the JSON as it stands there, and the XML read back.
fn written(report: &Report) -> (Value, quick_junit::Report) {
    let folder = TempDir::new().unwrap();
    let files = report::write(report, folder.path()).unwrap();
    let [json, _, xml] = files.map(|file| fs::read_to_string(file).unwrap());
    let json = serde_json::from_str(&json).unwrap();
    (
        json,
        quick_junit::Report::deserialize_from_str(&xml).unwrap(),
    )
}

fn suite<'r>(report: &'r quick_junit::Report, name: &str) -> &'r TestSuite {
    let mut suites = report.test_suites.iter();
    let found = suites.find(|suite| suite.name.as_str() == name);
    found.unwrap_or_else(|| panic!("no suite `{name}`"))
}

/// The texts of the cases that fail.
fn failures(report: &quick_junit::Report) -> Vec<String> {
    let cases = report
        .test_suites
        .iter()
        .flat_map(|suite| &suite.test_cases);
    let text = |case: &TestCase| match &case.status {
        TestCaseStatus::NonSuccess {
            kind: NonSuccessKind::Failure,
            description,
            ..
        } => Some(
            description
                .as_ref()
                .expect("a failure says why")
                .to_string(),
        ),
        _ => None,
    };
    cases.filter_map(text).collect()
}

fn is_skipped(case: &&TestCase) -> bool {
    matches!(case.status, TestCaseStatus::Skipped { .. })
}

#[test]
fn it_has_a_case_for_each_thing_that_the_json_has() {
    for wrong in [false, true] {
        let (json, xml) = written(&report(wrong));
        let count = |list: &Value| list.as_array().unwrap().len();
        let gate = &json["protocols"][0];
        // Four runs, the goal under shuttle, under loom if that does not fail before it, and the spec.
        let models = count(&gate["models"][0]["runs"]) + 2 + usize::from(!wrong);
        let reasons = count(&json["mutants"]["protocols"][0]["complaints"]);
        for (name, cases) in [
            ("models of gate", models),
            ("orderings of gate", count(&gate["orderings"])),
            ("models of lane", 1),
            ("orderings of lane", 1),
            ("canaries", count(&json["canaries"])),
            ("seeded bugs", count(&json["matrix"]["bugs"])),
            ("controls", count(&json["matrix"]["controls"])),
            ("bugs of stages", count(&json["elsewhere"])),
            (
                "mutants",
                count(&json["mutants"]["protocols"][0]["mutants"]) + reasons,
            ),
            (
                "simulation over jetstream",
                json["simulations"][0]["seeds"].as_u64().unwrap() as usize,
            ),
            ("hot path", count(&json["hot_path"]["rows"])),
            ("run", 1),
        ] {
            let suite = suite(&xml, name);
            assert_eq!(
                (suite.tests, suite.test_cases.len()),
                (cases, cases),
                "{name}"
            );
        }
        let all: usize = xml.test_suites.iter().map(|suite| suite.tests).sum();
        assert_eq!(xml.tests, all);
    }
}

#[test]
fn it_fails_where_the_report_has_a_complaint_and_nowhere_else() {
    let (_, xml) = written(&report(false));
    assert_eq!((xml.failures, xml.errors), (0, 0));
    let wrong = report(true);
    let (json, xml) = written(&wrong);
    let texts = failures(&xml);
    // XML has no control characters.
    let complaints: Vec<String> = wrong
        .complaints
        .iter()
        .map(|c| c.replace("\u{1b}[1m", ""))
        .collect();
    for complaint in &complaints {
        assert!(
            texts.contains(complaint),
            "`{complaint}` fails nothing: {texts:#?}"
        );
    }
    assert_eq!(texts.len(), complaints.len());
    assert_eq!(xml.failures, json["complaints"].as_array().unwrap().len());
    // One of each section, and one of the run.
    assert_eq!(
        xml.test_suites
            .iter()
            .filter(|suite| suite.failures > 0)
            .count(),
        9,
        "{texts:#?}"
    );
}

#[test]
fn what_was_not_run_or_is_known_from_before_is_skipped() {
    let (_, xml) = written(&report(false));
    let skipped = |name: &str| {
        let cases = suite(&xml, name).test_cases.iter().filter(is_skipped);
        cases.map(|case| case.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(skipped("seeded bugs"), ["gate-b"]);
    assert_eq!(skipped("controls"), ["gate under shuttle, limit_holds"]);
    assert_eq!(skipped("bugs of stages"), ["kafka-a", "sim-b"]);
    assert_eq!(skipped("orderings of lane"), ["all"]);
    assert_eq!(skipped("models of lane"), ["histories"]);
    assert_eq!(skipped("mutants").len(), 2);
    assert!(skipped("models of gate").is_empty() && skipped("hot path").is_empty());
}

#[test]
fn times_are_those_of_the_report() {
    let (_, xml) = written(&report(false));
    let seconds = |name: &str| suite(&xml, name).time.unwrap().as_secs_f64();
    assert!((seconds("models of gate") - 6.25).abs() < 0.001);
    assert!((seconds("seeded bugs") - 5.0).abs() < 0.001);
    assert!((seconds("simulation over jetstream") - 4.0).abs() < 0.001);
    assert_eq!(xml.time.unwrap().as_secs(), 61);
}

/// Whoever reads the JSON asks for its version first.
#[test]
fn the_json_says_its_version_and_the_readme_which_that_is() {
    let (json, _) = written(&report(false));
    assert_eq!(json["version"], json!(VERSION));
    let readme = include_str!("../README.md");
    let says = format!("`version` is {VERSION}");
    assert!(readme.contains(&says), "the README does not say `{says}`");
}

/// There is no Makefile and no mutants where the protocols are somebody else's.
#[test]
fn what_is_not_verified_of_others_names_nothing_that_only_clearway_has() {
    let ours = report(false);
    let others = Report {
        hot_path: HotPath::default(),
        ..ours.clone()
    };
    let said = |report: &Report| {
        let open = report::not_verified(report).into_iter();
        let lines: Vec<String> = open
            .map(|open| format!("{}: {}", open.what, open.why))
            .collect();
        lines.join("\n")
    };
    assert!(said(&ours).contains("`make race`") && said(&ours).contains("`make mutate`"));
    let said = said(&others);
    assert!(
        said.contains("mutants: `verify mutate` makes them of Clearway's"),
        "{said}"
    );
    for only_here in ["make race", "make mutate", "make sim", "make integration"] {
        assert!(!said.contains(only_here), "{said}");
    }
}
