//! Groups: who has which partition, what changes hands, and what is committed.

use crate::setup::{self, CLOSE};
use anyhow::{Result, ensure};
use clearway::kafka::{Options, Rebalancing};
use clearway::{Bus, Delivery, HandlerError, Json, StartAt, Subscription, Topic, TopicConfig};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PARTITIONS: u32 = 6;

/// What handlers have begun and ended, of all members.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(u64, bool)>>>);

impl Seen {
    fn note(&self, value: u64, begun: bool) {
        self.0.lock().expect("not poisoned").push((value, begun));
    }

    fn all(&self) -> Vec<(u64, bool)> {
        self.0.lock().expect("not poisoned").clone()
    }

    fn ended(&self) -> usize {
        self.all().iter().filter(|(_, begun)| !begun).count()
    }

    fn distinct(&self) -> usize {
        let all = self.all();
        let ended = all.iter().filter(|(_, begun)| !begun);
        ended
            .map(|(value, _)| *value)
            .collect::<BTreeSet<_>>()
            .len()
    }

    /// How many handlers of a key ran at the same time, at most.
    fn overlap(&self) -> usize {
        let (mut at_work, mut most) = (BTreeMap::<u64, usize>::new(), 0);
        for (value, begun) in self.all() {
            let key = at_work.entry(value % 24).or_default();
            if begun {
                *key += 1;
            } else {
                *key -= 1;
            }
            most = most.max(*key);
        }
        most
    }
}

struct Member {
    bus: Bus,
    topic: Topic<u64, Json>,
    subscription: Subscription,
}

impl Member {
    async fn join(options: Options, name: &str, work: Duration, seen: &Seen) -> Result<Self> {
        let bus = setup::builder(options).connect().await?;
        bus.configure(TopicConfig::new(name).partitions(PARTITIONS))
            .await?;
        let topic = bus.topic::<u64>(name)?;
        let noted = seen.clone();
        let subscription = topic
            .subscription(&format!("g.{name}"))
            .in_flight(64, 1 << 20)
            .handler(move |delivery: Delivery<u64>| {
                let (noted, value) = (noted.clone(), delivery.value);
                noted.note(value, true);
                async move {
                    tokio::time::sleep(work).await;
                    noted.note(value, false);
                    Ok::<_, HandlerError>(())
                }
            })
            .await?;
        Ok(Self {
            bus,
            topic,
            subscription,
        })
    }

    async fn publish(&self, values: std::ops::Range<u64>) -> Result<()> {
        let mut receipts = Vec::new();
        for value in values {
            let publish = self
                .topic
                .publish(&value)
                .key(format!("key-{}", value % 24));
            receipts.push(publish.enqueue()?);
        }
        for receipt in receipts {
            receipt.await?;
        }
        Ok(())
    }

    async fn leave(self) -> Result<()> {
        let report = self.subscription.drain(CLOSE).await;
        ensure!(report.drained, "{report:?}");
        self.bus.close(CLOSE).await;
        Ok(())
    }

    async fn partitions(&self) -> usize {
        self.subscription.status().await.partitions.len()
    }
}

/// What the group has committed, and where each partition ends, by a client that is not ours.
fn committed(name: &str) -> Result<Vec<(i64, i64)>> {
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", setup::broker()?)
        .set("group.id", format!("g.{name}"))
        .create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_range(name, 0, PARTITIONS as i32 - 1);
    let list = client.committed_offsets(list, Duration::from_secs(10))?;
    let offsets: Vec<_> = list.elements().iter().map(|at| at.offset()).collect();
    drop(list);
    let mut all = Vec::new();
    for (partition, offset) in (0..).zip(offsets) {
        let (_, high) = client.fetch_watermarks(name, partition, Duration::from_secs(10))?;
        let Offset::Offset(offset) = offset else {
            anyhow::bail!("partition {partition}: {offset:?}");
        };
        all.push((offset, high));
    }
    Ok(all)
}

/// Members come and go under load, with each way to share partitions: nothing is lost, nothing is handled twice, no key in two
/// places, and what the group has committed is all there is.
async fn members_come_and_go(rebalancing: Rebalancing) -> Result<()> {
    let (name, seen) = (setup::fresh_name("members"), Seen::default());
    let options = || Ok::<_, anyhow::Error>(setup::options()?.rebalancing(rebalancing));
    let work = Duration::from_millis(2);
    let one = Member::join(options()?, &name, work, &seen).await?;
    one.publish(0..400).await?;
    let two = Member::join(options()?, &name, work, &seen).await?;
    one.publish(400..800).await?;
    setup::eventually("the second has its share", async || {
        two.partitions().await >= 2
    })
    .await?;
    let three = Member::join(options()?, &name, work, &seen).await?;
    one.publish(800..1200).await?;
    setup::eventually("the third has its share", async || {
        three.partitions().await >= 1
    })
    .await?;
    two.leave().await?;
    one.publish(1200..1600).await?;
    setup::eventually("all are handled", async || seen.distinct() == 1600).await?;
    three.leave().await?;
    one.leave().await?;
    println!(
        "integration: kafka: {rebalancing:?}: 1600 handled, {} again",
        seen.ended() - 1600
    );
    ensure!(
        seen.overlap() <= 1,
        "{} handlers of a key at once",
        seen.overlap()
    );
    ensure!(seen.ended() == 1600, "{} of 1600: some twice", seen.ended());
    for (committed, end) in committed(&name)? {
        ensure!(committed == end, "committed {committed} of {end}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_with_eager_rebalances() -> Result<()> {
    members_come_and_go(Rebalancing::Eager).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_with_cooperative_rebalances() -> Result<()> {
    members_come_and_go(Rebalancing::Cooperative).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_with_assignments_by_the_broker() -> Result<()> {
    members_come_and_go(Rebalancing::Broker).await
}

/// A handler that is still at work when its partition goes holds it back; its answer counts, and the other member does not see
/// the envelope again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_waits_for_the_handlers_that_have_it() -> Result<()> {
    let (name, seen) = (setup::fresh_name("waits"), Seen::default());
    let work = Duration::from_secs(3);
    let one = Member::join(setup::options()?, &name, work, &seen).await?;
    one.publish(0..24).await?;
    setup::eventually("all are begun", async || seen.all().len() >= 16).await?;
    let two = Member::join(setup::options()?, &name, work, &seen).await?;
    setup::eventually("the second has its share", async || {
        two.partitions().await >= 3
    })
    .await?;
    setup::eventually("all are handled", async || seen.distinct() == 24).await?;
    two.leave().await?;
    one.leave().await?;
    ensure!(seen.ended() == 24, "{} of 24: some twice", seen.ended());
    ensure!(seen.overlap() <= 1);
    Ok(())
}

/// Beyond the limit it goes all the same: what its handlers have comes again at the other, and their answers are void.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_limit_a_partition_goes_and_its_answers_are_void() -> Result<()> {
    let (name, slow, fast) = (setup::fresh_name("limit"), Seen::default(), Seen::default());
    let options = setup::options()?.hand_over_limit(Duration::from_millis(500));
    let one = Member::join(options.clone(), &name, Duration::from_secs(20), &slow).await?;
    one.publish(0..24).await?;
    setup::eventually("some are begun", async || slow.all().len() >= 8).await?;
    let two = Member::join(options, &name, Duration::from_millis(1), &fast).await?;
    setup::eventually("the second handles its share", async || {
        fast.distinct() >= 4
    })
    .await?;
    ensure!(slow.ended() == 0, "it was to be slow");
    one.subscription.drain(Duration::ZERO).await;
    one.bus.close(CLOSE).await;
    setup::eventually("the second has all", async || fast.distinct() == 24).await?;
    two.leave().await?;
    for (committed, end) in committed(&name)? {
        ensure!(committed == end, "committed {committed} of {end}");
    }
    Ok(())
}

/// The markers of transactions, and what was aborted, are gaps: commits go on behind them, and the lag reaches nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn markers_of_transactions_do_not_stall_commits_or_lag() -> Result<()> {
    let (name, seen) = (setup::fresh_name("gaps"), Seen::default());
    let work = Duration::from_millis(1);
    let one = Member::join(setup::options()?, &name, work, &seen).await?;
    let broker = setup::broker()?;
    let topic = name.clone();
    let transactions = tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", broker)
            .set("transactional.id", &topic)
            .create()?;
        producer.init_transactions(Duration::from_secs(30))?;
        for turn in 0..6_u64 {
            producer.begin_transaction()?;
            for n in 0..12 {
                let value = (turn * 12 + n).to_string();
                let record = BaseRecord::to(&topic).payload(&value);
                let record = record.key("k").partition((n % 6) as i32);
                producer.send(record).map_err(|(error, _)| error)?;
            }
            producer.flush(Duration::from_secs(30))?;
            if turn % 2 == 0 {
                producer.commit_transaction(Duration::from_secs(30))?;
            } else {
                producer.abort_transaction(Duration::from_secs(30))?;
            }
        }
        Ok::<_, anyhow::Error>(())
    });
    transactions.await??;
    setup::eventually("what was committed is handled", async || {
        seen.distinct() == 36
    })
    .await?;
    setup::eventually("the lag is nothing", async || {
        let status = one.subscription.status().await;
        let lags: Vec<_> = status.partitions.values().map(|at| at.lag).collect();
        lags.len() == 6 && lags.iter().all(|lag| *lag == Some(0))
    })
    .await?;
    one.leave().await?;
    ensure!(seen.ended() == 36, "{}", seen.ended());
    for (committed, end) in committed(&name)? {
        ensure!(committed == end, "committed {committed} of {end}");
    }
    Ok(())
}

/// A member that comes back under its name within the session timeout keeps its partitions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_with_a_name_keeps_its_partitions_over_a_restart() -> Result<()> {
    let (name, seen) = (setup::fresh_name("static"), Seen::default());
    let work = Duration::from_millis(1);
    let named = |instance| Ok::<_, anyhow::Error>(setup::options()?.instance(instance));
    let one = Member::join(named("one")?, &name, work, &seen).await?;
    let two = Member::join(named("two")?, &name, work, &seen).await?;
    setup::eventually("both have a share", async || {
        one.partitions().await == 3 && two.partitions().await == 3
    })
    .await?;
    let had: Vec<u32> = two
        .subscription
        .status()
        .await
        .partitions
        .into_keys()
        .collect();
    two.leave().await?;
    let two = Member::join(named("two")?, &name, work, &seen).await?;
    setup::eventually("it has its share again", async || {
        two.partitions().await == 3
    })
    .await?;
    let has: Vec<u32> = two
        .subscription
        .status()
        .await
        .partitions
        .into_keys()
        .collect();
    ensure!(had == has, "{had:?} {has:?}");
    ensure!(one.partitions().await == 3);
    two.leave().await?;
    one.leave().await?;
    Ok(())
}

/// A new group of a name that has members for another topic: its place is kept all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_group_of_two_topics_begins_where_each_was_told() -> Result<()> {
    let bus = setup::bus().await?;
    let (first, second) = (setup::fresh_name("first"), setup::fresh_name("second"));
    let mut streams = Vec::new();
    for name in [&first, &second] {
        bus.configure(TopicConfig::new(name.as_str()).partitions(2))
            .await?;
        let topic = bus.topic::<u64>(name)?;
        topic.publish(&1).await?;
        let group = format!("g.{first}");
        let subscription = topic.subscription(&group).start(StartAt::Latest);
        streams.push((subscription.stream().await?, topic));
    }
    for (stream, topic) in &mut streams {
        topic.publish(&2).await?;
        let came = tokio::time::timeout(setup::PATIENCE, stream.next()).await?;
        let came = came.map(|delivery| delivery.value);
        ensure!(came == Some(2), "{came:?}");
    }
    drop(streams);
    bus.close(CLOSE).await;
    Ok(())
}

/// After a silence the broker is asked whether the partitions are still ours before anything is handed out: then it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_after_a_silence_is_handled() -> Result<()> {
    let (name, seen) = (setup::fresh_name("silence"), Seen::default());
    let one = Member::join(setup::options()?, &name, Duration::ZERO, &seen).await?;
    one.publish(0..12).await?;
    setup::eventually("what came first", async || seen.distinct() == 12).await?;
    // Longer than what counts as a silence: nothing happens in it, so there is nothing to wait for.
    tokio::time::sleep(Duration::from_secs(7)).await;
    one.publish(12..24).await?;
    setup::eventually("what came then", async || seen.distinct() == 24).await?;
    one.leave().await?;
    ensure!(seen.ended() == 24, "{}", seen.ended());
    Ok(())
}
