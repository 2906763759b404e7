//! Headers: what travels beside the payload, as NATS carries it. The payload is not touched.
//!
//! | header | what |
//! |---|---|
//! | `Nats-Msg-Id` | the envelope's id, a UUID with hyphens: the stream's duplicate window knows it |
//! | `Clearway-Key` | the key, if there is one |
//! | `Clearway-Time` | milliseconds since the Unix epoch, only if the id (UUID version 7) does not say the same |
//! | `Clearway-Order` | the names of the other headers in their order, only if there are different ones |
//! | `traceparent`, `tracestate` | the trace context, as W3C names them |
//! | any other | the envelope's headers, under their own names |
//!
//! A value that is plain text goes as it is. One that a header line would not give back unchanged
//! (control characters, spaces at an end, no UTF-8) goes as `=hex=` and hex digits, and so does one
//! that itself begins with `=hex=`.
//!
//! Names must be printable ASCII without `:`. `Nats-*`, `Clearway-*` and the trace headers are taken.

mod decode;

use crate::envelope::{Envelope, Headers};
use crate::error::{Failure, FailureKind};
use async_nats::header::{HeaderMap, HeaderName, HeaderValue, NATS_MESSAGE_ID};
pub(super) use decode::{Origin, decode};
use std::fmt::Write;
use uuid::Uuid;

const KEY: HeaderName = HeaderName::from_static("Clearway-Key");
const TIME: HeaderName = HeaderName::from_static("Clearway-Time");
const ORDER: HeaderName = HeaderName::from_static("Clearway-Order");
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");
const HEX: &str = "=hex=";

/// Refuses an envelope whose headers NATS cannot carry.
pub(super) fn check(envelope: &Envelope) -> Result<(), Failure> {
    envelope
        .headers
        .iter()
        .try_for_each(|(name, _)| check_name(name))
}

fn check_name(name: &[u8]) -> Result<(), Failure> {
    let shown = || String::from_utf8_lossy(name).into_owned();
    let refuse = |text: String| Err(Failure::new(FailureKind::Unsupported, text));
    if name.is_empty() {
        return refuse("NATS cannot carry a header without a name".into());
    }
    if let Some(bad) = name.iter().find(|b| !b.is_ascii_graphic() || **b == b':') {
        return refuse(format!(
            "NATS cannot carry the header `{}`: {:?} cannot be in a name",
            shown(),
            char::from(*bad)
        ));
    }
    if is_ours(name) {
        return refuse(format!(
            "the header `{}` is taken: Nats-*, Clearway-*, traceparent and tracestate are not for envelopes",
            shown()
        ));
    }
    Ok(())
}

fn is_ours(name: &[u8]) -> bool {
    let begins = |prefix: &[u8]| {
        name.get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    begins(b"Nats-")
        || begins(b"Clearway-")
        || name.eq_ignore_ascii_case(b"traceparent")
        || name.eq_ignore_ascii_case(b"tracestate")
}

/// The headers of `envelope`, which was checked. Allocates what the client's map asks for: for an
/// envelope with neither key nor headers, the map, one list and one string.
pub(super) fn encode(envelope: &Envelope) -> HeaderMap {
    let mut map = HeaderMap::new();
    let mut id = String::with_capacity(uuid::fmt::Hyphenated::LENGTH);
    write!(id, "{}", envelope.id.as_hyphenated()).expect("a String takes everything");
    map.insert(NATS_MESSAGE_ID, id);
    if let Some(key) = &envelope.key {
        map.insert(KEY, value_of(key));
    }
    if time_of(envelope.id) != Some(envelope.time_ms) {
        map.insert(TIME, envelope.time_ms.to_string());
    }
    if let Some(trace) = &envelope.trace {
        map.insert(TRACE_PARENT, value_of(&trace.parent));
        if let Some(state) = &trace.state {
            map.insert(TRACE_STATE, value_of(state));
        }
    }
    if !envelope.headers.is_empty() {
        encode_rest(&mut map, &envelope.headers);
    }
    map
}

fn encode_rest(map: &mut HeaderMap, headers: &Headers) {
    let mut order = String::new();
    let mut first = None;
    let mut differ = false;
    for (name, value) in headers.iter() {
        // Checked: printable ASCII.
        let Ok(text) = std::str::from_utf8(name) else {
            continue;
        };
        let Ok(name) = text.parse::<HeaderName>() else {
            continue;
        };
        differ |= *first.get_or_insert(text) != text;
        if !order.is_empty() {
            order.push(' ');
        }
        order.push_str(text);
        map.append(name, value_of(value));
    }
    if differ {
        map.insert(ORDER, order);
    }
}

/// The time in an id of version 7.
fn time_of(id: Uuid) -> Option<u64> {
    (id.get_version_num() == 7).then(|| (id.as_u128() >> 80) as u64)
}

fn value_of(bytes: &[u8]) -> HeaderValue {
    match std::str::from_utf8(bytes) {
        Ok(text) if is_plain(text) => text.into(),
        _ => hex(bytes).into(),
    }
}

fn is_plain(text: &str) -> bool {
    !text.contains(char::is_control) && text.trim() == text && !text.starts_with(HEX)
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(HEX.len() + 2 * bytes.len());
    out.push_str(HEX);
    for byte in bytes {
        write!(out, "{byte:02x}").expect("a String takes everything");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::TraceContext;
    use bytes::Bytes;
    use proptest::prelude::*;

    const ORIGIN: Origin<'static> = Origin {
        stream: "orders",
        sequence: 7,
        time_ms: 99,
    };

    /// What the client does on the wire: lines, trimmed.
    fn wire(map: &HeaderMap) -> HeaderMap {
        let mut text = String::new();
        for (name, values) in map.iter() {
            for value in values {
                write!(text, "{name}: {value}\r\n").expect("fine");
            }
        }
        let mut out = HeaderMap::new();
        for line in text.lines() {
            let (name, value) = line.split_once(':').expect("a colon");
            out.append(name, value.trim());
        }
        out
    }

    fn round(envelope: &Envelope) -> Envelope {
        check(envelope).expect("it can be carried");
        let map = wire(&encode(envelope));
        decode(Some(&map), envelope.payload.clone(), &ORIGIN)
    }

    fn bytes() -> impl Strategy<Value = Bytes> {
        prop_oneof![
            "[ a-z=]{0,8}".prop_map(Bytes::from),
            "=hex=[0-9a-g]{0,4}".prop_map(Bytes::from),
            ".{0,8}".prop_map(Bytes::from),
            prop::collection::vec(any::<u8>(), 0..8).prop_map(Bytes::from),
        ]
    }

    prop_compose! {
        fn envelope()(
            id in any::<u128>(),
            key in prop::option::of(bytes()),
            pairs in prop::collection::vec(("[a-cX!~-]{1,2}", bytes()), 0..6),
            payload in bytes(),
            time_ms in any::<u64>(),
            trace in prop::option::of((bytes(), prop::option::of(bytes()))),
        ) -> Envelope {
            let mut headers = Headers::default();
            for (name, value) in pairs {
                headers.add(name, value);
            }
            let trace = trace.map(|(parent, state)| TraceContext { parent, state });
            Envelope { id: Uuid::from_u128(id), key, headers, payload, time_ms, trace }
        }
    }

    proptest! {
        #[test]
        fn an_envelope_comes_back_as_it_went(envelope in envelope()) {
            prop_assert_eq!(round(&envelope), envelope);
        }

        #[test]
        fn different_values_are_different_on_the_wire(a in bytes(), b in bytes()) {
            prop_assert_eq!(a == b, value_of(&a) == value_of(&b));
        }
    }

    #[test]
    fn a_plain_envelope_has_one_header() {
        let id = uuid::Builder::from_unix_timestamp_millis(1234, &[1; 10]).into_uuid();
        let envelope = Envelope {
            id,
            key: None,
            headers: Headers::default(),
            payload: Bytes::new(),
            time_ms: 1234,
            trace: None,
        };
        assert_eq!(encode(&envelope).len(), 1);
        assert_eq!(round(&envelope), envelope);
    }

    #[test]
    fn names_that_cannot_be_carried_are_refused_with_the_character() {
        for (name, named) in [
            ("", "without a name"),
            ("a b", "' '"),
            ("a:b", "':'"),
            ("ä", "'Ã'"),
            ("a\nb", "'\\n'"),
            ("nats-rollup", "taken"),
            ("Clearway-Key", "taken"),
            ("Traceparent", "taken"),
        ] {
            let failure = check_name(name.as_bytes()).expect_err(name);
            assert_eq!(failure.kind(), FailureKind::Unsupported);
            assert!(failure.to_string().contains(named), "{name:?}: {failure}");
        }
        assert!(check_name(b"Content-Type").is_ok());
    }

    #[test]
    fn a_foreign_message_is_the_same_envelope_every_time() {
        let decode_at = |sequence| {
            let origin = Origin { sequence, ..ORIGIN };
            decode(None, Bytes::from("x"), &origin)
        };
        assert_eq!(decode_at(7), decode_at(7));
        assert_ne!(decode_at(7).id, decode_at(8).id);
        assert_eq!(decode_at(7).time_ms, 99);

        let mut map = HeaderMap::new();
        map.insert(NATS_MESSAGE_ID, "order-1");
        map.insert("b", "2");
        map.insert("a", "=hex=zz");
        let foreign = decode(Some(&map), Bytes::new(), &ORIGIN);
        let elsewhere = Origin {
            sequence: 8,
            ..ORIGIN
        };
        assert_eq!(foreign.id, decode(Some(&map), Bytes::new(), &elsewhere).id);
        let headers: Vec<_> = foreign.headers.iter().collect();
        assert_eq!(
            headers,
            [
                (&Bytes::from("a"), &Bytes::from("=hex=zz")),
                (&Bytes::from("b"), &Bytes::from("2"))
            ]
        );
    }
}
