//! Envelope: what the bus carries. It never looks into the payload.

use crate::runtime::Runtime;
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// One event on its way: who it is, where it belongs, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Unique, and in the order of time (UUID version 7). Brokers that can de-duplicate do it by this.
    pub id: Uuid,
    /// Envelopes of one key keep their order. None: no order is asked for.
    pub key: Option<Bytes>,
    /// What travels beside the payload.
    pub headers: Headers,
    /// The event, encoded.
    pub payload: Bytes,
    /// When it was made, by the publisher's clock, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Where it belongs in a distributed trace.
    pub trace: Option<TraceContext>,
}

/// A W3C trace context, carried as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The `traceparent` header.
    pub parent: Bytes,
    /// The `tracestate` header.
    pub state: Option<Bytes>,
}

/// Names and values in the order they were added. A name may come more than once. Names and values are bytes: what is no
/// text is kept as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
// Shared, so that a clone of an envelope copies nothing; none is the common case, and takes no memory.
pub struct Headers(Option<Arc<Vec<(Bytes, Bytes)>>>);

impl Envelope {
    /// An envelope around `payload`, with an id and a time of `runtime`.
    pub(crate) fn new(payload: Bytes, runtime: &dyn Runtime) -> Self {
        let time_ms = runtime.unix_time().as_millis() as u64;
        let mut random = [0; 16];
        random[..8].copy_from_slice(&runtime.random().to_le_bytes());
        random[8..].copy_from_slice(&runtime.random().to_le_bytes());
        let mut ten = [0; 10];
        ten.copy_from_slice(&random[..10]);
        let id = uuid::Builder::from_unix_timestamp_millis(time_ms, &ten).into_uuid();
        Self {
            id,
            key: None,
            headers: Headers::default(),
            payload,
            time_ms,
            trace: None,
        }
    }

    /// What it counts against limits, in bytes: payload, key and headers, and 64 for the rest.
    pub fn size(&self) -> usize {
        let key = self.key.as_ref().map_or(0, Bytes::len);
        let trace = self.trace.as_ref().map_or(0, TraceContext::size);
        64 + self.payload.len() + key + self.headers.size() + trace
    }

    /// When it was made, by the publisher's clock.
    pub fn time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.time_ms)
    }
}

impl TraceContext {
    fn size(&self) -> usize {
        self.parent.len() + self.state.as_ref().map_or(0, Bytes::len)
    }
}

impl Headers {
    /// Adds a header behind the others.
    pub fn add(&mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) {
        Arc::make_mut(self.0.get_or_insert_default()).push((name.into(), value.into()));
    }

    /// The first header of that name.
    pub fn first(&self, name: &str) -> Option<&Bytes> {
        self.iter()
            .find(|(there, _)| there.as_ref() == name.as_bytes())
            .map(|(_, value)| value)
    }

    /// All headers, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.0
            .iter()
            .flat_map(|headers| headers.iter())
            .map(|(name, value)| (name, value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |headers| headers.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn size(&self) -> usize {
        self.iter()
            .map(|(name, value)| name.len() + value.len())
            .sum()
    }
}
