//! What the calls of a bus say, in words that every backend has: kinds, never texts.

use clearway::{
    ConfigureError, PublishError, Receipt, RedriveError, RedriveReport, SubscribeError,
};

pub(crate) fn publish(outcome: &Result<Receipt, PublishError>) -> String {
    match outcome {
        Ok(receipt) => {
            let Receipt {
                partition,
                position,
                duplicate,
                ..
            } = receipt;
            let before = if *duplicate { " before" } else { "" };
            format!("stored{before} in {partition} at {position}")
        }
        Err(error) => publish_error(error),
    }
}

fn publish_error(error: &PublishError) -> String {
    match error {
        PublishError::Closed => "closed".into(),
        PublishError::Full(_) => "full".into(),
        PublishError::TooLarge { size, limit, .. } => {
            format!("too large: {size} of {limit} bytes")
        }
        PublishError::InvalidTopic(_) => "invalid topic".into(),
        PublishError::Encode { .. } => "not encoded".into(),
        PublishError::Rejected(failure) => format!("rejected: {:?}", failure.kind()),
        PublishError::Unknown(failure) => format!("unknown: {:?}", failure.kind()),
        other => format!("{other:?}"),
    }
}

pub(crate) fn configure(outcome: &Result<(), ConfigureError>) -> String {
    match outcome {
        Ok(()) => "configured".into(),
        Err(error) => configure_error(error),
    }
}

fn configure_error(error: &ConfigureError) -> String {
    match error {
        ConfigureError::Closed => "closed".into(),
        ConfigureError::InvalidTopic(_) => "invalid topic".into(),
        ConfigureError::Invalid { setting, .. } => format!("invalid {setting}"),
        ConfigureError::Unsupported(_) => "unsupported".into(),
        ConfigureError::Mismatch { .. } => "mismatch".into(),
        ConfigureError::Missing { policy, .. } => format!("missing, and the policy is {policy}"),
        ConfigureError::TooManyTopics => "too many topics".into(),
        ConfigureError::Failed { failure, .. } => format!("failed: {:?}", failure.kind()),
        other => format!("{other:?}"),
    }
}

pub(crate) fn subscribe<T>(outcome: &Result<T, SubscribeError>) -> String {
    match outcome {
        Ok(_) => "subscribed".into(),
        Err(error) => subscribe_error(error),
    }
}

fn subscribe_error(error: &SubscribeError) -> String {
    match error {
        SubscribeError::Closed => "closed".into(),
        SubscribeError::InvalidTopic(_) => "invalid topic".into(),
        SubscribeError::Config { setting, .. } => format!("not with this {setting}"),
        SubscribeError::Taken { .. } => "taken".into(),
        SubscribeError::Unsupported(_) => "unsupported".into(),
        SubscribeError::Topic(error) => configure_error(error),
        SubscribeError::Failed { failure, .. } => format!("failed: {:?}", failure.kind()),
        other => format!("{other:?}"),
    }
}

pub(crate) fn redrive(outcome: &Result<RedriveReport, RedriveError>) -> String {
    match outcome {
        Ok(report) => {
            let moved: u64 = report.moved.values().sum();
            let (homeless, complete) = (report.homeless, report.complete);
            format!("{moved} redriven, {homeless} homeless, complete: {complete}")
        }
        Err(RedriveError::Subscribe(error)) => subscribe_error(error),
        Err(RedriveError::Publish(error)) => publish_error(error),
        Err(other) => format!("{other:?}"),
    }
}
