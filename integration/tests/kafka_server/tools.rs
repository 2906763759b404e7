//! Kafka's own console tools and plain librdkafka see the same broker, with and without a login.

use anyhow::{Context, Result};
use clearway_integration::{Authority, Kafka, KafkaBroker, KafkaOutside};

#[tokio::test]
async fn tools_and_librdkafka_see_the_same() -> Result<()> {
    let Some(kafka) = KafkaBroker::own(Kafka::default()).await? else {
        return Ok(());
    };
    let outside = KafkaOutside::of(&kafka)?;
    let create = ["--create", "--topic", "orders", "--partitions", "2"];
    kafka.topics(&create).await?;
    assert_eq!(outside.leaders("orders").await?, [Some(1), Some(1)]);

    let keyed = [
        "--reader-property",
        "parse.key=true",
        "--reader-property",
        "key.separator=:",
    ];
    kafka
        .console_producer("orders", "a:1\nb:2\na:3\n", &keyed)
        .await?;
    let stored = outside.stored("orders").await?;
    let values = |key: &[u8]| -> Vec<_> {
        let of_key = stored.iter().filter(|one| one.key.as_deref() == Some(key));
        of_key.filter_map(|one| one.payload.clone()).collect()
    };
    assert_eq!(values(b"a"), [b"1".to_vec(), b"3".to_vec()], "{stored:?}");
    assert_eq!(values(b"b"), [b"2".to_vec()], "{stored:?}");

    outside.publish("orders", &[("c", "4")]).await?;
    let group = ["--group", "billing"];
    let read = kafka.console_consumer("orders", 4, &group).await?;
    let mut read: Vec<_> = read.lines().collect();
    read.sort_unstable();
    assert_eq!(read, ["1", "2", "3", "4"]);
    assert_eq!(outside.left("orders", "billing").await?, 0);
    let described = kafka
        .consumer_groups(&[&["--describe"], &group[..]].concat())
        .await?;
    assert_eq!(
        described
            .lines()
            .filter(|line| line.contains("orders"))
            .count(),
        2,
        "{described}"
    );

    let ends: Vec<_> = (0..)
        .zip(outside.ends("orders").await?)
        .map(|(partition, (_, high))| format!("orders:{partition}:{high}"))
        .collect();
    let offsets = kafka.offsets(&["--topic", "orders"]).await?;
    assert_eq!(offsets.lines().collect::<Vec<_>>(), ends);
    Ok(())
}

#[tokio::test]
async fn gaps_are_made_by_transactions_deleted_records_and_compaction() -> Result<()> {
    let kafka = KafkaBroker::any().await?;
    let outside = KafkaOutside::of(&kafka)?;
    let topic = kafka.fresh_name("gaps");
    outside.create(&topic, 1, 1, &[]).await?;
    outside
        .transaction(&topic, &[("a", "1"), ("b", "2")], false)
        .await?;
    outside.transaction(&topic, &[("c", "3")], true).await?;
    outside.publish(&topic, &[("d", "4")]).await?;
    // Two aborted and their marker, one and its marker, and one alone.
    assert_eq!(outside.ends(&topic).await?, [(0, 6)]);
    let at = |stored: &[clearway_integration::Stored]| -> Vec<_> {
        stored.iter().map(|one| one.offset).collect()
    };
    assert_eq!(at(&outside.stored(&topic).await?), [3, 5]);

    outside.delete_records(&topic, &[(0, 5)]).await?;
    assert_eq!(outside.ends(&topic).await?, [(5, 6)]);
    assert_eq!(at(&outside.stored(&topic).await?), [5]);
    outside.delete(&topic).await?;

    let topic = kafka.fresh_name("compacted");
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("max.compaction.lag.ms", "100"),
    ];
    outside.create(&topic, 1, 1, &settings).await?;
    clearway_integration::until("a key's older values are gone", async || {
        // Each is a segment of its own soon, and the newest is never compacted.
        outside
            .publish(&topic, &[("a", "old"), ("a", "new")])
            .await?;
        let stored = outside.stored(&topic).await?;
        let (_, next) = outside.ends(&topic).await?[0];
        Ok(stored.len() < next as usize)
    })
    .await?;
    outside.delete(&topic).await
}

#[tokio::test]
async fn only_the_right_password_over_the_right_certificate_comes_in() -> Result<()> {
    let authority = Authority::new()?;
    let options = Kafka::default().scram(&authority, "orders", "s3cret")?;
    let Some(kafka) = KafkaBroker::own(options).await? else {
        return Ok(());
    };
    let list = ["--list"];
    let login = "--command-config";
    kafka.topics(&["--create", "--topic", "t"]).await?;
    let topics = kafka
        .tool_with_login("kafka-topics.sh", login, &list)
        .await?;
    assert!(topics.lines().any(|topic| topic == "t"), "{topics}");

    // The same user, with a password that is no longer right.
    let user = ["--entity-type", "users", "--entity-name", "orders"];
    let change = ["--alter", "--add-config", "SCRAM-SHA-256=[password=other]"];
    kafka.configs(&[&change[..], &user].concat()).await?;
    let refused = kafka.tool_with_login("kafka-topics.sh", login, &list).await;
    let why = format!("{:#}", refused.err().context("a wrong password came in")?);
    assert!(why.contains("SaslAuthenticationException"), "{why}");
    Ok(())
}
