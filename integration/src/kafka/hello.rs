//! The first question of every Kafka client, `ApiVersions`, asked by hand: its answer tells whether a Kafka is there
//! and, which librdkafka keeps to itself, how new its metadata is.

use anyhow::{Context, Result, bail, ensure};
use bytes::Buf;
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

const ONE_TRY: Duration = Duration::from_secs(1);
const BETWEEN_TRIES: Duration = Duration::from_millis(20);
/// A real answer is below 1 kB.
const LENGTH_MAX: usize = 64 * 1024;

/// The level of `metadata.version` that the first of `bootstrap` has agreed on, asked until it answers.
pub(crate) async fn ready(bootstrap: &str, within: Duration) -> Result<u16> {
    let first = bootstrap.split(',').next().unwrap_or_default();
    let deadline = Instant::now() + within;
    loop {
        let why = match timeout(ONE_TRY, ask(first)).await {
            Ok(Ok(version)) => return Ok(version),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "no answer".to_owned(),
        };
        if Instant::now() > deadline {
            bail!("no Kafka at {first} within {within:?}: {why}");
        }
        sleep(BETWEEN_TRIES).await;
    }
}

async fn ask(address: &str) -> Result<u16> {
    let mut stream = TcpStream::connect(address).await?;
    // ApiVersions version 3, correlation 1, no client id, no tags; then the client's name and version, no tags.
    let request = b"\0\x12\0\x03\0\0\0\x01\xff\xff\0\x09clearway\x021\0";
    stream.write_u32(request.len() as u32).await?;
    stream.write_all(request).await?;
    let length = stream.read_u32().await? as usize;
    ensure!(length <= LENGTH_MAX, "not a Kafka's answer");
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    metadata_version(&answer).context("not a Kafka's answer to ApiVersions")
}

/// Reads the answer: correlation, error, the requests it takes, throttling, and tagged fields, of which the third is
/// the list of features the cluster has agreed on.
fn metadata_version(mut answer: &[u8]) -> Result<u16> {
    let answer = &mut answer;
    ensure!(answer.try_get_u32()? == 1, "another correlation");
    let error = answer.try_get_i16()?;
    ensure!(error == 0, "error {error}");
    for _ in 1..varint(answer)? {
        skip(answer, 6)?;
        no_tags(answer)?;
    }
    skip(answer, 4)?;
    for _ in 0..varint(answer)? {
        let (tag, length) = (varint(answer)?, varint(answer)? as usize);
        let mut field = answer.get(..length).context("it ends early")?;
        skip(answer, length)?;
        if tag != 2 {
            continue;
        }
        for _ in 1..varint(&mut field)? {
            let length = (varint(&mut field)? as usize).saturating_sub(1);
            let name = field.get(..length).context("it ends early")?;
            skip(&mut field, length)?;
            let level = field.try_get_u16()?;
            if name == b"metadata.version" {
                return Ok(level);
            }
            skip(&mut field, 2)?;
            no_tags(&mut field)?;
        }
    }
    bail!("it says nothing of metadata.version");
}

fn no_tags(bytes: &mut &[u8]) -> Result<()> {
    for _ in 0..varint(bytes)? {
        varint(bytes)?;
        let length = varint(bytes)? as usize;
        skip(bytes, length)?;
    }
    Ok(())
}

fn skip(bytes: &mut &[u8], count: usize) -> Result<()> {
    *bytes = bytes
        .get(count..)
        .ok_or(ErrorKind::UnexpectedEof)
        .map_err(std::io::Error::from)?;
    Ok(())
}

fn varint(bytes: &mut &[u8]) -> Result<u32> {
    let mut value = 0;
    for shift in (0..32).step_by(7) {
        let byte = bytes.try_get_u8()?;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("a number without an end");
}
