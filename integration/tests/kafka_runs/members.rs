//! Five processes of a group, killed and frozen at random while they are at work. What each began and did not finish comes again
//! to another, each time with a cause of its own; no key is in two hands or out of order; and nothing is committed before its time.
//!
//! Short by default. `CLEARWAY_TEST_LONG=1` asks for the full one.

use crate::group::{self, Beside, Group, SESSION};
use anyhow::{Context, Result, bail, ensure};
use clearway::kafka::Rebalancing;
use clearway_integration::{Fleet, Kafka, KafkaBroker, Load, Quota};
use fastrand::Rng;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};

const LONG: &str = "CLEARWAY_TEST_LONG";
const MEMBERS: usize = 5;
/// As many stand still at a time, at most: somebody has to be at work.
const STILL_MAX: usize = 2;

const LOAD: Load = Load {
    publishers: 16,
    each: 1_250,
    windows: &[64, 1, 16, 64],
    keys: 200,
    size: 128,
    seed: 31,
};
const SHORT: Duration = Duration::from_secs(30);
const FULL: Load = Load {
    each: 12_500,
    ..LOAD
};
const FULL_LASTS: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes its time: `make runs` asks for it"]
async fn cooperative_members_are_killed_and_frozen_at_random() -> Result<()> {
    killed_and_frozen("kafka-members", Rebalancing::Cooperative).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes its time: `make runs` asks for it"]
async fn members_that_the_broker_assigns_to_are_killed_and_frozen_at_random() -> Result<()> {
    killed_and_frozen("kafka-members-broker", Rebalancing::Broker).await
}

async fn killed_and_frozen(name: &str, rebalancing: Rebalancing) -> Result<()> {
    let (load, lasts) = match std::env::var_os(LONG) {
        Some(_) => (FULL, FULL_LASTS),
        None => (LOAD, SHORT),
    };
    // The broker's word where the broker assigns.
    let session = SESSION.as_millis().to_string();
    let settings = Kafka::default().setting("group.consumer.session.timeout.ms", &session);
    let Some(broker) = KafkaBroker::own(settings).await? else {
        return Ok(());
    };
    let begun = Instant::now();
    let workload = format!(
        "{} envelopes of {} keys; {MEMBERS} members ({}), killed and frozen at random for {lasts:?}",
        load.total(),
        load.keys,
        group::case_of(rebalancing),
    );
    let mut group = Group::open(name, &broker, rebalancing, (&workload, load.seed)).await?;
    for _ in 0..MEMBERS {
        group.fleet.start()?;
    }
    let (beside, fleet) = group.beside();
    let disturbed = timeout(lasts * 3, play(&beside, fleet, &load, lasts)).await;
    disturbed.unwrap_or_else(|_| bail!("it does not end"))?;
    drop(beside);
    let (history, verdict) = group.end().await?;
    group::told(name, &history, &verdict, begun.elapsed());

    let counts = &verdict.counts;
    ensure!(counts.acked >= load.total(), "{verdict}");
    ensure!(counts.drained == 1 && counts.commits > 0, "{verdict}");
    ensure!(counts.kills > 0 && counts.freezes > 0, "{verdict}");
    ensure!(
        counts.rebalances > 0,
        "no member that stood still was told that it lost partitions: {verdict}"
    );
    let open = group::open_over_a_freeze(&history);
    ensure!(open > 0, "nobody had anything to do when it froze");
    ensure!(group::handed_over(&history) > 0, "{verdict}");
    Ok(())
}

/// Everything is published, as evenly as it takes to last, while members are killed and frozen.
async fn play(beside: &Beside<'_>, fleet: &mut Fleet, load: &Load, lasts: Duration) -> Result<()> {
    let quota = Quota::of(0);
    let begun = Instant::now();
    let paced = async {
        while begun.elapsed() < lasts {
            let part = begun.elapsed().as_secs_f64() / lasts.as_secs_f64();
            quota.raise((load.each as f64 * part) as u64);
            sleep(Duration::from_millis(50)).await;
        }
        quota.raise(load.each);
        anyhow::Ok(())
    };
    let published = async {
        beside.publish(load, &quota).await;
        anyhow::Ok(())
    };
    let mut disturbing = Disturbing {
        fleet,
        random: Rng::with_seed(load.seed),
        still: Vec::new(),
        turn: 0,
    };
    let disturbed = disturbing.run(begun + lasts);
    let all = async { tokio::try_join!(published, paced, disturbed).map(drop) };
    beside.watched(all).await
}

/// Who kills and freezes.
struct Disturbing<'f> {
    fleet: &'f mut Fleet,
    random: Rng,
    /// Who stands still, and until when.
    still: Vec<(u32, Instant)>,
    turn: u64,
}

impl Disturbing<'_> {
    async fn run(&mut self, until: Instant) -> Result<()> {
        let mut next = Instant::now() + self.pause();
        loop {
            let thaw = self.still.iter().map(|(_, until)| *until).min();
            let due = thaw.map_or(next, |thaw| thaw.min(next));
            if due >= until {
                break;
            }
            sleep_until(due).await;
            self.thaw(due)?;
            if due >= next {
                self.disturb().await?;
                next = Instant::now() + self.pause();
            }
        }
        while let Some(until) = self.still.iter().map(|(_, until)| *until).min() {
            sleep_until(until).await;
            self.thaw(until)?;
        }
        Ok(())
    }

    fn pause(&mut self) -> Duration {
        Duration::from_millis(self.random.u64(1_000..4_000))
    }

    fn thaw(&mut self, now: Instant) -> Result<()> {
        for (number, _) in self.still.extract_if(.., |(_, until)| *until <= now) {
            self.fleet.thaw(number)?;
        }
        Ok(())
    }

    async fn disturb(&mut self) -> Result<()> {
        // One that has ended says why, and is nobody to disturb.
        self.fleet.all_there()?;
        let still = |number: &u32| self.still.iter().any(|(of, _)| of == number);
        let mut at_work = self.fleet.numbers();
        at_work.retain(|number| !still(number));
        let whom = self.random.choice(at_work).context("nobody is at work")?;
        self.turn += 1;
        // One of each first, so that the shortest run has both.
        let freezes = self.turn == 1 || (self.turn > 2 && self.random.bool());
        if freezes && self.still.len() < STILL_MAX {
            self.fleet.freeze(whom).await?;
            // For longer than the broker waits, or now and then for less.
            let length = match self.random.u64(0..4) {
                0 if self.turn > 1 => self.random.u64(500..3_000),
                _ => SESSION.as_millis() as u64 + self.random.u64(1_000..5_000),
            };
            let until = Instant::now() + Duration::from_millis(length);
            self.still.push((whom, until));
        } else {
            self.fleet.kill(whom).await?;
            self.fleet.start()?;
        }
        Ok(())
    }
}
