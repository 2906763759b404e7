//! Ports on the loopback that stay ours over a restart of the server behind them.

use anyhow::{Result, bail};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

/// Below the ranges from which systems give source ports to outgoing connections. Inside such a range a client
/// that keeps knocking at a dead server's port may be given that very port, and then talks to itself.
const RANGE: std::ops::Range<u16> = 15_000..30_000;
const TRIES: usize = 200;

/// A free port, given out once per process.
pub(crate) fn free_port() -> Result<u16> {
    static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    for _ in 0..TRIES {
        let port = fastrand::u16(RANGE);
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if free && TAKEN.lock().expect("nobody panics under it").insert(port) {
            return Ok(port);
        }
    }
    bail!("no free port found in {RANGE:?} in {TRIES} tries");
}
