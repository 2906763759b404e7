//! Tower: a service as a handler, with all of tower's layers around it.

use crate::handler::{Delivery, Handler, HandlerError, Outcome};
use std::future::poll_fn;
use tower_service::Service;

/// A service that handles deliveries.
pub(crate) struct Served<S>(pub(crate) S);

impl<T, S> Handler<T> for Served<S>
where
    T: Send + 'static,
    S: Service<Delivery<T>> + Clone + Send + Sync + 'static,
    S::Response: Into<Outcome>,
    S::Error: Into<HandlerError>,
    S::Future: Send,
{
    async fn handle(&self, delivery: Delivery<T>) -> Result<Outcome, HandlerError> {
        // Each call has a service of its own, as tower's own servers do it: what was ready stays ready for this one.
        let mut service = self.0.clone();
        let ready = poll_fn(|cx| service.poll_ready(cx)).await;
        ready.map_err(Into::into)?;
        let answer = service.call(delivery);
        answer.await.map(Into::into).map_err(Into::into)
    }
}
