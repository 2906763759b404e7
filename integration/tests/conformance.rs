//! A real NATS server and a real Apache Kafka pass the conformance suite, case by case: the same names as on memory,
//! where they are tests of their own. `CLEARWAY_TEST_CASE=name` runs one of them, or those of one room.

use anyhow::{Result, ensure};
use clearway::BackendChoice;
use clearway_integration::{Broker, say};
use clearway_verify::conformance::{CASES, Stand, Verdict};
use std::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_of_the_conformance_suite() -> Result<()> {
    let broker = Broker::any().await?;
    every_case("nats", broker.url().to_owned(), broker.fresh_name("nats")).await
}

#[cfg(feature = "kafka")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_of_the_conformance_suite_on_kafka() -> Result<()> {
    let broker = clearway_integration::KafkaBroker::any().await?;
    every_case("kafka", broker.url(), broker.fresh_name("kafka")).await
}

async fn every_case(place: &str, url: String, prefix: String) -> Result<()> {
    BackendChoice::from_url(&url)?;
    let backend = move || BackendChoice::from_url(&url).expect("looked at above");
    let stand = Stand::new(backend, prefix);
    let (mut passed, mut refused, mut failed) = (0, 0, Vec::new());
    let only = std::env::var("CLEARWAY_TEST_CASE").ok();
    let wanted = |room: &str, name: &str| {
        only.as_deref()
            .is_none_or(|only| [room, name].contains(&only))
    };
    for (room, name, _) in CASES.iter().filter(|(room, name, _)| wanted(room, name)) {
        let begun = Instant::now();
        let verdict = stand.run(name).await;
        let took = begun.elapsed();
        match verdict {
            Ok(Verdict::Passed) => {
                passed += 1;
                say(&format!(
                    "conformance on {place} {room:11} {name} ... ok, {took:.1?}"
                ));
            }
            Ok(Verdict::Refused(what)) => {
                refused += 1;
                say(&format!(
                    "conformance on {place} {room:11} {name} ... refused: {what}"
                ));
            }
            Err(error) => {
                say(&format!(
                    "conformance on {place} {room:11} {name} ... FAILED after {took:.1?}: {error:#}"
                ));
                failed.push(name);
            }
        }
    }
    say(&format!(
        "conformance on {place}: {passed} passed, {refused} refused, {} failed",
        failed.len()
    ));
    ensure!(failed.is_empty(), "failed: {failed:?}");
    ensure!(passed + refused > 0, "there is no case {only:?}");
    Ok(())
}
