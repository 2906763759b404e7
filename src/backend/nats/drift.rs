//! Drift: what of a durable must be as we need it, and what is otherwise.
//!
//! Others may change a durable while it is used: people, tools, another version of the service. What the server lets us change is
//! put right. Some settings are needed *at least*: members of one group may be configured differently, and if each put its own
//! number they would never agree; so the largest wins.

use serde_json::{Value, json};
use std::time::Duration;

/// How a setting must be.
#[derive(Clone, Copy, PartialEq)]
enum Need {
    Exactly,
    AtLeast,
    /// It says what the durable reads, or what an answer means: no change of it brings back what was skipped meanwhile.
    MadeSo,
}

/// What matters of a durable. What is not here is the server's, or an operator's to choose.
const NEEDS: [(&str, Need); 15] = [
    ("ack_wait", Need::AtLeast),
    ("max_ack_pending", Need::AtLeast),
    ("priority_timeout", Need::AtLeast),
    ("max_deliver", Need::Exactly),
    ("priority_groups", Need::Exactly),
    ("priority_policy", Need::Exactly),
    ("backoff", Need::Exactly),
    ("headers_only", Need::Exactly),
    ("inactive_threshold", Need::Exactly),
    ("max_batch", Need::Exactly),
    ("max_bytes", Need::Exactly),
    ("max_expires", Need::Exactly),
    ("filter_subject", Need::MadeSo),
    ("filter_subjects", Need::MadeSo),
    ("ack_policy", Need::MadeSo),
];

/// What of a durable is not as it must be.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Drift {
    /// Each setting: wanted and found.
    pub(super) what: String,
    /// It has to be made anew: putting it right is not enough.
    pub(super) misread: bool,
    /// Somebody else must have done it: no other configuration of ours explains it.
    pub(super) foreign: bool,
}

/// What differs between the configuration that is `there` and the `wanted` one.
pub(super) fn drift(there: &Value, wanted: &Value) -> Option<Drift> {
    let mut drift = Drift::default();
    let mut differences = Vec::new();
    for (field, need) in NEEDS {
        let (found, needed) = (&there[field], &wanted[field]);
        if is_met(need, found, needed) {
            continue;
        }
        drift.misread |= need == Need::MadeSo;
        drift.foreign |= need != Need::AtLeast;
        let (needed, found) = (shown(field, needed), shown(field, found));
        differences.push(format!("{field}: wanted {needed}, found {found}"));
    }
    drift.what = differences.join("; ");
    (!differences.is_empty()).then_some(drift)
}

/// `there` with what we need; where it begins and what we do not know stays.
pub(super) fn adapted(there: &Value, wanted: &Value) -> Value {
    let mut config = there.clone();
    for (field, need) in NEEDS {
        if is_met(need, &there[field], &wanted[field]) {
            continue;
        }
        match wanted.get(field) {
            Some(value) => config[field] = value.clone(),
            None => {
                config.as_object_mut().map(|fields| fields.remove(field));
            }
        }
    }
    config
}

fn is_met(need: Need, found: &Value, needed: &Value) -> bool {
    match need {
        // Below zero is without a limit.
        Need::AtLeast => match (found.as_i64(), needed.as_i64()) {
            (Some(found), Some(needed)) => found < 0 || found >= needed,
            _ => found == needed || (is_nothing(found) && is_nothing(needed)),
        },
        _ => found == needed || (is_nothing(found) && is_nothing(needed)),
    }
}

/// As good as not there: the server leaves out some of these, and not others.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(all) => all.is_empty(),
        Value::Object(_) => false,
    }
}

fn shown(field: &str, value: &Value) -> String {
    match (field, value.as_u64()) {
        ("ack_wait" | "priority_timeout" | "inactive_threshold" | "max_expires", Some(nanos)) => {
            format!("{:?}", Duration::from_nanos(nanos))
        }
        _ if *value == json!(null) => "nothing".into(),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Value {
        json!({
            "ack_wait": 4_000_000_000_u64,
            "max_ack_pending": 64,
            "max_deliver": -1,
            "filter_subject": "t.0",
            "ack_policy": "explicit",
            "priority_groups": ["clearway"],
            "priority_policy": "pinned_client",
            "priority_timeout": 10_000_000_000_u64,
        })
    }

    fn there(field: &str, value: Value) -> Value {
        let mut there = wanted();
        there[field] = value;
        there
    }

    #[test]
    fn what_is_needed_at_least_may_be_more_and_what_says_nothing_is_nothing() {
        for (field, value) in [
            ("ack_wait", json!(9_000_000_000_u64)),
            ("max_ack_pending", json!(1000)),
            ("max_ack_pending", json!(-1)),
            ("headers_only", json!(false)),
            ("backoff", json!([])),
            ("max_batch", json!(0)),
            ("description", json!("mine")),
            ("pause_until", json!("2030-01-01T00:00:00Z")),
        ] {
            assert_eq!(drift(&there(field, value), &wanted()), None, "{field}");
        }
    }

    #[test]
    fn each_difference_is_named_and_weighed() {
        for (field, value, what, misread, foreign) in [
            (
                "ack_wait",
                json!(1_000_000_000_u64),
                "ack_wait: wanted 4s, found 1s",
                false,
                false,
            ),
            (
                "max_deliver",
                json!(3),
                "max_deliver: wanted -1, found 3",
                false,
                true,
            ),
            (
                "headers_only",
                json!(true),
                "headers_only: wanted nothing, found true",
                false,
                true,
            ),
            (
                "filter_subject",
                json!("t.1"),
                "filter_subject: wanted \"t.0\", found \"t.1\"",
                true,
                true,
            ),
        ] {
            let found = there(field, value);
            let drifted = drift(&found, &wanted()).expect(field);
            assert_eq!(drifted.what, what);
            assert_eq!((drifted.misread, drifted.foreign), (misread, foreign));
            assert_eq!(drift(&adapted(&found, &wanted()), &wanted()), None);
        }
    }

    #[test]
    fn putting_one_right_takes_nothing_from_another_member() {
        let mut there = there("max_deliver", json!(3));
        there["max_ack_pending"] = json!(1000);
        let config = adapted(&there, &wanted());
        assert_eq!(config["max_deliver"], -1);
        assert_eq!(config["max_ack_pending"], 1000);
    }
}
