//! The conformance suite on the mock: each case has a cluster of its own, and says in its line that it was a mock. What it cannot run is
//! listed here, with what it fails with: a case that is listed and passes is an error of the list, as one that fails and is not.
//!
//! `CLEARWAY_TEST_CASE=name` runs one of them, or those of one room.

use anyhow::{Context as _, Result, ensure};
use clearway::BackendChoice;
use clearway_verify::conformance::{CASES, Stand, Verdict};
use futures_util::StreamExt as _;
use futures_util::stream;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use std::io::Write as _;
use std::time::Instant;

/// As many at a time: most of them wait for the mock, which has each new group wait for three seconds.
const AT_A_TIME: usize = 8;
/// Topics are there before a case begins, since the mock makes none by request. No case has more.
const TOPICS: u64 = 8;
const PARTITIONS: i32 = 4;

/// Who wants another number of partitions.
const OTHER_PARTITIONS: &[(&str, i32)] = &[
    ("by_partition_handles_one_of_a_partition_at_a_time", 1),
    ("two_members_share_the_partitions", 6),
    ("a_member_that_joins_overlaps_nobody", 6),
    ("what_a_member_had_comes_to_the_others", 6),
    ("a_third_member_and_a_crash_lose_nothing", 6),
];

/// What the mock cannot run: the case, why, and what it fails with.
const CANNOT: &[(&str, &str, &str)] = &[(
    "a_new_group_begins_at_a_time",
    "it does not look for times",
    "[8]",
)];

type Cluster = MockCluster<'static, DefaultProducerContext>;

/// What became of a case here.
enum Ended {
    Passed,
    Refused(&'static str),
    Cannot(&'static str),
    Wrong(String),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_passes_on_the_mock_but_those_that_it_cannot_run() -> Result<()> {
    let only = std::env::var("CLEARWAY_TEST_CASE").ok();
    let wanted = |(room, name): &(&'static str, &'static str)| {
        (only.as_deref()).is_none_or(|only| [*room, *name].contains(&only))
    };
    let cases = CASES.iter().map(|(room, name, _)| (*room, *name));
    let work = cases.filter(wanted).map(|(room, name)| case(room, name));
    let mut each = stream::iter(work).buffer_unordered(AT_A_TIME);
    let (mut passed, mut refused, mut cannot, mut wrong) = (0, 0, 0, Vec::new());
    while let Some((name, ended)) = each.next().await {
        match ended {
            Ended::Passed => passed += 1,
            Ended::Refused(_) => refused += 1,
            Ended::Cannot(_) => cannot += 1,
            Ended::Wrong(_) => wrong.push(name),
        }
    }
    say(&format!(
        "mock: conformance on the mock, which is no Kafka: {passed} passed, {refused} refused, {cannot} it cannot run, {} wrong",
        wrong.len()
    ));
    ensure!(wrong.is_empty(), "wrong on the mock: {wrong:?}");
    ensure!(passed + refused + cannot > 0, "there is no case {only:?}");
    Ok(())
}

/// Runs a case and says how it ended.
async fn case(room: &'static str, name: &'static str) -> (&'static str, Ended) {
    let begun = Instant::now();
    let ended = judge(name, run(name).await);
    let how = match &ended {
        Ended::Passed => "ok".into(),
        Ended::Refused(what) => format!("refused: {what}"),
        Ended::Cannot(why) => format!("it cannot run this: {why}"),
        Ended::Wrong(error) => format!("WRONG: {error}"),
    };
    let took = begun.elapsed();
    say(&format!(
        "mock: conformance on the mock {room:11} {name} ... {how}, {took:.1?}"
    ));
    (name, ended)
}

async fn run(name: &str) -> Result<Verdict> {
    let partitions = OTHER_PARTITIONS.iter().find(|(of, _)| *of == name);
    let partitions = partitions.map_or(PARTITIONS, |(_, partitions)| *partitions);
    let cluster = Cluster::new(1)?;
    for number in 0..TOPICS {
        cluster.create_topic(&format!("conformance.mock.{number}"), partitions, 1)?;
    }
    // In a rebalance the mock waits for nearly a session, though all members have come.
    let url = format!(
        "kafka://{}/?session.timeout.ms=6000",
        cluster.bootstrap_servers()
    );
    BackendChoice::from_url(&url)?;
    let backend = move || BackendChoice::from_url(&url).expect("looked at above");
    let stand = Stand::new(backend, "mock");
    // The cluster stays on this task, and is there for as long as the case runs.
    let name = name.to_owned();
    let runs = tokio::spawn(async move { stand.run(&name).await });
    let verdict = runs.await.context("it panicked")?;
    drop(cluster);
    verdict
}

fn judge(name: &str, verdict: Result<Verdict>) -> Ended {
    let listed = CANNOT.iter().find(|(of, _, _)| *of == name);
    match (verdict, listed) {
        (Ok(Verdict::Passed), None) => Ended::Passed,
        (Ok(Verdict::Refused(what)), None) => Ended::Refused(what),
        (Ok(_), Some(_)) => Ended::Wrong("it is listed as one that the mock cannot run".into()),
        (Err(error), Some((_, why, with))) if format!("{error:#}").contains(with) => {
            Ended::Cannot(why)
        }
        (Err(error), _) => Ended::Wrong(format!("{error:#}")),
    }
}

/// Past the capture of a test's output: who reads of a case here is to read that it was a mock.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
}
