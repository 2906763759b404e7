//! The simulated JetStream passes the conformance suite, case by case, as memory and the real brokers do: the same names. Its world
//! keeps pace with the real clock here, and the buses run on tokio.

use clearway::BackendChoice;
use clearway::Runtime;
use clearway_verify::conformance::{Stand, Verdict};
use clearway_verify::sim::broker::SimBroker;
use clearway_verify::sim::broker::jetstream::JetStream;
use clearway_verify::sim::fault::{Faults, Weather};
use clearway_verify::sim::world::World;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A world that keeps pace.
struct Live {
    world: World,
    ends: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Live {
    fn begin() -> Self {
        let world = World::new(1);
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970");
        let off = unix.as_millis() as i64 - world.unix_time().as_millis() as i64;
        world.process(0).jump(off);
        let ends = Arc::new(AtomicBool::new(false));
        let (pacing, ending) = (world.clone(), ends.clone());
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            while !ending.load(Ordering::Relaxed) {
                pacing.advance(begun.elapsed());
                std::thread::sleep(Duration::from_micros(100));
            }
        });
        Self {
            world,
            ends,
            thread: Some(thread),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the world has panicked"
            );
        }
        self.world.end();
    }
}

fn run(name: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let live = Live::begin();
    let weather = Weather::new(&live.world, 1, Faults::default(), None);
    let broker = JetStream::new(&weather);
    let (world, processes) = (live.world.clone(), AtomicU32::new(1));
    let backend = move || -> BackendChoice {
        let process = processes.fetch_add(1, Ordering::Relaxed);
        broker.backend(&world.process(process))
    };
    let stand = Stand::new(backend, "jetstream");
    match runtime.block_on(stand.run(name)) {
        Ok(Verdict::Passed) => {}
        Ok(Verdict::Refused(what)) => println!("{name}: it says that it cannot do this: {what}"),
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
