//! Subscriptions to what is no topic: subjects of a stream that others fill.

use crate::backend::Foreign;
use crate::bus::Bus;
use crate::codec::{Codec, Raw};
use crate::config::TopicConfig;
use crate::subscribe::SubscriptionBuilder;
use crate::topic::TopicState;
use bytes::Bytes;
use std::sync::Arc;

/// Its number as ledger entries would carry it: nothing is ever published to it.
const NO_NUMBER: u32 = u32::MAX;

impl Bus {
    /// Begins a subscription for `group` to what is no topic of ours, with payloads as they are: on NATS to
    /// `nats::Subjects` of a stream that others fill, with wildcards.
    ///
    /// It is a subscription like another, with all its settings, and it only reads: what it reads is neither made nor changed, and nothing
    /// can be published to it. [`Delivery::topic`](crate::Delivery) is what an envelope was published to. One that came without a
    /// key has that as its key, so that with [`Order::ByKey`](crate::Order::ByKey) each subject is handled in order beside the others.
    /// A dead letter says what it was published to, and [`redrive`](Self::redrive) leaves it where it is: there is no topic to
    /// put it back to.
    ///
    /// A backend that has topics only refuses it when the subscription begins
    /// ([`Capabilities::foreign`](crate::backend::Capabilities)).
    pub fn raw_subscription(
        &self,
        foreign: impl Into<Foreign>,
        group: &str,
    ) -> SubscriptionBuilder<'_, Bytes, Raw> {
        self.subscription_with(foreign, group, Raw)
    }

    /// As [`raw_subscription`](Self::raw_subscription), with values that `codec` decodes. What it cannot decode has
    /// [failed](crate::OnFailure).
    pub fn subscription_with<T, C>(
        &self,
        foreign: impl Into<Foreign>,
        group: &str,
        codec: C,
    ) -> SubscriptionBuilder<'_, T, C>
    where
        T: Send + 'static,
        C: Codec<T>,
    {
        let foreign = foreign.into();
        // Not among the bus's topics: nobody can publish to it by this name.
        let config = TopicConfig::new(foreign.to_string());
        let state = Arc::new(TopicState::new(NO_NUMBER, config));
        SubscriptionBuilder::new(self.core(), state, Arc::new(codec), group).reads(foreign)
    }
}
