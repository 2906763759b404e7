//! Ends: where logs begin and end, all partitions of a topic at once.
//!
//! Asked over a client that is in no group and fetches nothing: behind a fetch that waits for more an answer would wait as long. It is made
//! when it is asked for the first time, and ends with its connection.

use super::options::Options;
use super::threads::Elsewhere;
use super::{codes, native};
use crate::error::{Failure, FailureKind};
use crate::protocol::sync::Mutex;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long brokers may take to say where logs begin, and as long again for where they end.
const LIMIT: Duration = Duration::from_secs(1);

/// Asks.
pub(super) struct Ends {
    options: Arc<Options>,
    client: Mutex<State>,
}

type Client = Elsewhere<BaseConsumer<Silent>>;

enum State {
    NotAsked,
    Asked(Arc<Client>),
    Closed,
}

/// Nobody reads its log and errors: its answers say it all.
pub(super) struct Silent;

impl ClientContext for Silent {}

impl ConsumerContext for Silent {}

impl Ends {
    pub(super) fn new(options: Arc<Options>) -> Self {
        Self {
            options,
            client: Mutex::new(State::NotAsked),
        }
    }

    /// Each partition, and where its log begins and ends. Blocks.
    pub(super) fn ask(
        &self,
        topic: &str,
        partitions: &[u32],
    ) -> Result<Vec<(u32, u64, u64)>, Failure> {
        let client = self.client()?;
        let asked = offsets(&client, topic, partitions, Offset::Beginning)
            .and_then(|low| Ok((low, offsets(&client, topic, partitions, Offset::End)?)));
        if asked.is_err() {
            self.replace(&client);
        }
        let (low, high) = asked?;
        let ends = partitions.iter().map(|partition| {
            let of = |offsets: &BTreeMap<u32, u64>| offsets.get(partition).copied();
            (*partition, of(&low).unwrap_or(0), of(&high).unwrap_or(0))
        });
        Ok(ends.collect())
    }

    fn client(&self) -> Result<Arc<Client>, Failure> {
        let mut state = self.client.lock();
        match &*state {
            State::Asked(client) => Ok(client.clone()),
            State::Closed => {
                let text = "the connection was closed";
                Err(Failure::new(FailureKind::Disconnected, text))
            }
            State::NotAsked => {
                let config = native::admin(&self.options);
                let client = BaseConsumer::from_config_and_context(&config, Silent);
                let client = client.map_err(|error| codes::failure(&error))?;
                let client = Arc::new(Elsewhere::new(client));
                *state = State::Asked(client.clone());
                Ok(client)
            }
        }
    }

    /// What is asked next is asked by another: this one may have forgotten its brokers ([`admin`](super::admin)).
    fn replace(&self, unanswered: &Arc<Client>) {
        let mut state = self.client.lock();
        if matches!(&*state, State::Asked(current) if Arc::ptr_eq(current, unanswered)) {
            *state = State::NotAsked;
        }
    }

    /// Ends the client here, unless somebody is still asking: then it ends by itself. Blocks.
    pub(super) fn close(&self) {
        let state = std::mem::replace(&mut *self.client.lock(), State::Closed);
        if let State::Asked(client) = state
            && let Some(client) = Arc::into_inner(client)
        {
            client.end_here();
        }
    }
}

/// One request to each broker that leads some of them.
fn offsets(
    client: &Client,
    topic: &str,
    partitions: &[u32],
    place: Offset,
) -> Result<BTreeMap<u32, u64>, Failure> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        let added = list.add_partition_offset(topic, *partition as i32, place);
        added.map_err(|error| codes::failure(&error))?;
    }
    let list = client.offsets_for_times(list, LIMIT);
    let list = list.map_err(|error| codes::failure(&error))?;
    let mut offsets = BTreeMap::new();
    for at in list.elements() {
        at.error().map_err(|error| codes::failure(&error))?;
        if let Offset::Offset(offset) = at.offset() {
            offsets.insert(at.partition() as u32, offset.max(0) as u64);
        }
    }
    Ok(offsets)
}
