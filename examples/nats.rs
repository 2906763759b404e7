//! The whole journey on NATS JetStream: configure, subscribe, publish, watch, close.
//!
//! `NATS_URL=nats://localhost:4222 cargo run --features nats --example nats`, against a server that was
//! started with JetStream (`nats-server -js`). What it makes there (a stream, a durable) stays.

use clearway::nats::{Nats, Options};
use clearway::{Bus, Delivery, Durability, Ensure, HandlerError, TopicConfig};
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
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://localhost:4222".into());
    // `Bus::connect(&url)` does as well; options say what a URL cannot.
    let options = Options::from_url(&url)?
        .client_name("clearway-example")
        .publish_timeout(Duration::from_secs(5));
    let topic = TopicConfig::new("clearway.example.orders")
        .partitions(4)
        .durability(Durability::Stored)
        .ensure(Ensure::CreateOrUpdate);
    let bus = Bus::builder()
        .backend(Nats::new(options))
        .topic(topic)
        .connect()
        .await?;
    println!("connected: {bus:?}");
    let mut events = bus.events();
    let watch = tokio::spawn(async move {
        while let Some(event) = events.next().await {
            println!("event: {event:?}");
        }
    });

    let orders = bus.topic::<Order>("clearway.example.orders")?;
    let _billing = orders.subscribe("billing", bill).await?;

    let mut receipts = Vec::new();
    for number in 0..20 {
        let customer = format!("customer-{}", number % 5);
        let order = Order {
            customer: customer.clone(),
            item: format!("item {number}"),
        };
        // Sent one after the other without waiting; the key keeps each customer's in order.
        receipts.push(orders.publish(&order).key(customer).enqueue()?);
    }
    for receipt in receipts {
        match receipt.await {
            Ok(receipt) => println!("published: {receipt:?}"),
            Err(error) if error.may_be_published() => println!("perhaps published: {error}"),
            Err(error) => println!("not published: {error}"),
        }
    }

    // Deliveries that are left would come with the next run.
    let patience = tokio::time::Instant::now() + Duration::from_secs(10);
    while bus.metrics().handler_acks < 20 && tokio::time::Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let report = bus.close(Duration::from_secs(5)).await;
    watch.await?;
    println!("closed: drained {}, took {:?}", report.drained, report.took);
    Ok(())
}

/// The handler. `Ok` acknowledges; an error, and the same envelope comes again.
async fn bill(order: Delivery<Order>) -> Result<(), HandlerError> {
    let (position, attempt) = (order.position, order.attempt);
    let Order { customer, item } = order.into_value();
    println!("billed: {item} to {customer}, attempt {attempt}, {position:?}");
    Ok(())
}
