//! The results of a bus: whoever reads them hears of every outcome, also of those that come while it closes, and then that there are no more.

use super::*;
use clearway::Overflow;
use uuid::Uuid;

/// When the stream has ended, whoever waited for an outcome has it by then.
const BY_THEN: Duration = Duration::from_millis(100);

/// By envelope: how often its outcome was read, less how often somebody who published it has had one.
#[derive(Default)]
pub(in super::super) struct Results(Mutex<BTreeMap<Uuid, i64>>);

impl Results {
    fn by_id(&self) -> MutexGuard<'_, BTreeMap<Uuid, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A publish has ended, for whoever waited for it. What was not accepted has no result.
    pub(super) fn ended(&self, id: Uuid, ended: &Outcome) {
        if matches!(ended, Ok(_) | Err(PublishError::Unknown(_))) {
            *self.by_id().entry(id).or_default() -= 1;
        }
    }

    fn read(&self, id: Uuid) {
        *self.by_id().entry(id).or_default() += 1;
    }

    /// Those that had an outcome, and no result.
    fn missing(&self) -> Vec<String> {
        let by_id = self.by_id();
        let missing = by_id.iter().filter(|(_, balance)| **balance < 0);
        missing.map(|(id, _)| id.to_string()).collect()
    }
}

impl Life {
    /// Reads all results of its bus to their end.
    pub(super) fn read_results(&self, bus: &Bus) {
        let Some(mut stream) = bus.publish_results(Overflow::Block) else {
            let what = format!(
                "{:?} has one reader of results, and was refused",
                self.process
            );
            return self.common.record.complain(what);
        };
        let (common, process) = (self.common.clone(), self.process.clone());
        let (results, door) = (self.results.clone(), self.door.clone());
        let reading = async move {
            while let Some(result) = stream.next().await {
                results.read(result.id);
                if door.is_shut() {
                    common.weather.goal("a result read while its bus closed");
                }
            }
            process.sleep(BY_THEN).await;
            let missing = results.missing();
            if !missing.is_empty() {
                let missing = missing.join(", ");
                let what = format!("the results of {process:?} ended without those of {missing}");
                common.record.complain(what);
            }
        };
        self.process.spawn("sim-results", Box::pin(reading));
    }
}
