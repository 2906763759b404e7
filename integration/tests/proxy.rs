//! The fault proxy, in front of a plain echo server: no broker is needed to see what it does.

use anyhow::Result;
use clearway_integration::{Fault, Proxy};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

const SOON: Duration = Duration::from_secs(5);
const NEVER: Duration = Duration::from_millis(150);

/// Sends back what it gets.
async fn echo() -> Result<SocketAddr> {
    let server = TcpListener::bind("127.0.0.1:0").await?;
    let address = server.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = server.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = copy(&mut from, &mut to).await;
            });
        }
    });
    Ok(address)
}

async fn client(proxy: &Proxy) -> std::io::Result<TcpStream> {
    TcpStream::connect(proxy.address()).await
}

/// What comes back for these bytes.
async fn ask(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(bytes).await?;
    answer(stream, bytes.len()).await
}

async fn answer(stream: &mut TcpStream, length: usize) -> std::io::Result<Vec<u8>> {
    let mut answer = vec![0; length];
    timeout(SOON, stream.read_exact(&mut answer))
        .await
        .map_err(|_| ErrorKind::TimedOut)??;
    Ok(answer)
}

#[tokio::test]
async fn passes_everything_in_order_and_ends_when_both_sides_have() -> Result<()> {
    let proxy = Proxy::start(echo().await?).await?;
    let mut stream = client(&proxy).await?;
    let bytes: Vec<u8> = (0..16_000_000u32).map(|i| (i ^ (i >> 8)) as u8).collect();
    let (mut from, mut to) = stream.split();
    let mut back = Vec::new();
    let (sent, received) = tokio::join!(
        async {
            to.write_all(&bytes).await?;
            to.shutdown().await
        },
        async {
            // Late, so that everything on the way fills up first.
            tokio::time::sleep(NEVER).await;
            timeout(SOON, from.read_to_end(&mut back)).await
        }
    );
    sent?;
    received??;
    assert!(
        back == bytes,
        "{} of {} bytes, or others",
        back.len(),
        bytes.len()
    );
    Ok(())
}

#[tokio::test]
async fn holds_open_connections_and_gives_all_back_afterwards() -> Result<()> {
    let proxy = Proxy::start(echo().await?).await?;
    let mut stream = client(&proxy).await?;
    ask(&mut stream, b"before").await?;

    proxy.set(Fault::Hold).await;
    stream.write_all(b"held").await?;
    assert!(timeout(NEVER, stream.read_u8()).await.is_err());
    proxy.set(Fault::Pass).await;
    assert_eq!(answer(&mut stream, 4).await?, b"held");
    Ok(())
}

#[tokio::test]
async fn holds_answers_only() -> Result<()> {
    let server = TcpListener::bind("127.0.0.1:0").await?;
    let proxy = Proxy::start(server.local_addr()?).await?;
    let mut stream = client(&proxy).await?;
    let (mut served, _) = server.accept().await?;
    ask_through(&mut stream, &mut served).await?;

    proxy.set(Fault::HoldAnswers).await;
    stream.write_all(b"question").await?;
    assert_eq!(answer(&mut served, 8).await?, b"question");
    served.write_all(b"answer").await?;
    assert!(timeout(NEVER, stream.read_u8()).await.is_err());
    proxy.set(Fault::Pass).await;
    assert_eq!(answer(&mut stream, 6).await?, b"answer");
    Ok(())
}

/// One round trip, so that both directions are known to be up.
async fn ask_through(client: &mut TcpStream, server: &mut TcpStream) -> Result<()> {
    client.write_all(b"?").await?;
    answer(server, 1).await?;
    server.write_all(b"!").await?;
    answer(client, 1).await?;
    Ok(())
}

#[tokio::test]
async fn delays_both_ways_without_slowing_the_flow() -> Result<()> {
    let proxy = Proxy::start(echo().await?).await?;
    let mut stream = client(&proxy).await?;
    ask(&mut stream, b"before").await?;

    let delay = Duration::from_millis(100);
    proxy.set(Fault::Delay(delay)).await;
    let start = Instant::now();
    for _ in 0..20 {
        stream.write_all(b"x").await?;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(answer(&mut stream, 20).await?, [b'x'; 20]);
    let took = start.elapsed();
    assert!(took >= 2 * delay, "{took:?}");
    // Twenty in flight at once: one after the other they would take four seconds.
    assert!(took < 10 * delay, "{took:?}");
    Ok(())
}

#[tokio::test]
async fn a_cut_resets_what_is_open_and_nothing_else() -> Result<()> {
    let proxy = Proxy::start(echo().await?).await?;
    let (mut first, mut second) = (client(&proxy).await?, client(&proxy).await?);
    ask(&mut first, b"a").await?;
    ask(&mut second, b"b").await?;
    assert_eq!((proxy.accepted(), proxy.open()), (2, 2));

    proxy.cut().await;
    assert_eq!(proxy.open(), 0);
    for stream in [&mut first, &mut second] {
        let error = timeout(SOON, stream.read_u8())
            .await?
            .expect_err("it was cut");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(ask(&mut client(&proxy).await?, b"anew").await?, b"anew");
    assert_eq!(proxy.accepted(), 3);
    Ok(())
}

#[tokio::test]
async fn what_was_held_is_lost_with_the_connection() -> Result<()> {
    let server = TcpListener::bind("127.0.0.1:0").await?;
    let proxy = Proxy::start(server.local_addr()?).await?;
    let mut stream = client(&proxy).await?;
    let (mut served, _) = server.accept().await?;
    ask_through(&mut stream, &mut served).await?;

    proxy.set(Fault::Hold).await;
    stream.write_all(b"lost").await?;
    proxy.cut().await;
    let error = timeout(SOON, served.read_u8())
        .await?
        .expect_err("not a byte of it");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    Ok(())
}

#[tokio::test]
async fn resets_old_and_new() -> Result<()> {
    let proxy = Proxy::start(echo().await?).await?;
    let mut old = client(&proxy).await?;
    ask(&mut old, b"before").await?;

    proxy.set(Fault::Reset).await;
    let error = timeout(SOON, old.read_u8())
        .await?
        .expect_err("open ones are reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let mut new = client(&proxy).await?;
    let error = timeout(SOON, new.read_u8())
        .await?
        .expect_err("new ones are reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    proxy.set(Fault::Pass).await;
    assert_eq!(ask(&mut client(&proxy).await?, b"after").await?, b"after");
    Ok(())
}

#[tokio::test]
async fn refuses_and_comes_back_at_the_same_address() -> Result<()> {
    let proxy = Proxy::start(echo().await?).await?;
    let mut old = client(&proxy).await?;
    ask(&mut old, b"before").await?;
    for _ in 0..20 {
        proxy.set(Fault::Refuse).await;
        let refusal = client(&proxy).await.expect_err("nobody listens");
        assert_eq!(refusal.kind(), ErrorKind::ConnectionRefused);
        // The port is not free for others in the meantime.
        assert!(std::net::TcpListener::bind(proxy.address()).is_err());
        proxy.set(Fault::Pass).await;
        assert_eq!(ask(&mut client(&proxy).await?, b"again").await?, b"again");
    }
    assert!(timeout(SOON, old.read_u8()).await?.is_err());
    Ok(())
}

#[tokio::test]
async fn a_dead_server_looks_dead_through_it() -> Result<()> {
    let nobody = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let proxy = Proxy::start(nobody).await?;
    let mut stream = client(&proxy).await?;
    assert!(timeout(SOON, stream.read_u8()).await?.is_err());
    Ok(())
}

#[tokio::test]
async fn dropping_it_ends_everything_through_it() -> Result<()> {
    let proxy = Proxy::start(echo().await?).await?;
    let mut stream = client(&proxy).await?;
    ask(&mut stream, b"before").await?;
    let address = proxy.address();
    drop(proxy);
    assert!(timeout(SOON, stream.read_u8()).await?.is_err());
    // Its task ends by itself, soon after.
    timeout(SOON, async {
        while TcpStream::connect(address).await.is_ok() {}
    })
    .await?;
    Ok(())
}
