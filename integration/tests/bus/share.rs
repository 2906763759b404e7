//! Members of a group share its partitions: however they come and go, each soon has its share and no more.

use crate::setup::{bus, options, topics};
use anyhow::{Context, Result, ensure};
use clearway::{Order, Subscription, TopicConfig};
use clearway_integration::{
    Broker, Fault, Manner, Member, Outside, RawTopic, Record, envelope, until,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

const GROUP: &str = "billing";
const PARTITIONS: usize = 8;
const CLOSE: Duration = Duration::from_secs(10);
/// Four looks of every member at who is there: long enough for one that would change its mind.
const WHILE: Duration = Duration::from_secs(2);

/// A member that reads the topic.
struct Reader {
    member: Member,
    subscription: Subscription,
}

impl Reader {
    async fn join(record: &Record, number: u32, url: &str, topic: &TopicConfig) -> Result<Self> {
        let member = Member::connect(record, number, bus(options(url)?).topic(topic.clone()));
        let member = member.await?;
        let manner = Manner {
            order: Order::ByKey,
            takes: Duration::from_millis(3),
            ..Manner::default()
        };
        let topic = member.bus.raw_topic(topic.name())?;
        let subscription = member.subscribe(&topic, GROUP, manner).await?;
        Ok(Self {
            member,
            subscription,
        })
    }

    /// The partitions that it has had deliveries of since it got them, each with where it is.
    async fn owned(&self) -> BTreeMap<u32, u64> {
        let partitions = self.subscription.status().await.partitions.into_iter();
        let begun = partitions.filter_map(|(number, status)| Some((number, status.watermark?)));
        begun.collect()
    }

    async fn leave(self) -> Result<()> {
        drop(self.subscription);
        let report = self.member.leave(CLOSE).await?;
        ensure!(report.drained && report.deliveries_left == 0, "{report:?}");
        Ok(())
    }
}

/// Publishes to all partitions until it is told to stop.
struct Load {
    stop: watch::Sender<bool>,
    publishing: JoinHandle<Result<()>>,
    member: Arc<Member>,
}

impl Load {
    async fn begin(record: &Record, url: &str, config: &TopicConfig) -> Result<Self> {
        let member = Member::connect(record, 0, bus(options(url)?).topic(config.clone()));
        let member = Arc::new(member.await?);
        let topic: RawTopic = member.bus.raw_topic(config.name())?;
        let (stop, mut stopped) = watch::channel(false);
        let publishing = tokio::spawn({
            let member = member.clone();
            async move {
                let publisher = member.publisher();
                for n in 0_u64.. {
                    let key = format!("k{}", n % 200);
                    publisher
                        .publish(&topic, envelope(&topic, &key, "load"))
                        .await?;
                    let pause = tokio::time::timeout(Duration::from_millis(1), stopped.changed());
                    if pause.await.is_ok() {
                        break;
                    }
                }
                Ok(())
            }
        });
        Ok(Self {
            stop,
            publishing,
            member,
        })
    }

    async fn end(self) -> Result<()> {
        self.stop.send_replace(true);
        self.publishing.await??;
        let member = Arc::into_inner(self.member).context("somebody still publishes")?;
        member.leave(CLOSE).await.map(drop)
    }
}

/// Waits until all partitions are owned, each once, and nobody has more than `most`.
async fn shared(what: &str, most: usize, readers: &[&Reader]) -> Result<()> {
    let begun = Instant::now();
    until(what, async || {
        let (mut all, mut counts) = (BTreeSet::new(), Vec::new());
        for reader in readers {
            let owned = reader.owned().await;
            counts.push(owned.len());
            all.extend(owned.into_keys());
        }
        let fair = counts.iter().all(|count| *count <= most);
        let once = counts.iter().sum::<usize>() == PARTITIONS && all.len() == PARTITIONS;
        ensure!(fair && once, "{counts:?} of {all:?}");
        Ok(true)
    })
    .await?;
    println!("integration: shared: {what}: {:.1?}", begun.elapsed());
    Ok(())
}

/// Nothing changes hands any more, while all of it is read on.
async fn settled(readers: &[&Reader]) -> Result<()> {
    let owned = async || {
        let mut all = Vec::new();
        for reader in readers {
            all.push(reader.owned().await);
        }
        all
    };
    let numbers = |all: &[BTreeMap<u32, u64>]| -> Vec<Vec<u32>> {
        all.iter()
            .map(|one| one.keys().copied().collect())
            .collect()
    };
    let before = owned().await;
    let begun = Instant::now();
    while begun.elapsed() < WHILE {
        let now = owned().await;
        ensure!(
            numbers(&now) == numbers(&before),
            "{before:?}, then {now:?}"
        );
        sleep(Duration::from_millis(20)).await;
    }
    let (before, after) = (before.iter().flatten(), owned().await);
    let went_on = before
        .zip(after.iter().flatten())
        .all(|(before, after)| before.1 < after.1);
    ensure!(went_on, "a partition stands still: {after:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_come_and_go_have_their_share_and_nothing_is_done_twice() -> Result<()> {
    let broker = Broker::any().await?;
    let outside = Outside::of(&broker).await?;
    let config = topics(&broker.fresh_name("share"), &[PARTITIONS as u32]).remove(0);
    let record = Record::begin("share", &broker, "one, two and three members", None)?;
    let load = Load::begin(&record, broker.url(), &config).await?;
    let join = async |number| Reader::join(&record, number, broker.url(), &config).await;

    let one = join(1).await?;
    shared("one has all", PARTITIONS, &[&one]).await?;
    let two = join(2).await?;
    shared("two share", 4, &[&one, &two]).await?;
    settled(&[&one, &two]).await?;
    let three = join(3).await?;
    shared("three share", 3, &[&one, &two, &three]).await?;
    settled(&[&one, &two, &three]).await?;
    one.leave().await?;
    shared("two are left", 4, &[&two, &three]).await?;
    settled(&[&two, &three]).await?;
    three.leave().await?;
    shared("one is left", PARTITIONS, &[&two]).await?;

    load.end().await?;
    outside
        .drained(&record, config.name(), config.name(), GROUP)
        .await?;
    two.leave().await?;
    let verdict = record.finish()?;
    ensure!(verdict.counts.duplicates.is_empty(), "{verdict}");
    ensure!(verdict.counts.deliveries > 1000, "{verdict}");
    outside.delete(config.name()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_cut_off_does_not_count_and_gets_its_share_when_it_is_back() -> Result<()>
{
    let broker = Broker::any().await?;
    let (outside, proxy) = (Outside::of(&broker).await?, broker.proxy().await?);
    let config = topics(&broker.fresh_name("cut"), &[PARTITIONS as u32]).remove(0);
    let record = Record::begin("share-cut", &broker, "one of two members is cut off", None)?;
    let load = Load::begin(&record, broker.url(), &config).await?;

    let far = broker.url_through(&proxy);
    let one = Reader::join(&record, 1, &far, &config).await?;
    shared("one has all", PARTITIONS, &[&one]).await?;
    let two = Reader::join(&record, 2, broker.url(), &config).await?;
    shared("two share", 4, &[&one, &two]).await?;
    proxy.set(Fault::Refuse).await;
    shared("one is cut off", PARTITIONS, &[&two, &one]).await?;
    ensure!(two.owned().await.len() == PARTITIONS, "it was not cut off");
    proxy.set(Fault::Pass).await;
    shared("it is back", 4, &[&one, &two]).await?;
    settled(&[&one, &two]).await?;

    load.end().await?;
    outside
        .drained(&record, config.name(), config.name(), GROUP)
        .await?;
    one.leave().await?;
    two.leave().await?;
    record.finish()?;
    outside.delete(config.name()).await
}

/// Who turned sharing off keeps what it has, and others do not wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_does_not_share_gives_nothing_up() -> Result<()> {
    let broker = Broker::any().await?;
    let outside = Outside::of(&broker).await?;
    let config = topics(&broker.fresh_name("alone"), &[PARTITIONS as u32]).remove(0);
    let record = Record::begin(
        "share-off",
        &broker,
        "one of two members does not share",
        None,
    )?;
    let load = Load::begin(&record, broker.url(), &config).await?;
    let alone = bus(options(broker.url())?.share(false)).topic(config.clone());
    let alone = Member::connect(&record, 1, alone).await?;
    let topic = alone.bus.raw_topic(config.name())?;
    let subscription = alone.subscribe(&topic, GROUP, Manner::default()).await?;
    let alone = Reader {
        member: alone,
        subscription,
    };
    shared("one has all", PARTITIONS, &[&alone]).await?;
    let two = Reader::join(&record, 2, broker.url(), &config).await?;
    settled(&[&alone]).await?;
    drop(topic);
    alone.leave().await?;
    shared("the other has all", PARTITIONS, &[&two]).await?;
    load.end().await?;
    outside
        .drained(&record, config.name(), config.name(), GROUP)
        .await?;
    two.leave().await?;
    record.finish()?;
    outside.delete(config.name()).await
}
