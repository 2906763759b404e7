//! A hundred thousand envelopes of two hundred keys, consumed in the order of their keys by processes whose handlers err,
//! panic and hang, while the server is killed twice and a process once. At the end every envelope is done, once for each
//! cause that it has, and no key was out of order or in two hands.

#[path = "bus/setup.rs"]
mod setup;

use anyhow::{Context, Result, bail, ensure};
use clearway::{BusEvent, Order, Retry};
use clearway_integration::{
    Broker, Fleet, Load, MISHAPS, Manner, Member, Mishaps, Nats, Outside, PANIC, Post, Quota,
    RawTopic, until, until_within,
};
use clearway_verify::check::{self, Verdict};
use clearway_verify::history::{Event, History, Settled};
use setup::{bus, options};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;

const TOPIC: &str = "orders";
const GROUP: &str = "billing";
const PARTITIONS: u32 = 8;
/// How long a handler may take: a hang costs its key so much.
const LIMIT: Duration = Duration::from_millis(300);
/// How long a whole run may take.
const RUN_LIMIT: Duration = Duration::from_secs(300);
/// A partition of a killed member waits for the end of its pin, and a run for that of all.
const CATCH_UP: Duration = Duration::from_secs(120);

/// So many are to be stored. A few more are published: some are refused while the server is dead, and not tried again.
const ENVELOPES: u64 = 100_000;

const LOAD: Load = Load {
    publishers: 16,
    each: 6_500,
    windows: &[64, 1, 16, 64],
    keys: 200,
    size: 128,
    seed: 11,
};

/// What is killed, in this order, each in the middle of its part of the load.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kill {
    Server,
    Process,
}

const KILLS: [Kill; 3] = [Kill::Server, Kill::Process, Kill::Server];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_and_everything_is_killed() -> Result<()> {
    let run = Run {
        name: "consume-one",
        processes: 1,
    };
    run.run().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_and_everything_is_killed() -> Result<()> {
    let run = Run {
        name: "consume-three",
        processes: 3,
    };
    run.run().await
}

/// Not a test: a process of a fleet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process of the other two"]
async fn process_of_a_fleet() -> Result<()> {
    let Some(post) = Post::of_this_process()? else {
        return Ok(());
    };
    quiet_mishaps();
    let record = post.record()?;
    let member = Member::connect(&record, post.number, builder(&post.url)?).await?;
    let manner = Manner {
        order: Order::ByKey,
        in_flight: 1024,
        limit: Some(LIMIT),
        retry: Retry::new().delays(Duration::from_millis(5), Duration::from_millis(50)),
        mishaps: Mishaps {
            errors: 0.02,
            panics: 0.005,
            hangs: 0.001,
            seed: post.number.into(),
        },
        ..Manner::default()
    };
    let topic = member.bus.raw_topic(&post.topic)?;
    let _runs_until_close = member.subscribe(&topic, &post.group, manner).await?;
    post.until_the_end().await?;
    drop(topic);
    let report = member.leave(Duration::from_secs(10)).await?;
    ensure!(report.drained && report.deliveries_left == 0, "{report:?}");
    Ok(())
}

/// Panics that are meant say nothing.
fn quiet_mishaps() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<&str>().copied();
        if text != Some(PANIC) {
            loud(panic);
        }
    }));
}

fn builder(url: &str) -> Result<clearway::BusBuilder> {
    let topic = setup::topics(TOPIC, &[PARTITIONS]).remove(0);
    Ok(bus(options(url)?).topic(topic))
}

struct Run {
    name: &'static str,
    processes: usize,
}

impl Run {
    async fn run(&self) -> Result<()> {
        let Some(broker) = Broker::nats(Nats::default()).await? else {
            return Ok(());
        };
        let begun = Instant::now();
        let topic = setup::topics(TOPIC, &[PARTITIONS])
            .remove(0)
            .name()
            .to_owned();
        let post = Post {
            url: broker.url().to_owned(),
            topic,
            group: GROUP.to_owned(),
            case: String::new(),
            number: 0,
            history: Default::default(),
        };
        let workload = format!(
            "{} envelopes of {} keys on {PARTITIONS} partitions, {} processes; killed: {KILLS:?}",
            LOAD.total(),
            LOAD.keys,
            self.processes
        );
        let about = (&*workload, LOAD.seed);
        let mut fleet = Fleet::begin(self.name, &broker, about, "process_of_a_fleet", post)?;
        let scene = Scene::open(&broker, &fleet).await?;
        for _ in 0..self.processes {
            fleet.start()?;
        }
        let ended = timeout(RUN_LIMIT, scene.play(&mut fleet)).await;
        let ended = ended.unwrap_or_else(|_| bail!("it does not end within {RUN_LIMIT:?}"));
        ended.with_context(|| scene.state())?;
        scene.end(&mut fleet).await?;
        let took = begun.elapsed();
        let (history, path) = fleet.finish()?;
        let verdict = check::history(&history);
        self.told(&history, &verdict, took);
        ensure!(verdict.is_ok(), "{}:\n{verdict}", path.display());
        self.much_happened(&history, &verdict)
    }

    /// A run in which nothing went wrong shows nothing.
    fn much_happened(&self, history: &History, verdict: &Verdict) -> Result<()> {
        let counts = &verdict.counts;
        ensure!(verdict.not_judged.is_empty(), "{verdict}");
        ensure!(
            counts.ops >= LOAD.total() && counts.acked >= ENVELOPES,
            "{verdict}"
        );
        ensure!((counts.faults, counts.kills) == (2, 1), "{verdict}");
        ensure!(counts.drained == 1, "{verdict}");
        ensure!(counts.closes == self.processes as u64 + 1, "{verdict}");
        let mishaps = mishaps(history);
        ensure!(
            MISHAPS.iter().all(|what| mishaps.contains_key(what)),
            "{mishaps:?}"
        );
        // Who gets which partition is the server's choice; what a killed process had went to another.
        ensure!(by_process(history).len() >= 2, "{:?}", by_process(history));
        ensure!(
            handed_over(history) > 0,
            "no partition went to another process"
        );
        Ok(())
    }

    fn told(&self, history: &History, verdict: &Verdict, took: Duration) {
        let counts = &verdict.counts;
        let mishaps = mishaps(history);
        let of = |what| mishaps.get(what).copied().unwrap_or(0);
        let causes = &counts.duplicates;
        let mut text = format!(
            "{}: {} envelopes acked of {} publishes, {} done, {} deliveries, {} retries ({} errors, {} panics, {} hangs), \
             {} server kills, {} process kills, {} again by cause {causes:?}, deliveries by process {:?}, \
             {} partitions handed over, {} violations {:?}, {:.1} s\n",
            self.name,
            counts.acked,
            counts.ops,
            done(history),
            counts.deliveries,
            mishaps.values().sum::<u64>(),
            of("error"),
            of("panic"),
            of("hang"),
            counts.faults,
            counts.kills,
            causes.values().sum::<u64>(),
            by_process(history),
            handed_over(history),
            verdict.total(),
            counts.violations,
            took.as_secs_f64(),
        );
        text.insert_str(0, "integration: ");
        // Past the test harness, which would keep it.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

/// How often what went wrong.
fn mishaps(history: &History) -> BTreeMap<&str, u64> {
    let mut mishaps = BTreeMap::new();
    for entry in &history.entries {
        if let Event::Settle(settle) = &entry.event
            && let Some(why) = &settle.why
        {
            *mishaps.entry(why.as_str()).or_insert(0) += 1;
        }
    }
    mishaps
}

/// How many envelopes a handler has finished.
fn done(history: &History) -> u64 {
    let mut done = BTreeSet::new();
    for entry in &history.entries {
        if let Event::Settle(settle) = &entry.event
            && settle.how == Settled::Ack
        {
            done.insert((settle.partition, settle.position));
        }
    }
    done.len() as u64
}

/// Handler runs by process.
fn by_process(history: &History) -> BTreeMap<u32, u64> {
    let mut owners = BTreeMap::new();
    for entry in &history.entries {
        if let Event::Deliver(deliver) = &entry.event {
            *owners.entry(deliver.bus).or_insert(0) += 1;
        }
    }
    owners
}

/// How often a partition went from one process to another.
fn handed_over(history: &History) -> usize {
    let (mut last, mut times) = (BTreeMap::new(), 0);
    for entry in &history.entries {
        if let Event::Deliver(deliver) = &entry.event {
            let before = last.insert(deliver.partition, deliver.bus);
            times += usize::from(before.is_some_and(|bus| bus != deliver.bus));
        }
    }
    times
}

/// Who publishes, kills and looks on.
struct Scene<'b> {
    broker: &'b Broker,
    outside: Outside,
    publishing: Arc<Member>,
    topic: RawTopic,
}

impl<'b> Scene<'b> {
    async fn open(broker: &'b Broker, fleet: &Fleet) -> Result<Self> {
        let publishing = Member::connect(fleet.record(), 0, builder(broker.url())?).await?;
        let name = setup::topics(TOPIC, &[PARTITIONS]).remove(0);
        let topic = publishing.bus.raw_topic(name.name())?;
        Ok(Self {
            broker,
            outside: Outside::of(broker).await?,
            publishing: Arc::new(publishing),
            topic,
        })
    }

    /// What the publishing bus says of itself, for whoever has to find out why a run did not end.
    fn state(&self) -> String {
        let bus = &self.publishing.bus;
        format!("{:#?}\n{:#?}", bus.metrics(), self.publishing.events())
    }

    /// Everything is published and everything is killed.
    async fn play(&self, fleet: &mut Fleet) -> Result<()> {
        let quota = Quota::of(part(1));
        let topics = [self.topic.clone()];
        let load = async {
            LOAD.run(&self.publishing, &topics, &quota).await;
            anyhow::Ok(())
        };
        tokio::try_join!(load, self.kill_all(fleet, &quota))?;
        let name = self.topic.name();
        until_within(CATCH_UP, "the group has nothing left", async || {
            let left = self.outside.left(name, name, GROUP).await?;
            ensure!(left == 0, "{left} left");
            Ok(true)
        })
        .await?;
        fleet.all_there()?;
        fleet.record().recorder().drained(name, GROUP);
        Ok(())
    }

    async fn kill_all(&self, fleet: &mut Fleet, quota: &Quota) -> Result<()> {
        for (n, kill) in KILLS.iter().enumerate() {
            let publishers = LOAD.publishers as u64;
            let middle = publishers * (part(n) + part(n + 1)) / 2;
            self.consumed(middle)
                .await
                .with_context(|| format!("before kill {n}"))?;
            fleet.all_there()?;
            // First, so that it hits publishers at work.
            quota.raise(part(n + 2));
            match kill {
                Kill::Server => self.kill_server(fleet).await?,
                Kill::Process => {
                    fleet.kill_busiest().await?;
                    fleet.start()?;
                }
            }
        }
        Ok(())
    }

    /// Waits until so many envelopes are done, as the server counts.
    async fn consumed(&self, count: u64) -> Result<()> {
        let name = self.topic.name();
        until_within(CATCH_UP, &format!("{count} are done"), async || {
            // In this order: what is stored in between is not done.
            let left = self.outside.left(name, name, GROUP).await?;
            let stored = self.outside.stored(name).await?;
            ensure!(stored >= left + count, "{left} left of {stored}");
            Ok(true)
        })
        .await
    }

    async fn kill_server(&self, fleet: &Fleet) -> Result<()> {
        let (seen, rejected) = (
            self.publishing.seen(),
            self.publishing.bus.metrics().rejected,
        );
        let window = fleet.record().recorder().fault("the server is killed");
        self.broker.kill().await?;
        let refused = until("a publish was not sent", async || {
            Ok(self.publishing.bus.metrics().rejected > rejected)
        });
        let refused = refused.await;
        self.broker.start_again().await?;
        drop(window);
        refused?;
        let again = |event: &BusEvent| matches!(event, BusEvent::Reconnected { .. });
        self.publishing.until("a new session", seen, again).await?;
        Ok(())
    }

    /// The processes close their buses, and the publishing one is closed as well.
    async fn end(self, fleet: &mut Fleet) -> Result<()> {
        fleet.end().await?;
        drop(self.topic);
        let publishing = Arc::into_inner(self.publishing).context("a publisher still runs")?;
        let report = publishing.leave(Duration::from_secs(5)).await?;
        ensure!(report.drained, "{report:?}");
        Ok(())
    }
}

/// How many envelopes each publisher has begun when so many parts of the load are.
fn part(parts: usize) -> u64 {
    LOAD.each * parts as u64 / (KILLS.len() as u64 + 1)
}
