//! Dispatch: hands an accepted publish to the connection of the current session.
//!
//! From here on the slot has an owner on every path: the connection, the topic's threshold, the
//! line of its key, or the ledger itself, because it was settled on the spot.

use super::ensure;
use crate::backend::{Backend, Connection, Outcome, Slot};
use crate::core::{Core, KeptOf, RouteOf};
use crate::envelope::Envelope;
use crate::error::{Failure, FailureKind};
use crate::protocol::session::Kept;
use crate::topic::{Parked, TopicNow, TopicState};
use std::sync::Arc;

/// Sends `envelope` on its way to `topic`: at once if the topic is ensured, else when it is.
pub(crate) fn dispatch<B: Backend>(
    core: &Arc<Core<B>>,
    topic: &Arc<TopicState<RouteOf<B>>>,
    envelope: Envelope,
    slot: Slot,
) {
    topic.with_now(None, |now| {
        dispatch_by((now, None), core, topic, envelope, slot)
    });
}

/// The same for who has looked at the topic already: `now` is what was seen. `kept` is tried before the current
/// session is looked up.
pub(crate) fn dispatch_by<B: Backend>(
    (now, kept): (&TopicNow<RouteOf<B>>, Option<&KeptOf<B>>),
    core: &Arc<Core<B>>,
    topic: &Arc<TopicState<RouteOf<B>>>,
    envelope: Envelope,
    slot: Slot,
) {
    if let Some(route) = &now.route {
        return send(core, kept, route, envelope, slot);
    }
    match topic.park(slot, envelope) {
        Parked::Ready(route, envelope) => send(core, kept, &route, envelope, slot),
        Parked::Waits(true) => ensure::spawn(core, topic),
        Parked::Waits(false) => {}
    }
}

/// Hands `envelope` to the current connection, or settles it as surely not sent.
pub(crate) fn send<B: Backend>(
    core: &Core<B>,
    kept: Option<&KeptOf<B>>,
    route: &RouteOf<B>,
    envelope: Envelope,
    slot: Slot,
) {
    let refused = if let Some(connection) = kept.and_then(Kept::lease) {
        connection.produce(route, envelope, slot).err()
    } else if let Some(connection) = core.sessions.lease() {
        connection.produce(route, envelope, slot).err()
    } else {
        Some(Failure::new(
            FailureKind::Closed,
            "the bus was closed before this was sent",
        ))
    };
    if let Some(failure) = refused {
        core.shared.settle_slot(slot, Outcome::Rejected(failure));
    }
}
