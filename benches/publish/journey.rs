//! The whole journey on the memory broker, by the bus and by the locked bus over the same backend.
//!
//! Beside the core there is what both pay alike: the id and the time of the envelope, the ledger's slot and the
//! receipt, the queue, the broker, tokio. Credit is the bus's alone.

use crate::baseline::{LockedBus, TopicOptions};
use crate::common::process_cpu_now;
use bytes::Bytes;
use clearway::backend::{Backend, Connection, Host, Outcome, Slot};
use clearway::memory::{Memory, MemoryConnection, MemoryRoute};
use clearway::protocol::ledger::{Audience, Entry, Ledger};
use clearway::{Bus, BusEvent, Envelope, Failure, Runtime, Tokio, TopicConfig};
use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Builder;

const SLOTS: usize = 8192;
const PAYLOAD: Bytes = Bytes::from_static(&[7; 256]);

/// What a saturated run came to.
pub(crate) struct Run {
    pub(crate) per_second: f64,
    pub(crate) cpu_nanos: f64,
}

/// The locked bus on the memory broker: what `src/publish` does, with the locks of the first design.
pub(crate) struct LockedJourney {
    bus: LockedBus<MemoryConnection>,
    routes: Vec<MemoryRoute>,
    host: Arc<LockedHost>,
}

struct LockedHost {
    ledger: Ledger<Failure>,
    runtime: Arc<dyn Runtime>,
}

impl Host for LockedHost {
    fn settle(&self, slot: Slot, outcome: Outcome) {
        self.ledger.settle(slot, outcome);
    }
    fn lost(&self, _generation: u64, _failure: Failure) {}
    fn topic_missing(&self, _topic: &str) {}
    fn event(&self, _event: BusEvent) {}
    fn slots(&self) -> usize {
        SLOTS
    }
    fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.runtime
    }
}

impl LockedJourney {
    pub(crate) async fn new(topics: &[String]) -> Self {
        let runtime: Arc<dyn Runtime> = Arc::new(Tokio::current().expect("inside of tokio"));
        let host = Arc::new(LockedHost {
            ledger: Ledger::new(SLOTS),
            runtime,
        });
        let connection = Memory::new()
            .connect(host.clone(), 1)
            .await
            .expect("memory connects");
        let mut routes = Vec::new();
        for topic in topics {
            let config = TopicConfig::new(topic.as_str());
            routes.push(connection.ensure(&config).await.expect("memory has topics"));
        }
        let bus = LockedBus::new(Arc::new(connection));
        for (route, topic) in topics.iter().enumerate() {
            bus.configure(
                topic,
                TopicOptions {
                    size_limit: 1 << 20,
                    route: route as u64,
                },
            );
        }
        Self { bus, routes, host }
    }

    async fn publish(&self, topic: &str) {
        let envelope = envelope(&*self.host.runtime);
        let entry = Entry {
            bytes: envelope.size() as u64,
            id: envelope.id.as_u128(),
            opened_at: self.host.runtime.now().as_nanos() as u64,
            ..Entry::default()
        };
        let audience = Audience {
            receipt: true,
            results: false,
        };
        let slot = self
            .host
            .ledger
            .open(entry, audience)
            .expect("there is a slot for each task");
        let size = envelope.size();
        let produced = self.bus.publish(topic, size, |connection, options| {
            connection.produce(&self.routes[options.route as usize], envelope, slot)
        });
        produced
            .expect("open and known")
            .expect("the queue has a place for every slot");
        let outcome = poll_fn(|cx| self.host.ledger.poll_receipt(slot, cx)).await;
        assert!(matches!(outcome, Outcome::Acked { .. }));
    }
}

/// As `src/envelope.rs` makes it.
fn envelope(runtime: &dyn Runtime) -> Envelope {
    let time_ms = runtime.unix_time().as_millis() as u64;
    let mut ten = [0; 10];
    ten[..8].copy_from_slice(&runtime.random().to_le_bytes());
    ten[8..].copy_from_slice(&runtime.random().to_le_bytes()[..2]);
    Envelope {
        id: uuid::Builder::from_unix_timestamp_millis(time_ms, &ten).into_uuid(),
        key: None,
        headers: clearway::Headers::default(),
        payload: PAYLOAD,
        time_ms,
        trace: None,
    }
}

/// Runs `tasks` tasks to their end; each publishes `each` times.
async fn saturated<F>(tasks: usize, each: usize, task: impl Fn(usize) -> F) -> Run
where
    F: Future<Output = ()> + Send + 'static,
{
    let (cpu, begun) = (process_cpu_now(), Instant::now());
    let running: Vec<_> = (0..tasks).map(|n| tokio::spawn(task(n))).collect();
    for task in running {
        task.await.expect("no bench panics");
    }
    let total = (tasks * each) as f64;
    Run {
        per_second: total / begun.elapsed().as_secs_f64(),
        cpu_nanos: (process_cpu_now() - cpu).as_nanos() as f64 / total,
    }
}

/// The journeys by name, by handle and locked, in turns: the median of each by CPU.
pub(crate) fn measure(topics: &[String], tasks: usize, each: usize, rounds: usize) -> [Run; 3] {
    let names: Arc<[String]> = topics.into();
    on_two_workers(async {
        let locked = Arc::new(LockedJourney::new(&names).await);
        let bus = Bus::connect("memory://").await.expect("memory connects");
        let topic = |name: &String| bus.raw_topic(name).expect("a good name");
        let handles: Arc<[_]> = names.iter().map(topic).collect();
        let mut runs = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..rounds {
            runs[0].push(
                saturated(tasks, each, |task| {
                    let (bus, names) = (bus.clone(), names.clone());
                    async move {
                        for n in task..task + each {
                            bus.publish(&names[n % names.len()], PAYLOAD)
                                .await
                                .expect("acked");
                        }
                    }
                })
                .await,
            );
            runs[1].push(
                saturated(tasks, each, |task| {
                    let handles = handles.clone();
                    async move {
                        for n in task..task + each {
                            handles[n % handles.len()]
                                .publish(&PAYLOAD)
                                .await
                                .expect("acked");
                        }
                    }
                })
                .await,
            );
            runs[2].push(
                saturated(tasks, each, |task| {
                    let (locked, names) = (locked.clone(), names.clone());
                    async move {
                        for n in task..task + each {
                            locked.publish(&names[n % names.len()]).await;
                        }
                    }
                })
                .await,
            );
        }
        bus.close(Duration::from_secs(5)).await;
        runs.map(middle)
    })
}

/// The cores in many tasks: `tasks` tasks that publish without waiting for a broker, and let others in
/// every now and then. CPU nanoseconds for each publish of every variant, in turns.
pub(crate) fn cores_in_tasks(
    tasks: usize,
    rounds: usize,
    cores: [&'static (dyn Fn(usize, u64) + Sync); 3],
) -> [Run; 3] {
    const AT_ONCE: u64 = 16;
    const EACH: usize = 320;
    on_two_workers(async {
        let mut runs = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (runs, core) in runs.iter_mut().zip(cores) {
                let run = saturated(tasks, EACH, |task| async move {
                    for _ in 0..EACH as u64 / AT_ONCE {
                        core(task, AT_ONCE);
                        tokio::task::yield_now().await;
                    }
                });
                runs.push(run.await);
            }
        }
        runs.map(middle)
    })
}

fn on_two_workers<F: Future>(work: F) -> F::Output {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("tokio starts").block_on(work)
}

fn middle(mut runs: Vec<Run>) -> Run {
    runs.sort_by(|a, b| a.cpu_nanos.total_cmp(&b.cpu_nanos));
    runs.swap_remove(runs.len() / 2)
}
