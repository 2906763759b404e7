//! TLS, and every way to log in, from connecting to a delivery.

use crate::setup::{bus, options};
use anyhow::{Result, ensure};
use clearway::nats::Options;
use clearway::{BusBuilder, ConnectError};
use clearway_integration::{
    Access, Authority, Broker, Manner, Member, Nats, Record, envelope, until,
};
use std::time::Duration;

/// Publishes, and waits until it is delivered: it works.
async fn works(test: &str, broker: &Broker, builder: BusBuilder) -> Result<()> {
    let record = Record::begin(test, broker, "10 envelopes", None)?;
    let member = Member::connect(&record, 0, builder).await?;
    let topic = member.bus.raw_topic("orders")?;
    let _runs_until_close = member.subscribe(&topic, "audit", Manner::default()).await?;
    for n in 0..10 {
        let sent = envelope(&topic, "k", format!("{n}"));
        member.publisher().publish(&topic, sent).await?;
    }
    until("all are delivered", async || {
        Ok(member.bus.metrics().handler_acks == 10)
    })
    .await?;
    record.recorder().drained("orders", "audit");
    drop(topic);
    member.leave(Duration::from_secs(5)).await?;
    record.finish()?;
    Ok(())
}

async fn refused(options: Options) -> Result<ConnectError> {
    match bus(options).connect().await {
        Ok(_) => anyhow::bail!("it connected"),
        Err(error) => Ok(error),
    }
}

#[tokio::test]
async fn tls_with_an_authority_of_its_own_and_a_password() -> Result<()> {
    let authority = Authority::new()?;
    let setup = Nats::default()
        .tls(&authority)?
        .password("orders", "s3cret");
    let Some(broker) = Broker::nats(setup).await? else {
        return Ok(());
    };
    let login = || anyhow::Ok(options(broker.url())?.user_password("orders", "s3cret"));
    works(
        "login-tls-password",
        &broker,
        bus(login()?.tls_ca(authority.certificate_file())),
    )
    .await?;

    let stranger = Authority::new()?;
    let error = refused(login()?.tls_ca(stranger.certificate_file())).await?;
    ensure!(
        matches!(&error, ConnectError::Unreachable { .. }) && error.to_string().contains("tls_ca"),
        "{error:?}"
    );
    let wrong = options(broker.url())?.user_password("orders", "guess");
    let error = refused(wrong.tls_ca(authority.certificate_file())).await?;
    ensure!(
        matches!(error, ConnectError::Unauthorized { .. }),
        "{error:?}"
    );
    ensure!(
        !error.to_string().contains("guess"),
        "a secret is told: {error}"
    );
    Ok(())
}

#[tokio::test]
async fn tls_in_both_directions() -> Result<()> {
    let authority = Authority::new()?;
    let Some(broker) = Broker::nats(Nats::default().mutual_tls(&authority)?).await? else {
        return Ok(());
    };
    let trusting = || anyhow::Ok(options(broker.url())?.tls_ca(authority.certificate_file()));
    let known = authority.client("orders")?;
    let with = trusting()?.tls_client(known.certificate_file, known.key_file);
    works("login-mutual-tls", &broker, bus(with)).await?;

    let error = refused(trusting()?).await?;
    ensure!(
        matches!(error, ConnectError::Unauthorized { .. }),
        "{error:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_password_in_the_url() -> Result<()> {
    let setup = Nats::default().password("orders", "p@ss/w:rd");
    let Some(broker) = Broker::nats(setup).await? else {
        return Ok(());
    };
    let address = broker.address();
    let with = |login: &str| options(&format!("nats://{login}@{address}"));
    works(
        "login-password",
        &broker,
        bus(with("orders:p%40ss%2Fw%3Ard")?),
    )
    .await?;
    for login in ["orders:guess", "orders"] {
        let error = refused(with(login)?).await?;
        ensure!(
            matches!(error, ConnectError::Unauthorized { .. }),
            "{login}: {error:?}"
        );
    }
    let error = refused(options(&format!("nats://{address}"))?).await?;
    ensure!(
        matches!(error, ConnectError::Unauthorized { .. }),
        "nobody: {error:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_token() -> Result<()> {
    let setup = Nats::default().access(Access::Token("t0ken".into()));
    let Some(broker) = Broker::nats(setup).await? else {
        return Ok(());
    };
    works(
        "login-token",
        &broker,
        bus(options(broker.url())?.token("t0ken")),
    )
    .await?;
    let error = refused(options(broker.url())?.token("guess")).await?;
    ensure!(
        matches!(error, ConnectError::Unauthorized { .. }),
        "{error:?}"
    );
    Ok(())
}

#[tokio::test]
async fn an_nkey() -> Result<()> {
    let key = nkeys::KeyPair::new_user();
    let setup = Nats::default().access(Access::Nkey(key.public_key()));
    let Some(broker) = Broker::nats(setup).await? else {
        return Ok(());
    };
    works(
        "login-nkey",
        &broker,
        bus(options(broker.url())?.nkey_seed(key.seed()?)),
    )
    .await?;
    let other = nkeys::KeyPair::new_user().seed()?;
    let error = refused(options(broker.url())?.nkey_seed(other)).await?;
    ensure!(
        matches!(error, ConnectError::Unauthorized { .. }),
        "{error:?}"
    );
    let error = refused(options(broker.url())?.nkey_seed("SUNOSEED")).await?;
    ensure!(matches!(error, ConnectError::Config { .. }), "{error:?}");
    Ok(())
}
