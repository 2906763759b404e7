//! Conformance: bodies that every backend must pass, by name.
//!
//! Each case is an async function over a [`Stand`]: a broker, and buses on it. The same bodies run on memory in plain
//! `cargo test` and on real brokers in `make integration`; what a backend says it cannot do (`Bus::capabilities`) is refused there,
//! and the case says so instead of passing.
//!
//! A case waits for conditions with a deadline and never for luck.

mod close;
mod confirm;
mod dead_letter;
mod drain;
mod envelope;
mod failure;
mod flow;
mod group;
mod middleware;
mod order;
mod poison;
mod replay;
mod steer;

use anyhow::{Context as _, Result, bail};
use clearway::{BackendChoice, Bus, Delivery, Handler, HandlerError, Json, Topic};
use parking_lot::Mutex;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// How long a case waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker to stand on.
pub struct Stand {
    backend: Box<dyn Fn() -> BackendChoice + Send + Sync>,
    /// So that topics of one run do not meet those of another.
    run: String,
    topics: AtomicU64,
}

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it must.
    Passed,
    /// The backend says that it cannot do this.
    Refused(&'static str),
}

/// A body, as a table holds it.
pub type Body = for<'s> fn(&'s Stand) -> Pin<Box<dyn Future<Output = Result<Verdict>> + Send + 's>>;

/// Names every case to a macro, as `room::name`.
#[macro_export]
macro_rules! for_each_conformance_case {
    ($macro:ident) => {
        $macro! {
            envelope::every_field_of_an_envelope_comes_back,
            envelope::an_empty_payload_is_a_payload,
            envelope::a_key_may_be_empty_and_is_not_a_missing_one,
            envelope::headers_that_are_no_text_are_kept_as_bytes,
            envelope::unicode_headers_and_keys_come_back,
            envelope::a_name_may_come_twice_and_keeps_its_order,
            envelope::a_large_payload_comes_back_whole,
            envelope::the_size_limit_is_exact,
            envelope::results_come_in_the_order_of_their_keys,
            envelope::ten_thousand_keys_come_back_once_each,
            order::deliveries_of_a_key_come_in_the_order_of_their_publishes,
            order::keys_are_handled_side_by_side,
            order::one_key_is_never_handled_twice_at_a_time,
            order::a_retry_is_not_overtaken_by_its_key,
            order::a_slow_key_does_not_hold_up_fast_ones,
            order::a_retry_does_not_wait_for_the_end_of_a_backlog,
            order::a_hot_key_keeps_its_order_beside_others,
            order::by_partition_handles_one_of_a_partition_at_a_time,
            order::unordered_handles_one_key_side_by_side,
            order::without_a_key_nothing_waits,
            order::concurrency_is_a_limit,
            failure::a_handler_that_errs_is_called_again_with_the_same_envelope,
            failure::a_handler_that_panics_kills_nothing,
            failure::a_handler_that_hangs_is_dropped_at_its_timeout,
            dead_letter::a_poison_message_at_the_head_ends_in_the_dead_letters,
            dead_letter::a_rejected_delivery_goes_to_the_dead_letters_at_once,
            dead_letter::what_does_not_decode_goes_to_the_dead_letters,
            dead_letter::a_dead_letter_says_where_it_came_from,
            dead_letter::dead_letters_keep_key_headers_and_payload,
            poison::a_delivery_that_ends_its_consumer_each_time_ends_in_the_dead_letters,
            poison::attempts_of_an_earlier_consumer_count,
            poison::what_was_left_without_an_attempt_is_handled,
            failure::skip_settles_what_has_no_attempt_left,
            failure::a_skipped_delivery_is_settled,
            failure::asked_for_again_it_waits_as_long_as_asked,
            dead_letter::too_many_dead_letters_pause_the_subscription,
            dead_letter::redrive_puts_dead_letters_back,
            dead_letter::a_letter_without_a_home_holds_up_no_redrive,
            failure::a_handler_may_publish_to_the_bus_it_is_called_from,
            flow::pause_takes_nothing_and_resume_goes_on,
            flow::pause_under_load_loses_nothing,
            flow::hold_takes_nothing_before_activate,
            flow::in_flight_is_a_limit,
            flow::a_stuck_handler_fills_no_memory,
            flow::status_says_how_far_behind,
            flow::recovery_is_entered_and_left,
            flow::a_repeated_id_is_settled_without_a_handler,
            flow::a_stream_hands_out_and_takes_answers,
            flow::a_stream_delivery_dropped_without_an_answer_comes_again,
            middleware::middleware_is_around_every_attempt,
            middleware::middleware_may_answer_itself,
            middleware::a_throttle_leaves_the_rest_at_the_broker,
            middleware::a_throttled_subscription_goes_on,
            middleware::a_throttled_key_holds_up_no_other,
            middleware::subscriptions_share_a_concurrency,
            middleware::a_batch_is_full_or_its_time_is_up,
            middleware::a_key_is_in_one_batch_at_a_time_and_in_order,
            middleware::each_of_a_batch_has_its_own_outcome,
            middleware::a_tower_service_handles_deliveries,
            steer::two_groups_both_get_everything,
            steer::a_group_is_taken_once_on_a_bus,
            steer::the_same_group_again_after_it_was_closed,
            steer::subscribe_and_unsubscribe_while_traffic_flows,
            steer::dead_letters_of_a_topic_cannot_go_to_itself,
            steer::settings_that_cannot_be_meant_are_refused,
            replay::a_new_group_begins_with_the_next_one,
            replay::a_new_group_begins_at_a_position,
            replay::a_position_that_is_not_there_is_the_nearest_that_is,
            replay::a_new_group_begins_at_a_time,
            replay::a_group_that_is_known_goes_on_where_it_is,
            drain::drain_settles_what_was_taken,
            drain::drain_without_time_lists_what_was_left,
            drain::a_handler_that_blocks_is_named,
            drain::what_was_left_comes_again,
            drain::a_retry_beyond_the_deadline_is_given_back,
            close::closing_the_bus_drains_its_subscriptions,
            close::nothing_is_handled_after_close,
            close::what_handlers_publish_while_the_bus_closes_is_published,
            close::close_ends_a_subscription_in_every_state,
            close::a_bus_that_is_dropped_loses_nothing,
            drain::resume_does_not_end_a_drain,
            drain::every_drainer_gets_the_same_report,
            confirm::what_is_confirmed_is_settled,
            confirm::a_drain_waits_for_confirmations,
            confirm::order_and_retries_are_as_without_confirmation,
            confirm::a_repeated_id_is_confirmed_too,
            group::two_members_share_the_partitions,
            group::a_member_that_joins_overlaps_nobody,
            group::what_a_member_had_comes_to_the_others,
            group::a_third_member_and_a_crash_lose_nothing,
        }
    };
}

macro_rules! cases {
    ($($room:ident::$name:ident),* $(,)?) => {
        /// All cases: room, name and body.
        pub const CASES: &[(&str, &str, Body)] = &[
            $((stringify!($room), stringify!($name), |stand| Box::pin($room::$name(stand)))),*
        ];
    };
}

for_each_conformance_case!(cases);

impl Stand {
    /// A stand on the broker that each backend of `backend` connects to.
    pub fn new(
        backend: impl Fn() -> BackendChoice + Send + Sync + 'static,
        run: impl Into<String>,
    ) -> Self {
        Self {
            backend: Box::new(backend),
            run: run.into(),
            topics: AtomicU64::new(0),
        }
    }

    /// Runs the case of that name.
    ///
    /// # Errors
    ///
    /// When the backend does not do what it must, or there is no such case.
    pub async fn run(&self, name: &str) -> Result<Verdict> {
        let case = CASES.iter().find(|(_, known, _)| *known == name);
        let Some((_, _, body)) = case else {
            bail!("there is no case `{name}`");
        };
        let work = tokio::time::timeout(PATIENCE * 4, body(self));
        work.await.with_context(|| format!("{name} did not end"))?
    }

    /// A bus of its own.
    async fn bus(&self) -> Result<Bus> {
        let bus = Bus::builder().backend((self.backend)()).connect().await;
        bus.context("no connection to the broker")
    }

    /// The name of a topic that nobody else has.
    fn topic(&self) -> String {
        let number = self.topics.fetch_add(1, Ordering::Relaxed);
        format!("conformance.{}.{number}", self.run)
    }
}

/// What handlers saw, under a lock that ThreadSanitizer can follow (std's is not instrumented), in the order in which they did.
#[derive(Clone)]
struct Seen {
    events: Arc<Mutex<Vec<Event>>>,
    changed: Arc<watch::Sender<()>>,
}

/// A handler began or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Event {
    key: Option<String>,
    value: u64,
    attempt: u32,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Begun,
    Ended,
}

/// A handler at work: dropped, it has ended.
struct AtWork {
    seen: Seen,
    event: Event,
}

impl Seen {
    fn new() -> Self {
        Self {
            events: Arc::default(),
            changed: Arc::new(watch::Sender::new(())),
        }
    }

    /// Notes that a handler has begun, and when the guard is dropped that it has ended.
    fn begin(&self, delivery: &Delivery<u64>) -> AtWork {
        let key = delivery.envelope.key.as_ref();
        let event = Event {
            key: key.map(|key| String::from_utf8_lossy(key).into_owned()),
            value: delivery.value,
            attempt: delivery.attempt,
            what: What::Begun,
        };
        self.note(event.clone());
        AtWork {
            seen: self.clone(),
            event,
        }
    }

    /// A handler that notes what it gets, and is content with it.
    fn contented(&self) -> impl Handler<u64> + use<> {
        let seen = self.clone();
        move |delivery: Delivery<u64>| {
            drop(seen.begin(&delivery));
            async { content() }
        }
    }

    fn note(&self, event: Event) {
        self.events.lock().push(event);
        self.changed.send_replace(());
    }

    fn events(&self) -> Vec<Event> {
        self.events.lock().clone()
    }

    /// The values that handlers have begun with, in order.
    fn begun(&self) -> Vec<u64> {
        let events = self.events();
        let begun = events.iter().filter(|event| event.what == What::Begun);
        begun.map(|event| event.value).collect()
    }

    fn ended(&self) -> usize {
        let events = self.events();
        events
            .iter()
            .filter(|event| event.what == What::Ended)
            .count()
    }

    /// How many handlers were at work at the same time, at most, among those that `of` picks.
    fn at_once(&self, of: impl Fn(&Event) -> bool) -> usize {
        let (mut now, mut most) = (0_usize, 0);
        for event in self.events().iter().filter(|event| of(event)) {
            match event.what {
                What::Begun => now += 1,
                What::Ended => now -= 1,
            }
            most = most.max(now);
        }
        most
    }

    /// Waits until `so` holds.
    async fn until(&self, what: &str, so: impl Fn(&Self) -> bool) -> Result<()> {
        let mut changed = self.changed.subscribe();
        let holds = async {
            while !so(self) {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(PATIENCE, holds).await.is_err() {
            let events = self.events();
            let last = events.len().saturating_sub(20);
            bail!(
                "not within {PATIENCE:?}: {what}; last seen: {:?}",
                &events[last..]
            );
        }
        Ok(())
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let mut event = self.event.clone();
        event.what = What::Ended;
        self.seen.note(event);
    }
}

/// Waits until `so` holds, asking again and again: for what nobody tells.
async fn eventually<F, A>(what: &str, so: F) -> Result<()>
where
    F: Fn() -> A,
    A: Future<Output = bool>,
{
    let holds = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let holds = tokio::time::timeout(PATIENCE, holds).await;
    holds.map_err(|_| anyhow::anyhow!("not within {PATIENCE:?}: {what}"))
}

/// Publishes `values`, each with the key that `key` gives, and waits for all receipts.
async fn publish(
    topic: &Topic<u64, Json>,
    values: impl IntoIterator<Item = u64>,
    key: impl Fn(u64) -> Option<String>,
) -> Result<()> {
    let mut receipts = Vec::new();
    for value in values {
        let publish = topic.publish(&value);
        let publish = match key(value) {
            Some(key) => publish.key(key),
            None => publish,
        };
        match publish.enqueue() {
            Ok(receipt) => receipts.push(receipt),
            Err(refused) => bail!("{refused}"),
        }
        if receipts.len() >= 500 {
            for receipt in std::mem::take(&mut receipts) {
                receipt.await?;
            }
        }
    }
    for receipt in receipts {
        receipt.await?;
    }
    Ok(())
}

/// One key for all.
fn one_key(_: u64) -> Option<String> {
    Some("one".into())
}

/// The answer of a handler that is content.
fn content() -> Result<(), HandlerError> {
    Ok(())
}
