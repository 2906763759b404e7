//! The close of a life's bus: what it answered is written down, and what it left behind is looked at in that very moment.

use super::*;
use clearway::DrainReport;

/// Tasks of a bus begin so; those of its backend and of whoever uses it do not.
const OF_THE_BUS: &str = "clearway-";

/// So much longer than its limit a close takes at the most: what is cut off lets go, and consumers and connection say goodbye.
const GOODBYES: Duration = Duration::from_secs(5);

/// A bus that was told to close.
pub(super) struct Shut {
    pub(super) bus: Bus,
    limit: Duration,
    /// How often its process had stood still by then.
    still: u64,
}

impl Life {
    /// Closes its bus, and writes down what that said.
    pub async fn close(self: Arc<Self>, limit: Duration) -> Option<CloseReport> {
        let shut = self.shut(limit)?;
        let report = shut.bus.close(limit).await;
        self.closed(shut, &report).await;
        Some(report)
    }

    /// Its bus is about to be closed, with this limit. `None`: somebody has done so.
    pub(super) fn shut(&self, limit: Duration) -> Option<Shut> {
        let bus = {
            let mut state = self.state();
            if std::mem::replace(&mut state.is_closing, true) {
                return None;
            }
            state.bus.take()?
        };
        let recorder = &self.common.record.recorder;
        let number = self.process.number();
        recorder.close(number, recorder.process(number).number());
        self.door.shut(self.process.now() + limit);
        let still = self.still();
        Some(Shut { bus, limit, still })
    }

    /// Close has answered.
    pub(super) async fn closed(&self, shut: Shut, report: &CloseReport) {
        let Shut { bus, limit, still } = shut;
        self.look_at_what_is_left(report);
        if report.took > limit + GOODBYES && self.still() == still {
            let what = format!(
                "close of {:?} had {limit:?} and took {:?}",
                self.process, report.took
            );
            self.common.record.complain(what);
        }
        let recorder = &self.common.record.recorder;
        let subscriptions = std::mem::take(&mut self.state().subscriptions);
        let mut apart = 0;
        for ((topic, group), held) in subscriptions {
            let place = (Arc::from(topic), Arc::from(group));
            let left = match report.subscriptions.get(&place) {
                Some(left) => left.clone(),
                // It may have ended before: whoever asks has the same answer.
                None if held.is_draining => {
                    let left = held.of.drain(Duration::ZERO).await;
                    apart += left.left.len() as u64;
                    left
                }
                None => DrainReport::default(),
            };
            if !left.left.is_empty() {
                self.common.weather.goal("a close that left deliveries");
            }
            recorder.record(ended(held.number, &left));
        }
        let number = self.process.number();
        let process = recorder.process(number).number();
        recorder.closed(number, process, Some(told(report, limit, apart)));
        drop(bus);
        self.state().has_ended = true;
    }

    /// In the moment in which close returns: nothing of the bus runs any more, and no handler was shut out.
    fn look_at_what_is_left(&self, report: &CloseReport) {
        let record = &self.common.record;
        let mut names = self.common.weather.world().names_of(self.process.number());
        names.retain(|name| name.starts_with(OF_THE_BUS));
        if !names.is_empty() {
            record.complain(format!(
                "when close of {:?} returned these ran on: {}",
                self.process,
                names.join(", ")
            ));
        }
        let shut_out = self.door.shut_out();
        if !report.subscriptions.values().any(|left| left.blocked) {
            shut_out.into_iter().for_each(|what| record.complain(what));
        }
    }
}

/// How a subscription ended, as the history has it.
pub(super) fn ended(subscription: u32, report: &DrainReport) -> Ended {
    let position = |left: &LeftDelivery| (left.position.partition, left.position.offset);
    Ended {
        subscription,
        left: report.left.iter().map(position).collect(),
        blocked: report.blocked,
    }
}

/// What a close answered, as the history has it: what was left apart, by drains that ended before it, is among what it left there.
fn told(report: &CloseReport, limit: Duration, apart: u64) -> serde_json::Value {
    let topics = report.topics.iter().map(|(name, topic)| {
        let told = json!({ "unknown": topic.unknown, "unsent": topic.unsent });
        (name.to_string(), told)
    });
    json!({
        "drained": report.drained,
        "deliveries_left": report.deliveries_left + apart,
        "topics": serde_json::Value::Object(topics.collect()),
        "took_ns": report.took.as_nanos() as u64,
        "limit_ns": limit.as_nanos() as u64,
    })
}
