//! Log: what a bus and the clients below it tell while a test runs, for whoever has to find out why it failed.
//!
//! `CLEARWAY_TEST_LOG=debug` (or another level) writes it to standard error, each line with the process and the time since it began.
//! Without it nothing is written, and nothing is decided by it ever.

use std::fmt::{Debug, Write as _};
use std::io::Write as _;
use std::sync::Once;
use std::time::Instant;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

const LOG: &str = "CLEARWAY_TEST_LOG";

/// From here on the process tells, if it is asked to.
pub(crate) fn begin() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| {
        let Some(level) = std::env::var(LOG).ok().and_then(|text| text.parse().ok()) else {
            return;
        };
        let log = Log {
            level,
            begun: Instant::now(),
        };
        // Who has set another has a reason.
        let _ = tracing::subscriber::set_global_default(log);
    });
}

struct Log {
    level: Level,
    begun: Instant,
}

/// The fields of a line, the message first.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && *metadata.level() <= self.level
            && metadata.target().starts_with("clearway")
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let text = format!(
            "log {} {:9.3} {:5} {}{}\n",
            std::process::id(),
            self.begun.elapsed().as_secs_f64(),
            event.metadata().level(),
            line.message,
            line.fields,
        );
        // One write a line, so that processes side by side do not mix theirs; and past the test harness.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
