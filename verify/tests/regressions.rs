//! The counterexamples that are kept: each holds on this source, says with which patch it does not, and shows what it was kept for.

use clearway_verify::sim::breaks::Breaks;
use clearway_verify::sim::counterexample::Broker;
use clearway_verify::sim::fault::Faults;
use clearway_verify::sim::regressions::Regression;
use clearway_verify::tree::Tree;
use std::time::Duration;

/// All of them together take at most so long: whoever keeps one keeps it small.
const TIME_MAX: Duration = Duration::from_secs(20);

fn kept() -> Vec<Regression> {
    Regression::load(&Tree::of_this_build()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_kept_counterexample_holds() {
    let mut took = Duration::ZERO;
    for regression in kept() {
        let replayed = regression.replay();
        let name = &regression.name;
        assert!(
            replayed.ran.violations.is_empty(),
            "{name}: {}\n{}\nreplay: verify replay verify/regressions/{name}.json",
            replayed.ran.plan,
            replayed.ran.violations.join("\n"),
        );
        assert!(
            replayed.left_out.is_empty(),
            "{name}: {:?}",
            replayed.left_out
        );
        // Over nothing everything holds.
        let counts = &replayed.ran.counts;
        assert!(counts.acked > 0 && counts.settled > 0, "{name}: {counts:?}");
        let wanted = replayed.ran.plan.faults != Faults::default();
        assert!(
            !wanted || !replayed.ran.struck.is_empty(),
            "{name}: none of its faults strikes"
        );
        took += replayed.took;
    }
    assert!(took < TIME_MAX, "{took:?}");
}

#[test]
fn they_are_over_both_brokers_and_each_names_its_patch() {
    let (tree, all) = (Tree::of_this_build(), kept());
    let over = |broker| all.iter().filter(|of| of.kept.broker == broker).count();
    assert!(over(Broker::Jetstream) >= 2 && over(Broker::Kafka) >= 2);
    assert!(all.iter().any(|of| of.seen.is_some()));
    let complaints: Vec<_> = all.iter().flat_map(|of| of.complaints(&tree)).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn one_that_nobody_can_see_fail_is_complained_of() {
    let tree = Tree::of_this_build();
    let all = kept();
    let good = all
        .iter()
        .find(|of| of.seen.is_some())
        .expect("one was seen");
    let spoilt = |spoil: &dyn Fn(&mut Regression)| {
        let mut spoilt = good.clone();
        spoil(&mut spoilt);
        spoilt.complaints(&tree).join("\n")
    };
    assert_eq!(spoilt(&|_| {}), "");
    let said = spoilt(&|of| of.kept.patch = Some("sim-nobody".into()));
    assert!(said.contains("there is no patch `sim-nobody`"), "{said}");
    let said = spoilt(&|of| of.kept.patch = Some("sim-close-drains-while-fetching".into()));
    assert!(said.contains("does not say `regression "), "{said}");
    let said = spoilt(&|of| of.kept.patch = None);
    assert!(said.contains("names no patch"), "{said}");
    let said = spoilt(&|of| of.kept.from = " ".into());
    assert!(said.contains("says nothing of where it is from"), "{said}");
    let said = spoilt(&|of| of.kept.breaks = Breaks::Again);
    assert!(said.contains("is kept for again"), "{said}");
}
