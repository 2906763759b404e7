//! Health: is the bus alive, is it ready, and when did the broker last answer?

use crate::backend::any::Any;
use crate::backend::{Backend, Connection};
use crate::core::Core;
use crate::error::{Failure, FailureKind};
use crate::runtime::timeout;
use std::sync::Arc;
use std::time::Duration;

/// How a bus is. `live` and `ready` answer different questions: a bus that reconnects is alive
/// and not ready, and restarting it would not help.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HealthReport {
    /// The bus's own tasks run: it is not closed.
    pub live: bool,
    /// A publish now has a connection to go over and room to go in.
    pub ready: bool,
    /// Each part.
    pub components: Vec<Component>,
}

/// How one part of a bus is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Component {
    /// Which.
    pub name: &'static str,
    /// Whether it is well.
    pub ok: bool,
    /// For people.
    pub detail: String,
    /// How long the round trip to the broker took that was just made.
    pub round_trip: Option<Duration>,
}

pub(crate) async fn check(core: &Arc<Core<Any>>, limit: Duration) -> HealthReport {
    let shared = &core.shared;
    let live = !shared.admission.gate.is_shut();
    let session = session(core, limit).await;
    let free = shared.admission.credit.free();
    let total = shared.admission.credit.limit();
    let credit = Component {
        name: "credit",
        ok: free.envelopes > 0 && free.bytes > 0,
        detail: format!(
            "{} of {} envelopes and {} of {} bytes are free",
            free.envelopes, total.envelopes, free.bytes, total.bytes
        ),
        round_trip: None,
    };
    HealthReport {
        live,
        ready: live && session.ok && credit.ok,
        components: vec![session, credit],
    }
}

/// The session, by a round trip over it.
async fn session(core: &Arc<Core<Any>>, limit: Duration) -> Component {
    let runtime = &core.shared.runtime;
    let begun = runtime.now();
    let generation = core.sessions.generation();
    let answer = match core.connection() {
        None => Err(Failure::new(FailureKind::Closed, "the bus is closed")),
        Some(connection) => match timeout(runtime, limit, connection.ping()).await {
            Some(answer) => answer,
            None => Err(Failure::new(
                FailureKind::TimedOut,
                format!("no answer within {limit:?}"),
            )),
        },
    };
    let took = runtime.now().saturating_sub(begun);
    let endpoint = core.backend.endpoint();
    let (ok, detail) = match &answer {
        Ok(()) => (true, format!("{endpoint}, session {generation}")),
        Err(failure) => (
            false,
            format!("{endpoint}, session {generation}: {failure}"),
        ),
    };
    Component {
        name: "session",
        ok,
        detail,
        round_trip: ok.then_some(took),
    }
}
