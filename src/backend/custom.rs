//! Custom: a backend that was not compiled in, behind the choice at run time. Somebody's own broker, or one that is simulated.
//!
//! It only forwards. What crosses is boxed and its types are forgotten, which the backends that were compiled in never pay for: each has a
//! variant of its own. A route, a token or a connection of another backend is refused and never guessed at.

use super::{
    Answer, Answered, Backend, Capabilities, Connection, Consumer, Host, Incoming, Route, Slot,
    SubscribeRequest,
};
use crate::config::{Durability, TopicConfig};
use crate::envelope::Envelope;
use crate::error::{ConfigureError, ConnectError, Failure, FailureKind, SubscribeError};
use crate::metrics::ClientNumbers;
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A backend whose type is forgotten.
pub(crate) struct Custom(Box<dyn AnyBackend>);

/// A connection of one.
pub(crate) struct CustomConnection(Box<dyn AnyConnection>);

/// A route of one.
#[derive(Debug)]
pub(crate) struct CustomRoute(Box<dyn AnyRoute>);

/// A consumer of one.
pub(crate) struct CustomConsumer(Box<dyn AnyConsumer>);

/// What answering a delivery of one needs.
pub(crate) struct CustomToken(Box<dyn Any + Send + Sync>);

impl Custom {
    pub(crate) fn new(backend: impl Backend) -> Self {
        Self(Box::new(backend))
    }
}

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Custom").field(&self.0.name()).finish()
    }
}

trait AnyBackend: Send + Sync {
    fn name(&self) -> &'static str;
    fn endpoint(&self) -> String;
    fn capabilities(&self) -> Capabilities;
    fn check_topic(&self, config: &TopicConfig) -> Result<(), ConfigureError>;
    fn connect(
        &self,
        host: Arc<dyn Host>,
        generation: u64,
    ) -> Boxed<'_, Result<CustomConnection, ConnectError>>;
}

trait AnyConnection: Send + Sync {
    fn produce(&self, route: &CustomRoute, envelope: Envelope, slot: Slot) -> Result<(), Failure>;
    fn ensure<'a>(
        &'a self,
        config: &'a TopicConfig,
    ) -> Boxed<'a, Result<CustomRoute, ConfigureError>>;
    fn subscribe(
        &self,
        request: SubscribeRequest,
    ) -> Boxed<'_, Result<CustomConsumer, SubscribeError>>;
    fn ping(&self) -> Boxed<'_, Result<(), Failure>>;
    fn numbers(&self) -> Option<ClientNumbers>;
    fn take_over<'a>(&'a self, lost: &'a CustomConnection) -> Boxed<'a, ()>;
    fn flush(&self);
    fn close(&self, limit: Duration) -> Boxed<'_, ()>;
    fn as_any(&self) -> &dyn Any;
}

trait AnyRoute: fmt::Debug + Send + Sync {
    fn durability(&self) -> Durability;
    fn partitions(&self) -> u32;
    fn as_any(&self) -> &dyn Any;
}

trait AnyConsumer: Send {
    fn next(&mut self, room: bool) -> Boxed<'_, Result<Incoming<CustomToken>, Failure>>;
    fn answer<'a>(
        &'a mut self,
        token: &'a CustomToken,
        answer: Answer,
    ) -> Boxed<'a, Result<Answered, Failure>>;
    fn release(&mut self, partition: u32, epoch: u64) -> Boxed<'_, Result<(), Failure>>;
    fn lag(&mut self) -> Boxed<'_, Result<Vec<(u32, u64)>, Failure>>;
    fn progress_every(&self) -> Option<Duration>;
    fn sure_until(&self) -> Option<Duration>;
    fn close(self: Box<Self>, limit: Duration) -> Boxed<'static, ()>;
}

impl<B: Backend> AnyBackend for B {
    fn name(&self) -> &'static str {
        Backend::name(self)
    }

    fn endpoint(&self) -> String {
        Backend::endpoint(self)
    }

    fn capabilities(&self) -> Capabilities {
        Backend::capabilities(self)
    }

    fn check_topic(&self, config: &TopicConfig) -> Result<(), ConfigureError> {
        Backend::check_topic(self, config)
    }

    fn connect(
        &self,
        host: Arc<dyn Host>,
        generation: u64,
    ) -> Boxed<'_, Result<CustomConnection, ConnectError>> {
        Box::pin(async move {
            let connection = Backend::connect(self, host, generation).await?;
            Ok(CustomConnection(Box::new(connection)))
        })
    }
}

impl<C: Connection> AnyConnection for C {
    fn produce(&self, route: &CustomRoute, envelope: Envelope, slot: Slot) -> Result<(), Failure> {
        match route.0.as_any().downcast_ref() {
            Some(route) => Connection::produce(self, route, envelope, slot),
            None => Err(Failure::new(
                FailureKind::Mismatch,
                "a route of another backend",
            )),
        }
    }

    fn ensure<'a>(
        &'a self,
        config: &'a TopicConfig,
    ) -> Boxed<'a, Result<CustomRoute, ConfigureError>> {
        Box::pin(async move {
            let route = Connection::ensure(self, config).await?;
            Ok(CustomRoute(Box::new(route)))
        })
    }

    fn subscribe(
        &self,
        request: SubscribeRequest,
    ) -> Boxed<'_, Result<CustomConsumer, SubscribeError>> {
        Box::pin(async move {
            let consumer = Connection::subscribe(self, request).await?;
            Ok(CustomConsumer(Box::new(consumer)))
        })
    }

    fn ping(&self) -> Boxed<'_, Result<(), Failure>> {
        Box::pin(Connection::ping(self))
    }

    fn numbers(&self) -> Option<ClientNumbers> {
        Connection::numbers(self)
    }

    fn take_over<'a>(&'a self, lost: &'a CustomConnection) -> Boxed<'a, ()> {
        Box::pin(async move {
            // A bus has connections of one backend.
            if let Some(lost) = lost.0.as_any().downcast_ref() {
                Connection::take_over(self, lost).await;
            }
        })
    }

    fn flush(&self) {
        Connection::flush(self);
    }

    fn close(&self, limit: Duration) -> Boxed<'_, ()> {
        Box::pin(Connection::close(self, limit))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl<R: Route> AnyRoute for R {
    fn durability(&self) -> Durability {
        Route::durability(self)
    }

    fn partitions(&self) -> u32 {
        Route::partitions(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl<C: Consumer> AnyConsumer for C {
    fn next(&mut self, room: bool) -> Boxed<'_, Result<Incoming<CustomToken>, Failure>> {
        Box::pin(async move {
            let incoming = Consumer::next(self, room).await?;
            Ok(incoming.map_token(|token| CustomToken(Box::new(token))))
        })
    }

    fn answer<'a>(
        &'a mut self,
        token: &'a CustomToken,
        answer: Answer,
    ) -> Boxed<'a, Result<Answered, Failure>> {
        Box::pin(async move {
            match token.0.downcast_ref() {
                Some(token) => Consumer::answer(self, token, answer).await,
                None => Err(Failure::new(
                    FailureKind::Mismatch,
                    "a delivery of another backend",
                )),
            }
        })
    }

    fn release(&mut self, partition: u32, epoch: u64) -> Boxed<'_, Result<(), Failure>> {
        Box::pin(Consumer::release(self, partition, epoch))
    }

    fn lag(&mut self) -> Boxed<'_, Result<Vec<(u32, u64)>, Failure>> {
        Box::pin(Consumer::lag(self))
    }

    fn progress_every(&self) -> Option<Duration> {
        Consumer::progress_every(self)
    }

    fn sure_until(&self) -> Option<Duration> {
        Consumer::sure_until(self)
    }

    fn close(self: Box<Self>, limit: Duration) -> Boxed<'static, ()> {
        Box::pin(Consumer::close(*self, limit))
    }
}

impl Backend for Custom {
    type Connection = CustomConnection;

    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn endpoint(&self) -> String {
        self.0.endpoint()
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn check_topic(&self, config: &TopicConfig) -> Result<(), ConfigureError> {
        self.0.check_topic(config)
    }

    async fn connect(
        &self,
        host: Arc<dyn Host>,
        generation: u64,
    ) -> Result<CustomConnection, ConnectError> {
        self.0.connect(host, generation).await
    }
}

impl Connection for CustomConnection {
    type Route = CustomRoute;
    type Consumer = CustomConsumer;

    fn produce(&self, route: &CustomRoute, envelope: Envelope, slot: Slot) -> Result<(), Failure> {
        self.0.produce(route, envelope, slot)
    }

    async fn ensure(&self, config: &TopicConfig) -> Result<CustomRoute, ConfigureError> {
        self.0.ensure(config).await
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<CustomConsumer, SubscribeError> {
        self.0.subscribe(request).await
    }

    async fn ping(&self) -> Result<(), Failure> {
        self.0.ping().await
    }

    fn numbers(&self) -> Option<ClientNumbers> {
        self.0.numbers()
    }

    async fn take_over(&self, lost: &Self) {
        self.0.take_over(lost).await;
    }

    fn flush(&self) {
        self.0.flush();
    }

    async fn close(&self, limit: Duration) {
        self.0.close(limit).await;
    }
}

impl Route for CustomRoute {
    fn durability(&self) -> Durability {
        self.0.durability()
    }

    fn partitions(&self) -> u32 {
        self.0.partitions()
    }
}

impl Consumer for CustomConsumer {
    type Token = CustomToken;

    async fn next(&mut self, room: bool) -> Result<Incoming<CustomToken>, Failure> {
        self.0.next(room).await
    }

    async fn answer(&mut self, token: &CustomToken, answer: Answer) -> Result<Answered, Failure> {
        self.0.answer(token, answer).await
    }

    async fn release(&mut self, partition: u32, epoch: u64) -> Result<(), Failure> {
        self.0.release(partition, epoch).await
    }

    async fn lag(&mut self) -> Result<Vec<(u32, u64)>, Failure> {
        self.0.lag().await
    }

    fn progress_every(&self) -> Option<Duration> {
        self.0.progress_every()
    }

    fn sure_until(&self) -> Option<Duration> {
        self.0.sure_until()
    }

    async fn close(self, limit: Duration) {
        self.0.close(limit).await;
    }
}
