//! Load while the server is paused, killed and started again, and while connections are cut and answers lost.

use crate::setup::{bus, options, topics};
use anyhow::{Context, Result, bail, ensure};
use clearway::{BusEvent, TopicConfig};
use clearway_integration::{
    Broker, Fault, Load, Manner, Member, Nats, Outside, Proxy, Quota, RawTopic, Record, until,
};
use clearway_verify::check::Verdict;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

const GROUP: &str = "audit";

/// How long a whole run may take.
const LIMIT: Duration = Duration::from_secs(300);

/// What is kept in the repository may be so large, in bytes.
const KEPT_MAX: u64 = 200_000;

/// What is broken, in this order, each while publishers are at it.
#[derive(Clone, Copy, Debug)]
enum Breakage {
    /// Every connection is reset.
    Cut,
    /// Nothing is answered, until a publish has given up.
    Pause,
    /// The server dies, until a publish was surely not sent.
    Kill,
    /// What is sent is stored, and the answers are lost with the connection.
    LoseAnswers,
}

use Breakage::{Cut, Kill, LoseAnswers, Pause};

/// A load under faults.
struct FaultRun {
    name: &'static str,
    load: Load,
    partitions: &'static [u32],
    breakages: &'static [Breakage],
    fails_every: u64,
    /// What connections are like while nothing is broken.
    calm: Fault,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_publishers_while_everything_breaks() -> Result<()> {
    let run = FaultRun {
        name: "fault-run",
        load: Load {
            publishers: 16,
            each: 10_000,
            windows: &[64, 1, 16, 64],
            keys: 64,
            size: 256,
            seed: 3,
        },
        partitions: &[1, 2, 3, 4, 8],
        breakages: &[Cut, Pause, LoseAnswers, Kill, Cut, Kill],
        fails_every: 4_000,
        calm: Fault::Pass,
    };
    let Some(verdict) = run.run().await? else {
        return Ok(());
    };
    let counts = &verdict.counts;
    ensure!(
        counts.ops >= 160_000 && counts.acked >= 150_000,
        "{verdict}"
    );
    ensure!(counts.unknown > 0 && counts.rejected > 0, "{verdict}");
    // What was sent again was recognised: a goal for a run this long; a short one may miss it.
    ensure!(counts.acked_again > 0, "{verdict}");
    Ok(())
}

/// Small enough to be kept: what `verify history` is shown on is a copy of what this leaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_short_run_leaves_a_history_small_enough_to_keep() -> Result<()> {
    let run = FaultRun {
        name: "nats-fault",
        load: Load {
            publishers: 4,
            each: 60,
            windows: &[4, 1, 4, 4],
            keys: 6,
            size: 256,
            seed: 4,
        },
        partitions: &[1, 2],
        breakages: &[Cut, Pause, LoseAnswers, Kill],
        fails_every: 100,
        // So that something is still under way when the server dies.
        calm: Fault::Delay(Duration::from_millis(10)),
    };
    let Some(verdict) = run.run().await? else {
        return Ok(());
    };
    let counts = &verdict.counts;
    ensure!(counts.ops >= 240 && counts.unknown > 0, "{verdict}");
    Ok(())
}

impl FaultRun {
    /// `None` when there is no server that may be broken.
    async fn run(&self) -> Result<Option<Verdict>> {
        match Broker::nats(Nats::default()).await? {
            Some(broker) => self.run_on(&broker).await.map(Some),
            None => Ok(None),
        }
    }

    async fn run_on(&self, broker: &Broker) -> Result<Verdict> {
        let workload = format!(
            "{} publishers x {} envelopes of {} B on {} topics; {:?}",
            self.load.publishers,
            self.load.each,
            self.load.size,
            self.partitions.len(),
            self.breakages
        );
        let record = Record::begin(self.name, broker, &workload, Some(self.load.seed))?;
        let (proxy, outside) = (broker.proxy().await?, Outside::of(broker).await?);
        let scene = Scene::open(self, &record, broker, proxy, outside).await?;

        let quota = Quota::of(self.quota(0));
        let both = async {
            // The first that fails ends both: a publish that never ends must not hide why.
            tokio::try_join!(
                async {
                    self.load
                        .run(&scene.publishing, &scene.topics, &quota)
                        .await;
                    anyhow::Ok(())
                },
                self.break_all(&scene, &record, &quota),
            )
        };
        let ended = timeout(LIMIT, both).await;
        let ended = ended.unwrap_or_else(|_| bail!("it does not end within {LIMIT:?}"));
        ended.with_context(|| scene.state())?;
        let ended = timeout(LIMIT, scene.end(&record)).await;
        ended.context("the consumers do not catch up, or a bus does not close")??;

        let path = record.path().to_owned();
        let verdict = record.finish()?;
        let counts = &verdict.counts;
        let broken = self.breakages.len() as u64;
        let pauses = self.breakages.iter().filter(|b| matches!(b, Pause)).count() as u64;
        ensure!(
            counts.faults == broken && counts.reconnects >= broken - pauses,
            "{verdict}"
        );
        ensure!(
            counts.drained == self.partitions.len() as u64 && counts.closes == 2,
            "{verdict}"
        );
        ensure!(verdict.not_judged.is_empty(), "{verdict}");
        let bytes = std::fs::metadata(&path)?.len();
        println!("{}: {bytes} bytes", path.display());
        ensure!(
            self.load.total() > 1_000 || bytes < KEPT_MAX,
            "{bytes} bytes are too many"
        );
        Ok(verdict)
    }

    /// How many envelopes each publisher may have begun when so many faults are over.
    fn quota(&self, faults: usize) -> u64 {
        self.load.each * (faults as u64 + 1) / (self.breakages.len() as u64 + 1)
    }

    async fn break_all(&self, scene: &Scene<'_>, record: &Record, quota: &Quota) -> Result<()> {
        for (n, breakage) in self.breakages.iter().enumerate() {
            // In the middle of what is allowed so far.
            let before = if n == 0 { 0 } else { self.quota(n - 1) };
            let mark = (before + self.quota(n)) / 2 * self.load.publishers as u64;
            until("half of the envelopes have an outcome", async || {
                Ok(scene.settled() >= mark)
            })
            .await?;
            let next = self.quota(n + 1);
            let broken = scene.break_one(*breakage, record, || quota.raise(next));
            broken
                .await
                .with_context(|| format!("fault {n}, {breakage:?}"))?;
        }
        Ok(())
    }
}

/// Everybody who takes part.
struct Scene<'b> {
    broker: &'b Broker,
    proxy: Proxy,
    calm: Fault,
    outside: Outside,
    publishing: Arc<Member>,
    consuming: Member,
    topics: Vec<RawTopic>,
}

impl<'b> Scene<'b> {
    async fn open(
        run: &FaultRun,
        record: &Record,
        broker: &'b Broker,
        proxy: Proxy,
        outside: Outside,
    ) -> Result<Self> {
        let url = broker.url_through(&proxy);
        let configs: Vec<TopicConfig> = topics("orders", run.partitions);
        let with_topics = |number| {
            let builder = configs.iter().fold(bus(options(&url)?), |builder, config| {
                builder.topic(config.clone())
            });
            anyhow::Ok(Member::connect(record, number, builder))
        };
        let publishing = with_topics(0)?.await?;
        let consuming = with_topics(1)?.await?;
        let handles = |member: &Member| -> Result<Vec<RawTopic>> {
            let each = configs
                .iter()
                .map(|config| member.bus.raw_topic(config.name()));
            Ok(each.collect::<Result<_, _>>()?)
        };
        let manner = Manner {
            fails_every: run.fails_every,
            ..Manner::default()
        };
        for topic in handles(&consuming)? {
            let _runs_until_close = consuming.subscribe(&topic, GROUP, manner.clone()).await?;
        }
        proxy.set(run.calm).await;
        Ok(Self {
            broker,
            proxy,
            calm: run.calm,
            outside,
            topics: handles(&publishing)?,
            publishing: Arc::new(publishing),
            consuming,
        })
    }

    /// What both buses say of themselves, for whoever has to find out why a run did not end.
    fn state(&self) -> String {
        let of = |member: &Member| format!("{:#?}\n{:#?}", member.bus.metrics(), member.events());
        format!(
            "publishing: {}\nconsuming: {}",
            of(&self.publishing),
            of(&self.consuming)
        )
    }

    /// How many publishes have their outcome.
    fn settled(&self) -> u64 {
        let metrics = self.publishing.bus.metrics();
        metrics.acked + metrics.rejected + metrics.unknown
    }

    /// Breaks something, lets more publishes come, and mends it when it has done what it was meant to do.
    async fn break_one(
        &self,
        breakage: Breakage,
        record: &Record,
        more: impl FnOnce(),
    ) -> Result<()> {
        let metrics = || self.publishing.bus.metrics();
        let (before, seen) = (metrics(), self.publishing.seen());
        let window = record.recorder().fault(format!("{breakage:?}"));
        // First, so that it breaks in the middle of something.
        more();
        match breakage {
            Cut => self.proxy.cut().await,
            Pause => {
                self.broker.pause().await?;
                let given_up = until("a publish has given up", async || {
                    // That it is called unknown is the checker's to demand.
                    let now = metrics();
                    Ok(now.unknown + now.rejected > before.unknown + before.rejected)
                });
                let given_up = given_up.await;
                self.broker.unpause().await?;
                given_up?;
            }
            Kill => {
                self.broker.kill().await?;
                let refused = until("a publish was not sent", async || {
                    Ok(metrics().rejected > before.rejected)
                });
                let refused = refused.await;
                self.broker.start_again().await?;
                refused?;
            }
            LoseAnswers => {
                self.proxy.set(Fault::HoldAnswers).await;
                let acked = metrics().acked;
                let stored = self.more_stored_than(acked).await;
                self.proxy.set(Fault::Reset).await;
                self.proxy.set(self.calm).await;
                stored?;
            }
        }
        drop(window);
        // A pause may be over before the connection counts as lost.
        if !matches!(breakage, Pause) {
            let again = |event: &BusEvent| matches!(event, BusEvent::Reconnected { .. });
            self.publishing.until("a new session", seen, again).await?;
        }
        let acked = metrics().acked;
        until("publishes are acknowledged again", async || {
            Ok(metrics().acked > acked)
        })
        .await
    }

    async fn more_stored_than(&self, acked: u64) -> Result<()> {
        until("something is stored whose answer is held", async || {
            let mut stored = 0;
            for topic in &self.topics {
                stored += self.outside.stored(topic.name()).await?;
            }
            Ok(stored > acked)
        })
        .await
    }

    /// Consumers catch up, then both buses close.
    async fn end(self, record: &Record) -> Result<()> {
        for topic in &self.topics {
            let name = topic.name();
            self.outside.drained(record, name, name, GROUP).await?;
        }
        drop(self.topics);
        let publishing = Arc::into_inner(self.publishing).context("a publisher still runs")?;
        for member in [publishing, self.consuming] {
            let report = member.leave(Duration::from_secs(5)).await?;
            ensure!(report.drained && report.deliveries_left == 0, "{report:?}");
        }
        Ok(())
    }
}
