//! A relay in front of librdkafka's mock broker, which can answer that there are no brokers at all.
//!
//! It reads requests only as far as to know what an answer is to. The mock tells clients where it listens itself: in answers that is
//! replaced by where the relay does, so that nobody goes round it.

use crate::stranded::TOPIC;
use anyhow::{Context as _, Result};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Kafka's number for a question about brokers and topics.
const METADATA: i16 = 3;
/// From this version on lengths are varints, and there are tags.
const FLEXIBLE: i16 = 9;
const LEADER_NOT_AVAILABLE: i16 = 5;

/// Dropping it ends it and everything through it.
pub(crate) struct Relay {
    address: SocketAddr,
    /// How often it is to say that there is no broker.
    left: Arc<AtomicUsize>,
    _connections: JoinSet<()>,
}

/// Which questions about brokers are not answered yet, by number, and in which version they were asked.
type Asked = Arc<Mutex<HashMap<[u8; 4], i16>>>;

/// What both directions of a connection need.
#[derive(Clone)]
struct Connection {
    server: SocketAddr,
    address: SocketAddr,
    left: Arc<AtomicUsize>,
    asked: Asked,
}

impl Relay {
    pub(crate) async fn start(server: &str) -> Result<Self> {
        let server: SocketAddr = server.parse().context("where the mock listens")?;
        let door = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = door.local_addr()?;
        let left = Arc::<AtomicUsize>::default();
        let mut connections = JoinSet::new();
        let shared = left.clone();
        connections.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((client, _)) = door.accept().await {
                let connection = Connection {
                    server,
                    address,
                    left: shared.clone(),
                    asked: Asked::default(),
                };
                open.spawn(connection.carry(client));
            }
        });
        Ok(Self {
            address,
            left,
            _connections: connections,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// So often the broker says from here on that it knows of no broker.
    pub(crate) fn knows_none(&self, times: usize) {
        self.left.store(times, Ordering::SeqCst);
    }

    /// How often it will say so yet.
    pub(crate) fn left(&self) -> usize {
        self.left.load(Ordering::SeqCst)
    }
}

impl Connection {
    /// Until either side is gone.
    async fn carry(self, client: TcpStream) {
        let Ok(server) = TcpStream::connect(self.server).await else {
            return;
        };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::select! {
            biased;
            _ = self.requests(from_client, to_server) => {}
            _ = self.answers(from_server, to_client) => {}
        }
    }

    async fn requests(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> Result<()> {
        loop {
            let frame = frame(&mut from).await?;
            if let [k0, k1, v0, v1, number @ ..] = &frame[..]
                && i16::from_be_bytes([*k0, *k1]) == METADATA
                && let Some(number) = number.first_chunk()
            {
                let version = i16::from_be_bytes([*v0, *v1]);
                self.asked
                    .lock()
                    .expect("no panic")
                    .insert(*number, version);
            }
            send(&mut to, &frame).await?;
        }
    }

    async fn answers(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> Result<()> {
        loop {
            let mut frame = frame(&mut from).await?;
            let number = *frame.first_chunk().context("an answer has a number")?;
            let asked = self.asked.lock().expect("no panic").remove(&number);
            match asked {
                Some(version) if self.says_none() => {
                    frame = no_brokers(number, version);
                }
                _ => self.replace_address(&mut frame),
            }
            send(&mut to, &frame).await?;
        }
    }

    /// Whether this time it knows of none.
    fn says_none(&self) -> bool {
        let order = Ordering::SeqCst;
        (self.left)
            .fetch_update(order, order, |left| left.checked_sub(1))
            .is_ok()
    }

    fn replace_address(&self, frame: &mut [u8]) {
        let place = |address: SocketAddr| {
            let host = address.ip().to_string().into_bytes();
            [host, i32::from(address.port()).to_be_bytes().to_vec()].concat()
        };
        let (theirs, ours) = (place(self.server), place(self.address));
        for at in 0..frame.len().saturating_sub(theirs.len() - 1) {
            let there = &mut frame[at..at + theirs.len()];
            if *there == *theirs {
                there.copy_from_slice(&ours);
            }
        }
    }
}

/// The answer to a question about brokers of that version: no broker, no controller, and a topic that nobody leads. With no topic either
/// the client would ask again.
fn no_brokers(number: [u8; 4], version: i16) -> Vec<u8> {
    let flexible = version >= FLEXIBLE;
    let nothing: &[u8] = if flexible { &[1] } else { &[0; 4] };
    let one: &[u8] = if flexible { &[2] } else { &[0, 0, 0, 1] };
    let no_name: &[u8] = if flexible { &[0] } else { &[0xff; 2] };
    let length = TOPIC.len() as u8;
    let length: &[u8] = if flexible {
        &[length + 1]
    } else {
        &[0, length]
    };
    // What is allowed: not asked.
    let not_asked = &[0x80, 0, 0, 0];
    let mut body = number.to_vec();
    let mut add = |since: i16, bytes: &[u8]| {
        if version >= since {
            body.extend_from_slice(bytes);
        }
    };
    add(FLEXIBLE, &[0]);
    // How long it throttles.
    add(3, &[0; 4]);
    add(0, nothing);
    // The cluster's name, and its controller.
    add(2, no_name);
    add(1, &[0xff; 4]);
    add(0, one);
    add(0, &LEADER_NOT_AVAILABLE.to_be_bytes());
    add(0, length);
    add(0, TOPIC.as_bytes());
    // Its id, and that it is not internal.
    add(10, &[0; 16]);
    add(1, &[0]);
    add(0, nothing);
    add(8, not_asked);
    add(FLEXIBLE, &[0]);
    if version <= 10 {
        add(8, not_asked);
    }
    // No error of the whole.
    add(13, &[0; 2]);
    add(FLEXIBLE, &[0]);
    body
}

async fn frame(from: &mut OwnedReadHalf) -> Result<Vec<u8>> {
    let length = from.read_u32().await?;
    let mut frame = vec![0; length as usize];
    from.read_exact(&mut frame).await?;
    Ok(frame)
}

async fn send(to: &mut OwnedWriteHalf, frame: &[u8]) -> Result<()> {
    to.write_u32(frame.len() as u32).await?;
    to.write_all(frame).await?;
    Ok(())
}
