//! Throttle: how many deliveries a second a subscription handles, or each of its keys.
//!
//! The leaky bucket is `governor`'s; what is here is its clock, and who waits where. A subscription's limit holds the
//! intake back, so what is too much stays at the broker. A key's limit parks its lane, so the others go on and no
//! worker waits.

use crate::protocol::sync::Mutex;
use crate::runtime::Runtime;
use bytes::Bytes;
use foldhash::fast::RandomState;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{NotUntil, Quota, RateLimiter};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// A rate of deliveries, with how many may come at once.
///
/// Each delivery counts once: its further attempts follow [`Retry`](crate::Retry).
///
/// ```
/// use clearway::Throttle;
///
/// let throttle = Throttle::per_second(50.0).burst(10);
/// # let _ = throttle;
/// ```
#[derive(Clone, Debug)]
pub struct Throttle {
    quota: Quota,
}

/// Keys that are remembered before those that have not been seen for long enough are forgotten.
const KEYS_MAX: usize = 4096;

impl Throttle {
    /// So many a second, one at a time.
    ///
    /// # Panics
    ///
    /// Unless it is more than 0, at most 1,000,000,000, and at least one in a century.
    pub fn per_second(deliveries: f64) -> Self {
        let period = Duration::try_from_secs_f64(1.0 / deliveries).ok();
        let quota = period.filter(|period| period.as_secs() < 100 * 366 * 24 * 3600);
        let quota = quota.and_then(Quota::with_period);
        Self {
            quota: quota.unwrap_or_else(|| panic!("{deliveries} deliveries a second are no rate")),
        }
    }

    /// After a pause so many may come at once. At least 1.
    pub fn burst(mut self, deliveries: u32) -> Self {
        let burst = NonZeroU32::new(deliveries).unwrap_or(NonZeroU32::MIN);
        self.quota = self.quota.allow_burst(burst);
        self
    }
}

/// The runtime's clock, as the limiter reads it.
#[derive(Clone, Debug)]
struct RuntimeClock(Arc<dyn Runtime>);

impl Clock for RuntimeClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.now()
    }
}

type Middleware = NoOpMiddleware<Duration>;

/// The limit of one subscription. One task's own.
pub(crate) struct Limiter {
    clock: RuntimeClock,
    bucket: RateLimiter<NotKeyed, InMemoryState, RuntimeClock, Middleware>,
    /// The next delivery is let in already.
    admitted: bool,
    not_before: Duration,
}

impl Limiter {
    pub(crate) fn new(throttle: &Throttle, runtime: Arc<dyn Runtime>) -> Self {
        let clock = RuntimeClock(runtime);
        Self {
            bucket: RateLimiter::direct_with_clock(throttle.quota, clock.clone()),
            clock,
            admitted: false,
            not_before: Duration::ZERO,
        }
    }

    /// Whether another delivery may be taken. It stays true until [`took`](Self::took).
    pub(crate) fn admits(&mut self) -> bool {
        if !self.admitted {
            match self.bucket.check() {
                Ok(()) => self.admitted = true,
                Err(refused) => self.not_before = earliest(&refused),
            }
        }
        self.admitted
    }

    /// When to ask again.
    pub(crate) fn due(&self) -> Option<Duration> {
        (!self.admitted && self.not_before > self.clock.now()).then_some(self.not_before)
    }

    pub(crate) fn took(&mut self) {
        self.admitted = false;
    }
}

/// A limit for each key. Workers share it; it takes a lock for the table of keys.
pub(crate) struct KeyLimiter {
    clock: RuntimeClock,
    buckets: RateLimiter<Bytes, HashMapStateStore<Bytes, RandomState>, RuntimeClock, Middleware>,
    /// With more keys than this the old ones are looked for.
    keys_max: Mutex<usize>,
}

impl KeyLimiter {
    pub(crate) fn new(throttle: &Throttle, runtime: Arc<dyn Runtime>) -> Self {
        let clock = RuntimeClock(runtime);
        let table = HashMapStateStore::new(HashMap::with_hasher(RandomState::default()));
        Self {
            buckets: RateLimiter::new(throttle.quota, table, clock.clone()),
            clock,
            keys_max: Mutex::new(KEYS_MAX),
        }
    }

    /// How long a delivery of this key has to wait, if it has to.
    pub(crate) fn wait(&self, key: &Bytes) -> Option<Duration> {
        let mut keys_max = self.keys_max.lock();
        if self.buckets.len() > *keys_max {
            self.buckets.retain_recent();
            // So that a look at all of them is rare, however many have to stay.
            *keys_max = KEYS_MAX.max(2 * self.buckets.len());
        }
        drop(keys_max);
        let refused = self.buckets.check_key(key).err()?;
        Some(earliest(&refused).saturating_sub(self.clock.now()))
    }
}

fn earliest(refused: &NotUntil<Duration>) -> Duration {
    refused.earliest_possible()
}
