//! The whole journey on Kafka: configure, subscribe, publish, watch, close.
//!
//! `KAFKA_URL=kafka://localhost:9092 cargo run --features kafka --example kafka`. What it makes there (a topic, a group's offsets) stays.

use clearway::kafka::{Batching, Kafka, Options};
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
    let url = std::env::var("KAFKA_URL").unwrap_or_else(|_| "kafka://localhost:9092".into());
    // `Bus::connect(&url)` does as well, with librdkafka's options behind `/?`; options say what a URL cannot.
    let options = Options::from_url(&url)?
        .client_name("clearway-example")
        .batching(Batching::LowLatency)
        .publish_timeout(Duration::from_secs(5));
    let topic = TopicConfig::new("clearway.example.orders")
        .partitions(4)
        .durability(Durability::Stored)
        .ensure(Ensure::CreateOrUpdate);
    let bus = Bus::builder()
        .backend(Kafka::new(options))
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

    // Deliveries that are left would come with the next run. A new group takes a moment to be formed.
    let patience = tokio::time::Instant::now() + Duration::from_secs(20);
    while bus.metrics().handler_acks < 20 && tokio::time::Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("the client says: {:?}", bus.metrics().client);
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
