//! A process of a group stands still for longer than the server waits for it, while its handlers are at work and more is
//! queued. Others get what it had. When it goes on it begins nothing of that: it does not know yet that all of it is another's.

#[path = "bus/setup.rs"]
mod setup;

use anyhow::{Context, Result, ensure};
use clearway::Order;
use clearway_integration::{
    Broker, Fleet, Load, Manner, Member, Nats, Outside, Post, Quota, RawTopic, until,
};
use clearway_verify::check;
use clearway_verify::history::{Event, History, Phase};
use setup::{bus, options};
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

const TOPIC: &str = "orders";
const GROUP: &str = "billing";
const PARTITIONS: u32 = 8;
/// So much more in its history says that a process handles new deliveries, and not only ends those it had.
const AT_WORK_AGAIN: u64 = 256 << 10;

/// More than both have done in a second.
const BURST: Load = Load {
    publishers: 8,
    each: 300,
    windows: &[64, 1, 16, 64],
    keys: 200,
    size: 64,
    seed: 5,
};

fn builder(url: &str) -> Result<clearway::BusBuilder> {
    let topic = setup::topics(TOPIC, &[PARTITIONS]).remove(0);
    // Its connection outlives the freeze: a lost one would say by itself that all is void.
    let options = options(url)?.ping_interval(Duration::from_secs(120));
    Ok(bus(options).topic(topic))
}

/// Not a test: a process of the fleet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process of the other one"]
async fn process_of_a_fleet() -> Result<()> {
    let Some(post) = Post::of_this_process()? else {
        return Ok(());
    };
    let record = post.record()?;
    let member = Member::connect(&record, post.number, builder(&post.url)?).await?;
    let manner = Manner {
        order: Order::ByKey,
        in_flight: 256,
        takes: Duration::from_millis(5),
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stood_still_begins_nothing_that_is_anothers() -> Result<()> {
    let Some(broker) = Broker::nats(Nats::default()).await? else {
        return Ok(());
    };
    let begun = Instant::now();
    let post = Post {
        url: broker.url().to_owned(),
        topic: setup::topics(TOPIC, &[PARTITIONS])
            .remove(0)
            .name()
            .to_owned(),
        group: GROUP.to_owned(),
        case: String::new(),
        number: 0,
        history: Default::default(),
    };
    let about = ("two processes, one of them stands still", BURST.seed);
    let fleet = Fleet::begin("frozen", &broker, about, "process_of_a_fleet", post)?;
    let (history, frozen) = Scene::open(&broker, fleet).await?.play().await?;
    let verdict = check::history(&history);
    let open = open_over_the_freeze(&history, frozen);
    let counts = &verdict.counts;
    let told = format!(
        "integration: frozen: {} envelopes acked, {} deliveries, {open} at work over the freeze, again by cause {:?}, \
         {} violations, {:.1} s\n",
        counts.acked,
        counts.deliveries,
        counts.duplicates,
        verdict.total(),
        begun.elapsed().as_secs_f64(),
    );
    // Past the test harness, which would keep it.
    let _ = std::io::stderr().write_all(told.as_bytes());
    ensure!(verdict.is_ok(), "{verdict}");
    ensure!(verdict.not_judged.is_empty(), "{verdict}");
    ensure!((counts.freezes, counts.drained) == (1, 1), "{verdict}");
    ensure!(open > 0, "it had nothing to do when it froze");
    Ok(())
}

/// How many handlers of `bus` had begun before it stood still and ended after.
fn open_over_the_freeze(history: &History, bus: u32) -> usize {
    let (mut open, mut over) = (BTreeSet::new(), BTreeSet::new());
    for entry in &history.entries {
        match &entry.event {
            Event::Deliver(deliver) if deliver.bus == bus => {
                open.insert((deliver.subscription, deliver.partition, deliver.position));
            }
            Event::Settle(settle) => {
                open.remove(&(settle.subscription, settle.partition, settle.position));
            }
            Event::Frozen(frozen) if frozen.phase == Phase::Begin => over = open.clone(),
            _ => {}
        }
    }
    over.len()
}

/// Who publishes, stops a process, and looks on.
struct Scene {
    fleet: Fleet,
    outside: Outside,
    publishing: Arc<Member>,
    topic: RawTopic,
}

impl Scene {
    async fn open(broker: &Broker, mut fleet: Fleet) -> Result<Self> {
        let publishing = Member::connect(fleet.record(), 0, builder(broker.url())?).await?;
        let name = setup::topics(TOPIC, &[PARTITIONS]).remove(0);
        let topic = publishing.bus.raw_topic(name.name())?;
        fleet.start()?;
        fleet.start()?;
        Ok(Self {
            fleet,
            outside: Outside::of(broker).await?,
            publishing: Arc::new(publishing),
            topic,
        })
    }

    /// Gives the history, and who stood still.
    async fn play(mut self) -> Result<(History, u32)> {
        until("two are at work", async || {
            self.burst().await;
            Ok(self
                .fleet
                .recorded()?
                .iter()
                .all(|size| *size > AT_WORK_AGAIN))
        })
        .await?;
        let before = self.pins().await?;
        self.burst().await;
        let frozen = self.fleet.freeze_busiest().await?;
        until("another has what it had", async || {
            let now = self.pins().await?;
            let taken =
                (before.iter().zip(&now)).filter(|(before, now)| before != now && now.is_some());
            Ok(taken.count() >= PARTITIONS as usize / 2)
        })
        .await?;
        // All is at work again when it goes on.
        self.burst().await;
        let size = self.fleet.recorded_by(frozen)?;
        self.fleet.thaw(frozen)?;
        until("it is at work again", async || {
            self.burst().await;
            Ok(self.fleet.recorded_by(frozen)? > size + AT_WORK_AGAIN)
        })
        .await?;
        let name = self.topic.name();
        until("the group has nothing left", async || {
            let left = self.outside.left(name, name, GROUP).await?;
            ensure!(left == 0, "{left} left");
            Ok(true)
        })
        .await?;
        self.fleet.all_there()?;
        self.fleet.record().recorder().drained(name, GROUP);
        self.fleet.end().await?;
        drop(self.topic);
        let publishing = Arc::into_inner(self.publishing).context("a publisher still runs")?;
        let report = publishing.leave(Duration::from_secs(5)).await?;
        ensure!(report.drained, "{report:?}");
        Ok((self.fleet.finish()?.0, frozen))
    }

    async fn burst(&self) {
        let topics = [self.topic.clone()];
        BURST
            .run(&self.publishing, &topics, &Quota::of(u64::MAX))
            .await;
    }

    /// Who has each partition.
    async fn pins(&self) -> Result<Vec<Option<String>>> {
        let name = self.topic.name();
        let mut pins = Vec::new();
        for partition in 0..PARTITIONS {
            pins.push(self.outside.pin(name, name, GROUP, partition).await?);
        }
        Ok(pins)
    }
}
