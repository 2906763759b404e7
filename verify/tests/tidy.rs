//! What the compiler and clippy cannot check: the rules of the repository, as tests.
//!
//! Each rule reads the tree and says what is wrong. Beside each rule is a way to break it: the test spoils
//! the tree in memory and expects the rule to say so, since a rule that cannot fail checks nothing.

// The rules are modules of a test: there is nobody outside to reach them.
#![allow(unreachable_pub)]

#[path = "tidy/facade.rs"]
mod facade;
#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/rust.rs"]
mod rust;
#[path = "tidy/sets.rs"]
mod sets;
#[path = "tidy/tree.rs"]
mod tree;
#[path = "tidy/words.rs"]
mod words;

use tree::Tree;

/// One rule: that it holds for the tree as it is, and that it does not for a tree that was spoiled, in the words given.
macro_rules! rule {
    ($module:ident::$rule:ident, $($spoil:expr => $says:expr),+ $(,)?) => {
        mod $rule {
            use super::*;

            #[test]
            fn holds() {
                let found = $module::$rule(&Tree::real());
                assert!(found.is_empty(), "\n  {}\n", found.join("\n  "));
            }

            #[test]
            fn can_fail() {
                let real = Tree::real();
                let before = $module::$rule(&real);
                $(
                    let spoil: fn(&Tree) -> Tree = $spoil;
                    let mut found = $module::$rule(&spoil(&real));
                    found.retain(|finding| !before.contains(finding));
                    assert!(
                        found.iter().any(|finding| finding.contains($says)),
                        "expected `{}`, found:\n  {}\n", $says, found.join("\n  "),
                    );
                )+
            }
        }
    };
}

rule!(sets::every_member_is_there,
    |t| t.without("models/src/gate.rs") => "`gate` has no model",
    |t| t.without("verify/src/protocol/gate.rs") => "`gate` has no spec",
    |t| t.without("benches/gate.rs") => "`gate` has no bench",
    |t| t.without("verify/bugs/gate-") => "`gate` has no seeded bug",
    |t| t.edited("src/protocol/mod.rs", "[`gate`]", "the gate") => "`gate` has no row",
    |t| t.without("src/protocol/gate.rs") => "is of no protocol",
    |t| t.with("src/protocol/sluice.rs", "") => "`sluice` has no model",
);

rule!(sets::bugs_of_stages_name_what_there_is,
    |t| t.with("verify/bugs/kafka-x.patch", "Breaks: G99\n--- a\n+++ b\n") => "breaks `G99`, which nobody guarantees",
    |t| t.with("verify/bugs/kafka-x.patch", "Caught by: test backend::kafka::codes::tests::nobody\n--- a\n+++ b\n")
        => "there is no `test backend::kafka::codes::tests::nobody`",
    |t| t.with("verify/bugs/kafka-x.patch", "Caught by: broker kafka groups::nobody\n--- a\n+++ b\n")
        => "there is no `broker kafka groups::nobody`",
    |t| t.with("verify/bugs/kafka-x.patch", "Caught by: loom kafka\n--- a\n+++ b\n") => "there is no `loom kafka`",
    |t| t.with("verify/bugs/sim-x.patch", "Caught by: regression nobody\n--- a\n+++ b\n") => "there is no `regression nobody`",
    |t| t.edited("src/backend/kafka/codes.rs", "fn only_the_list_is_rejected()", "fn only()")
        => "there is no `test backend::kafka::codes::tests::only_the_list_is_rejected`",
);

rule!(sets::protocols_import_the_facade_only,
    |t| t.with("src/protocol/gate.rs", "use crate::error::Failure;") => "`crate::error::Failure`",
    |t| t.with("src/protocol/gate.rs", "use std::{mem, sync::atomic::fence};") => "`std::sync::atomic::fence`",
    |t| t.with("src/protocol/gate.rs", "use super::{session, sync::Arc};") => "`super::session`",
    |t| t.with("src/protocol/gate.rs", "fn f() { tokio::task::yield_now() }") => "`tokio::task::yield_now`",
);

rule!(sets::every_invariant_is_checked_and_broken,
    |t| t.edited("src/protocol/gate.rs", "//! * `closed_admits_nobody`", "//! * `closed_is_closed`")
        => "no model and test of `closed_is_closed`",
    |t| t.edited("src/protocol/gate.rs", "//! * `closed_admits_nobody`", "//! * `closed_is_closed`")
        => "breaks `closed_admits_nobody`, which src/protocol/gate.rs does not promise",
    |t| t.edited("models/src/gate.rs", "fn last_one_out_wakes()", "fn last_one()") => "test of `last_one_out_wakes`",
    |t| t.without("verify/bugs/gate-") => "no bug of verify/bugs/gate-*.patch breaks `closed_admits_nobody`",
    |t| t.with("verify/bugs/gate-x.patch", "Tempting because: x\n--- a\n+++ b\n") => "does not say what it `Breaks:`",
    |t| t.edited("src/protocol/gate.rs", "# Invariants", "# Promises") => "names no invariant",
);

rule!(sets::every_ordering_says_why,
    |t| t.edited("src/protocol/gate.rs", "// Acquire: pairs", "// It pairs") => "src/protocol/gate.rs",
    |t| t.with("src/protocol/gate.rs", "// Acquire: this one\na.load(Ordering::Acquire);\nb.load(Ordering::Acquire);")
        => "src/protocol/gate.rs:3",
    |t| t.with("src/protocol/gate.rs", "// Acquire: of another\na.load(Ordering::Relaxed);") => "src/protocol/gate.rs:2",
);

rule!(sets::the_readme_tells_what_the_sources_promise,
    |t| t.edited("README.md", "`last_one_out_wakes`", "`last_one_out`") => "`last_one_out_wakes` is missing",
    |t| t.edited("README.md", "`last_one_out_wakes`", "`last_one_out`") => "`last_one_out` is promised nowhere",
    |t| t.edited("README.md", "| `gate` |", "| `fence` |") => "no row for `gate`",
    |t| t.edited("README.md", "| `gate` |", "| `fence` |") => "`fence`, which is no protocol",
);

rule!(layers::synchronization_stays_in_protocols,
    |t| t.with("src/lag.rs", "use std::sync::atomic::AtomicBool;") => "`AtomicBool`",
    |t| t.with("src/lag.rs", "use crate::protocol::sync::Mutex;") => "src/lag.rs:1 has `Mutex`",
    |t| t.with("src/signal.rs", "use std::sync::Mutex;") => "does not take from the facade",
    |t| t.with("src/publish/ensure.rs", "fn f() { word.load(Ordering::Acquire); }") => "`Acquire`",
    |t| t.without("src/close.rs") => "src/close.rs is on the facade's list",
);

rule!(layers::layers_are_apart,
    |t| t.with("src/publish/ensure.rs", "use crate::{config, consume::subscribe};") => "reaches for crate::consume",
    |t| t.with("src/consume/lag.rs", "fn f() { crate::publish::dispatch() }") => "reaches for crate::publish",
    |t| t.with("src/backend/nats/x.rs", "use crate::backend::memory::Memory;") => "reaches for crate::backend::memory",
    |t| t.with("src/backend/memory/x.rs", "use super::super::nats::Nats;") => "reaches for super::super::nats",
    |t| t.with("src/backend/memory/x.rs", "use crate::protocol::gate::Gate;") => "reaches for crate::protocol::gate",
    |t| t.with("verify/src/x.rs", "use clearway::backend::Backend;") => "reaches for clearway::backend",
    |t| t.with("integration/src/x.rs", "use clearway::protocol::sync;") => "reaches for clearway::protocol",
    |t| t.with("models/Cargo.toml", "[dependencies]\nclearway.workspace = true\n") => "models/Cargo.toml",
);

rule!(layers::the_runtime_is_the_only_door,
    |t| t.with("src/publish/x.rs", "async fn f() { tokio::time::sleep(d).await }") => "`tokio`",
    |t| t.with("src/consume/x.rs", "fn f() { std::time::Instant::now(); }") => "`Instant`",
    |t| t.with("src/bus.rs", "#[allow(clippy::disallowed_types)] fn f() {}") => "allows clippy::disallowed_types",
);

rule!(layers::unordered_maps_do_not_show,
    |t| t.with("src/close.rs", "use std::collections::HashMap;") => "has a `HashMap`",
    |t| t.with("src/publish/ordered.rs", "fn f() { HashMap::new() }") => "drawn at random",
);

rule!(layers::select_is_biased,
    |t| t.with("src/x.rs", "async fn f() { tokio::select! { _ = a => {} } }") => "src/x.rs:1",
);

rule!(layers::unsafe_stays_in_models,
    |t| t.edited("src/lib.rs", "#![forbid(unsafe_code)]", "") => "src/lib.rs does not forbid",
    |t| t.with("verify/src/x.rs", "fn f() { unsafe { g() } }") => "verify/src/x.rs:1",
);

rule!(words::identifiers_keep_to_the_glossary,
    |t| t.with("src/x.rs", "fn f(msg: u8) {}") => "`msg`; not msg but envelope",
    |t| t.with("src/x.rs", "struct ConnPool;") => "`ConnPool`",
    |t| t.with("src/x.rs", "let on_callbacks = 1;") => "`on_callbacks`",
);

rule!(words::files_are_short,
    |t| t.with("src/x.rs", &"\n".repeat(401)) => "src/x.rs has 401 lines",
    |t| t.with("src/error.rs", "") => "needs no place in the list any more",
);

rule!(words::the_top_level_is_the_users,
    |t| t.with("deny.toml", "") => "deny.toml does not belong",
    |t| t.without("Makefile") => "Makefile is missing",
);

rule!(words::no_machine_is_named,
    |t| t.with("src/x.rs", "// see /home/me/notes") => "src/x.rs:1",
    |t| t.with("Makefile", "CACHE = /work/cache") => "/work/",
);
