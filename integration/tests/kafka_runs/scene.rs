//! A load, somebody who consumes it, and what is broken meanwhile, one after the other.

use anyhow::{Context, Result, bail, ensure};
use clearway::kafka::{Kafka as Backend, Options};
use clearway::{Bus, BusBuilder, TopicConfig};
use clearway_integration::{
    Fault, KafkaBroker, KafkaOutside, Load, Manner, Member, Quota, RawTopic, Record, until,
};
use clearway_verify::check::Verdict;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

pub(crate) const GROUP: &str = "audit";
/// How long a whole run may take.
const LIMIT: Duration = Duration::from_secs(240);
/// How often the broker is asked what the group has committed.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// What is broken, each while publishers are at it, and mended when a publish has felt it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Breakage {
    /// Every connection is reset.
    Cut,
    /// What is sent is stored, and no answer comes.
    LoseAnswers,
    /// The proxy's door is shut.
    Refuse,
    /// The broker is frozen.
    Pause,
    /// The broker is killed, and started again.
    Kill,
    /// The broker is stopped, and started again.
    Stop,
    /// The node that leads the first partition is stopped: another leads, and nothing else is felt. Then it is started again.
    MoveLeader,
    /// Two of three nodes are killed, and started again in the other order.
    TwoGone,
}

use Breakage::{Cut, Kill, LoseAnswers, MoveLeader, Pause, Refuse, Stop, TwoGone};

/// A load under faults.
pub(crate) struct Run {
    pub(crate) name: &'static str,
    pub(crate) load: Load,
    /// Of each topic.
    pub(crate) partitions: &'static [u32],
    pub(crate) breakages: &'static [Breakage],
}

/// Options that notice soon what is broken, so that a test need not wait for it.
pub(crate) fn options_at(url: &str) -> Result<Options> {
    Ok(Options::from_url(url)?
        .connect_timeout(Duration::from_secs(5))
        .request_timeout(Duration::from_secs(5))
        .publish_timeout(Duration::from_secs(4))
        .commit_every(Duration::from_millis(200)))
}

/// A bus of these options, on a broker.
pub(crate) fn bus(broker: &KafkaBroker) -> Result<BusBuilder> {
    Ok(bus_of(options_at(&broker.url())?))
}

/// A bus that comes back soon.
pub(crate) fn bus_of(options: Options) -> BusBuilder {
    Bus::builder()
        .backend(Backend::new(options))
        .ensure_timeout(Duration::from_secs(30))
        .reconnect_delay(Duration::from_millis(20), Duration::from_millis(200))
}

/// Does `work`, and has what the broker says is committed for the group written down meanwhile.
pub(crate) async fn watched<T>(
    record: &Record,
    outside: &KafkaOutside,
    topics: &[&str],
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let watching = async {
        loop {
            for topic in topics {
                // Somebody may be breaking the broker: then there is nothing to write down.
                let _ = outside.note_committed(record, topic, GROUP).await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        biased;
        done = work => done,
        never = watching => never,
    }
}

impl Run {
    pub(crate) async fn run_on(&self, broker: &KafkaBroker) -> Result<Verdict> {
        let workload = format!(
            "{} publishers x {} envelopes of {} B on {} topics; {:?}",
            self.load.publishers,
            self.load.each,
            self.load.size,
            self.partitions.len(),
            self.breakages
        );
        let record = Record::begin(self.name, broker, &workload, Some(self.load.seed))?;
        let scene = Scene::open(self, &record, broker).await?;
        let quota = Quota::of(self.quota(0));
        let both = async {
            // The first that fails ends both: a publish that never ends must not hide why.
            tokio::try_join!(
                async {
                    let load = self.load.run(&scene.publishing, &scene.topics, &quota);
                    load.await;
                    anyhow::Ok(())
                },
                self.break_all(&scene, &record, &quota),
            )
        };
        let topics: Vec<_> = scene.topics.iter().map(|topic| topic.name()).collect();
        let both = watched(&record, &scene.outside, &topics, both);
        let ended = timeout(LIMIT, both).await;
        let ended = ended.unwrap_or_else(|_| bail!("it does not end within {LIMIT:?}"));
        ended.with_context(|| scene.state())?;
        let ended = timeout(LIMIT, scene.end(&record)).await;
        ended.context("the consumers do not catch up, or a bus does not close")??;

        let verdict = record.finish()?;
        let counts = &verdict.counts;
        ensure!(counts.faults == self.breakages.len() as u64, "{verdict}");
        let topics = self.partitions.len() as u64;
        ensure!(counts.drained == topics && counts.closes == 2, "{verdict}");
        ensure!(
            counts.acked > 0 && counts.commits > 0 && verdict.not_judged.is_empty(),
            "{verdict}"
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
    broker: &'b KafkaBroker,
    outside: KafkaOutside,
    publishing: Arc<Member>,
    consuming: Member,
    topics: Vec<RawTopic>,
}

impl<'b> Scene<'b> {
    async fn open(run: &Run, record: &Record, broker: &'b KafkaBroker) -> Result<Self> {
        let configs: Vec<_> = (0..)
            .zip(run.partitions)
            .map(|(n, &count)| TopicConfig::new(format!("orders-{n}")).partitions(count))
            .collect();
        let with_topics = |number| {
            let builder = configs.iter().fold(bus(broker)?, |builder, config| {
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
        for topic in handles(&consuming)? {
            let subscribed = consuming.subscribe(&topic, GROUP, Manner::default());
            let _runs_until_close = subscribed.await?;
        }
        Ok(Self {
            broker,
            outside: KafkaOutside::of(broker)?,
            topics: handles(&publishing)?,
            publishing: Arc::new(publishing),
            consuming,
        })
    }

    /// What both buses say of themselves, for whoever has to find out why a run did not end.
    fn state(&self) -> String {
        let of = |member: &Member| format!("{:#?}\n{:#?}", member.bus.metrics(), member.events());
        let (publishing, consuming) = (of(&self.publishing), of(&self.consuming));
        format!("publishing: {publishing}\nconsuming: {consuming}")
    }

    /// How many publishes have their outcome.
    fn settled(&self) -> u64 {
        let metrics = self.publishing.bus.metrics();
        metrics.acked + metrics.rejected + metrics.unknown
    }

    /// Breaks something, lets more publishes come, and mends it when a publish has felt it.
    async fn break_one(
        &self,
        breakage: Breakage,
        record: &Record,
        more: impl FnOnce(),
    ) -> Result<()> {
        let metrics = || self.publishing.bus.metrics();
        let before = metrics();
        let felt = || {
            // That what may be stored is called unknown is the checker's to demand.
            until("a publish has given up", async || {
                let now = metrics();
                Ok(now.unknown + now.rejected > before.unknown + before.rejected)
            })
        };
        let window = record.recorder().fault(format!("{breakage:?}"));
        // First, so that it breaks in the middle of something.
        more();
        match breakage {
            Cut => self.broker.node()?.proxy()?.cut().await,
            LoseAnswers | Refuse => {
                let proxy = self.broker.node()?.proxy()?;
                let fault = match breakage {
                    LoseAnswers => Fault::HoldAnswers,
                    _ => Fault::Refuse,
                };
                proxy.set(fault).await;
                let felt = felt().await;
                // What was held is lost, and not late.
                proxy.cut().await;
                proxy.set(Fault::Pass).await;
                felt?;
            }
            Pause => {
                self.broker.node()?.pause().await?;
                let felt = felt().await;
                self.broker.node()?.unpause().await?;
                felt?;
            }
            Kill | Stop => {
                let node = self.broker.node()?;
                match breakage {
                    Kill => node.kill().await?,
                    _ => node.stop().await?,
                }
                let felt = felt().await;
                node.start_again().await?;
                felt?;
            }
            MoveLeader => self.move_leader().await?,
            TwoGone => {
                let mut gone = self.broker.nodes().iter().take(2);
                let (first, second) = (gone.next(), gone.next());
                let (first, second) = first.zip(second).context("a cluster of three")?;
                first.kill().await?;
                second.kill().await?;
                let felt = felt().await;
                second.start().await?;
                first.start().await?;
                second.ready().await?;
                first.ready().await?;
                felt?;
            }
        }
        drop(window);
        let acked = metrics().acked;
        until("publishes are acknowledged again", async || {
            Ok(metrics().acked > acked)
        })
        .await
    }

    async fn move_leader(&self) -> Result<()> {
        let topic = self.topics[0].name();
        let leader = self.broker.leader(topic, 0).await?;
        leader.stop().await?;
        let moved = until("another leads", async || {
            let leaders = self.outside.leaders(topic).await?;
            Ok(leaders[0].is_some_and(|id| id != leader.id()))
        });
        let moved = moved.await;
        let acked = self.publishing.bus.metrics().acked;
        let goes_on = until(
            "publishes are acknowledged under another leader",
            async || Ok(self.publishing.bus.metrics().acked > acked),
        );
        let goes_on = goes_on.await;
        leader.start_again().await?;
        moved.and(goes_on)
    }

    /// Consumers catch up, then both buses close.
    async fn end(self, record: &Record) -> Result<()> {
        for topic in &self.topics {
            self.outside.drained(record, topic.name(), GROUP).await?;
        }
        drop(self.topics);
        let publishing = Arc::into_inner(self.publishing).context("a publisher still runs")?;
        for member in [publishing, self.consuming] {
            let report = member.leave(Duration::from_secs(10)).await?;
            ensure!(report.drained && report.deliveries_left == 0, "{report:?}");
        }
        Ok(())
    }
}
