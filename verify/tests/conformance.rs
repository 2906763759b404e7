//! Memory passes the conformance suite, case by case.

use clearway::memory::Memory;
use clearway_verify::conformance::{Stand, Verdict};

fn run(name: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let memory = Memory::new();
    let stand = Stand::new(move || memory.clone().into(), "memory");
    match runtime.block_on(stand.run(name)) {
        Ok(Verdict::Passed) => {}
        Ok(Verdict::Refused(what)) => {
            println!("{name}: memory says that it cannot do this: {what}")
        }
        Err(error) => panic!("{name}: {error:#}"),
    }
}

macro_rules! tests {
    ($($room:ident::$name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })*
    };
}

clearway_verify::for_each_conformance_case!(tests);
