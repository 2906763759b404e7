//! Ensure: publishes to a topic that is not ensured wait at its threshold in their order, while one
//! task asks the broker.

use super::admission::closed_failure;
use crate::backend::{Backend, Outcome};
use crate::core::{Core, RouteOf};
use crate::ensure::ensured;
use crate::error::Failure;
use crate::topic::TopicState;
use std::sync::Arc;

/// Sees to it that `topic` is ensured, so that those that wait go on; or rejects them.
pub(crate) fn spawn<B: Backend>(core: &Arc<Core<B>>, topic: &Arc<TopicState<RouteOf<B>>>) {
    let (asking, wanted) = (core.clone(), topic.clone());
    let spawned = core.spawn("clearway-ensure", async move {
        // Whoever opened the door has let those that waited go.
        if let Err(error) = ensured(&asking, &wanted, None).await {
            reject_parked(&asking, &wanted, &error.into_failure());
        }
    });
    if !spawned {
        reject_parked(core, topic, &closed_failure());
    }
}

/// Rejects what waits at the threshold of `topic`. Nothing of it was sent.
fn reject_parked<B: Backend>(core: &Core<B>, topic: &TopicState<RouteOf<B>>, failure: &Failure) {
    for (slot, _) in topic.take_parked() {
        core.shared
            .settle_slot(slot, Outcome::Rejected(failure.clone()));
    }
}
