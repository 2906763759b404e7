//! Supervise: one new session for every lost one, and the ordered publishes sent on.
//!
//! The only place that replaces a session. A lost connection is replaced first and retired
//! second; what was in flight over it goes to the new one when nobody uses the old one any more.

use crate::backend::{Backend, Connection, Host};
use crate::core::Core;
use crate::error::{ConnectError, Failure};
use crate::events::BusEvent;
use crate::metrics::Counter;
use crate::protocol::session::{Retired, Ticket};
use crate::publish::dispatch;
use crate::subscription::GOODBYE;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

/// How long a lost connection may take to end.
const OLD_CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Starts the tasks of a bus that is connected.
pub(crate) fn spawn<B: Backend>(core: &Arc<Core<B>>) {
    let reconnecting = core.clone();
    core.spawn("clearway-sessions", async move {
        while let Some((generation, failure)) =
            reconnecting.stopped.until(reconnecting.next_loss()).await
        {
            replace(&reconnecting, generation, failure).await;
        }
    });
    let sending = core.clone();
    core.spawn("clearway-ordered", async move {
        while let Some(next) = sending.stopped.until(sending.next_ready()).await {
            dispatch::dispatch(&sending, &next.topic, next.envelope, next.slot);
        }
    });
}

/// Replaces the session of `generation`, if it still is the current one.
async fn replace<B: Backend>(core: &Arc<Core<B>>, generation: u64, failure: Failure) {
    let Some(ticket) = core.sessions.reconnect(generation) else {
        return;
    };
    tracing::warn!(generation, %failure, "session lost");
    core.shared.board.tell(BusEvent::Lost {
        generation,
        failure,
    });
    let Some((attempts, fresh)) = connect_again(core, &ticket).await else {
        return;
    };
    let fresh = Arc::new(fresh);
    match ticket.finish(fresh.clone()) {
        Ok(retired) => {
            core.shared.admission.counters.count(Counter::Reconnects);
            tracing::info!(generation = generation + 1, attempts, "reconnected");
            core.shared.board.tell(BusEvent::Reconnected {
                generation: generation + 1,
                attempts,
            });
            if core.closing.has_begun() {
                fresh.flush();
            }
            retire(core, retired, &fresh).await;
        }
        // Closed meanwhile: a session that nobody will ever use.
        Err(unused) => unused.close(GOODBYE).await,
    }
}

/// Connects until it works or the bus stops, waiting longer after each failure.
async fn connect_again<B: Backend>(
    core: &Arc<Core<B>>,
    ticket: &Ticket<'_, Arc<B::Connection>>,
) -> Option<(u32, B::Connection)> {
    let runtime = &core.shared.runtime;
    let mut delays = core.settings.pauses(runtime.random());
    for attempt in 1.. {
        let host: Arc<dyn Host> = core.shared.clone();
        let connecting = core.backend.connect(host, ticket.generation() + 1);
        match core.stopped.until(connecting).await? {
            Ok(connection) => return Some((attempt, connection)),
            Err(error) => tell_failed(core, ticket.generation(), attempt, &error),
        }
        let delay = delays.next().unwrap_or(core.settings.reconnect_delay_max);
        core.stopped.until(runtime.sleep(delay)).await?;
    }
    None
}

fn tell_failed<B: Backend>(core: &Core<B>, generation: u64, attempt: u32, error: &ConnectError) {
    tracing::warn!(generation, attempt, %error, "reconnect failed");
    let reason = error.to_string();
    core.shared.board.tell(BusEvent::ReconnectFailed {
        generation,
        attempt,
        reason,
    });
}

/// Hands over what was in flight on the retired session, then ends it.
async fn retire<B: Backend>(
    core: &Arc<Core<B>>,
    retired: Retired<Arc<B::Connection>>,
    fresh: &Arc<B::Connection>,
) {
    let old = poll_fn(|cx| retired.poll_unused(cx)).await;
    core.stopped.until(fresh.take_over(old)).await;
    old.close(OLD_CLOSE_LIMIT).await;
}
