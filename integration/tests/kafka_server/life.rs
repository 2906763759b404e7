//! What a run finds, announces, skips and leaves behind.

use anyhow::{Context, Result, ensure};
use clearway_integration::{Kafka, KafkaBroker, KafkaOutside};
use std::process::{Command, Output};

/// Set for the child programs of these tests.
const CHILD: &str = "CLEARWAY_TEST_CHILD";
const GIVEN: &str = "CLEARWAY_TEST_KAFKA";
const RUN_DIR: &str = "CLEARWAY_RUN_DIR";

/// Containers, volumes and networks whose name contains this.
fn left(name: &str) -> Result<Vec<String>> {
    let filter = format!("name={name}");
    let mut names = Vec::new();
    for what in [
        &["ps", "--all", "--format", "{{.Names}}"][..],
        &["volume", "ls", "--format", "{{.Name}}"],
        &["network", "ls", "--format", "{{.Name}}"],
    ] {
        let output = docker(&[what, &["--filter", &filter]].concat())?;
        names.extend(output.lines().map(str::to_owned));
    }
    Ok(names)
}

fn docker(arguments: &[&str]) -> Result<String> {
    let output = Command::new("docker").args(arguments).output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Volumes without a name: the image declares some, which the engine makes for each container.
fn mounted(container: &str) -> Result<Vec<String>> {
    let format = "{{range .Mounts}}{{.Name}} {{end}}";
    let names = docker(&["inspect", "--format", format, container])?;
    Ok(names.split_whitespace().map(str::to_owned).collect())
}

/// Runs one test of this program in a process of its own.
fn child(test: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .env(CHILD, "1")
        .env_remove(RUN_DIR);
    Ok(command)
}

fn text(output: Output) -> Result<(String, String)> {
    Ok((
        String::from_utf8(output.stdout)?,
        String::from_utf8(output.stderr)?,
    ))
}

#[tokio::test]
async fn a_dropped_one_leaves_no_container_and_no_volume() -> Result<()> {
    let Some(kafka) = KafkaBroker::own(Kafka::default()).await? else {
        return Ok(());
    };
    let name = kafka.node()?.name().to_owned();
    assert_eq!(left(&name)?, [name.clone(), name.clone()]);
    let volumes = mounted(&name)?;
    assert!(volumes.contains(&name), "{volumes:?}");
    kafka.node()?.pause().await?; // a frozen one is removed too
    drop(kafka);
    assert!(left(&name)?.is_empty());
    for volume in volumes {
        assert!(left(&volume)?.is_empty(), "{volume}");
    }
    Ok(())
}

#[tokio::test]
async fn it_says_its_version_and_listens_on_the_loopback_only() -> Result<()> {
    let Some(kafka) = KafkaBroker::own(Kafka::default()).await? else {
        return Ok(());
    };
    let origin = kafka.origin();
    assert_eq!(origin.server, "Apache Kafka 4.3.1");
    let image = origin.image.as_deref().context("it runs in a container")?;
    assert!(image.ends_with("kafka:4.3.1"), "{image}");
    // What it says of its metadata, to those who know nothing else, is of that version too.
    let features = kafka.tool("kafka-features.sh", &["describe"]).await?;
    assert!(
        features.contains("FinalizedVersionLevel: 4.3-IV0"),
        "{features}"
    );

    let node = kafka.node()?;
    let format = "{{range $port, $at := .NetworkSettings.Ports}}{{range $at}}{{$port}} {{.HostIp}}:{{.HostPort}}\n{{end}}{{end}}";
    let published = docker(&["inspect", "--format", format, node.name()])?;
    let mut published: Vec<_> = published.lines().filter(|line| !line.is_empty()).collect();
    published.sort_unstable();
    let mut expected = [node.address(), node.aside()].map(|at| format!("{}/tcp {at}", at.port()));
    expected.sort_unstable();
    assert_eq!(published, expected);
    assert!(node.address().ip().is_loopback());
    Ok(())
}

#[tokio::test]
async fn one_that_cannot_start_says_why_and_leaves_nothing() -> Result<()> {
    let options = Kafka::default().setting("num.io.threads", "none");
    let error = match KafkaBroker::own(options).await {
        Ok(None) => return Ok(()),
        Ok(Some(_)) => panic!("it started with a setting that is no number"),
        Err(error) => format!("{error:#}"),
    };
    assert!(error.contains("num.io.threads"), "{error}");
    let words = error.split_whitespace();
    let name = words
        .map(|word| word.trim_end_matches(':'))
        .find(|word| word.starts_with("clearway-test-"))
        .context("the error names the container")?;
    assert!(left(name)?.is_empty());
    Ok(())
}

/// Not a test: the child of the next one, which panics with a cluster up.
#[tokio::test]
#[ignore = "the child of a_panic_leaves_nothing"]
async fn child_that_panics() -> Result<()> {
    if std::env::var_os(CHILD).is_some() {
        let kafka = KafkaBroker::own(Kafka::cluster()).await?;
        let kafka = kafka.context("no broker is given")?;
        let name = kafka.nodes()[0].name().to_owned();
        let cluster = name.trim_end_matches("-1");
        println!("up: {cluster} {}", left(cluster)?.len());
        panic!("in the middle of a test");
    }
    Ok(())
}

#[test]
fn a_panic_leaves_nothing_of_a_cluster() -> Result<()> {
    if std::env::var_os(GIVEN).is_some() {
        return Ok(());
    }
    let (said, aside) = text(child("life::child_that_panics")?.output()?)?;
    let up = said.lines().find_map(|line| line.split_once("up: "));
    let (name, count) = up
        .and_then(|(_, up)| up.split_once(' '))
        .with_context(|| format!("{said}{aside}"))?;
    assert_eq!(count, "7", "three containers, three volumes, a network");
    assert!(said.contains("test result: FAILED"), "{said}");
    assert!(left(name)?.is_empty(), "{:?}", left(name)?);
    Ok(())
}

/// Not a test: the child of the next one, which dies without dropping anything.
#[tokio::test]
#[ignore = "the child of dead_runs_are_swept"]
async fn child_that_dies() -> Result<()> {
    if std::env::var_os(CHILD).is_some() {
        let kafka = KafkaBroker::own(Kafka::cluster()).await?;
        let kafka = kafka.context("no broker is given")?;
        println!("left: {}", kafka.nodes()[0].name().trim_end_matches("-1"));
        std::process::abort();
    }
    Ok(())
}

#[tokio::test]
async fn dead_runs_are_swept_and_live_ones_are_not() -> Result<()> {
    let Some(kafka) = KafkaBroker::own(Kafka::default()).await? else {
        return Ok(());
    };
    let (said, aside) = text(child("life::child_that_dies")?.output()?)?;
    let dead = said.lines().find_map(|line| line.split_once("left: "));
    let (_, dead) = dead.with_context(|| format!("{said}{aside}"))?;
    assert_eq!(left(dead)?.len(), 7, "an aborted process cannot clean up");

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/engine.sh");
    let (_, aside) = text(Command::new("bash").args([script, "sweep"]).output()?)?;
    assert!(left(dead)?.is_empty(), "{:?}: {aside}", left(dead)?);
    assert_eq!(left(kafka.node()?.name())?.len(), 2, "{aside}");
    Ok(())
}

/// Not a test: the child of the next one. It needs a broker of its own.
#[tokio::test]
#[ignore = "the child of a_given_one_is_used"]
async fn child_that_breaks_its_broker() -> Result<()> {
    if std::env::var_os(CHILD).is_some() {
        let kafka = KafkaBroker::own(Kafka::default()).await?;
        println!("own broker: {}", kafka.is_some());
    }
    Ok(())
}

/// Not a test: the child of the next one. Any broker will do.
#[tokio::test]
#[ignore = "the child of a_given_one_is_used"]
async fn child_that_only_talks() -> Result<()> {
    if std::env::var_os(CHILD).is_some() {
        let kafka = KafkaBroker::any().await?;
        ensure!(
            kafka.nodes().is_empty() && kafka.node().is_err(),
            "not ours to break"
        );
        let topic = kafka.fresh_name("talk");
        let outside = KafkaOutside::of(&kafka)?;
        outside.create(&topic, 1, 1, &[]).await?;
        outside.publish(&topic, &[("k", "hello")]).await?;
        assert_eq!(outside.stored(&topic).await?.len(), 1);
        outside.delete(&topic).await?;
        println!("origin: {}", kafka.origin());
    }
    Ok(())
}

#[tokio::test]
async fn a_given_one_is_used_and_what_cannot_use_it_is_listed_by_name() -> Result<()> {
    let Some(kafka) = KafkaBroker::own(Kafka::default()).await? else {
        return Ok(());
    };
    let run = tempfile::tempdir()?;
    // No engine either: it must not be needed, nor looked for.
    let given = |test: &str, at: &str| -> Result<(String, String)> {
        let mut command = child(test)?;
        command
            .env(GIVEN, at)
            .env(RUN_DIR, run.path())
            .env("DOCKER_HOST", "unix:///nowhere");
        text(command.output()?)
    };

    let (said, aside) = given("life::child_that_only_talks", kafka.bootstrap())?;
    // 30 is 4.3-IV0: see it_says_its_version.
    let origin = "origin: Apache Kafka, metadata.version 30, already there";
    assert!(said.contains(origin), "{said}{aside}");
    let announced = "integration: broker: Apache Kafka, metadata.version 30";
    assert_eq!(aside.matches(announced).count(), 1, "{aside}");
    let (_, aside) = given("life::child_that_only_talks", kafka.bootstrap())?;
    assert_eq!(aside.matches("broker:").count(), 0, "once a run: {aside}");

    let (said, aside) = given("life::child_that_breaks_its_broker", kafka.bootstrap())?;
    assert!(said.contains("own broker: false"), "{said}");
    let name = "life::child_that_breaks_its_broker";
    assert!(aside.contains(&format!("skipped {name}")), "{aside}");
    let skipped = std::fs::read_to_string(run.path().join("skipped"))?;
    assert_eq!(skipped, format!("{name}\n"));

    let (said, aside) = given("life::child_that_only_talks", "127.0.0.1:1")?;
    let both = said + &aside;
    assert!(
        both.contains("test result: FAILED") && both.contains(GIVEN),
        "{both}"
    );
    Ok(())
}
