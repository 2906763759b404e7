//! The first line that a NATS server sends to everybody, before TLS and before any password.
//!
//! It tells whether the server is there and ready, and its version, with no client and no credentials.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// The parts of the greeting that the tests use.
#[derive(Debug, Deserialize)]
pub(crate) struct Greeting {
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) jetstream: bool,
}

/// A greeting with everything in it is about 1 kB.
const LENGTH_MAX: u64 = 64 * 1024;
const ONE_TRY: Duration = Duration::from_secs(1);
const BETWEEN_TRIES: Duration = Duration::from_millis(10);

/// Asks once.
pub(crate) async fn greet(address: SocketAddr) -> Result<Greeting> {
    let stream = TcpStream::connect(address).await?;
    let mut line = String::new();
    BufReader::new(stream.take(LENGTH_MAX))
        .read_line(&mut line)
        .await?;
    let json = line
        .strip_prefix("INFO ")
        .with_context(|| format!("not a NATS server's greeting: {line:?}"))?;
    Ok(serde_json::from_str(json)?)
}

/// Asks until the server answers with JetStream on.
///
/// An open port means nothing: the engine's own proxy holds it open while the server is still starting.
pub(crate) async fn ready(address: SocketAddr, within: Duration) -> Result<Greeting> {
    let deadline = Instant::now() + within;
    loop {
        let answer = match timeout(ONE_TRY, greet(address)).await {
            Ok(Ok(greeting)) if greeting.jetstream => return Ok(greeting),
            Ok(Ok(_)) => "JetStream is off".to_owned(),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "no answer".to_owned(),
        };
        ensure!(
            Instant::now() < deadline,
            "no NATS server with JetStream at {address} within {within:?}: {answer}"
        );
        sleep(BETWEEN_TRIES).await;
    }
}
