//! Trace: a span around each attempt, named and filled as OpenTelemetry's messaging conventions say.
//!
//! Source: OpenTelemetry, "Semantic conventions for messaging spans": the span of kind CONSUMER, operation `process`.

use crate::backend::Position;
use crate::envelope::{Envelope, TraceContext};
use std::fmt;
use std::sync::Arc;
use tracing::Span;
use tracing::field::{Empty, display};

/// A span around each attempt of a handler: `process`, with `otel.name` `process <topic>`, at level INFO.
///
/// The publisher's trace context is in the field `traceparent`, and in
/// [`Envelope::trace`](crate::Envelope::trace) for what the handler publishes itself. A tracing layer that has parents of its own
/// (OpenTelemetry's) is told of it by [`parent`](Self::parent).
///
/// ```
/// use clearway::Trace;
///
/// let trace = Trace::new().parent(|span, context| {
///     // With tracing-opentelemetry: extract a context from `context.parent` and `span.set_parent(..)`.
///     let _ = (span, context);
/// });
/// # let _ = trace;
/// ```
#[derive(Clone, Default)]
pub struct Trace {
    parent: Option<Adopt>,
}

/// Gives a span the parent that a trace context names.
type Adopt = Arc<dyn Fn(&Span, &TraceContext) + Send + Sync>;

/// What a span is about.
pub(crate) struct About<'a> {
    pub(crate) system: &'static str,
    pub(crate) topic: &'a str,
    pub(crate) group: &'a str,
    pub(crate) position: Position,
    pub(crate) envelope: &'a Envelope,
    pub(crate) attempt: u32,
}

impl Trace {
    /// Spans that are not told of a parent.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls this with each new span whose envelope carries a trace context.
    pub fn parent(mut self, adopt: impl Fn(&Span, &TraceContext) + Send + Sync + 'static) -> Self {
        self.parent = Some(Arc::new(adopt));
        self
    }

    pub(crate) fn span(&self, about: &About<'_>) -> Span {
        let About {
            system,
            topic,
            group,
            position,
            envelope,
            attempt,
        } = about;
        let span = tracing::info_span!(
            "process",
            otel.name = %format_args!("process {topic}"),
            otel.kind = "consumer",
            otel.status_code = Empty,
            messaging.system = system,
            messaging.operation.name = "process",
            messaging.operation.r#type = "process",
            messaging.destination.name = topic,
            messaging.destination.partition.id = position.partition,
            messaging.consumer.group.name = group,
            messaging.message.id = %envelope.id,
            messaging.message.body.size = envelope.payload.len(),
            clearway.offset = position.offset,
            clearway.attempt = attempt,
            traceparent = Empty,
            error.type = Empty,
        );
        if let Some(trace) = &envelope.trace
            && !span.is_disabled()
        {
            span.record(
                "traceparent",
                display(String::from_utf8_lossy(&trace.parent)),
            );
            if let Some(adopt) = &self.parent {
                adopt(&span, trace);
            }
        }
        span
    }
}

/// The attempt of this span has failed.
pub(crate) fn failed(span: &Span, kind: &'static str) {
    span.record("otel.status_code", "ERROR");
    span.record("error.type", kind);
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace")
            .field("parent", &self.parent.is_some())
            .finish()
    }
}
