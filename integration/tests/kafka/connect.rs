//! Connecting: what is refused before it begins, and what a broker that is not there is called.

use crate::setup::{self, CLOSE};
use anyhow::{Result, ensure};
use clearway::kafka::Options;
use clearway::{Bus, ConnectError};
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_bus_connects_by_url_with_options_in_it() -> Result<()> {
    let bus = Bus::connect(&format!("{}/?linger.ms=1", setup::url()?)).await?;
    let health = bus.health(CLOSE).await;
    ensure!(health.ready, "{health:?}");
    let trip = health.components[0].round_trip;
    ensure!(trip.is_some_and(|trip| !trip.is_zero()), "{health:?}");
    bus.close(CLOSE).await;
    Ok(())
}

#[tokio::test]
async fn an_option_that_would_break_a_promise_is_refused_by_name() -> Result<()> {
    for (option, promise) in [
        ("enable.auto.commit=true", "G2"),
        ("enable.auto.offset.store=true", "G2"),
        ("acks=0", "G1"),
        ("enable.idempotence=false", "G3"),
    ] {
        let refused = Bus::connect(&format!("{}/?{option}", setup::url()?)).await;
        let Err(ConnectError::Config { setting, reason }) = refused else {
            anyhow::bail!("{option}: {refused:?}");
        };
        ensure!(option.starts_with(&setting), "{setting}");
        ensure!(reason.contains(promise), "{reason}");
    }
    Ok(())
}

#[tokio::test]
async fn what_the_client_does_not_know_is_refused_by_name() -> Result<()> {
    for (option, name) in [
        ("no.such.option=1", "no.such.option"),
        ("linger.ms=soon", "linger.ms"),
    ] {
        let refused = Bus::connect(&format!("{}/?{option}", setup::url()?)).await;
        let Err(ConnectError::Config { setting, .. }) = refused else {
            anyhow::bail!("{option}: {refused:?}");
        };
        ensure!(setting == name, "{setting}");
    }
    Ok(())
}

#[tokio::test]
async fn nobody_there_is_unreachable_within_the_limit() -> Result<()> {
    let free = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    let options = Options::from_url(&format!("kafka://127.0.0.1:{free}"))?;
    let options = options.connect_timeout(Duration::from_millis(700));
    let begun = Instant::now();
    let refused = setup::builder(options).connect().await;
    let took = begun.elapsed();
    ensure!(
        matches!(refused, Err(ConnectError::Unreachable { .. })),
        "{refused:?}"
    );
    ensure!(took < Duration::from_secs(3), "{took:?}");
    Ok(())
}
