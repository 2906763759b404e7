//! Numbers: counters that only grow, striped so that counting shares no cache line.
//!
//! Nothing is registered anywhere and nothing is formatted; a snapshot is read when asked for.

use crate::protocol::tally::Tally;
use std::time::Duration;

/// What is counted.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub(crate) enum Counter {
    Begun,
    Accepted,
    Settled,
    Acked,
    Rejected,
    Unknown,
    Duplicates,
    LateAnswers,
    RefusedClosed,
    RefusedFull,
    RefusedTooLarge,
    RefusedTopic,
    CreditWaits,
    ResultWaits,
    Delivered,
    HandlerAcks,
    HandlerErrors,
    HandlerPanics,
    HandlerTimeouts,
    HandlerRetries,
    HandlerSkips,
    DeadLetters,
    DeadLetterFailures,
    Skipped,
    DuplicatesSkipped,
    Recoveries,
    Redelivered,
    Reconnects,
}

const COUNTERS: usize = Counter::Reconnects as usize + 1;
const BUCKETS: usize = 64;

/// The counters of a bus.
pub(crate) struct Counters(Tally<{ COUNTERS + BUCKETS }>);

impl Counters {
    pub(crate) fn new() -> Self {
        Self(Tally::new())
    }

    pub(crate) fn count(&self, counter: Counter) {
        self.0.add(counter as usize, 1);
    }

    /// How long a publish took, from its slot to its outcome.
    pub(crate) fn record_latency(&self, latency: Duration) {
        self.0.add(COUNTERS + bucket_of(latency), 1);
    }

    pub(crate) fn total(&self, counter: Counter) -> u64 {
        self.0.total(counter as usize)
    }

    /// Publishes that were accepted and have no outcome yet.
    pub(crate) fn in_flight(&self) -> u64 {
        let (begun, settled) = self
            .0
            .read_pair(Counter::Begun as usize, Counter::Settled as usize);
        begun - settled
    }

    pub(crate) fn snapshot(&self) -> Metrics {
        let total = |counter| self.total(counter);
        let latency: Vec<u64> = (0..BUCKETS).map(|at| self.0.total(COUNTERS + at)).collect();
        Metrics {
            in_flight: self.in_flight(),
            accepted: total(Counter::Accepted),
            acked: total(Counter::Acked),
            rejected: total(Counter::Rejected),
            unknown: total(Counter::Unknown),
            duplicates: total(Counter::Duplicates),
            late_answers: total(Counter::LateAnswers),
            refused_closed: total(Counter::RefusedClosed),
            refused_full: total(Counter::RefusedFull),
            refused_too_large: total(Counter::RefusedTooLarge),
            refused_topic: total(Counter::RefusedTopic),
            credit_waits: total(Counter::CreditWaits),
            result_waits: total(Counter::ResultWaits),
            delivered: total(Counter::Delivered),
            redelivered: total(Counter::Redelivered),
            handler_acks: total(Counter::HandlerAcks),
            handler_errors: total(Counter::HandlerErrors),
            handler_panics: total(Counter::HandlerPanics),
            handler_timeouts: total(Counter::HandlerTimeouts),
            handler_retries: total(Counter::HandlerRetries),
            handler_skips: total(Counter::HandlerSkips),
            dead_letters: total(Counter::DeadLetters),
            dead_letter_failures: total(Counter::DeadLetterFailures),
            skipped: total(Counter::Skipped),
            duplicates_skipped: total(Counter::DuplicatesSkipped),
            recoveries: total(Counter::Recoveries),
            reconnects: total(Counter::Reconnects),
            publish_latency: Latency { buckets: latency },
            client: None,
        }
    }
}

/// The numbers of a bus at one moment. All but `in_flight` only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Publishes accepted and without an outcome yet.
    pub in_flight: u64,
    /// Publishes accepted: each gets exactly one outcome.
    pub accepted: u64,
    /// Outcomes: the broker has it.
    pub acked: u64,
    /// Outcomes: the broker surely does not have it.
    pub rejected: u64,
    /// Outcomes: nobody can tell.
    pub unknown: u64,
    /// Acknowledged, and the broker had it already.
    pub duplicates: u64,
    /// Answers that came for a publish that had its outcome already. Ignored.
    pub late_answers: u64,
    /// Publishes refused because the bus is closed.
    pub refused_closed: u64,
    /// Publishes refused because there was no room.
    pub refused_full: u64,
    /// Publishes refused because the envelope is too large.
    pub refused_too_large: u64,
    /// Publishes refused because the topic cannot be had.
    pub refused_topic: u64,
    /// Publishes that had to wait for credit.
    pub credit_waits: u64,
    /// Of these, while unread results held the credit.
    pub result_waits: u64,
    /// Deliveries handed to handlers, repeated ones included.
    pub delivered: u64,
    /// Of these, the repeated ones.
    pub redelivered: u64,
    /// Deliveries that a handler settled.
    pub handler_acks: u64,
    /// Attempts that failed: errors, panics and timeouts.
    pub handler_errors: u64,
    /// Of these, panics.
    pub handler_panics: u64,
    /// Of these, handlers that took too long.
    pub handler_timeouts: u64,
    /// Deliveries that a handler asked for again.
    pub handler_retries: u64,
    /// Deliveries that a handler said are none of its business.
    pub handler_skips: u64,
    /// Deliveries that were settled by going to the dead letters.
    pub dead_letters: u64,
    /// Dead letters that could not be published, and are tried again.
    pub dead_letter_failures: u64,
    /// Deliveries that were given up and settled, because that was asked for.
    pub skipped: u64,
    /// Deliveries that were settled without a handler, because one of the same id was settled before.
    pub duplicates_skipped: u64,
    /// How often a subscription has entered recovery.
    pub recoveries: u64,
    /// Sessions that took the place of a lost one.
    pub reconnects: u64,
    /// From a publish's slot to its outcome.
    pub publish_latency: Latency,
    /// What the broker's client says of itself, if it does. Kafka's does, every [`kafka::Options::statistics`](crate::backend).
    pub client: Option<ClientNumbers>,
}

/// What a broker's client says of itself. The numbers of a session: a new one counts anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientNumbers {
    /// Brokers that it knows.
    pub brokers: u64,
    /// Of these, those that it is connected to.
    pub brokers_connected: u64,
    /// Envelopes that it was given and has no answer for.
    pub queued: u64,
    /// The same in bytes.
    pub queued_bytes: u64,
    /// Envelopes that it has sent.
    pub sent: u64,
    /// The same in bytes, before compression.
    pub sent_bytes: u64,
    /// Requests that it has sent again.
    pub retries: u64,
    /// Requests that had no answer in time.
    pub timeouts: u64,
    /// How long a request takes, the slowest broker's mean of the last moments.
    pub round_trip: Option<Duration>,
}

/// How long something took, in buckets that grow by a factor of about 1.4.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    buckets: Vec<u64>,
}

impl Latency {
    /// How many were measured.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The upper end of the bucket that holds quantile `q` (0.5 is the median), or `None` if nothing was measured.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let rank = ((self.count() as f64 * q.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        self.buckets()
            .find(|(_, count)| {
                seen += count;
                seen >= rank
            })
            .map(|(upper, _)| upper)
    }

    /// Every bucket: its upper end and its count, for an exporter.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        self.buckets
            .iter()
            .enumerate()
            .map(|(at, count)| (upper_end(at), *count))
    }
}

/// Two buckets for every doubling, from 256 ns.
fn bucket_of(latency: Duration) -> usize {
    let nanos = latency.as_nanos().min(u128::from(u64::MAX)) as u64;
    if nanos < 256 {
        return 0;
    }
    let octave = nanos.ilog2() as usize - 8;
    let half = (nanos >> (octave + 7)) as usize & 1;
    (1 + 2 * octave + half).min(BUCKETS - 1)
}

fn upper_end(bucket: usize) -> Duration {
    if bucket == 0 {
        return Duration::from_nanos(256);
    }
    let (octave, half) = ((bucket - 1) / 2, (bucket as u64 - 1) % 2);
    Duration::from_nanos((256 + 128 * (half + 1)) << octave)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_below_its_buckets_end_and_not_below_the_one_before() {
        for nanos in [
            0,
            1,
            255,
            256,
            383,
            384,
            511,
            512,
            1_000,
            12_345,
            9_999_999,
            1 << 38,
        ] {
            let at = bucket_of(Duration::from_nanos(nanos));
            assert!(nanos < upper_end(at).as_nanos() as u64, "{nanos} in {at}");
            assert!(
                at == 0 || nanos >= upper_end(at - 1).as_nanos() as u64,
                "{nanos} in {at}"
            );
        }
    }

    #[test]
    fn a_quantile_is_the_end_of_its_bucket() {
        let counters = Counters::new();
        (0..99).for_each(|_| counters.record_latency(Duration::from_micros(10)));
        counters.record_latency(Duration::from_secs(1));
        let latency = counters.snapshot().publish_latency;
        assert_eq!(latency.count(), 100);
        assert!(latency.quantile(0.5).unwrap() < Duration::from_micros(20));
        assert!(latency.quantile(1.0).unwrap() > Duration::from_secs(1));
        assert_eq!(Latency::default().quantile(0.5), None);
    }
}
