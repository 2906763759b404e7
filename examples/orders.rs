//! A service that bills orders: in order for each customer, side by side across customers, with a poisoned order that ends
//! in the dead letters and is put back once the bug is mended.
//!
//! `cargo run --example orders`, on memory; `cargo run --features nats --example orders -- nats://127.0.0.1:4222` on a real
//! server. It sends itself SIGTERM when it is done; Ctrl-C ends it earlier, and as cleanly.

use clearway::{
    Bus, DeadLetter, Delivery, HandlerError, Json, Order, Outcome, Retry, Subscription, Topic,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::sleep;

const ORDERS: u32 = 60;
const POISONED: u32 = 13;

#[derive(Debug, Serialize, Deserialize)]
struct Bill {
    number: u32,
    customer: String,
}

/// The service: what it knows, shared by its handlers.
#[derive(Default)]
struct Billing {
    billed: AtomicU64,
    mended: AtomicBool,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1);
    let bus = Bus::connect(url.as_deref().unwrap_or("memory://")).await?;
    println!("connected: {bus:?}");
    // On a server that keeps what it has, every run has topics of its own.
    let run = std::process::id();
    let orders = bus.topic::<Bill>(&format!("orders-{run}"))?;
    let dead = format!("orders-{run}.dead");

    let billing = Arc::new(Billing::default());
    let subscription = subscribe(&orders, &dead, billing.clone()).await?;
    let trading = trade(&bus, &orders, &dead, &subscription, &billing);
    tokio::select! {
        biased;
        outcome = trading => outcome?,
        () = told_to_end() => println!("told to end"),
    }

    // One line ends it all: nothing more is taken, what is inside is drained, and what is left is said.
    let report = bus.close(Duration::from_secs(5)).await;
    println!(
        "closed: drained {}, {} deliveries left, took {:?}",
        report.drained, report.deliveries_left, report.took
    );
    Ok(())
}

/// Held at first: a service loads its state before it takes anything.
async fn subscribe(
    orders: &Topic<Bill, Json>,
    dead: &str,
    billing: Arc<Billing>,
) -> Result<Subscription, Box<dyn Error>> {
    let subscription = orders
        .subscription("billing")
        .order(Order::ByKey)
        .concurrency(8)
        .timeout(Duration::from_secs(1))
        .retry(
            Retry::new()
                .delays(Duration::from_millis(20), Duration::from_millis(200))
                .attempts_max(3),
        )
        .on_failure(DeadLetter::to(dead).ratio_max(0.2))
        .hold()
        .handler(move |delivery: Delivery<Bill>| bill(billing.clone(), delivery))
        .await?;
    println!("subscribed, held until the state is loaded");
    Ok(subscription)
}

async fn bill(billing: Arc<Billing>, delivery: Delivery<Bill>) -> Result<Outcome, HandlerError> {
    sleep(Duration::from_millis(5)).await;
    let Bill { number, customer } = &delivery.value;
    match (*number, delivery.attempt) {
        (POISONED, attempt) if !billing.mended.load(Ordering::Relaxed) => {
            println!("  order {number} of {customer}: attempt {attempt} fails");
            Err(format!("nobody knows how to bill order {number}").into())
        }
        (_, 1) if number % 25 == 7 => panic!("a handler may panic: order {number} comes again"),
        _ => {
            billing.billed.fetch_add(1, Ordering::Relaxed);
            Ok(Outcome::Ack)
        }
    }
}

async fn trade(
    bus: &Bus,
    orders: &Topic<Bill, Json>,
    dead: &str,
    subscription: &Subscription,
    billing: &Billing,
) -> Result<(), Box<dyn Error>> {
    std::panic::set_hook(Box::new(|panic| println!("  {panic}")));
    for number in 0..ORDERS {
        let customer = format!("customer-{}", number % 6);
        let order = Bill {
            number,
            customer: customer.clone(),
        };
        orders.publish(&order).key(customer).await?;
    }
    println!("{ORDERS} orders published; {}", state(subscription).await);
    subscription.activate();

    // All but the poisoned one: its customer waited for it, the others did not.
    wait(billing, u64::from(ORDERS) - 1).await;
    while subscription.status().await.dead_letters == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    println!("billed all but one; {}", state(subscription).await);

    // The bug is mended: the dead letter goes back to where it came from.
    billing.mended.store(true, Ordering::Relaxed);
    let report = bus.redrive(dead, 100).await?;
    let moved: BTreeMap<_, _> = report.moved.iter().collect();
    println!("redriven: {moved:?}");
    wait(billing, u64::from(ORDERS)).await;
    println!("billed all; {}", state(subscription).await);

    terminate();
    std::future::pending().await
}

async fn wait(billing: &Billing, orders: u64) {
    while billing.billed.load(Ordering::Relaxed) < orders {
        sleep(Duration::from_millis(10)).await;
    }
}

async fn state(subscription: &Subscription) -> String {
    let status = subscription.status().await;
    let lag: Option<u64> = status.partitions.values().map(|p| p.lag).sum();
    format!(
        "{:?}, lag {}, {} in flight, {} dead letters, last error: {}",
        status.state,
        lag.map_or("unknown".into(), |lag| lag.to_string()),
        status.in_flight,
        status.dead_letters,
        status.last_error.as_deref().unwrap_or("none")
    )
}

/// SIGTERM, as an orchestrator sends it, or Ctrl-C.
async fn told_to_end() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                biased;
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

/// As an orchestrator would.
fn terminate() {
    println!("SIGTERM to itself");
    let me = std::process::id().to_string();
    let _ = std::process::Command::new("kill")
        .args(["-TERM", &me])
        .status();
}
