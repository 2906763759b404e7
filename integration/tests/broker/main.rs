//! The broker layer itself: what the tests of the bus stand on.

mod client;

use anyhow::{Result, ensure};
use clearway_integration::{Access, Authority, Broker, Fault, Nats, Operator, Store};
use client::{Log, client, eventually};
use std::time::Duration;

/// Prints what a test ran against; the harness shows it with `--nocapture` and on failure.
fn tell(broker: &Broker) {
    println!("{}", broker.origin());
}

#[tokio::test]
async fn a_server_says_what_it_is_and_stores_what_it_gets() -> Result<()> {
    let broker = Broker::any().await?;
    tell(&broker);
    let connected = client().connect(broker.url()).await?;
    let version = connected.server_info().version;
    assert_eq!(broker.origin().server, format!("nats-server {version}"));

    let log = Log::create(connected, broker.fresh_name("start")).await?;
    assert_eq!(log.publish("one").await?, 1);
    assert_eq!(log.publish("two").await?, 2);
    assert_eq!(log.stored().await?, 2);
    log.jetstream.delete_stream(&log.name).await?;
    Ok(())
}

#[tokio::test]
async fn a_paused_server_answers_nothing_and_goes_on_where_it_was() -> Result<()> {
    let Some(broker) = Broker::nats(Nats::default()).await? else {
        return Ok(());
    };
    tell(&broker);
    // The publish that is under way stays alive over the pause: no ping may end its connection.
    let options = client().ping_interval(Duration::from_secs(60));
    let log = Log::create(options.connect(broker.url()).await?, "paused".into()).await?;

    broker.pause().await?;
    let refused = log
        .publish("while paused")
        .await
        .expect_err("a paused server answers nobody");
    assert_eq!(refused.to_string(), "no acknowledgement");
    broker.unpause().await?;

    // It was in the socket all the time: no answer is not "not stored".
    log.wait_stored(1).await?;
    assert_eq!(log.publish("after").await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_killed_server_comes_back_with_its_data_at_the_same_port() -> Result<()> {
    let Some(broker) = Broker::nats(Nats::default()).await? else {
        return Ok(());
    };
    tell(&broker);
    let log = Log::create(client().connect(broker.url()).await?, "killed".into()).await?;
    for sequence in 1..=100 {
        assert_eq!(log.publish("before").await?, sequence);
    }

    broker.kill().await?;
    let gone = tokio::net::TcpStream::connect(broker.address()).await;
    assert_eq!(
        gone.expect_err("a dead server's port is closed").kind(),
        std::io::ErrorKind::ConnectionRefused
    );
    broker.start_again().await?;

    // A client that knows nothing of the time before.
    let connected = client().connect(broker.url()).await?;
    let log = Log {
        jetstream: async_nats::jetstream::new(connected),
        ..log
    };
    assert_eq!(log.stored().await?, 100);
    assert_eq!(log.publish("after").await?, 101);
    Ok(())
}

#[tokio::test]
async fn a_stopped_server_stays_stopped_until_it_is_started() -> Result<()> {
    let Some(broker) = Broker::nats(Nats::default()).await? else {
        return Ok(());
    };
    tell(&broker);
    let log = Log::create(client().connect(broker.url()).await?, "stopped".into()).await?;
    log.publish("before").await?;

    broker.stop().await?;
    assert!(client().connect(broker.url()).await.is_err());
    broker.start_again().await?;
    log.wait_stored(1).await?;

    broker.restart().await?;
    // The same client, which had to come back by itself.
    log.wait_stored(1).await?;
    ensure!(
        broker.log().await?.matches("Server is ready").count() == 3,
        "started three times"
    );
    Ok(())
}

#[tokio::test]
async fn a_cut_connection_is_made_anew_and_the_server_never_noticed() -> Result<()> {
    let broker = Broker::any().await?;
    tell(&broker);
    let proxy = broker.proxy().await?;
    let connected = client().connect(broker.url_through(&proxy)).await?;
    let log = Log::create(connected, broker.fresh_name("cut")).await?;
    log.publish("before").await?;
    assert_eq!((proxy.accepted(), proxy.open()), (1, 1));

    for cuts in 1..=3 {
        proxy.cut().await;
        eventually("a new connection", async || {
            Ok(proxy.accepted() > cuts && proxy.open() == 1)
        })
        .await?;
        eventually("a publish through it", async || {
            Ok(log.publish("between").await.is_ok())
        })
        .await?;
    }
    ensure!(
        log.stored().await? >= 4,
        "one before and one after each cut"
    );
    log.jetstream.delete_stream(&log.name).await?;
    Ok(())
}

#[tokio::test]
async fn an_answer_that_is_held_back_leaves_the_envelope_stored() -> Result<()> {
    let broker = Broker::any().await?;
    tell(&broker);
    let (proxy, direct) = (broker.proxy().await?, client().connect(broker.url()).await?);
    let name = broker.fresh_name("held");
    let watcher = Log::create(direct, name.clone()).await?;
    let options = client().ping_interval(Duration::from_secs(60));
    let connected = options.connect(broker.url_through(&proxy)).await?;
    let log = Log {
        jetstream: async_nats::jetstream::new(connected),
        name,
    };
    log.publish("with an answer").await?;

    proxy.set(Fault::HoldAnswers).await;
    let unanswered = log
        .publish("without")
        .await
        .expect_err("its answer is held");
    assert_eq!(unanswered.to_string(), "no acknowledgement");
    assert_eq!(watcher.stored().await?, 2);

    proxy.set(Fault::Hold).await;
    log.publish("not even sent")
        .await
        .expect_err("nothing goes through");
    assert_eq!(watcher.stored().await?, 2);

    proxy.set(Fault::Pass).await;
    watcher.wait_stored(3).await?;
    watcher.jetstream.delete_stream(&watcher.name).await?;
    Ok(())
}

#[tokio::test]
async fn tls_and_a_password_let_in_who_has_both() -> Result<()> {
    let authority = Authority::new()?;
    let options = Nats::default()
        .tls(&authority)?
        .password("orders", "s3cret");
    let Some(broker) = Broker::nats(options).await? else {
        return Ok(());
    };
    tell(&broker);
    let trusting = || {
        client()
            .add_root_certificates(authority.certificate_file())
            .require_tls(true)
    };

    let inside = trusting()
        .user_and_password("orders".into(), "s3cret".into())
        .connect(broker.url())
        .await?;
    assert_eq!(
        Log::create(inside, "secret".into())
            .await?
            .publish("one")
            .await?,
        1
    );

    let wrong = trusting()
        .user_and_password("orders".into(), "guess".into())
        .connect(broker.url())
        .await;
    let refusal = wrong.expect_err("a wrong password is refused");
    assert_eq!(
        refusal.kind(),
        async_nats::ConnectErrorKind::AuthorizationViolation
    );

    let unknown = client()
        .user_and_password("orders".into(), "s3cret".into())
        .connect(broker.url())
        .await;
    let refusal = unknown.expect_err("a client that does not trust the authority does not go on");
    assert!(
        format!("{refusal:?}").contains("UnknownIssuer"),
        "{refusal:?}"
    );

    let stranger = Authority::new()?;
    let options = client()
        .add_root_certificates(stranger.certificate_file())
        .require_tls(true);
    assert!(
        options
            .user_and_password("orders".into(), "s3cret".into())
            .connect(broker.url())
            .await
            .is_err()
    );
    Ok(())
}

#[tokio::test]
async fn a_token_and_a_key_let_in_who_has_them() -> Result<()> {
    let key = nkeys::KeyPair::new_user();
    for access in [
        Access::Token("t0ken".into()),
        Access::Nkey(key.public_key()),
    ] {
        let nkey = matches!(access, Access::Nkey(_));
        let Some(broker) = Broker::nats(Nats::default().access(access)).await? else {
            return Ok(());
        };
        tell(&broker);
        let (right, wrong) = match nkey {
            true => (
                client().nkey(key.seed()?),
                client().nkey(nkeys::KeyPair::new_user().seed()?),
            ),
            false => (
                client().token("t0ken".into()),
                client().token("guess".into()),
            ),
        };
        right.connect(broker.url()).await?.flush().await?;
        for refused in [wrong, client()] {
            let refusal = refused
                .connect(broker.url())
                .await
                .expect_err("it has not what it takes");
            assert_eq!(
                refusal.kind(),
                async_nats::ConnectErrorKind::AuthorizationViolation
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_credentials_file_lets_in_whom_the_operator_vouches_for() -> Result<()> {
    let operator = Operator::new()?;
    let Some(broker) = Broker::nats(Nats::default().operator(&operator)?).await? else {
        return Ok(());
    };
    tell(&broker);
    let known = client().credentials_file(operator.user("orders")?).await?;
    let log = Log::create(known.connect(broker.url()).await?, "credentials".into()).await?;
    assert_eq!(log.publish("one").await?, 1);

    let stranger = client()
        .credentials_file(Operator::new()?.user("orders")?)
        .await?;
    for refused in [stranger, client()] {
        let refusal = refused
            .connect(broker.url())
            .await
            .expect_err("nobody vouches for it");
        assert_eq!(
            refusal.kind(),
            async_nats::ConnectErrorKind::AuthorizationViolation
        );
    }
    Ok(())
}

#[tokio::test]
async fn mutual_tls_asks_the_client_for_a_certificate() -> Result<()> {
    let authority = Authority::new()?;
    let options = Nats::default().mutual_tls(&authority)?;
    let Some(broker) = Broker::nats(options).await? else {
        return Ok(());
    };
    tell(&broker);
    let trusting = || {
        client()
            .add_root_certificates(authority.certificate_file())
            .require_tls(true)
    };

    let known = authority.client("orders")?;
    let inside = trusting().add_client_certificate(known.certificate_file, known.key_file);
    Log::create(inside.connect(broker.url()).await?, "mutual".into())
        .await?
        .publish("one")
        .await?;

    assert!(
        trusting().connect(broker.url()).await.is_err(),
        "no certificate"
    );
    let forged = Authority::new()?.client("orders")?;
    let outside = trusting().add_client_certificate(forged.certificate_file, forged.key_file);
    assert!(
        outside.connect(broker.url()).await.is_err(),
        "somebody else's certificate"
    );
    Ok(())
}

#[tokio::test]
async fn a_small_disk_fills_up() -> Result<()> {
    let store = Store::Small {
        bytes: 8 << 20,
        limit: None,
    };
    let Some(broker) = Broker::nats(Nats::default().store(store)).await? else {
        return Ok(());
    };
    tell(&broker);
    let log = Log::create(client().connect(broker.url()).await?, "small".into()).await?;
    let payload: &'static str = Box::leak("x".repeat(500_000).into_boxed_str());
    let mut stored = 0;
    let refusal = loop {
        match log.publish(payload).await {
            Ok(_) => stored += 1,
            Err(refusal) => break refusal,
        }
        ensure!(stored < 32, "16 MB fitted on a disk of 8 MB");
    };
    assert!(stored > 0, "{refusal:#}");
    assert!(
        format!("{refusal:#}").contains("insufficient"),
        "{refusal:#}"
    );
    Ok(())
}
