//! Two buses that ensure overlapping topics at once.

use crate::setup::{bus, options};
use anyhow::{Result, ensure};
use clearway::{Ensure, TopicConfig};
use clearway_integration::{Broker, Manner, Member, Outside, Record, envelope};
use futures_util::future::try_join_all;
use std::time::Duration;

const GROUP: &str = "audit";
/// Each bus has so many; the middle ones are both's.
const EACH: usize = 6;
const SHARED: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_a_stream_for_each_topic_both_have_all() -> Result<()> {
    let broker = Broker::any().await?;
    both_have_all(&broker, "ensure-separate", None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_one_stream_no_subject_of_either_is_lost() -> Result<()> {
    let broker = Broker::any().await?;
    let stream = broker.fresh_name("all");
    both_have_all(&broker, "ensure-shared", Some(&stream)).await
}

async fn both_have_all(broker: &Broker, test: &str, shared: Option<&str>) -> Result<()> {
    let workload = format!("two buses ensure {EACH} topics each at once, {SHARED} of them both's");
    let record = Record::begin(test, broker, &workload, None)?;
    let prefix = broker.fresh_name("t");
    let outside = Outside::of(broker).await?;
    let configs = |first: usize| -> Vec<TopicConfig> {
        (first..first + EACH)
            .map(|n| {
                let config = TopicConfig::new(format!("{prefix}-{n}")).partitions(1 + n as u32 % 3);
                config.ensure(Ensure::CreateOrUpdate)
            })
            .collect()
    };
    let connect = async |number: u32| {
        let options = options(broker.url())?;
        let options = match shared {
            Some(stream) => options.stream(stream),
            None => options,
        };
        Member::connect(&record, number, bus(options)).await
    };
    let (one, two) = (connect(0).await?, connect(1).await?);
    let (first, second) = (configs(0), configs(EACH - SHARED));
    let ensure_all = async |member: &Member, configs: &[TopicConfig]| {
        try_join_all(
            configs
                .iter()
                .map(|config| member.bus.configure(config.clone())),
        )
        .await
    };
    let (left, right) = tokio::join!(ensure_all(&one, &first), ensure_all(&two, &second));
    left?;
    right?;

    let all: Vec<_> = first.iter().chain(&second[SHARED..]).collect();
    for config in &all {
        let stream = outside.stream(shared.unwrap_or(config.name())).await?;
        for partition in 0..3 {
            let subject = format!("{}.{partition}", config.name());
            let n: u32 = config.name().rsplit('-').next().unwrap_or("0").parse()?;
            let wanted = partition <= n % 3;
            ensure!(
                stream.subjects.contains(&subject) == wanted,
                "{subject}: {:?}",
                stream.subjects
            );
        }
    }

    for (member, configs) in [(&one, &first), (&two, &second)] {
        for config in configs {
            let topic = member.bus.raw_topic(config.name())?;
            for n in 0..20 {
                let sent = envelope(&topic, &format!("k{}", n % 7), "x");
                member.publisher().publish(&topic, sent).await?;
            }
        }
    }
    for config in &all {
        let member = if first.contains(config) { &one } else { &two };
        let topic = member.bus.raw_topic(config.name())?;
        let _runs_until_close = member.subscribe(&topic, GROUP, Manner::default()).await?;
    }
    for config in &all {
        let stream = shared.unwrap_or(config.name());
        outside
            .drained(&record, stream, config.name(), GROUP)
            .await?;
    }
    one.leave(Duration::from_secs(5)).await?;
    two.leave(Duration::from_secs(5)).await?;
    let verdict = record.finish()?;
    ensure!(verdict.counts.acked == 2 * EACH as u64 * 20, "{verdict}");
    match shared {
        Some(stream) => outside.delete(stream).await,
        None => {
            outside
                .forget(&all.iter().map(|config| config.name()).collect::<Vec<_>>())
                .await
        }
    }
}
