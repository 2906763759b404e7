//! Making sure of a stream, by the policy of its topic.

use super::durable::Durable;
use super::server::Server;
use super::stream::Stream;
use clearway::{BusEvent, ConfigureError, Ensure, Mismatch, TopicConfig};

/// As many partitions a topic has that does not say.
const PARTITIONS: u32 = 1;

/// What `ensure` found or did.
pub(super) struct Ensured {
    pub(super) partitions: u32,
    pub(super) events: Vec<BusEvent>,
}

pub(super) fn ensure(server: &mut Server, config: &TopicConfig) -> Result<Ensured, ConfigureError> {
    let topic = config.name.clone();
    if config.ensure == Ensure::Skip {
        // Nobody looks: that it is not there is said by the first publish.
        let (partitions, events) = (config.partitions.unwrap_or(PARTITIONS), Vec::new());
        return Ok(Ensured { partitions, events });
    }
    let Some(stream) = server.streams.get_mut(&topic) else {
        if config.ensure == Ensure::ValidateOnly {
            let policy = config.ensure.name();
            return Err(ConfigureError::Missing { topic, policy });
        }
        let partitions = config.partitions.unwrap_or(PARTITIONS);
        let born = server.number();
        let stream = Stream::new(config.clone(), partitions, born);
        server.streams.insert(topic.clone(), stream);
        let events = vec![BusEvent::TopicCreated { topic }];
        return Ok(Ensured { partitions, events });
    };
    let found = stream.partitions.len() as u32;
    let Some(wanted) = config.partitions.filter(|wanted| *wanted != found) else {
        let events = Vec::new();
        return Ok(Ensured {
            partitions: found,
            events,
        });
    };
    let differences = format!("partitions: wanted {wanted}, found {found}");
    if config.ensure == Ensure::CreateOrUpdate && wanted > found {
        grow(server, config, wanted);
        let events = vec![BusEvent::TopicUpdated { topic, differences }];
        return Ok(Ensured {
            partitions: wanted,
            events,
        });
    }
    if config.mismatch == Mismatch::Error {
        return Err(ConfigureError::Mismatch { topic, differences });
    }
    let events = vec![BusEvent::TopicMismatch { topic, differences }];
    Ok(Ensured {
        partitions: found,
        events,
    })
}

fn grow(server: &mut Server, config: &TopicConfig, partitions: u32) {
    let topic = config.name.clone();
    let stream = server.streams.get_mut(&topic).expect("it was just found");
    stream.config.partitions = Some(partitions);
    stream.partitions.resize_with(partitions as usize, Vec::new);
    let mut groups: Vec<_> = stream
        .durables
        .keys()
        .map(|(group, _)| group.clone())
        .collect();
    groups.dedup();
    for group in &groups {
        for partition in 0..partitions {
            let durable = stream.durables.entry((group.clone(), partition));
            durable.or_insert_with(|| Durable::new(1));
        }
    }
    for group in &groups {
        server.rebalance(&topic, group);
    }
}
