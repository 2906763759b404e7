//! An allocator that counts, for each thread, how often memory was asked for, and how much of it is in use.
//!
//! The only unsafe code among the tests: it hands every call on to the system's allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering};

static LIVING: AtomicI64 = AtomicI64::new(0);

thread_local!(static ASKED: Cell<u64> = const { Cell::new(0) });

/// How often the calling thread has asked for memory since it started, growing included.
#[allow(dead_code, reason = "who counts how much does not count how often")]
pub(crate) fn allocations() -> u64 {
    ASKED.get()
}

/// Bytes that all threads together have asked for and not given back.
#[allow(dead_code, reason = "who counts how often does not count how much")]
pub(crate) fn living() -> u64 {
    // Relaxed: a figure, which orders nothing.
    LIVING.load(Ordering::Relaxed).max(0) as u64
}

/// The system's allocator, counted.
pub(crate) struct Counting;

fn count(bytes: usize) {
    lives(bytes as i64);
    // A thread that is ending has no counter any more, and nobody to read it.
    let _ = ASKED.try_with(|asked| asked.set(asked.get() + 1));
}

fn lives(bytes: i64) {
    // Relaxed: as in `living`.
    LIVING.fetch_add(bytes, Ordering::Relaxed);
}

// SAFETY: every call goes to `System` with the arguments it came with; counting is a thread's own cell,
// which needs no memory and has no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as the caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        lives(-(layout.size() as i64));
        // SAFETY: as the caller promised.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        lives(-(layout.size() as i64));
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(block, layout) }
    }
}
