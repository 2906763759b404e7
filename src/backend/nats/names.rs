//! Names: topics, groups and partitions as NATS has them, one to one.
//!
//! A topic `orders.eu` of two partitions is the subjects `orders.eu.0` and `orders.eu.1`, in the
//! stream `orders%2Eeu`. The durable of group `billing` on its first partition is
//! `billing~orders%2Eeu~0`. What a stream or durable name cannot hold is escaped, so no two
//! topics or groups ever meet; what a subject cannot hold is refused, with the character.

use std::fmt::Write;

/// The server's limit for stream and durable names, in bytes.
const NAME_MAX: usize = 255;

/// Why `topic` cannot be a subject, or `None` if it can.
pub(super) fn refuse_topic(topic: &str) -> Option<String> {
    if let Some((at, c)) = topic.char_indices().find(|(_, c)| !subject_takes(*c)) {
        return Some(format!(
            "the character {c:?} at byte {at} cannot be in a subject"
        ));
    }
    if topic.split('.').any(str::is_empty) {
        return Some("it begins or ends with '.', or has two in a row".into());
    }
    if topic.starts_with('$') {
        return Some("the character '$' at byte 0: such subjects are the server's own".into());
    }
    if topic.split('.').next() == Some("_INBOX") {
        return Some("`_INBOX` is where answers go".into());
    }
    let longest = stream_of(topic).len();
    (longest > NAME_MAX).then(|| {
        format!("its stream name would be {longest} bytes long, more than the {NAME_MAX} allowed")
    })
}

/// Why `name` cannot be a stream, or `None` if it can.
pub(super) fn refuse_stream(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("it is empty".into());
    }
    if name.len() > NAME_MAX {
        return Some(format!("it is longer than {NAME_MAX} bytes"));
    }
    name.chars()
        .find(|c| !subject_takes(*c) || matches!(c, '.' | '/' | '\\'))
        .map(|c| format!("the character {c:?} cannot be in a stream's name"))
}

/// Why `group` cannot have durables for `topic`, or `None` if it can.
pub(super) fn refuse_group(group: &str, topic: &str) -> Option<String> {
    if group.is_empty() {
        return Some("the group's name is empty".into());
    }
    refuse_durable(group, &durable(group, topic, u32::MAX))
}

/// Why `group` cannot have a durable for what fits `pattern`, or `None` if it can.
pub(super) fn refuse_group_of_pattern(group: &str, pattern: &str) -> Option<String> {
    if group.is_empty() {
        return Some("the group's name is empty".into());
    }
    refuse_durable(group, &durable_of_pattern(group, pattern))
}

fn refuse_durable(group: &str, longest: &str) -> Option<String> {
    let longest = longest.len();
    (longest > NAME_MAX).then(|| {
        format!("with group `{group}` its durable's name would be {longest} bytes long, more than the {NAME_MAX} allowed")
    })
}

/// Where `pattern` cannot be one of subjects (a byte of it) and why, or `None` if it can.
pub(super) fn refuse_pattern(pattern: &str) -> Option<(usize, String)> {
    let mut at = 0;
    for token in pattern.split('.') {
        let end = at + token.len();
        let wild = |c: char| matches!(c, '*' | '>');
        let refused =
            match token {
                "" => Some((at, "a token is empty".into())),
                ">" if end < pattern.len() => {
                    Some((at, "`>` stands for all that follows: nothing can".into()))
                }
                "*" | ">" => None,
                _ => token
                    .char_indices()
                    .find(|(_, c)| !subject_takes(*c))
                    .map(|(within, c)| match c {
                        c if wild(c) => (at + within, format!("`{c}` stands for whole tokens")),
                        c => (
                            at + within,
                            format!("the character {c:?} cannot be in a subject"),
                        ),
                    }),
            };
        if refused.is_some() {
            return refused;
        }
        at = end + 1;
    }
    None
}

/// Whether some subject fits both patterns.
pub(super) fn overlap(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
            _ => return false,
        }
    }
}

fn subject_takes(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !matches!(c, '*' | '>')
}

/// The stream that a topic has to itself.
pub(super) fn stream_of(topic: &str) -> String {
    escape(topic)
}

/// The durable of a group on one partition of a topic.
pub(super) fn durable(group: &str, topic: &str, partition: u32) -> String {
    format!("{}~{}~{partition}", escape(group), escape(topic))
}

/// The durable of a group on what fits a pattern. No partition is called `w`, so it is none of a topic's.
pub(super) fn durable_of_pattern(group: &str, pattern: &str) -> String {
    format!("{}~{}~w", escape(group), escape(pattern))
}

/// The subject of one partition.
pub(super) fn subject(topic: &str, partition: u32) -> String {
    format!("{topic}.{partition}")
}

/// The partition of `topic` that `subject` is, if it is one.
pub(super) fn partition_in(topic: &str, subject: &str) -> Option<u32> {
    let digits = subject.strip_prefix(topic)?.strip_prefix('.')?;
    // "007" and "+7" parse too, and are subjects of their own.
    let plain = digits == "0" || digits.starts_with(|first: char| ('1'..='9').contains(&first));
    plain.then(|| digits.parse().ok())?
}

/// Whether a stream that listens to `pattern` hears `subject`.
pub(super) fn covers(pattern: &str, subject: &str) -> bool {
    let mut rest = subject.split('.');
    for token in pattern.split('.') {
        match (token, rest.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (literal, Some(there)) if literal == there => {}
            _ => return false,
        }
    }
    rest.next().is_none()
}

/// Letters, digits, `-` and `_` as they are, every other byte as `%` and two hex digits.
fn escape(name: &str) -> String {
    name.bytes()
        .fold(String::with_capacity(name.len()), |mut out, byte| {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
                out.push(byte.into());
            } else {
                write!(out, "%{byte:02X}").expect("a String takes everything");
            }
            out
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_offending_character_is_named() {
        for (topic, culprit) in [
            ("a b", "' '"),
            ("a\tb", "'\\t'"),
            ("orders.*", "'*'"),
            ("orders>", "'>'"),
            ("a\u{7f}b", "'\\u{7f}'"),
            ("$JS.API", "'$'"),
            ("a..b", "'.'"),
            (".a", "'.'"),
            ("a.", "'.'"),
            ("_INBOX.x", "_INBOX"),
        ] {
            let reason = refuse_topic(topic).unwrap_or_else(|| panic!("{topic:?} was taken"));
            assert!(reason.contains(culprit), "{topic:?}: {reason}");
        }
        for topic in ["orders", "orders.eu", "bücher", "a-b_c%2E", "x.0", "a/b"] {
            assert_eq!(refuse_topic(topic), None, "{topic:?}");
        }
    }

    #[test]
    fn names_that_grow_too_long_are_refused() {
        let topic = "ü".repeat(100);
        assert!(refuse_topic(&topic).is_some_and(|reason| reason.contains("600 bytes")));
        assert!(refuse_group(&"g".repeat(250), "orders").is_some());
        assert_eq!(refuse_group("billing eu", "orders"), None);
    }

    #[test]
    fn streams_are_names_without_dots() {
        assert_eq!(stream_of("orders.eu"), "orders%2Eeu");
        assert_eq!(refuse_stream(&stream_of("a.b/ü")), None);
        assert!(refuse_stream("a.b").is_some_and(|reason| reason.contains("'.'")));
    }

    #[test]
    fn only_the_topics_own_subjects_are_its_partitions() {
        assert_eq!(partition_in("orders", "orders.12"), Some(12));
        for other in [
            "orders",
            "orders.",
            "orders.x",
            "orders.007",
            "orders.+7",
            "orders.0.0",
            "order.0",
        ] {
            assert_eq!(partition_in("orders", other), None, "{other}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_where_it_is_none() {
        for (pattern, at, culprit) in [
            ("", 0, "empty"),
            (".a", 0, "empty"),
            ("a..b", 2, "empty"),
            ("a.", 2, "empty"),
            ("a.>.b", 2, "`>`"),
            ("a.b>", 3, "`>`"),
            ("a.x*", 3, "`*`"),
            ("a.**", 2, "`*`"),
            ("a b", 1, "' '"),
            ("ü.\t", 3, "'\\t'"),
        ] {
            let (place, reason) =
                refuse_pattern(pattern).unwrap_or_else(|| panic!("{pattern:?} was taken"));
            assert_eq!(place, at, "{pattern:?}: {reason}");
            assert!(reason.contains(culprit), "{pattern:?}: {reason}");
        }
        for pattern in [">", "*", "a", "a.*.b", "*.a.>", "$KV.x.>", "ü.*"] {
            assert_eq!(refuse_pattern(pattern), None, "{pattern:?}");
        }
    }

    #[test]
    fn patterns_overlap_both_ways() {
        for (a, b, both) in [
            ("a.*", "a.b", true),
            ("a.*", "*.b", true),
            ("a.>", "*.b.c", true),
            (">", "a", true),
            ("a.>", "a", false),
            ("a.*", "b.*", false),
            ("a.*", "a.b.c", false),
            ("a.*.c", "a.b.>", true),
            ("a.*.c", "a.b.d", false),
        ] {
            assert_eq!(overlap(a, b), both, "{a} {b}");
            assert_eq!(overlap(b, a), both, "{b} {a}");
        }
    }

    #[test]
    fn patterns_cover_as_the_server_has_it() {
        for (pattern, subject, covered) in [
            ("a.0", "a.0", true),
            ("a.*", "a.0", true),
            ("a.>", "a.0", true),
            (">", "a.0", true),
            ("*.0", "a.0", true),
            ("a.*", "a.b.0", false),
            ("a.>", "a", false),
            ("a", "a.0", false),
            ("a.0.b", "a.0", false),
        ] {
            assert_eq!(covers(pattern, subject), covered, "{pattern} {subject}");
        }
    }

    proptest! {
        #[test]
        fn different_topics_have_different_streams(a in ".{1,20}", b in ".{1,20}") {
            prop_assert_eq!(a == b, stream_of(&a) == stream_of(&b));
        }

        #[test]
        fn different_subscriptions_have_different_durables(
            a in ("[a~.%0-9]{1,6}", "[a~.%0-9]{1,6}", 0..40u32),
            b in ("[a~.%0-9]{1,6}", "[a~.%0-9]{1,6}", 0..40u32),
        ) {
            let of = |(group, topic, partition): &(String, String, u32)| durable(group, topic, *partition);
            prop_assert_eq!(a == b, of(&a) == of(&b));
            prop_assert!(refuse_stream(&of(&a)).is_none());
        }

        #[test]
        fn durables_of_patterns_are_nobody_elses(
            a in ("[a~.%*>]{1,6}", "[a~.%*>w]{1,6}"), b in ("[a~.%*>]{1,6}", "[a~.%*>w]{1,6}"), p in 0..40u32,
        ) {
            let of = |(group, pattern): &(String, String)| durable_of_pattern(group, pattern);
            prop_assert_eq!(a == b, of(&a) == of(&b));
            prop_assert!(of(&a) != durable(&b.0, &b.1, p) && refuse_stream(&of(&a)).is_none());
        }

        #[test]
        fn a_pattern_overlaps_what_it_covers(pattern in "[ab*]([.][ab*]){0,2}([.]>)?", subject in "[ab]([.][ab]){0,3}") {
            prop_assert_eq!(overlap(&pattern, &subject), covers(&pattern, &subject));
        }

        #[test]
        fn a_subject_gives_its_topic_and_partition_back(topic in "[a-c0-9.]{1,8}", p in 0..5000u32) {
            prop_assert_eq!(partition_in(&topic, &subject(&topic, p)), Some(p));
        }

        #[test]
        fn different_topics_never_share_a_subject(
            a in ("[ab0.]{1,5}", 0..12u32), b in ("[ab0.]{1,5}", 0..12u32),
        ) {
            prop_assert_eq!(a == b, subject(&a.0, a.1) == subject(&b.0, b.1));
        }
    }
}
