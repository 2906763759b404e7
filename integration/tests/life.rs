//! What a run finds, announces, skips and leaves behind.

use anyhow::{Context, Result, ensure};
use clearway_integration::{Broker, Nats};
use std::process::{Command, Output};

/// Set for the child programs of these tests.
const CHILD: &str = "CLEARWAY_TEST_CHILD";
const GIVEN: &str = "CLEARWAY_TEST_NATS";
const RUN_DIR: &str = "CLEARWAY_RUN_DIR";

fn engine(arguments: &[&str]) -> Result<Output> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/engine.sh");
    Ok(Command::new("bash").arg(script).args(arguments).output()?)
}

/// Containers and volumes whose name contains this.
fn left(name: &str) -> Result<Vec<String>> {
    let filter = format!("name={name}");
    let mut names = Vec::new();
    for what in [
        &["ps", "--all", "--format", "{{.Names}}"][..],
        &["volume", "ls", "--format", "{{.Name}}"],
    ] {
        let output = Command::new("docker")
            .args(what)
            .args(["--filter", &filter])
            .output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        names.extend(String::from_utf8(output.stdout)?.lines().map(str::to_owned));
    }
    Ok(names)
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

fn own_server_expected() -> bool {
    std::env::var_os(GIVEN).is_none()
}

#[tokio::test]
async fn a_dropped_broker_leaves_no_container_and_no_volume() -> Result<()> {
    let Some(broker) = Broker::nats(Nats::default()).await? else {
        return Ok(());
    };
    let name = broker.name().context("it is ours")?.to_owned();
    assert_eq!(
        left(&name)?,
        [name.clone(), name.clone()],
        "a container and its volume"
    );
    broker.pause().await?; // a frozen one is removed too
    drop(broker);
    assert!(left(&name)?.is_empty());
    Ok(())
}

#[test]
fn a_broker_outlives_its_runtime_and_is_removed_without_one() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let broker = runtime.block_on(Broker::nats(Nats::default()))?;
    drop(runtime);
    let Some(broker) = broker else { return Ok(()) };
    let name = broker.name().context("it is ours")?.to_owned();
    drop(broker);
    assert!(left(&name)?.is_empty());
    Ok(())
}

#[tokio::test]
async fn only_the_loopback_is_listened_on() -> Result<()> {
    let Some(broker) = Broker::nats(Nats::default()).await? else {
        return Ok(());
    };
    let name = broker.name().context("it is ours")?;
    let format = "{{range $port, $at := .NetworkSettings.Ports}}{{range $at}}{{$port}} {{.HostIp}}:{{.HostPort}} {{end}}{{end}}";
    let output = Command::new("docker")
        .args(["inspect", "--format", format, name])
        .output()?;
    let published = String::from_utf8(output.stdout)?;
    assert_eq!(published.trim(), format!("4222/tcp {}", broker.address()));
    assert!(broker.address().ip().is_loopback());
    Ok(())
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why_and_leaves_nothing() -> Result<()> {
    let options = Nats::default().line("no_such_setting: 1");
    let error = match Broker::nats(options).await {
        Ok(None) => return Ok(()),
        Ok(Some(_)) => panic!("a server started with a setting that does not exist"),
        Err(error) => format!("{error:#}"),
    };
    assert!(error.contains("no_such_setting"), "{error}");
    let name = error
        .split_whitespace()
        .find(|word| word.starts_with("clearway-test-"));
    let name = name
        .context("the error names the container")?
        .trim_end_matches(':');
    assert!(left(name)?.is_empty());
    Ok(())
}

/// Not a test: the child of the next one, which dies without dropping anything.
#[tokio::test]
#[ignore = "the child of dead_runs_are_swept"]
async fn child_that_dies() -> Result<()> {
    if std::env::var_os(CHILD).is_some() {
        let broker = Broker::nats(Nats::default())
            .await?
            .context("no server is given")?;
        println!("left: {}", broker.name().context("it is ours")?);
        std::process::abort();
    }
    Ok(())
}

#[test]
fn dead_runs_are_swept_and_live_ones_are_not() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let Some(broker) = runtime.block_on(Broker::nats(Nats::default()))? else {
        return Ok(());
    };
    let live = broker.name().context("it is ours")?;
    let output = child("child_that_dies")?.output()?;
    let said = String::from_utf8(output.stdout)?;
    let dead = said
        .lines()
        .find_map(|line| line.split_once("left: "))
        .with_context(|| said.clone())?
        .1;
    assert_eq!(left(dead)?.len(), 2, "an aborted process cannot clean up");

    let sweep = engine(&["sweep"])?;
    assert!(sweep.status.success());
    assert!(
        left(dead)?.is_empty(),
        "{}",
        String::from_utf8_lossy(&sweep.stderr)
    );
    assert_eq!(
        left(live)?.len(),
        2,
        "{}",
        String::from_utf8_lossy(&sweep.stderr)
    );
    Ok(())
}

/// Not a test: the child of the next one. It needs a server of its own.
#[tokio::test]
#[ignore = "the child of a_given_server_is_used"]
async fn child_that_breaks_its_server() -> Result<()> {
    if std::env::var_os(CHILD).is_some() {
        let broker = Broker::nats(Nats::default()).await?;
        println!("own server: {}", broker.is_some());
    }
    Ok(())
}

/// Not a test: the child of the next one. Any server will do.
#[tokio::test]
#[ignore = "the child of a_given_server_is_used"]
async fn child_that_only_talks() -> Result<()> {
    if std::env::var_os(CHILD).is_some() {
        let broker = Broker::any().await?;
        ensure!(
            broker.name().is_none() && broker.kill().await.is_err(),
            "not ours to break"
        );
        let proxy = broker.proxy().await?;
        // The client takes no credentials from a URL by itself.
        let through: async_nats::ServerAddr = broker.url_through(&proxy).parse()?;
        let user = through.username().unwrap_or_default().to_owned();
        let password = through.password().unwrap_or_default().to_owned();
        let options = async_nats::ConnectOptions::with_user_and_password(user, password);
        options.connect(through).await?.flush().await?;
        assert_eq!(proxy.accepted(), 1);
        println!("origin: {}", broker.origin());
    }
    Ok(())
}

#[test]
fn a_given_server_is_used_and_what_cannot_use_it_is_listed_by_name() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let options = Nats::default().password("orders", "s3cret");
    let Some(broker) = runtime.block_on(Broker::nats(options))? else {
        return Ok(());
    };
    let url = format!("nats://orders:s3cret@{}", broker.address());
    let run = tempfile::tempdir()?;
    // No engine either: it must not be needed, nor looked for.
    let given = |test: &str, url: &str| -> Result<(String, String)> {
        let mut command = child(test)?;
        command
            .env(GIVEN, url)
            .env(RUN_DIR, run.path())
            .env("DOCKER_HOST", "unix:///nowhere");
        let output = command.output()?;
        Ok((
            String::from_utf8(output.stdout)?,
            String::from_utf8(output.stderr)?,
        ))
    };

    let (said, aside) = given("child_that_only_talks", &url)?;
    let version = &broker.origin().server;
    assert!(
        said.contains(&format!("origin: {version}, already there")),
        "{said}{aside}"
    );

    let (said, aside) = given("child_that_breaks_its_server", &url)?;
    assert!(said.contains("own server: false"), "{said}");
    assert!(
        aside.contains("skipped child_that_breaks_its_server"),
        "{aside}"
    );
    let skipped = std::fs::read_to_string(run.path().join("skipped"))?;
    assert_eq!(skipped, "child_that_breaks_its_server\n");

    let (said, aside) = given("child_that_only_talks", "nats://127.0.0.1:1")?;
    let both = said + &aside;
    assert!(
        both.contains("test result: FAILED") && both.contains(GIVEN),
        "{both}"
    );
    Ok(())
}

#[tokio::test]
async fn the_origin_is_announced_once_a_run() -> Result<()> {
    if !own_server_expected() {
        return Ok(());
    }
    let run = tempfile::tempdir()?;
    let broker = Broker::any().await?;
    let announce = || -> Result<usize> {
        let mut command = child("child_that_only_talks")?;
        command.env(GIVEN, broker.url()).env(RUN_DIR, run.path());
        let output = command.output()?;
        Ok(String::from_utf8(output.stderr)?
            .matches("broker: nats-server")
            .count())
    };
    assert_eq!((announce()?, announce()?, announce()?), (1, 0, 0));
    Ok(())
}
