//! A proxy on the loopback that spoils the connections through it.
//!
//! What it does to them can be changed at any time, also for connections that are already open.
//! Bytes are delayed, held, or lost together with their connection, but never altered or
//! reordered: so much TCP promises.

use crate::ports::free_port;
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// What happens to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    Pass,
    /// They stay open and nothing goes through, in either direction.
    Hold,
    /// What the client sends arrives; the answers do not. A publish is stored, its acknowledgement
    /// is missing.
    HoldAnswers,
    /// Everything arrives this much later, in each direction.
    Delay(Duration),
    /// They are reset, and so is every new one.
    Reset,
    /// They are reset, and nobody listens any more: a new one is refused.
    Refuse,
}

/// A proxy in front of one server. Dropping it ends it and everything through it.
pub struct Proxy {
    address: SocketAddr,
    orders: watch::Sender<Orders>,
    state: watch::Receiver<State>,
}

impl Proxy {
    /// Starts a proxy that passes everything on to `server`.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        let port = free_port().map_err(io::Error::other)?;
        Self::start_on(port, server).await
    }

    /// The same on a port that was chosen before: a server may have to tell its clients of it.
    pub(crate) async fn start_on(port: u16, server: SocketAddr) -> io::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let orders = watch::Sender::new(Orders {
            fault: Fault::Pass,
            cuts: 0,
            turn: 0,
        });
        let (report, state) = watch::channel(State::default());
        let gatekeeper = Gatekeeper {
            address,
            server,
            orders: orders.subscribe(),
            report,
        };
        tokio::spawn(gatekeeper.run(listen(address)?));
        Ok(Self {
            address,
            orders,
            state,
        })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections have been accepted so far.
    pub fn accepted(&self) -> u64 {
        self.state.borrow().accepted
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        self.state.borrow().open
    }

    /// From its return on, this happens to every connection, open or new.
    pub async fn set(&self, fault: Fault) {
        self.order(|orders| orders.fault = fault).await;
    }

    /// Resets what is open now. New connections are treated as before.
    pub async fn cut(&self) {
        self.order(|orders| orders.cuts += 1).await;
    }

    async fn order(&self, change: impl FnOnce(&mut Orders)) {
        let mut turn = 0;
        self.orders.send_modify(|orders| {
            change(orders);
            orders.turn += 1;
            turn = orders.turn;
        });
        let mut state = self.state.clone();
        let obeyed = state.wait_for(|state| state.turn >= turn).await;
        obeyed.expect("the gatekeeper lives as long as the proxy");
    }
}

/// What the owner of the proxy wants.
#[derive(Clone, Copy)]
struct Orders {
    fault: Fault,
    cuts: u64,
    turn: u64,
}

/// What has come of it.
#[derive(Clone, Copy, Default)]
struct State {
    turn: u64,
    accepted: u64,
    open: usize,
}

/// Lets connections in and throws them out.
struct Gatekeeper {
    address: SocketAddr,
    server: SocketAddr,
    orders: watch::Receiver<Orders>,
    report: watch::Sender<State>,
}

impl Gatekeeper {
    async fn run(mut self, open: TcpListener) {
        let mut connections = JoinSet::new();
        let mut door = Some(open);
        let mut shut = None;
        let (mut cuts, mut accepted) = (0, 0);
        loop {
            let orders = *self.orders.borrow_and_update();
            if matches!(orders.fault, Fault::Refuse | Fault::Reset) || orders.cuts != cuts {
                cuts = orders.cuts;
                connections.abort_all();
                while connections.join_next().await.is_some() {}
            }
            if orders.fault == Fault::Refuse {
                door = None;
                shut = shut.or_else(|| keep(self.address).ok());
            } else if door.is_none() {
                let kept = shut.take().expect("the port was kept");
                door = Some(kept.listen(BACKLOG).expect("nobody else has the port"));
            }
            let open = connections.len();
            self.report.send_replace(State {
                turn: orders.turn,
                accepted,
                open,
            });

            tokio::select! {
                biased;
                // Nobody to give orders: the proxy was dropped, and its connections go with this task.
                changed = self.orders.changed() => if changed.is_err() { return },
                Some(_) = connections.join_next() => {}
                client = accept(door.as_ref()) => if let Ok(client) = client {
                    accepted += 1;
                    // Made here, so that a connection that is ended before its task ran is reset too.
                    let ends = Ends { client, server: None, ended: false };
                    connections.spawn(ends.join(self.server, self.orders.clone()));
                }
            }
        }
    }
}

async fn accept(door: Option<&TcpListener>) -> io::Result<TcpStream> {
    match door {
        Some(door) => Ok(door.accept().await?.0),
        None => std::future::pending().await,
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // Closed connections that still linger on the port must not be in the way.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Bound without listening: everybody is refused, and the port is given to nobody else.
fn keep(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.set_reuseaddr(false)?;
    Ok(socket)
}

/// Both ends of a connection through the proxy. Unless it came to its end, dropping it resets both.
struct Ends {
    client: TcpStream,
    server: Option<TcpStream>,
    ended: bool,
}

impl Drop for Ends {
    fn drop(&mut self) {
        if !self.ended {
            for stream in std::iter::once(&self.client).chain(&self.server) {
                let _ = stream.set_zero_linger();
            }
        }
    }
}

impl Ends {
    async fn join(mut self, server: SocketAddr, orders: watch::Receiver<Orders>) {
        let Ok(server) = TcpStream::connect(server).await else {
            return;
        };
        let server = self.server.insert(server);
        let _ = (self.client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, to_client) = self.client.split();
        let (from_server, to_server) = server.split();
        let there = Pump::new(from_client, to_server, Direction::ToServer, orders.clone());
        let back = Pump::new(from_server, to_client, Direction::ToClient, orders);
        self.ended = tokio::try_join!(there.run(), back.run()).is_ok();
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    ToServer,
    ToClient,
}

/// So much may wait in one direction of one connection; after that the sender is made to wait.
const WAITING_MAX: usize = 1 << 20;
const CHUNK: usize = 16 * 1024;
const BACKLOG: u32 = 1024;

/// One direction of one connection.
struct Pump<'a> {
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    direction: Direction,
    orders: watch::Receiver<Orders>,
    /// What was read, with the time before which it may not arrive.
    waiting: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
}

impl<'a> Pump<'a> {
    fn new(
        from: ReadHalf<'a>,
        to: WriteHalf<'a>,
        direction: Direction,
        orders: watch::Receiver<Orders>,
    ) -> Self {
        Self {
            from,
            to,
            direction,
            orders,
            waiting: VecDeque::new(),
            bytes: 0,
        }
    }

    async fn run(mut self) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        let mut open = true;
        while open || !self.waiting.is_empty() {
            let fault = self.orders.borrow_and_update().fault;
            let held = match fault {
                Fault::Hold => true,
                Fault::HoldAnswers => self.direction == Direction::ToClient,
                // The gatekeeper ends the connection; nothing may slip through until it does.
                Fault::Reset | Fault::Refuse => true,
                Fault::Pass | Fault::Delay(_) => false,
            };
            let now = Instant::now();
            let due = self.waiting.front().map(|(due, _)| *due);
            let ready = !held && due.is_some_and(|due| due <= now);
            let first = self
                .waiting
                .front()
                .map(|(_, bytes)| bytes.as_slice())
                .unwrap_or_default();
            // In this order: an order that was given before a byte came is obeyed for that byte.
            tokio::select! {
                biased;
                changed = self.orders.changed() => changed.map_err(io::Error::other)?,
                written = self.to.write(first), if ready => self.wrote(written?),
                read = self.from.read(&mut chunk), if open && !held && self.bytes < WAITING_MAX => {
                    let read = read?;
                    open = read > 0;
                    let delay = if let Fault::Delay(delay) = fault { delay } else { Duration::ZERO };
                    self.keep(Instant::now() + delay, &chunk[..read]);
                }
                () = sleep_until(due.unwrap_or(now)), if !held && !ready && due.is_some() => {}
            }
        }
        self.to.shutdown().await
    }

    fn keep(&mut self, due: Instant, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.bytes += bytes.len();
            self.waiting.push_back((due, bytes.to_vec()));
        }
    }

    fn wrote(&mut self, count: usize) {
        self.bytes -= count;
        if let Some((_, bytes)) = self.waiting.front_mut() {
            bytes.drain(..count);
            if bytes.is_empty() {
                self.waiting.pop_front();
            }
        }
    }
}
