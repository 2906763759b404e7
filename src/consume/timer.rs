//! Timer: one sleep for a time that is often put off and seldom reached.

use crate::runtime::{Runtime, Task};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Keeps the sleep it has as long as that ends early enough, so that a deadline that is put off with every
/// delivery costs nothing each time.
#[derive(Default)]
pub(super) struct Timer(Option<(Duration, Task)>);

impl Timer {
    /// Ready when the runtime's clock has reached `due`.
    pub(super) fn poll(
        &mut self,
        runtime: &Arc<dyn Runtime>,
        due: Duration,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            if self.0.as_ref().is_some_and(|(armed, _)| *armed > due) {
                self.0 = None;
            }
            let (_, sleep) = match &mut self.0 {
                Some(armed) => armed,
                none => {
                    let now = runtime.now();
                    if now >= due {
                        return Poll::Ready(());
                    }
                    none.insert((due, runtime.sleep(due - now)))
                }
            };
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.0 = None;
        }
    }
}
