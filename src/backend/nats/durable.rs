//! Durables: the server's memory of how far a group is in a partition.

use super::api::{Api, ApiError, code};
use super::drift::{Drift, adapted, drift};
use super::names;
use super::options::Options;
use super::when::{is_later, rfc3339};
use crate::backend::{Foreign, StartAt};
use crate::config::TopicConfig;
use crate::error::{Failure, FailureKind};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// The one priority group of our durables.
pub(super) const PRIORITY_GROUP: &str = "clearway";

/// A pinned member that has not pulled for this long loses its pin, at least.
const PIN_LEAST: Duration = Duration::from_secs(10);

/// The durable of one group on one partition.
#[derive(Clone, Debug)]
pub(super) struct Durable {
    pub(super) stream: String,
    pub(super) name: String,
    pub(super) subject: String,
    /// How many deliveries may be out on it.
    pub(super) unanswered_max: usize,
    pub(super) pins: bool,
}

/// Where a durable that is made begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Begin {
    First,
    Next,
    At(u64),
    Since(SystemTime),
}

/// A durable that is as we need it.
#[derive(Debug)]
pub(super) struct Ensured {
    pub(super) standing: Standing,
    /// What was otherwise, and is put right.
    pub(super) drift: Option<Drift>,
}

/// What the server says of a durable.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Standing {
    /// Delivered and not answered, to whomever.
    pub(super) unanswered: u64,
    /// All up to this sequence of the stream are answered.
    pub(super) floor: u64,
    /// The last sequence of the stream that was delivered.
    pub(super) delivered: u64,
    /// The same, counted by the durable.
    pub(super) delivered_count: u64,
    /// Pull requests that wait.
    pub(super) waiting: u64,
    /// Never delivered yet.
    pub(super) waits: u64,
    /// The pin of the member that it is delivered to.
    pub(super) pin: Option<String>,
    /// No delivery was made since there is that pin, so no member has been told of it.
    pub(super) is_nobodys: bool,
}

impl Begin {
    /// Where a group that is new begins in a stream whose next sequence is `next`.
    pub(super) fn of(start: StartAt, next: u64) -> Self {
        match start {
            StartAt::Earliest => Self::First,
            StartAt::Latest => Self::Next,
            // Sequences count from 1. For one that is not kept any more the server takes the oldest that is; for one that is not
            // there yet it would wait.
            StartAt::Offset(sequence) => Self::At(sequence.clamp(1, next.max(1))),
            StartAt::Time(time) => Self::Since(time),
        }
    }
}

impl Durable {
    pub(super) fn new(
        stream: &str,
        topic: &TopicConfig,
        group: &str,
        partition: u32,
        unanswered_max: usize,
        pins: bool,
    ) -> Self {
        Self {
            stream: stream.to_owned(),
            name: names::durable(group, &topic.name, partition),
            subject: names::subject(&topic.name, partition),
            unanswered_max,
            pins,
        }
    }

    /// The one durable of a group on what is no topic.
    pub(super) fn foreign(
        foreign: &Foreign,
        group: &str,
        unanswered_max: usize,
        pins: bool,
    ) -> Self {
        Self {
            stream: foreign.log().to_owned(),
            name: names::durable_of_pattern(group, foreign.pattern()),
            subject: foreign.pattern().to_owned(),
            unanswered_max,
            pins,
        }
    }

    /// What the server says of it, or `None` if it says that there is no such durable.
    pub(super) async fn look(&self, api: &Api) -> Result<Option<Standing>, ApiError> {
        Ok(self.info(api).await?.map(|info| standing(&info)))
    }

    async fn info(&self, api: &Api) -> Result<Option<Value>, ApiError> {
        api.look(&self.info_verb(), code::NO_DURABLE).await
    }

    /// Makes it if it is not there, or changes what is not as we need it.
    ///
    /// One that reads something else than its partition is made anew at `place`: what it has skipped meanwhile does not come back
    /// by itself. Where that is not known it is refused.
    pub(super) async fn ensure(
        &self,
        api: &Api,
        options: &Options,
        begin: Begin,
        place: Option<Begin>,
    ) -> Result<Ensured, ApiError> {
        let wanted = self.config(options, begin);
        let Some(info) = self.info(api).await? else {
            return self.create(api, wanted, None).await;
        };
        if standing(&info).is_nobodys {
            self.unpin(api, None).await;
        }
        let Some(drift) = drift(&info["config"], &wanted) else {
            return Ok(Ensured {
                standing: standing(&info),
                drift: None,
            });
        };
        if !drift.misread {
            let config = adapted(&info["config"], &wanted);
            return self.create(api, config, Some(drift)).await;
        }
        let Some(place) = place else {
            let text = format!(
                "somebody changed what durable `{}` of stream `{}` reads ({}): put it back, or delete it to begin anew",
                self.name, self.stream, drift.what
            );
            return Err(ApiError::Failed(Failure::new(FailureKind::Mismatch, text)));
        };
        self.delete(api).await?;
        let wanted = self.config(options, place);
        self.create(api, wanted, Some(drift)).await
    }

    /// Makes it, or changes it.
    async fn create(
        &self,
        api: &Api,
        config: Value,
        drift: Option<Drift>,
    ) -> Result<Ensured, ApiError> {
        let verb = self.create_verb();
        let made = api.call(&verb, &self.create_body(config)).await?;
        Ok(Ensured {
            standing: standing(&made),
            drift,
        })
    }

    pub(super) fn info_verb(&self) -> String {
        format!("CONSUMER.INFO.{}.{}", self.stream, self.name)
    }

    pub(super) fn create_verb(&self) -> String {
        format!("CONSUMER.DURABLE.CREATE.{}.{}", self.stream, self.name)
    }

    pub(super) fn create_body(&self, config: Value) -> Value {
        json!({ "stream_name": self.stream, "config": config })
    }

    /// Takes `pin` back, or any that is nobody's: whoever was silent for too long would take away another's.
    ///
    /// The server makes a pin for the first pull that waits, and sees only then that nobody listens for it any more: of a member that
    /// is gone. That pin is nobody's, and holds for the whole of its time.
    ///
    /// Also without a pin this is worth asking: before it says how a durable stands the server throws away what nobody listens for.
    pub(super) async fn unpin(&self, api: &Api, pin: Option<&str>) {
        let unpinned = async {
            let counts = |standing: &Standing| {
                standing.is_nobodys || (pin.is_some() && standing.pin.as_deref() == pin)
            };
            if !self.look(api).await?.as_ref().is_some_and(counts) {
                return Ok(());
            }
            let verb = format!("CONSUMER.UNPIN.{}.{}", self.stream, self.name);
            let group = json!({ "group": PRIORITY_GROUP });
            api.call(&verb, &group).await.map(drop)
        };
        if let Err(error) = unpinned.await {
            tracing::debug!(error = %error.into_failure(), "pin not given back");
        }
    }

    /// Takes it away, if it is there.
    pub(super) async fn delete(&self, api: &Api) -> Result<(), ApiError> {
        let verb = format!("CONSUMER.DELETE.{}.{}", self.stream, self.name);
        api.look(&verb, code::NO_DURABLE).await.map(drop)
    }

    pub(super) fn config(&self, options: &Options, begin: Begin) -> Value {
        let mut config = json!({
            "durable_name": self.name,
            "description": "Made by clearway",
            "filter_subject": self.subject,
            "ack_policy": "explicit",
            "ack_wait": options.ack_wait.as_nanos() as u64,
            "max_ack_pending": self.unanswered_max,
            "max_deliver": -1,
            "replay_policy": "instant",
            "deliver_policy": "all",
        });
        match begin {
            Begin::First => {}
            Begin::Next => config["deliver_policy"] = json!("new"),
            Begin::At(sequence) => {
                config["deliver_policy"] = json!("by_start_sequence");
                config["opt_start_seq"] = json!(sequence);
            }
            Begin::Since(time) => {
                config["deliver_policy"] = json!("by_start_time");
                config["opt_start_time"] = json!(rfc3339(time));
            }
        }
        if self.pins {
            config["priority_groups"] = json!([PRIORITY_GROUP]);
            config["priority_policy"] = json!("pinned_client");
            config["priority_timeout"] = json!(pin_for(options).as_nanos() as u64);
        }
        config
    }
}

/// How long a member that has fallen silent stays pinned.
pub(super) fn pin_for(options: &Options) -> Duration {
    options.ack_wait.max(PIN_LEAST)
}

pub(super) fn standing(info: &Value) -> Standing {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    // The one group that our durables have.
    let group = &info["priority_groups"][0];
    let pin = group["pinned_client_id"]
        .as_str()
        .filter(|pin| !pin.is_empty());
    let delivered = info["delivered"]["last_active"].as_str();
    let is_told = group["pinned_ts"]
        .as_str()
        .is_none_or(|pinned| delivered.is_some_and(|delivered| !is_later(pinned, delivered)));
    Standing {
        unanswered: number(&info["num_ack_pending"]),
        floor: number(&info["ack_floor"]["stream_seq"]),
        delivered: number(&info["delivered"]["stream_seq"]),
        delivered_count: number(&info["delivered"]["consumer_seq"]),
        waiting: number(&info["num_waiting"]),
        waits: number(&info["num_pending"]),
        pin: pin.map(str::to_owned),
        is_nobodys: pin.is_some() && !is_told,
    }
}

/// When the stream was made: sequences of another time mean nothing in it.
pub(super) async fn born(api: &Api, stream: &str) -> Result<Option<String>, ApiError> {
    let info = api.stream(stream).await?;
    Ok(info.map(|info| info["created"].as_str().unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn durable(pins: bool) -> Durable {
        let topic = TopicConfig::new("orders.eu");
        Durable::new("orders%2Eeu", &topic, "billing", 2, 64, pins)
    }

    fn options() -> Options {
        Options::from_url("nats://h").expect("fine")
    }

    #[test]
    fn a_durable_that_was_made_fits() {
        for pins in [false, true] {
            let config = durable(pins).config(&options(), Begin::First);
            let other = durable(pins).config(&options(), Begin::At(9));
            assert_eq!(drift(&config, &other), None);
            assert_eq!(config["filter_subject"], "orders.eu.2");
            assert_eq!(config["durable_name"], "billing~orders%2Eeu~2");
        }
        let plain = durable(false).config(&options(), Begin::First);
        let pinned = durable(true).config(&options(), Begin::First);
        assert!(drift(&plain, &pinned).is_some());
    }

    #[test]
    fn adapting_keeps_where_it_began_and_what_is_unknown() {
        let mut there = durable(true).config(&options(), Begin::At(7));
        there["max_ack_pending"] = json!(1);
        there["from_the_future"] = json!(true);
        let config = adapted(&there, &durable(false).config(&options(), Begin::First));
        assert_eq!(config["opt_start_seq"], 7);
        assert_eq!(config["max_ack_pending"], 64);
        assert_eq!(config["from_the_future"], true);
        assert!(config.get("priority_policy").is_none());
    }

    #[test]
    fn a_pin_that_no_delivery_has_told_is_nobodys() {
        let standing = |id: &str, pinned: Value, delivered: Value| {
            standing(&json!({
                "priority_groups": [{ "pinned_client_id": id, "pinned_ts": pinned }],
                "delivered": { "last_active": delivered },
            }))
        };
        let at = |fraction: &str| json!(format!("2026-11-28T01:00:00{fraction}Z"));
        for (pinned, delivered, nobodys) in [
            (at(".12"), Value::Null, true),
            (at(".12"), at(".1"), true),
            (at(".12"), at(""), true),
            (at(".12"), at(".119999999"), true),
            (at(".12"), at(".12"), false),
            (at(".12"), at(".120000001"), false),
            (at(".12"), json!("2026-11-28T01:00:01Z"), false),
            (at(".12"), json!("2026-11-28T00:59:59.9Z"), true),
            // It does not say when.
            (Value::Null, at(".1"), false),
        ] {
            let of_another = standing("id", pinned.clone(), delivered.clone());
            assert_eq!(of_another.is_nobodys, nobodys, "{pinned} {delivered}");
            assert_eq!(of_another.pin.as_deref(), Some("id"));
            let none = standing("", pinned, delivered);
            assert!(none.pin.is_none() && !none.is_nobodys);
        }
    }

    #[test]
    fn a_new_group_begins_where_it_asked_to() {
        let of = |begin| durable(false).config(&options(), begin);
        let begin = |start| of(Begin::of(start, 7));
        assert_eq!(begin(StartAt::Earliest)["deliver_policy"], "all");
        assert_eq!(begin(StartAt::Latest)["deliver_policy"], "new");
        assert_eq!(of(Begin::At(3))["opt_start_seq"], 3);
        for (asked, sequence) in [(0, 1), (1, 1), (6, 6), (7, 7), (8, 7), (u64::MAX, 7)] {
            assert_eq!(begin(StartAt::Offset(asked))["opt_start_seq"], sequence);
        }
        let since = begin(StartAt::Time(SystemTime::UNIX_EPOCH));
        assert_eq!(since["deliver_policy"], "by_start_time");
        assert_eq!(since["opt_start_time"], "1970-01-01T00:00:00.000000000Z");
    }
}
