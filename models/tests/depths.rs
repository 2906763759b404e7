//! How much each model costs at each preemption bound: what the models' own bounds were chosen
//! from. Choose the deepest that stays well under a minute on one core.

use clearway_models::registry::Verdict;
use clearway_models::under_loom::{MODELS, engine::explore_to};

/// `cargo test -p clearway-models --release --test depths -- --ignored --nocapture`
#[test]
#[ignore = "a measurement: takes many minutes and asserts nothing"]
fn depths() {
    for model in MODELS.iter().copied().flatten() {
        print!("{:52}", model.name());
        let mut too_deep = false;
        // All of it may be less than a bound: loom has to be generous where it is bounded.
        for bound in [Some(2), Some(3), Some(4), Some(5), None] {
            if too_deep && bound.is_some() {
                continue;
            }
            let run = explore_to(model, bound);
            let depth = bound.map_or("all".to_owned(), |bound| bound.to_string());
            let cut = if run.verdict == Verdict::Truncated {
                "+"
            } else {
                ""
            };
            let seconds = run.elapsed_ms as f64 / 1e3;
            print!("  {depth}: {}{cut} in {seconds:.1} s", run.executions);
            // The next bound costs about eight times as much.
            too_deep = run.elapsed_ms > 6_000;
        }
        println!();
    }
}
