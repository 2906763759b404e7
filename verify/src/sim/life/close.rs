//! The close of a life's bus: what it answered is written down, and what it left behind is looked at in that very moment.

use super::*;

/// Tasks of a bus begin so; those of its backend and of whoever uses it do not.
const OF_THE_BUS: &str = "clearway-";

impl Life {
    /// Closes its bus, and writes down what that said.
    pub async fn close(self: Arc<Self>, limit: Duration) -> Option<CloseReport> {
        let (bus, subscriptions) = {
            let mut state = self.state();
            if std::mem::replace(&mut state.is_closing, true) {
                return None;
            }
            (state.bus.take()?, std::mem::take(&mut state.subscriptions))
        };
        let recorder = self.common.record.recorder.clone();
        let number = self.process.number();
        let process = recorder.process(number).number();
        recorder.close(number, process);
        self.door.shut(self.process.now() + limit);
        let report = bus.close(limit).await;
        self.look_at_what_is_left(&report);
        for (topic, (subscription, _)) in subscriptions {
            let place = (Arc::from(topic), Arc::from(GROUP));
            let left = report
                .subscriptions
                .get(&place)
                .cloned()
                .unwrap_or_default();
            if !left.left.is_empty() {
                self.common.weather.goal("a close that left deliveries");
            }
            let position = |left: &LeftDelivery| (left.position.partition, left.position.offset);
            recorder.record(Ended {
                subscription,
                left: left.left.iter().map(position).collect(),
                blocked: left.blocked,
            });
        }
        recorder.closed(number, process, Some(told(&report, limit)));
        drop(bus);
        self.state().has_ended = true;
        Some(report)
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

/// What a close answered, as the history has it.
fn told(report: &CloseReport, limit: Duration) -> serde_json::Value {
    let topics = report.topics.iter().map(|(name, topic)| {
        let told = json!({ "unknown": topic.unknown, "unsent": topic.unsent });
        (name.to_string(), told)
    });
    json!({
        "drained": report.drained,
        "deliveries_left": report.deliveries_left,
        "topics": serde_json::Value::Object(topics.collect()),
        "took_ns": report.took.as_nanos() as u64,
        "limit_ns": limit.as_nanos() as u64,
    })
}
