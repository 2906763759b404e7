//! Registry: the subscriptions of a bus, one for each topic and group, and how all of them end.

use super::{Control, DrainReport};
use crate::protocol::sync::Mutex;
use crate::runtime::Runtime;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The subscriptions of a bus: one for each topic and group.
#[derive(Default)]
pub(crate) struct Subscriptions(Mutex<Registry>);

#[derive(Default)]
struct Registry {
    closed: bool,
    open: BTreeMap<(Arc<str>, Arc<str>), Arc<Control>>,
}

/// Why a subscription cannot begin.
pub(crate) enum Unavailable {
    Closed,
    Taken,
}

impl Subscriptions {
    /// Takes the place of (topic, group).
    pub(crate) fn begin(&self, control: &Arc<Control>) -> Result<(), Unavailable> {
        let mut registry = self.0.lock();
        if registry.closed {
            return Err(Unavailable::Closed);
        }
        let place = (control.topic.clone(), control.group.clone());
        if registry.open.contains_key(&place) {
            return Err(Unavailable::Taken);
        }
        registry.open.insert(place, control.clone());
        Ok(())
    }

    /// Gives the place free, if it is still this subscription's.
    pub(crate) fn end(&self, control: &Arc<Control>) {
        let mut registry = self.0.lock();
        let place = (control.topic.clone(), control.group.clone());
        if registry
            .open
            .get(&place)
            .is_some_and(|there| Arc::ptr_eq(there, control))
        {
            registry.open.remove(&place);
        }
    }

    /// Stops all at once, waits for each until the deadline, and tells how each that had something left ended.
    pub(crate) async fn close_all(
        &self,
        runtime: &Arc<dyn Runtime>,
        deadline: Duration,
    ) -> Vec<(Arc<Control>, DrainReport)> {
        let mut open: Vec<_> = {
            let mut registry = self.0.lock();
            registry.closed = true;
            registry.open.values().cloned().collect()
        };
        open.iter().for_each(|control| control.stop(deadline));
        // One may have been told an earlier deadline before. Then they all end side by side.
        open.sort_by_key(|control| control.deadline());
        for control in &open {
            control.end_in_time(runtime).await;
        }
        let mut reports = Vec::new();
        for control in open {
            let report = control.report(runtime).await;
            reports.push((control, report));
        }
        reports
    }
}
