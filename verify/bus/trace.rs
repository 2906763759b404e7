//! Spans around attempts, as a tracing layer sees them.

use clearway::{Bus, Delivery, HandlerError, Outcome, Retry, Trace, TraceContext};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Subscriber, info};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// The spans there were, in the order in which they began, with their fields.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<Seen>>>);

#[derive(Clone, Debug, Default)]
struct Seen {
    id: u64,
    name: &'static str,
    fields: BTreeMap<&'static str, String>,
    /// What was said inside.
    events: usize,
}

struct Fields<'f>(&'f mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        let mut seen = Seen {
            id: id.into_u64(),
            name: attributes.metadata().name(),
            ..Seen::default()
        };
        attributes.record(&mut Fields(&mut seen.fields));
        self.0.lock().push(seen);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut spans = self.0.lock();
        // Ids are used again: the last one is meant.
        let seen = spans.iter_mut().rev().find(|seen| seen.id == id.into_u64());
        values.record(&mut Fields(&mut seen.expect("it began").fields));
    }

    fn on_event(&self, _: &tracing::Event<'_>, context: Context<'_, S>) {
        let Some(span) = context.lookup_current() else {
            return;
        };
        let mut spans = self.0.lock();
        let seen = spans.iter_mut().rev();
        for seen in seen.filter(|seen| seen.id == span.id().into_u64()).take(1) {
            seen.events += 1;
        }
    }
}

#[tokio::test]
async fn each_attempt_has_a_span_by_the_messaging_conventions() {
    let spans = Spans::default();
    // This thread's own: the runtime of this test has no other.
    let _while_it_runs =
        tracing::subscriber::set_default(tracing_subscriber::registry().with(spans.clone()));
    let bus = Bus::connect("memory://").await.unwrap();
    let orders = bus.topic::<u32>("orders").unwrap();
    let adopted = Arc::new(Mutex::new(Vec::new()));
    let told = adopted.clone();
    let trace = Trace::new().parent(move |_, context| told.lock().push(context.parent.clone()));
    let retry = Retry::new().delays(Duration::from_millis(1), Duration::from_millis(1));
    let subscription = orders
        .subscription("billing")
        .retry(retry)
        .trace(trace)
        .handler(|order: Delivery<u32>| async move {
            info!("at work");
            match order.attempt {
                1 => Err::<Outcome, HandlerError>("the first time".into()),
                _ => Ok(Outcome::Ack),
            }
        })
        .await
        .unwrap();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let context = TraceContext {
        parent: parent.into(),
        state: None,
    };
    orders.publish(&17).trace(context).await.unwrap();
    let settled = || async { bus.metrics().handler_acks == 1 };
    while !settled().await {
        tokio::task::yield_now().await;
    }
    subscription.drain(Duration::from_secs(5)).await;
    bus.close(Duration::from_secs(5)).await;

    let seen: Vec<Seen> = (spans.0.lock().iter())
        .filter(|seen| seen.name == "process")
        .cloned()
        .collect();
    assert_eq!(seen.len(), 2, "{seen:?}");
    for (number, seen) in seen.iter().enumerate() {
        let field = |name: &str| seen.fields.get(name).map(String::as_str);
        assert_eq!(field("otel.name"), Some("process orders"));
        assert_eq!(field("otel.kind"), Some("consumer"));
        assert_eq!(field("messaging.system"), Some("memory"));
        assert_eq!(field("messaging.operation.type"), Some("process"));
        assert_eq!(field("messaging.destination.name"), Some("orders"));
        assert_eq!(field("messaging.consumer.group.name"), Some("billing"));
        assert_eq!(field("messaging.message.body.size"), Some("2"));
        assert_eq!(field("traceparent"), Some(parent));
        assert_eq!(field("clearway.attempt"), Some(["1", "2"][number]));
        let failed = (number == 0).then_some("handler");
        assert_eq!(field("error.type"), failed);
        assert!(seen.events > 0, "the handler is not inside its span");
    }
    assert_eq!(adopted.lock().as_slice(), [parent, parent]);
}
