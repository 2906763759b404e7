//! Subscribing: the durables, and an inbox for what they deliver.

use super::api::ApiError;
use super::connect::NAME;
use super::connection::NatsConnection;
use super::consume::{self, Company, NatsConsumer, Parts};
use super::durable::{self, Begin, Durable, Ensured};
use super::members::Members;
use super::options::Options;
use super::partition::{Pace, Partition};
use super::{names, plan};
use crate::backend::{SubscribeRequest, invalid_topic};
use crate::config::Ensure;
use crate::error::{Failure, FailureKind, SubscribeError, Unsupported};
use serde_json::Value;
use std::time::Duration;

/// As many deliveries of one partition are held ready, at most. Each pull costs the server something: with half of it a tenth of the
/// throughput was lost.
const BATCH_MAX: usize = 1024;
/// The same in bytes, for all partitions of a subscription.
const BATCH_BYTES: usize = 16 << 20;
/// A durable is looked at so often at least, to see whether somebody has changed it.
const WATCH_MAX: Duration = Duration::from_secs(30);

pub(super) async fn subscribe(
    connection: &NatsConnection,
    request: SubscribeRequest,
) -> Result<NatsConsumer, SubscribeError> {
    let topic = &request.topic;
    let refused = match &request.foreign {
        Some(foreign) => names::refuse_group_of_pattern(&request.group, foreign.pattern()),
        None => names::refuse_group(&request.group, &topic.name),
    };
    if let Some(reason) = refused {
        return Err(invalid_topic(NAME, &topic.name, reason).into());
    }
    let failed = |failure: Failure| SubscribeError::Failed {
        topic: request.topic.name.clone(),
        failure,
    };
    let refused = |error: ApiError| failed(error.into_failure());
    let api = connection.api().map_err(failed)?;
    let stream = match &request.foreign {
        Some(foreign) => foreign.log().to_owned(),
        None => plan::stream_name(topic, &connection.options),
    };
    let Some(info) = api.stream(&stream).await.map_err(refused)? else {
        let text = format!("there is no stream `{stream}`");
        return Err(failed(Failure::new(FailureKind::NoTopic, text)));
    };
    let born = info["created"].as_str().unwrap_or_default().to_owned();
    let next = info["state"]["last_seq"].as_u64().unwrap_or(0) + 1;
    let durables = durables(connection, &request, &stream, &info["config"]);
    if durables.is_empty() {
        let text = format!("stream `{stream}` does not listen to it");
        return Err(failed(Failure::new(FailureKind::NoTopic, text)));
    }
    let pace = pace(&request, durables.len(), &connection.options);
    let inbox = api.client.new_inbox();
    let subscriber = api.client.subscribe(format!("{inbox}.>")).await;
    let down = |error| {
        failed(Failure::caused(
            FailureKind::Disconnected,
            "the connection is down",
            error,
        ))
    };
    let subscriber = subscriber.map_err(down)?;
    let given_up = format!("{}.{stream}.*", consume::GIVEN_UP);
    let given_up = api.client.subscribe(given_up).await.map_err(down)?;
    let company = match durables.first() {
        Some(first) if connection.can_pin && connection.options.share && durables.len() > 1 => {
            let subject = consume::members_subject(connection.options.domain.as_deref(), first);
            let beats = api.client.subscribe(subject.clone()).await;
            Some(Company {
                members: Members::new(&inbox, &born, connection.options.ack_wait),
                beats: beats.map_err(down)?,
                subject,
            })
        }
        _ => None,
    };
    let epoch = connection.generation << 32 | 1;
    let mut all = Vec::with_capacity(durables.len());
    for (number, durable) in (0..).zip(durables) {
        let place = resumed(connection, &durable, &born);
        let begin = place.unwrap_or_else(|| Begin::of(request.start, next));
        let ensured = durable.ensure(&api, &connection.options, begin, place);
        let Ensured { standing, drift } = ensured.await.map_err(refused)?;
        if let Some(drift) = drift.filter(|drift| drift.foreign) {
            consume::tell_drift(&*connection.host, &request, number, &drift.what);
        }
        if !connection.can_pin && standing.waiting > 0 {
            return Err(second_member(&request, number).into());
        }
        let pin = connection.pins.of(&stream, &durable.name);
        all.push(Partition::new(
            number,
            durable,
            born.clone(),
            standing,
            pin,
            epoch,
        ));
    }
    let parts = Parts {
        api,
        stream,
        partitions: all,
        pace,
        inbox: subscriber,
        prefix: format!("{inbox}."),
        epoch,
        given_up,
        company,
        request,
    };
    Ok(NatsConsumer::new(connection, parts))
}

/// The durables of the request, in the order of their partitions; none if the stream has nothing of what is asked for.
fn durables(
    connection: &NatsConnection,
    request: &SubscribeRequest,
    stream: &str,
    config: &Value,
) -> Vec<Durable> {
    let (topic, group) = (&request.topic, &*request.group);
    let unanswered_max = request.in_flight_max.max(1);
    let pins = connection.can_pin;
    if let Some(foreign) = &request.foreign {
        let durable = || Durable::foreign(foreign, group, unanswered_max, pins);
        return takes(config, foreign.pattern())
            .then(durable)
            .into_iter()
            .collect();
    }
    let partitions = match topic.ensure {
        Ensure::Skip => topic.partitions.unwrap_or(1),
        _ => plan::compare(topic, config).partitions,
    };
    let durable = |number| Durable::new(stream, topic, group, number, unanswered_max, pins);
    (0..partitions).map(durable).collect()
}

/// Whether a stream of this configuration can hold a subject that fits `pattern`.
fn takes(config: &Value, pattern: &str) -> bool {
    // What such a stream holds has subjects of another stream, or others than it listens to: they cannot be told from here.
    let elsewhere = ["mirror", "sources", "subject_transform"];
    if elsewhere.iter().any(|setting| !config[*setting].is_null()) {
        return true;
    }
    let mut subjects = config["subjects"].as_array().into_iter().flatten();
    subjects.any(|subject| {
        subject
            .as_str()
            .is_some_and(|subject| names::overlap(subject, pattern))
    })
}

/// Where a consumer of ours that was lost was on this durable, if there was one.
fn resumed(connection: &NatsConnection, durable: &Durable, born: &str) -> Option<Begin> {
    let place = connection.pins.place(&durable.stream, &durable.name)?;
    // All there is in another stream is new to the group.
    Some(match place.born == born {
        true => Begin::At(place.sequence),
        false => Begin::First,
    })
}

fn pace(request: &SubscribeRequest, partitions: usize, options: &Options) -> Pace {
    let ack_wait = options.ack_wait;
    let expires = (ack_wait / 4).clamp(Duration::from_secs(2), Duration::from_secs(10));
    Pace {
        batch: (request.in_flight_max / partitions).clamp(1, BATCH_MAX) as u32,
        bytes: BATCH_BYTES / partitions,
        expires,
        // The server refuses more than half.
        heartbeat: expires / 3,
        ack_wait,
        watch: ack_wait.min(WATCH_MAX),
        lease: durable::pin_for(options) / 2,
    }
}

fn second_member(request: &SubscribeRequest, partition: u32) -> Unsupported {
    Unsupported {
        backend: NAME,
        what: format!(
            "a second member of group `{}` on partition {partition} of topic `{}`: order would be lost; \
             it takes nats-server 2.11 or newer",
            request.group, request.topic.name
        )
        .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::StartAt;
    use crate::config::TopicConfig;
    use serde_json::json;

    #[test]
    fn only_what_a_stream_can_hold_is_read_from_it() {
        let own = json!({ "subjects": ["a.*", "b"], "sources": null });
        assert!(takes(&own, "a.x") && takes(&own, ">") && takes(&own, "*"));
        assert!(!takes(&own, "c.>") && !takes(&own, "a.*.*"));
        // No subjects of its own.
        assert!(!takes(&json!({}), ">"));
        assert!(takes(&json!({ "mirror": { "name": "other" } }), "c.>"));
        assert!(takes(
            &json!({ "subjects": ["a"], "sources": [{ "name": "other" }] }),
            "c"
        ));
    }

    #[test]
    fn a_pin_outlives_its_pulls() {
        for seconds in [1, 4, 30, 600] {
            let request = SubscribeRequest {
                topic: TopicConfig::new("t"),
                foreign: None,
                group: "g".into(),
                start: StartAt::Earliest,
                in_flight_max: 100,
                confirm: false,
            };
            let options = Options::from_url("nats://h")
                .expect("fine")
                .ack_wait(Duration::from_secs(seconds));
            let pace = pace(&request, 3, &options);
            // Silence is noticed after two heartbeats and a moment, and the pull before it may be as old as it gets.
            let noticed = pace.expires + pace.heartbeat * 2 + Duration::from_millis(500);
            assert!(
                noticed + pace.lease < durable::pin_for(&options),
                "{seconds}"
            );
            assert!(pace.expires * 2 < durable::pin_for(&options), "{seconds}");
            assert!(pace.heartbeat * 2 <= pace.expires);
            assert_eq!(pace.batch, 33);
        }
    }
}
