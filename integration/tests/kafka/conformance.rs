//! A real Kafka broker passes the conformance suite, case by case: the same names as on memory and NATS.

use crate::setup;
use anyhow::{Result, ensure};
use clearway::BackendChoice;
use clearway_verify::conformance::{CASES, Stand, Verdict};
use std::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_of_the_conformance_suite() -> Result<()> {
    let url = setup::url()?;
    BackendChoice::from_url(&url)?;
    let backend = move || BackendChoice::from_url(&url).expect("looked at above");
    let stand = Stand::new(backend, setup::fresh_name("kafka"));
    let (mut passed, mut refused, mut failed) = (0, 0, Vec::new());
    let only = std::env::var("CLEARWAY_TEST_CASE").ok();
    let wanted =
        |room: &str, name: &str| (only.as_deref()).is_none_or(|only| only == name || only == room);
    for (room, name, _) in CASES.iter().filter(|(room, name, _)| wanted(room, name)) {
        let begun = Instant::now();
        let verdict = stand.run(name).await;
        let took = begun.elapsed();
        match verdict {
            Ok(Verdict::Passed) => {
                passed += 1;
                println!("integration: conformance {room:11} {name} ... ok, {took:.1?}");
            }
            Ok(Verdict::Refused(what)) => {
                refused += 1;
                println!("integration: conformance {room:11} {name} ... refused: {what}");
            }
            Err(error) => {
                println!(
                    "integration: conformance {room:11} {name} ... FAILED after {took:.1?}: {error:#}"
                );
                failed.push(name);
            }
        }
    }
    println!(
        "integration: conformance: {passed} passed, {refused} refused, {} failed",
        failed.len()
    );
    ensure!(failed.is_empty(), "failed: {failed:?}");
    ensure!(passed + refused > 0, "there is no case {only:?}");
    Ok(())
}
