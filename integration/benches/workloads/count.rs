//! What arrived, checked: each envelope says whose it is and its number among those of that one, and each that is delivered is counted
//! against the one before it of the same.

use anyhow::{Result, ensure};
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use tokio::sync::Notify;

/// Bytes that a payload begins with.
pub(crate) const HEAD: usize = 8;
/// Whose an envelope is that is published before anything counts.
const NOBODY: u32 = u32::MAX;

/// How far each has come.
pub(crate) struct Count {
    next: Box<[AtomicU32]>,
    each: Box<[u32]>,
    /// Delivered and expected.
    came: AtomicUsize,
    duplicates: AtomicU64,
    out_of_order: AtomicU64,
    before: AtomicUsize,
    changed: Notify,
}

/// What was wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wrongs {
    pub(crate) lost: u64,
    pub(crate) out_of_order: u64,
    pub(crate) duplicates: u64,
}

/// Of `whose` its number, in a payload of `size` bytes.
pub(crate) fn payload(whose: u32, number: u32, size: usize) -> Vec<u8> {
    let mut bytes = vec![b'.'; size.max(HEAD)];
    bytes[..4].copy_from_slice(&whose.to_le_bytes());
    bytes[4..HEAD].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// One that is not counted.
pub(crate) fn warm_up(size: usize) -> Vec<u8> {
    payload(NOBODY, 0, size)
}

fn read(payload: &[u8]) -> Result<(u32, u32)> {
    ensure!(payload.len() >= HEAD, "{} bytes", payload.len());
    let number = |at: usize| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&payload[at..at + 4]);
        u32::from_le_bytes(bytes)
    };
    Ok((number(0), number(4)))
}

impl Count {
    /// `total` envelopes, dealt out to `of` one after the other.
    pub(crate) fn of(of: usize, total: usize) -> Self {
        let share = |whose: usize| (total / of + usize::from(whose < total % of)) as u32;
        Self {
            next: (0..of).map(|_| AtomicU32::new(0)).collect(),
            each: (0..of).map(share).collect(),
            came: AtomicUsize::new(0),
            duplicates: AtomicU64::new(0),
            out_of_order: AtomicU64::new(0),
            before: AtomicUsize::new(0),
            changed: Notify::new(),
        }
    }

    fn total(&self) -> usize {
        self.each.iter().map(|each| *each as usize).sum()
    }

    /// One is delivered. Those of one come one after the other.
    pub(crate) fn one(&self, payload: &[u8]) -> Result<()> {
        let (whose, number) = read(payload)?;
        if whose == NOBODY {
            // Relaxed, here and below: numbers; the notice orders them.
            self.before.fetch_add(1, Ordering::Relaxed);
            self.changed.notify_one();
            return Ok(());
        }
        let next = &self.next[whose as usize];
        let expected = next.load(Ordering::Relaxed);
        if number < expected {
            self.duplicates.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        if number > expected {
            // What is missing is lost, or comes later and counts as a duplicate: either way it is no clean run.
            self.out_of_order.fetch_add(1, Ordering::Relaxed);
        }
        next.store(number + 1, Ordering::Relaxed);
        if self.came.fetch_add(1, Ordering::Relaxed) + 1 == self.total() {
            self.changed.notify_one();
        }
        Ok(())
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.came.load(Ordering::Relaxed) >= self.total()
    }

    /// Waits until so many came that do not count.
    pub(crate) async fn warm(&self, count: usize) {
        while self.before.load(Ordering::Relaxed) < count {
            self.changed.notified().await;
        }
    }

    /// Waits until as many came as were published.
    pub(crate) async fn complete(&self) {
        while !self.is_complete() {
            self.changed.notified().await;
        }
    }

    pub(crate) fn wrongs(&self) -> Wrongs {
        let came = self.came.load(Ordering::Relaxed) as u64;
        Wrongs {
            lost: (self.total() as u64).saturating_sub(came),
            out_of_order: self.out_of_order.load(Ordering::Relaxed),
            duplicates: self.duplicates.load(Ordering::Relaxed),
        }
    }
}

impl Wrongs {
    pub(crate) fn sum(self) -> u64 {
        self.lost + self.out_of_order + self.duplicates
    }
}

impl std::ops::Add for Wrongs {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            lost: self.lost + more.lost,
            out_of_order: self.out_of_order + more.out_of_order,
            duplicates: self.duplicates + more.duplicates,
        }
    }
}

impl fmt::Display for Wrongs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            lost,
            out_of_order,
            duplicates,
        } = self;
        write!(
            f,
            "lost {lost}, out of order {out_of_order}, duplicates {duplicates}"
        )
    }
}

/// What the count does not see it cannot say: one of each is put in, and must be seen.
pub(crate) fn control() -> Result<()> {
    let runs: [(&[u32], Wrongs); 4] = [
        (&[0, 1, 2], Wrongs::default()),
        (
            &[0, 1],
            Wrongs {
                lost: 1,
                ..Wrongs::default()
            },
        ),
        (
            &[0, 1, 1, 2],
            Wrongs {
                duplicates: 1,
                ..Wrongs::default()
            },
        ),
        (
            &[0, 2, 1],
            Wrongs {
                lost: 1,
                out_of_order: 1,
                duplicates: 1,
            },
        ),
    ];
    for (numbers, wrongs) in runs {
        let count = Count::of(1, 3);
        for number in numbers {
            count.one(&payload(0, *number, HEAD))?;
        }
        ensure!(
            count.wrongs() == wrongs,
            "the count sees {} in {numbers:?}",
            count.wrongs()
        );
    }
    Ok(())
}
