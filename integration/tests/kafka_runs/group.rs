//! A group of processes on Kafka, each with a history of its own, and those beside it: who publishes, and who looks at the broker
//! from outside and writes down what the group has committed. What is done to the processes is the business of each run.

use crate::scene::{GROUP, bus_of, options_at, watched};
use anyhow::{Context, Result, bail, ensure};
use clearway::kafka::{Options, Rebalancing};
use clearway::{BusBuilder, Order, Retry, TopicConfig};
use clearway_integration::{
    Fleet, KafkaBroker, KafkaOutside, Load, Manner, Member, Mishaps, Post, Quota, RawTopic, Record,
    until_within,
};
use clearway_verify::check::{self, Verdict};
use clearway_verify::history::{Event, History, Phase};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const TOPIC: &str = "orders";
pub(crate) const PARTITIONS: u32 = 12;
/// So long after a member was heard last the broker gives its partitions away.
pub(crate) const SESSION: Duration = Duration::from_secs(4);
/// How long a group may take to catch up. What a killed member had waits for the end of its session.
const CATCH_UP: Duration = Duration::from_secs(90);
/// The way to share partitions, as a post has it.
pub(crate) fn case_of(rebalancing: Rebalancing) -> &'static str {
    match rebalancing {
        Rebalancing::Eager => "eager",
        Rebalancing::Cooperative => "cooperative",
        Rebalancing::Broker => "broker",
    }
}

/// Options of a member that is missed soon.
fn options(url: &str, case: &str) -> Result<Options> {
    let options = options_at(url)?;
    let of_session = |options: Options| {
        let session = SESSION.as_millis().to_string();
        let options = options.set("session.timeout.ms", session)?;
        anyhow::Ok(options.set("heartbeat.interval.ms", "500")?)
    };
    Ok(match case {
        "eager" => of_session(options)?.rebalancing(Rebalancing::Eager),
        "cooperative" => of_session(options)?.rebalancing(Rebalancing::Cooperative),
        // The session is the broker's to say.
        "broker" => options.rebalancing(Rebalancing::Broker),
        other => bail!("no case `{other}`"),
    })
}

fn builder(options: Options) -> BusBuilder {
    bus_of(options).topic(TopicConfig::new(TOPIC).partitions(PARTITIONS))
}

/// Not a test: a process of a group.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process of the runs with a group"]
async fn process_of_a_group() -> Result<()> {
    let Some(post) = Post::of_this_process()? else {
        return Ok(());
    };
    let record = post.record()?;
    let builder = builder(options(&post.url, &post.case)?);
    let member = Member::connect(&record, post.number, builder).await?;
    let manner = Manner {
        order: Order::ByKey,
        in_flight: 256,
        takes: Duration::from_millis(25),
        retry: Retry::new().delays(Duration::from_millis(5), Duration::from_millis(50)),
        mishaps: Mishaps {
            errors: 0.01,
            seed: post.number.into(),
            ..Mishaps::default()
        },
        ..Manner::default()
    };
    let topic = member.bus.raw_topic(&post.topic)?;
    let _runs_until_close = member.subscribe(&topic, &post.group, manner).await?;
    post.until_the_end().await?;
    drop(topic);
    let report = member.leave(Duration::from_secs(20)).await?;
    ensure!(report.drained && report.deliveries_left == 0, "{report:?}");
    Ok(())
}

/// A group under way. Its processes are the fleet's.
pub(crate) struct Group {
    pub(crate) fleet: Fleet,
    outside: KafkaOutside,
    publishing: Arc<Member>,
    topic: RawTopic,
}

impl Group {
    /// A group without a process.
    pub(crate) async fn open(
        name: &str,
        broker: &KafkaBroker,
        rebalancing: Rebalancing,
        about: (&str, u64),
    ) -> Result<Self> {
        let url = broker.url();
        let case = case_of(rebalancing);
        let post = Post {
            url: url.clone(),
            topic: TOPIC.to_owned(),
            group: GROUP.to_owned(),
            case: case.to_owned(),
            number: 0,
            history: PathBuf::new(),
        };
        let fleet = Fleet::begin(name, broker, about, "group::process_of_a_group", post)?;
        let builder = builder(options(&url, case)?);
        let publishing = Member::connect(fleet.record(), 0, builder).await?;
        let topic = publishing.bus.raw_topic(TOPIC)?;
        let outside = KafkaOutside::of(broker)?;
        Ok(Self {
            fleet,
            outside,
            publishing: Arc::new(publishing),
            topic,
        })
    }

    /// Who publishes and who looks on, apart from the processes.
    pub(crate) fn beside(&mut self) -> (Beside<'_>, &mut Fleet) {
        let Self {
            fleet,
            outside,
            publishing,
            topic,
        } = self;
        let record = fleet.record().clone();
        let beside = Beside {
            record,
            outside,
            publishing,
            topic,
        };
        (beside, fleet)
    }

    /// The group catches up, its processes close their buses, and the histories of all are judged.
    pub(crate) async fn end(mut self) -> Result<(History, Verdict)> {
        let (beside, fleet) = self.beside();
        beside.catch_up().await?;
        fleet.all_there()?;
        beside.record.recorder().drained(TOPIC, GROUP);
        drop(beside);
        self.fleet.end().await?;
        drop(self.topic);
        let publishing = Arc::into_inner(self.publishing).context("a publisher still runs")?;
        let report = publishing.leave(Duration::from_secs(10)).await?;
        ensure!(report.drained, "{report:?}");
        let (history, path) = self.fleet.finish()?;
        let verdict = check::history(&history);
        ensure!(verdict.is_ok(), "{}:\n{verdict}", path.display());
        ensure!(verdict.not_judged.is_empty(), "{verdict}");
        Ok((history, verdict))
    }
}

/// See [`Group::beside`].
pub(crate) struct Beside<'g> {
    record: Record,
    outside: &'g KafkaOutside,
    publishing: &'g Arc<Member>,
    topic: &'g RawTopic,
}

impl Beside<'_> {
    /// Publishes all of a load, as far as the quota allows.
    pub(crate) async fn publish(&self, load: &Load, quota: &Quota) {
        let topics = [self.topic.clone()];
        load.run(self.publishing, &topics, quota).await;
    }

    /// Does `work`, and has what the broker says is committed for the group written down meanwhile.
    pub(crate) async fn watched<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        watched(&self.record, self.outside, &[TOPIC], work).await
    }

    async fn look(&self) -> Result<()> {
        self.outside
            .note_committed(&self.record, TOPIC, GROUP)
            .await
    }

    async fn catch_up(&self) -> Result<()> {
        let caught_up = until_within(CATCH_UP, "the group has nothing left", async || {
            let left = self.outside.left(TOPIC, GROUP).await?;
            ensure!(left == 0, "{left} left");
            Ok(true)
        });
        self.watched(caught_up).await?;
        self.look().await
    }
}

/// What a run shows, in a line.
pub(crate) fn told(name: &str, history: &History, verdict: &Verdict, took: Duration) {
    let counts = &verdict.counts;
    let text = format!(
        "integration: {name}: {} envelopes acked of {} publishes, {} deliveries, {} processes killed, {} frozen, {} handlers open over \
         a freeze, {} partitions handed over, partitions lost {} times, again by cause {:?}, {} commits seen, {} violations {:?}, {:.1} s\n",
        counts.acked,
        counts.ops,
        counts.deliveries,
        counts.kills,
        counts.freezes,
        open_over_a_freeze(history),
        handed_over(history),
        counts.rebalances,
        counts.duplicates,
        counts.commits,
        verdict.total(),
        counts.violations,
        took.as_secs_f64(),
    );
    // Past the test harness, which would keep it.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// How many handlers had begun before their process stood still and ended after.
pub(crate) fn open_over_a_freeze(history: &History) -> usize {
    let (mut open, mut over) = (BTreeMap::new(), BTreeSet::new());
    for entry in &history.entries {
        match &entry.event {
            Event::Deliver(deliver) => {
                let place = (deliver.subscription, deliver.partition, deliver.position);
                open.insert(place, (deliver.bus, entry.line));
            }
            Event::Settle(settle) => {
                open.remove(&(settle.subscription, settle.partition, settle.position));
            }
            Event::Frozen(frozen) if frozen.phase == Phase::Begin => {
                let mut of_it = open.values().filter(|(bus, _)| *bus == frozen.bus);
                over.extend(of_it.by_ref().map(|(_, line)| *line));
            }
            _ => {}
        }
    }
    over.len()
}

/// How often a partition went from one process to another.
pub(crate) fn handed_over(history: &History) -> usize {
    let (mut last, mut times) = (BTreeMap::new(), 0);
    for entry in &history.entries {
        if let Event::Deliver(deliver) = &entry.event {
            let before = last.insert(deliver.partition, deliver.bus);
            times += usize::from(before.is_some_and(|bus| bus != deliver.bus));
        }
    }
    times
}
