//! The whole journey on the memory backend: subscribe, publish, hear every outcome, close.
//!
//! `cargo run --example hello`. Ctrl-C closes early; what is inside is drained either way.

use clearway::{Bus, Delivery, HandlerError, Json, Overflow, PublishResults, Topic};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::time::Duration;

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    customer: String,
    item: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let bus = Bus::connect("memory://").await?;
    let orders = bus.topic::<Order>("orders")?;
    println!("connected: {bus:?}");

    // Every outcome in one stream, as an outbox wants it. None is lost: unread results keep their
    // place, and when all places are taken, publishing waits.
    let results = bus
        .publish_results(Overflow::Block)
        .ok_or("another result stream is out")?;
    let told = tokio::spawn(tell(results));
    let _billing = orders.subscribe("billing", bill).await?;

    tokio::select! {
        biased;
        outcome = trade(&bus, &orders) => outcome?,
        _ = tokio::signal::ctrl_c() => println!("closing early"),
    }

    let report = bus.close(Duration::from_secs(5)).await;
    println!("closed: drained {}, took {:?}", report.drained, report.took);
    println!("outcomes told: {}", told.await?);
    Ok(())
}

async fn trade(bus: &Bus, orders: &Topic<Order, Json>) -> Result<(), Box<dyn Error>> {
    for (customer, item) in [("ada", "tea"), ("bob", "rope"), ("ada", "milk")] {
        // Waits until the broker has it. The key keeps the orders of one customer in order.
        let receipt = orders
            .publish(&order(customer, item))
            .key(customer)
            .header("source", "hello")
            .await?;
        println!("published: {item} for {customer}, {receipt:?}");
    }
    // Waits for nothing: the receipt comes later, or the envelope comes back at once if the bus is full.
    let receipt = orders
        .publish(&order("bob", "nails"))
        .key("bob")
        .enqueue()?;
    println!("enqueued: nails for bob");
    println!("published: nails for bob, {:?}", receipt.await?);

    // Close does not wait for what was not delivered yet: on a broker that lives longer it would come
    // with the next run.
    while bus.metrics().handler_acks < 4 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

fn order(customer: &str, item: &str) -> Order {
    Order {
        customer: customer.into(),
        item: item.into(),
    }
}

/// The handler. `Ok` acknowledges; an error, and the same envelope comes again.
async fn bill(order: Delivery<Order>) -> Result<(), HandlerError> {
    let position = order.position;
    let Order { customer, item } = order.into_value();
    println!("billed: {item} to {customer}, {position:?}");
    Ok(())
}

/// Reads outcomes until the bus is closed and all were read.
async fn tell(mut results: PublishResults) -> usize {
    let mut count = 0;
    while let Some(result) = results.next().await {
        count += 1;
        match result.outcome {
            Ok(receipt) => println!("outcome of {}: acked, {receipt:?}", result.id),
            Err(error) if error.may_be_published() => {
                println!("outcome of {}: unknown, {error}", result.id);
            }
            Err(error) => println!("outcome of {}: rejected, {error}", result.id),
        }
    }
    count
}
