//! Headers: an envelope as a record of Kafka, and back. The payload and the key are not touched.
//!
//! | header | what |
//! |---|---|
//! | `clearway-id` | the envelope's id, a UUID with hyphens |
//! | `clearway-time` | milliseconds since the Unix epoch, only if the id (UUID version 7) does not say the same |
//! | `traceparent`, `tracestate` | the trace context, as W3C names them |
//! | any other | the envelope's headers, under their own names and in their order |
//!
//! Names must be UTF-8 without a NUL. `clearway-*` and the trace headers are taken. Values are bytes. A header without a value,
//! which others may write, is read as an empty one; a record without a payload (a tombstone) as an empty payload.

use crate::envelope::{Envelope, Headers, TraceContext};
use crate::error::{Failure, FailureKind};
use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message, OwnedHeaders};
use std::panic::{AssertUnwindSafe, catch_unwind};
use uuid::Uuid;

const ID: &str = "clearway-id";
const TIME: &str = "clearway-time";
const TRACE_PARENT: &str = "traceparent";
const TRACE_STATE: &str = "tracestate";

/// The headers of `envelope`.
pub(super) fn encode(envelope: &Envelope) -> Result<OwnedHeaders, Failure> {
    let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
    let id: &str = envelope.id.as_hyphenated().encode_lower(&mut id);
    let add = |headers: OwnedHeaders, key: &str, value: &[u8]| {
        let value = Some(value);
        headers.insert(Header { key, value })
    };
    let count = 4 + envelope.headers.len();
    let mut headers = add(OwnedHeaders::new_with_capacity(count), ID, id.as_bytes());
    if time_of(envelope.id) != Some(envelope.time_ms) {
        headers = add(headers, TIME, envelope.time_ms.to_string().as_bytes());
    }
    if let Some(trace) = &envelope.trace {
        headers = add(headers, TRACE_PARENT, &trace.parent);
        if let Some(state) = &trace.state {
            headers = add(headers, TRACE_STATE, state);
        }
    }
    for (name, value) in envelope.headers.iter() {
        headers = add(headers, check_name(name)?, value);
    }
    Ok(headers)
}

fn check_name(name: &[u8]) -> Result<&str, Failure> {
    let refuse = |why: &str| {
        let shown = String::from_utf8_lossy(name);
        let text = format!("Kafka cannot carry the header `{shown}`: {why}");
        Err(Failure::new(FailureKind::Unsupported, text))
    };
    let Ok(text) = std::str::from_utf8(name) else {
        return refuse("its name is not UTF-8");
    };
    if text.is_empty() {
        return refuse("it has no name");
    }
    if text.contains('\0') {
        return refuse("its name has a NUL");
    }
    if is_ours(text) {
        return refuse("clearway-*, traceparent and tracestate are taken");
    }
    Ok(text)
}

fn is_ours(name: &str) -> bool {
    name.starts_with("clearway-") || name == TRACE_PARENT || name == TRACE_STATE
}

/// The envelope that a record carries. What a foreign publisher left out is made up, the same way every time it is delivered.
pub(super) fn decode(record: &BorrowedMessage<'_>) -> Envelope {
    let bytes = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
    let mut read = Read::default();
    if let Some(headers) = record.headers() {
        for at in 0..headers.count() {
            // The client panics at a name that is not UTF-8, which others may write.
            match catch_unwind(AssertUnwindSafe(|| headers.get(at))) {
                Ok(Header { key, value }) => read.take(key, value.unwrap_or_default()),
                Err(_) => {
                    let (partition, offset) = (record.partition(), record.offset());
                    tracing::error!(
                        topic = record.topic(),
                        partition,
                        offset,
                        "a header whose name is not UTF-8 is left out"
                    );
                }
            }
        }
    }
    let Read {
        id,
        time_ms,
        parent,
        state,
        headers,
    } = read;
    let id = id.unwrap_or_else(|| made_up(record.topic(), record.partition(), record.offset()));
    let stamped = || u64::try_from(record.timestamp().to_millis().unwrap_or(0)).unwrap_or(0);
    Envelope {
        id,
        key: bytes(record.key()),
        headers,
        payload: bytes(record.payload()).unwrap_or_default(),
        time_ms: time_ms.or_else(|| time_of(id)).unwrap_or_else(stamped),
        trace: parent.map(|parent| TraceContext { parent, state }),
    }
}

#[derive(Default)]
struct Read {
    id: Option<Uuid>,
    time_ms: Option<u64>,
    parent: Option<Bytes>,
    state: Option<Bytes>,
    headers: Headers,
}

impl Read {
    fn take(&mut self, name: &str, value: &[u8]) {
        match name {
            ID if self.id.is_none() => self.id = Uuid::try_parse_ascii(value).ok(),
            TIME => {
                self.time_ms = std::str::from_utf8(value)
                    .ok()
                    .and_then(|ms| ms.parse().ok())
            }
            TRACE_PARENT => self.parent = Some(Bytes::copy_from_slice(value)),
            TRACE_STATE => self.state = Some(Bytes::copy_from_slice(value)),
            _ if is_ours(name) => {}
            _ => self.headers.add(
                Bytes::copy_from_slice(name.as_bytes()),
                Bytes::copy_from_slice(value),
            ),
        }
    }
}

/// The time in an id of version 7.
fn time_of(id: Uuid) -> Option<u64> {
    (id.get_version_num() == 7).then(|| (id.as_u128() >> 80) as u64)
}

/// An id for a record that came without one: of its place.
fn made_up(topic: &str, partition: i32, offset: i64) -> Uuid {
    let place = partition
        .to_be_bytes()
        .into_iter()
        .chain(offset.to_be_bytes());
    // FNV-1a, 128 bits.
    let hash = topic.bytes().chain([0]).chain(place).fold(
        0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128,
        |hash, byte| {
            (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
        },
    );
    uuid::Builder::from_custom_bytes(hash.to_be_bytes()).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        Envelope {
            id: Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001),
            key: None,
            headers: Headers::default(),
            payload: Bytes::new(),
            time_ms: 5,
            trace: None,
        }
    }

    #[test]
    fn what_is_encoded_is_read_back() {
        let mut envelope = envelope();
        envelope.headers.add("a", "1");
        envelope.headers.add("b", &b"\xff\x00"[..]);
        envelope.headers.add("a", "");
        envelope.trace = Some(TraceContext {
            parent: "p".into(),
            state: None,
        });
        let headers = encode(&envelope).expect("can be carried");
        let mut read = Read::default();
        for header in headers.as_borrowed().iter() {
            read.take(header.key, header.value.unwrap_or_default());
        }
        assert_eq!(read.id, Some(envelope.id));
        assert_eq!(read.time_ms, Some(5), "the id says another");
        assert_eq!(read.headers, envelope.headers);
        assert_eq!(read.parent.as_deref(), Some(&b"p"[..]));
        assert_eq!(read.state, None);
    }

    #[test]
    fn names_that_cannot_be_carried_are_refused() {
        for name in [
            &b""[..],
            b"a\0b",
            b"\xff",
            b"clearway-id",
            b"clearway-x",
            b"traceparent",
        ] {
            let mut envelope = envelope();
            envelope.headers.add(name.to_vec(), "");
            let refused = encode(&envelope).expect_err("it cannot");
            assert_eq!(refused.kind(), FailureKind::Unsupported);
        }
    }

    #[test]
    fn an_id_that_is_made_up_is_of_the_place() {
        assert_eq!(made_up("t", 0, 1), made_up("t", 0, 1));
        assert_ne!(made_up("t", 0, 1), made_up("t", 1, 0));
        assert_ne!(made_up("t", 0, 1), made_up("u", 0, 1));
    }
}
