//! Addresses at which there is no NATS server for us: a typed error, within the connect timeout.

use anyhow::{Context, Result, ensure};
use clearway::nats::{Nats, Options};
use clearway::{Bus, ConnectError};
use clearway_integration::Broker;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const LIMIT: Duration = Duration::from_secs(1);
/// What a busy machine may take on top.
const GRACE: Duration = Duration::from_secs(2);

/// The error, if it came in time.
async fn refused(url: &str) -> Result<ConnectError> {
    let options = Options::from_url(url)?.connect_timeout(LIMIT);
    let begun = Instant::now();
    let outcome = Bus::builder().backend(Nats::new(options)).connect().await;
    let took = begun.elapsed();
    let error = outcome.err().context("it connected")?;
    ensure!(took < LIMIT + GRACE, "{took:?}: {error}");
    println!("{took:?}: {error}");
    Ok(error)
}

/// Somebody who is no NATS server: says `greeting` to everybody and keeps them.
async fn stranger(greeting: &'static [u8]) -> Result<SocketAddr> {
    let door = TcpListener::bind("127.0.0.1:0").await?;
    let address = door.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut visitor, _)) = door.accept().await {
            tokio::spawn(async move {
                let _ = visitor.write_all(greeting).await;
                let mut heard = Vec::new();
                let _ = visitor.read_to_end(&mut heard).await;
            });
        }
    });
    Ok(address)
}

#[tokio::test]
async fn a_wrong_password() -> Result<()> {
    let setup = clearway_integration::Nats::default().password("orders", "s3cret");
    let Some(broker) = Broker::nats(setup).await? else {
        return Ok(());
    };
    let error = refused(&format!("nats://orders:guess@{}", broker.address())).await?;
    ensure!(
        matches!(&error, ConnectError::Unauthorized { .. }),
        "{error:?}"
    );
    ensure!(
        !error.is_retryable() && !error.to_string().contains("guess"),
        "{error}"
    );
    let address = broker.address().to_string();
    ensure!(
        error.to_string().contains(&address),
        "it says whom: {error}"
    );
    Ok(())
}

#[tokio::test]
async fn nobody_there() -> Result<()> {
    let closed = TcpListener::bind("127.0.0.1:0").await?;
    let address = closed.local_addr()?;
    drop(closed);
    let error = refused(&format!("nats://{address}")).await?;
    ensure!(
        matches!(&error, ConnectError::Unreachable { .. }),
        "{error:?}"
    );
    ensure!(
        error.is_retryable() && error.to_string().contains(&address.to_string()),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn a_name_that_nobody_has() -> Result<()> {
    let error = refused("nats://no-such-host.invalid:4222").await?;
    ensure!(
        matches!(&error, ConnectError::Unreachable { .. }),
        "{error:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_web_server() -> Result<()> {
    let address = stranger(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await?;
    let error = refused(&format!("nats://{address}")).await?;
    let ConnectError::NotABroker {
        endpoint, backend, ..
    } = &error
    else {
        anyhow::bail!("{error:?}");
    };
    ensure!(
        endpoint.contains(&address.to_string()) && *backend == "NATS",
        "{error}"
    );
    ensure!(!error.is_retryable(), "{error}");
    Ok(())
}

#[tokio::test]
async fn somebody_silent() -> Result<()> {
    let address = stranger(b"").await?;
    let error = refused(&format!("nats://{address}")).await?;
    ensure!(
        matches!(&error, ConnectError::Unreachable { .. }),
        "{error:?}"
    );
    ensure!(error.to_string().contains("nothing came"), "{error}");
    Ok(())
}

/// One that never ends its first line must not be listened to for ever.
#[tokio::test]
async fn somebody_who_never_comes_to_the_point() -> Result<()> {
    let address = stranger(&[b'x'; 1 << 20]).await?;
    refused(&format!("nats://{address}")).await?;
    Ok(())
}

/// Of several addresses a good one is enough, whatever the others are.
#[tokio::test]
async fn one_of_several_is_enough() -> Result<()> {
    let broker = Broker::any().await?;
    let good = broker.url().strip_prefix("nats://").context("a NATS URL")?;
    if good.contains('@') {
        return Ok(()); // the login of a given server is no login of the strangers'
    }
    let (web, silent) = (
        stranger(b"HTTP/1.1 400\r\n\r\n").await?,
        stranger(b"").await?,
    );
    for url in [
        format!("nats://{web},{good}"),
        format!("nats://{good},{silent}"),
    ] {
        let options = Options::from_url(&url)?.connect_timeout(Duration::from_secs(4));
        let bus = Bus::builder().backend(Nats::new(options)).connect().await?;
        ensure!(bus.health(Duration::from_secs(2)).await.ready, "{url}");
        bus.close(Duration::from_secs(1)).await;
    }
    Ok(())
}
