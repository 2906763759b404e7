//! The undertaker: reads all dead letters in the end, and misses those that were said to be there.

use super::broker::{DEAD_LETTERS, SimBroker};
use super::fault::Fault;
use super::life::Common;
use bytes::Bytes;
use clearway::Runtime;
use clearway::{Bus, Delivery, HandlerError, TopicConfig, dead_letter::header};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// For whom dead letters are read.
pub const GROUP: &str = "undertaker";

/// No other process has this number.
const PROCESS: u32 = u32::MAX;

/// See the module.
pub struct Undertaker {
    common: Arc<Common>,
    found: Arc<Mutex<BTreeSet<(String, u32)>>>,
    reads: Arc<AtomicBool>,
}

impl Undertaker {
    /// Begins to read.
    pub fn begin<B: SimBroker>(common: &Arc<Common>, broker: &B) -> Self {
        let undertaker = Self {
            common: common.clone(),
            found: Arc::default(),
            reads: Arc::default(),
        };
        let process = common.weather.world().process(PROCESS);
        let (backend, runtime) = (broker.backend(&process), Arc::new(process.clone()));
        let (found, reads) = (undertaker.found.clone(), undertaker.reads.clone());
        let reading = async move {
            let bus = Bus::builder().backend(backend).runtime(runtime.clone());
            let bus = bus.topic(TopicConfig::new(DEAD_LETTERS)).connect().await;
            let bus = bus.expect("it is calm");
            let topic = bus.raw_topic(DEAD_LETTERS).expect("it is a topic");
            let handler = move |letter: Delivery<Bytes>| {
                let headers = &letter.envelope.headers;
                let text = |name| {
                    headers
                        .first(name)
                        .map(|value| String::from_utf8_lossy(value).into_owned())
                };
                let attempts = text(header::ATTEMPTS).and_then(|attempts| attempts.parse().ok());
                if let Some(letter) = text(header::ID).zip(attempts) {
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    found.insert(letter);
                }
                async { Ok::<_, HandlerError>(()) }
            };
            let subscription = topic.subscription(GROUP).handler(handler).await;
            let _until_the_end = subscription.expect("it is calm");
            reads.store(true, Ordering::Relaxed);
            loop {
                runtime.sleep(Duration::from_secs(3600)).await;
            }
        };
        process.spawn("sim-undertaker", Box::pin(reading));
        undertaker
    }

    /// Whether it has read all there is, with so many left.
    pub fn is_done(&self, lag: u64) -> bool {
        self.reads.load(Ordering::Relaxed) && lag == 0
    }

    /// What it has read, by id and attempt.
    pub fn found(&self) -> BTreeSet<(String, u32)> {
        self.found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What was said to be among the dead letters and is not. What was destroyed is missed by nobody.
    pub fn missing(&self) -> Option<String> {
        let struck = self.common.weather.struck();
        let destroyed =
            |(fault, _): &(Fault, u64)| matches!(fault, Fault::Deleted | Fault::LazyFsync);
        if struck.iter().any(destroyed) {
            return None;
        }
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let buried = self.common.record.buried();
        if !buried.is_empty() {
            self.common.weather.goal("a dead letter");
        }
        // An earlier attempt may have its letter, or have been done: the broker heard of that after the last one had begun.
        let done = self.common.record.done();
        let is_there = |id: &String| done.contains(id) || found.iter().any(|(of, _)| of == id);
        let missing: Vec<&str> = (buried.keys())
            .filter(|id| !is_there(id))
            .map(String::as_str)
            .collect();
        let what = || {
            format!(
                "given up and not among the dead letters: {}",
                missing.join(", ")
            )
        };
        (!missing.is_empty()).then(what)
    }
}
