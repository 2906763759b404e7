//! Ensure: does the topic exist, and is it as configured? Asked once, however many want to know.
//!
//! Both journeys ask. The asking goes through the singleflight, and nothing is remembered before the broker has
//! said yes.

use crate::backend::{Backend, Connection};
use crate::config::{Ensure, TopicConfig};
use crate::core::{Core, RouteOf};
use crate::error::{ConfigureError, Failure, FailureKind};
use crate::protocol::singleflight::Turn;
use crate::publish::dispatch;
use crate::topic::TopicState;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

/// How an attempt ended, and for which configuration it was made.
pub(crate) type Answer = (TopicConfig, Result<(), ConfigureError>);

/// A term that no mark ever stands for.
const NEVER: u64 = u64::MAX;
const RETRY_EVERY: Duration = Duration::from_millis(100);

/// Makes sure that `topic` is at the broker as `wanted` says, or as it is configured now, and opens
/// its door.
pub(crate) async fn ensured<B: Backend>(
    core: &Arc<Core<B>>,
    topic: &Arc<TopicState<RouteOf<B>>>,
    wanted: Option<TopicConfig>,
) -> Result<(), ConfigureError> {
    loop {
        // A new configuration is work that was never done, whatever the mark says.
        let term = if wanted.is_some() {
            NEVER
        } else {
            topic.now().term
        };
        // One at a time for each topic: two configurations of one topic must not cross.
        let mut caller = core.flights.join(topic.name.clone());
        match poll_fn(|cx| caller.poll_turn(&topic.mark, term, cx)).await {
            Turn::Done if topic.is_open() => return Ok(()),
            // Shut between the opening and the mark: the mark says too much.
            Turn::Done => {
                topic.mark.clear(term);
            }
            Turn::Answer((answered, result)) => {
                // The answer to another configuration is not ours; then it is our turn to ask.
                if wanted.as_ref().unwrap_or(&topic.now().config) == &answered {
                    return result;
                }
            }
            Turn::Lead(leader) => {
                let config = wanted.clone().unwrap_or_else(|| topic.now().config.clone());
                return match ask(core, &config).await {
                    Ok(route) => {
                        let term = topic.next_term();
                        topic.open(config.clone(), term, route, |route, slot, envelope| {
                            dispatch::send(core, None, route, envelope, slot);
                        });
                        leader.succeed(&topic.mark, term, (config, Ok(())));
                        Ok(())
                    }
                    Err(error) => {
                        leader.fail((config, Err(error.clone())));
                        Err(error)
                    }
                };
            }
        }
    }
}

/// Asks the broker, again over the next session if this one is lost and again if there is no answer, within the ensure timeout.
async fn ask<B: Backend>(
    core: &Arc<Core<B>>,
    config: &TopicConfig,
) -> Result<Arc<RouteOf<B>>, ConfigureError> {
    let runtime = &core.shared.runtime;
    let deadline = runtime.now() + core.settings.ensure_timeout;
    loop {
        let connection = core.connection().ok_or(ConfigureError::Closed)?;
        let left = deadline.saturating_sub(runtime.now());
        let work = crate::runtime::timeout(runtime, left, connection.ensure(config));
        let error = match core.stopped.until(work).await {
            None => return Err(ConfigureError::Closed),
            Some(Some(Ok(route))) => return Ok(Arc::new(route)),
            Some(Some(Err(error))) => error,
            Some(None) => timed_out(config, core.settings.ensure_timeout),
        };
        if !is_unanswered(&error) || runtime.now() + RETRY_EVERY >= deadline {
            return Err(error);
        }
        if core
            .stopped
            .until(runtime.sleep(RETRY_EVERY))
            .await
            .is_none()
        {
            return Err(ConfigureError::Closed);
        }
    }
}

/// Whether nobody has said anything about the topic.
fn is_unanswered(error: &ConfigureError) -> bool {
    use FailureKind::{Disconnected, TimedOut};
    matches!(error, ConfigureError::Failed { failure, .. } if matches!(failure.kind(), Disconnected | TimedOut))
}

fn timed_out(config: &TopicConfig, limit: Duration) -> ConfigureError {
    let failure = Failure::new(
        FailureKind::TimedOut,
        format!(
            "no answer within {limit:?} ({})",
            if config.ensure == Ensure::Skip {
                "route"
            } else {
                "ensure"
            }
        ),
    );
    ConfigureError::Failed {
        topic: config.name.clone(),
        failure,
    }
}
