//! Decoding: an envelope from the headers and the payload of a message.

use super::{HEX, KEY, ORDER, TIME, TRACE_PARENT, TRACE_STATE, is_ours, time_of};
use crate::envelope::{Envelope, Headers, TraceContext};
use async_nats::header::{HeaderMap, HeaderValue, NATS_MESSAGE_ID};
use bytes::Bytes;
use uuid::Uuid;

/// Where a delivery comes from, for what its headers do not say.
pub(in super::super) struct Origin<'a> {
    pub(in super::super) stream: &'a str,
    pub(in super::super) sequence: u64,
    pub(in super::super) time_ms: u64,
}

/// The envelope that came with `map`. What a foreign publisher left out is made up, the same way
/// every time it is delivered.
pub(in super::super) fn decode(
    map: Option<&HeaderMap>,
    payload: Bytes,
    origin: &Origin<'_>,
) -> Envelope {
    let known = map.map(Known::of).unwrap_or_default();
    let id = known
        .id
        .and_then(|id| Uuid::try_parse(id.as_str()).ok())
        .unwrap_or_else(|| made_up(origin, known.id.map_or("", HeaderValue::as_str)));
    let time_ms = known
        .time
        .and_then(|time| time.as_str().parse().ok())
        .or_else(|| time_of(id))
        .unwrap_or(origin.time_ms);
    let rest = map.filter(|_| known.others);
    Envelope {
        id,
        key: known.key.map(bytes_of),
        headers: rest.map(decode_rest).unwrap_or_default(),
        payload,
        time_ms,
        trace: known.trace_parent.map(|parent| TraceContext {
            parent: bytes_of(parent),
            state: known.trace_state.map(bytes_of),
        }),
    }
}

/// The headers that mean something to the bus.
#[derive(Default)]
struct Known<'a> {
    id: Option<&'a HeaderValue>,
    time: Option<&'a HeaderValue>,
    key: Option<&'a HeaderValue>,
    trace_parent: Option<&'a HeaderValue>,
    trace_state: Option<&'a HeaderValue>,
    /// Whether there are others, which are the envelope's own.
    others: bool,
}

impl<'a> Known<'a> {
    /// Looks at each once: asked for by name, each would be hashed.
    fn of(map: &'a HeaderMap) -> Self {
        let mut known = Self::default();
        for (name, values) in map.iter() {
            let place = match name {
                name if *name == NATS_MESSAGE_ID => &mut known.id,
                name if *name == KEY => &mut known.key,
                name if *name == TIME => &mut known.time,
                name if *name == TRACE_PARENT => &mut known.trace_parent,
                name if *name == TRACE_STATE => &mut known.trace_state,
                name => {
                    let name: &str = name.as_ref();
                    known.others |= !is_ours(name.as_bytes());
                    continue;
                }
            };
            *place = values.first();
        }
        known
    }
}

fn decode_rest(map: &HeaderMap) -> Headers {
    let mut lists: Vec<(&str, std::slice::Iter<'_, HeaderValue>)> = map
        .iter()
        .map(|(name, values)| (AsRef::<str>::as_ref(name), values.iter()))
        .filter(|(name, _)| !is_ours(name.as_bytes()))
        .collect();
    // The map has no order; without a hint the names' own is as good as any, and always the same.
    lists.sort_unstable_by_key(|(name, _)| *name);
    let mut headers = Headers::default();
    let mut add = |name: &str, value: &HeaderValue| {
        headers.add(Bytes::copy_from_slice(name.as_bytes()), bytes_of(value));
    };
    if let Some(order) = map.get(ORDER) {
        for name in order.as_str().split(' ') {
            let list = lists.iter_mut().find(|(there, _)| *there == name);
            if let Some(value) = list.and_then(|(_, values)| values.next()) {
                add(name, value);
            }
        }
    }
    for (name, values) in lists {
        values.for_each(|value| add(name, value));
    }
    headers
}

/// An id for an envelope that came without a UUID: of its stream, and its own id or else its place.
fn made_up(origin: &Origin<'_>, given: &str) -> Uuid {
    let place = origin.sequence.to_be_bytes();
    let tail = if given.is_empty() {
        &place[..]
    } else {
        given.as_bytes()
    };
    // FNV-1a, 128 bits.
    let hash = origin
        .stream
        .bytes()
        .chain([0])
        .chain(tail.iter().copied())
        .fold(
            0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128,
            |hash, byte| {
                (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
            },
        );
    uuid::Builder::from_custom_bytes(hash.to_be_bytes()).into_uuid()
}

fn bytes_of(value: &HeaderValue) -> Bytes {
    let text = value.as_str();
    text.strip_prefix(HEX)
        .and_then(unhex)
        .map_or_else(|| Bytes::copy_from_slice(text.as_bytes()), Bytes::from)
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs
        .iter()
        .map(|[high, low]| Some((digit(*high)? << 4 | digit(*low)?) as u8))
        .collect()
}
