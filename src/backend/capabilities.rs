//! What a backend can do, as data, and the refusal of what it cannot.

use crate::config::{Durability, TopicConfig};
use crate::error::{ConfigureError, Unsupported};
use std::time::Duration;

/// What a backend can do, as data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The strongest durability of an acknowledgement.
    pub durability_max: Durability,
    /// Whether a topic may have several partitions.
    pub partitions: bool,
    /// Whether several brokers may hold a copy.
    pub replicas: bool,
    /// Whether a second envelope of the same id is recognised, and for how long.
    pub dedup_window: Option<Duration>,
    /// Whether order by key holds with several members in a group.
    pub key_order_across_members: bool,
    /// Whether a subscription can read what is no topic: a [`Foreign`].
    pub foreign: bool,
    /// Whether a nack can ask for a delay.
    pub delayed_nack: bool,
    /// Whether it counts how often it has delivered an envelope. If not, [`Retry::deliveries_max`](crate::Retry::deliveries_max) and
    /// attempts count what one consumer has seen, and an envelope that kills its process comes again each time.
    pub counts_deliveries: bool,
    /// Whether every acknowledgement counts by itself. If not, they count up to the first envelope of a partition that has none: what is
    /// behind it comes again with it when its consumer ends.
    pub settles_each: bool,
    /// The largest envelope the backend can carry, if it knows before connecting.
    pub size_max: Option<usize>,
}

impl Capabilities {
    /// Those of a backend that can do the least, and whose acknowledgements mean `durability_max`. What it can do beside is set on them.
    pub fn least(durability_max: Durability) -> Self {
        Self {
            durability_max,
            partitions: false,
            replicas: false,
            dedup_window: None,
            key_order_across_members: false,
            foreign: false,
            delayed_nack: false,
            counts_deliveries: false,
            settles_each: false,
            size_max: None,
        }
    }
}

/// Refuses what `capabilities` do not have, in the words of the setting.
pub fn check_capabilities(
    backend: &'static str,
    capabilities: &Capabilities,
    config: &TopicConfig,
) -> Result<(), ConfigureError> {
    config.validate()?;
    let unsupported = |what: String| {
        Err(Unsupported {
            backend,
            what: what.into(),
        }
        .into())
    };
    if let Some(wanted) = config
        .durability
        .filter(|wanted| *wanted > capabilities.durability_max)
    {
        return unsupported(format!(
            "durability {wanted:?} of topic `{}`; the strongest is {:?}",
            config.name, capabilities.durability_max
        ));
    }
    if config.partitions.is_some_and(|n| n > 1) && !capabilities.partitions {
        return unsupported(format!("several partitions for topic `{}`", config.name));
    }
    if config.replicas.is_some_and(|n| n > 1) && !capabilities.replicas {
        return unsupported(format!("several replicas for topic `{}`", config.name));
    }
    Ok(())
}
