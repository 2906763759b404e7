//! An allocator that counts, for each thread, how often memory was asked for.
//!
//! The only unsafe code among the tests: it hands every call on to the system's allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local!(static ASKED: Cell<u64> = const { Cell::new(0) });

/// How often the calling thread has asked for memory since it started, growing included.
pub(crate) fn allocations() -> u64 {
    ASKED.get()
}

/// The system's allocator, counted.
pub(crate) struct Counting;

fn count() {
    // A thread that is ending has no counter any more, and nobody to read it.
    let _ = ASKED.try_with(|asked| asked.set(asked.get() + 1));
}

// SAFETY: every call goes to `System` with the arguments it came with; counting is a thread's own cell,
// which needs no memory and has no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(block, layout) }
    }
}
