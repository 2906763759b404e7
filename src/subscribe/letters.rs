//! Letters: the wiring of a subscription's dead letters.

use crate::backend::any::{Any, AnyRoute};
use crate::core::Core;
use crate::envelope::Envelope;
use crate::error::{PublishError, SubscribeError};
use crate::middleware::dead_letter::DeadLetters;
use crate::publish::{self, Target};
use crate::receipt::ReceiptFuture;
use crate::topic::TopicState;
use std::sync::Arc;

/// The way to the topic of that name: each dead letter is a publish like another.
pub(super) fn dead_letters(
    core: &Arc<Core<Any>>,
    name: &Arc<str>,
) -> Result<DeadLetters, SubscribeError> {
    let topic = core.topic(name).map_err(|error| SubscribeError::Config {
        topic: name.clone(),
        setting: "on_failure",
        reason: error.to_string().into(),
    })?;
    let core = core.clone();
    Ok(DeadLetters {
        topic: name.clone(),
        forward: Arc::new(move |letter| {
            let (core, topic) = (core.clone(), topic.clone());
            Box::pin(async move { publish_to(&core, &topic, letter).await })
        }),
    })
}

async fn publish_to(
    core: &Arc<Core<Any>>,
    topic: &Arc<TopicState<AnyRoute>>,
    envelope: Envelope,
) -> Result<(), PublishError> {
    let target = Target {
        core,
        topic,
        known: None,
        kept: None,
        ordered: false,
    };
    let slot = publish::accept(target, envelope).await?;
    ReceiptFuture::new(core.clone(), slot).await.map(drop)
}
