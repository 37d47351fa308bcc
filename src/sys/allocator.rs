//! Memory for one thread: lists of free blocks, one for each power of two.
//!
//! The allocator of musl is an eighth of the whole program and made for threads; there are none
//! here. Blocks go back to their list and are used again, so a watcher does not grow.
#![allow(clippy::cast_ptr_alignment, reason = "blocks are aligned to 16 bytes")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr::null_mut;

/// The smallest block, log2 of bytes: room for the pointer that links free blocks, and the
/// alignment that any type here needs.
const SMALLEST: u32 = 4;
/// Sizes of blocks: from 16 bytes to 8 MiB, more than any bound of ours.
const SIZES: usize = 20;
/// Bytes asked of the kernel at a time, in pages that cost nothing before they are touched.
const CHUNK: usize = 64 * 1024;
/// Bytes kept for when the kernel has no more: what the longest report of a run takes in all. They cost
/// nothing before they are touched.
const RESERVE: usize = 1024 * 1024;

/// The state of the allocator; see the module. Making one is a promise:
///
/// ```
/// # use cache_resolver::sys::Allocator;
/// // SAFETY: this program has one thread.
/// static ALLOCATOR: Allocator = unsafe { Allocator::new() };
/// ```
///
/// ```compile_fail,E0133
/// # use cache_resolver::sys::Allocator;
/// static ALLOCATOR: Allocator = Allocator::new();
/// ```
#[derive(Debug)]
pub struct Allocator {
    /// What is handed out from.
    state: UnsafeCell<State>,
    /// What is left when the kernel has no more, aligned as blocks are.
    reserve: UnsafeCell<MaybeUninit<[u128; RESERVE / size_of::<u128>()]>>,
}

/// Free blocks and the rest of the last chunk.
#[derive(Debug)]
struct State {
    /// For each size the first free block, which holds the address of the next.
    free: [*mut u8; SIZES],
    /// The first byte never handed out.
    fresh: *mut u8,
    /// How many bytes follow it.
    fresh_length: usize,
    /// Whether the reserve has been taken.
    is_spent: bool,
}

// SAFETY: whoever has made it has promised that there is one thread.
unsafe impl Sync for Allocator {}

impl Allocator {
    /// An allocator that holds nothing.
    ///
    /// # Safety
    /// No two threads may ever use it: nothing in it waits for another.
    #[must_use]
    pub const unsafe fn new() -> Self {
        let state = State {
            free: [null_mut(); SIZES],
            fresh: null_mut(),
            fresh_length: 0,
            is_spent: false,
        };
        Self { state: UnsafeCell::new(state), reserve: UnsafeCell::new(MaybeUninit::zeroed()) }
    }
}

/// The list for a layout: blocks of `16 << list` bytes.
fn list_for(layout: Layout) -> usize {
    let size = layout.size().max(layout.align()).next_power_of_two();
    size.ilog2().saturating_sub(SMALLEST) as usize
}

impl State {
    /// Cuts a block off the last chunk, or off a new one; what is left of the old is lost. The last of all
    /// is the reserve.
    fn cut(&mut self, size: usize, reserve: *mut u8) -> *mut u8 {
        if self.fresh_length < size {
            let length = size.max(CHUNK);
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let (call, anywhere, start) = (libc::SYS_mmap, null_mut::<u8>(), 0_usize);
            // SAFETY: an anonymous mapping at a place of the kernel's choice. musl's own way to it waits
            // for other threads.
            let chunk = unsafe { libc::syscall(call, anywhere, length, access, kind, -1, start) };
            if chunk >= 0 {
                self.fresh = chunk as *mut u8;
                self.fresh_length = length;
            } else if self.is_spent || size > RESERVE {
                return null_mut();
            } else {
                self.is_spent = true;
                self.fresh = reserve;
                self.fresh_length = RESERVE;
                super::stop_for_want_of_memory();
            }
        }
        let block = self.fresh;
        self.fresh = self.fresh.wrapping_add(size);
        self.fresh_length -= size;
        block
    }
}

// SAFETY: blocks do not overlap, each is as large as its list says, which is at least what the
// layout asks for. Chunks start at a page and the reserve at a multiple of 16, and both are cut at
// multiples of 16, which is as much alignment as is ever asked for here; more is refused.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let list = list_for(layout);
        if layout.align() > 1 << SMALLEST {
            return null_mut();
        }
        // SAFETY: one thread, and no reference outlives the call.
        let state = unsafe { &mut *self.state.get() };
        match state.free.get_mut(list) {
            None => null_mut(),
            Some(first) if first.is_null() => {
                state.cut(1 << (list as u32 + SMALLEST), self.reserve.get().cast())
            }
            Some(first) => {
                let block = *first;
                // SAFETY: a free block holds the address of the next.
                *first = unsafe { block.cast::<*mut u8>().read() };
                block
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: one thread, and the reference does not outlive the statement.
        let is_fresh = unsafe {
            (*self.state.get()).free.get(list_for(layout)).is_some_and(|first| first.is_null())
        };
        // SAFETY: the caller keeps alloc's contract; a new block has room for its layout.
        unsafe {
            let block = self.alloc(layout);
            // What the kernel gives is zero already, and costs nothing until it is touched.
            if !is_fresh && !block.is_null() {
                block.write_bytes(0, layout.size());
            }
            block
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        let state = unsafe { &mut *self.state.get() };
        if let Some(first) = state.free.get_mut(list_for(layout)) {
            // SAFETY: the block is ours again and has room for a pointer.
            unsafe { block.cast::<*mut u8>().write(*first) };
            *first = block;
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Ok(new_layout) = Layout::from_size_align(size, layout.align()) else {
            return null_mut();
        };
        if list_for(layout) == list_for(new_layout) {
            return block;
        }
        // SAFETY: the new block is distinct and has room for the smaller of the two sizes.
        unsafe {
            let new_block = self.alloc(new_layout);
            if !new_block.is_null() {
                new_block.copy_from_nonoverlapping(block, size.min(layout.size()));
                self.dealloc(block, layout);
            }
            new_block
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_not_overlap_and_come_back() {
        // SAFETY: only this thread has it.
        let allocator = unsafe { Allocator::new() };
        let mut blocks: Vec<(*mut u8, Layout, u8)> = Vec::new();
        for round in 0..10_000_usize {
            let layout = Layout::from_size_align(1 + round * 37 % 3000, 1 << (round % 5)).unwrap();
            // SAFETY: each block is filled with its own byte, within its size, until it is freed.
            unsafe {
                let block = allocator.alloc(layout);
                assert!(!block.is_null() && block.addr().is_multiple_of(layout.align()));
                block.write_bytes(round as u8, layout.size());
                blocks.push((block, layout, round as u8));
                if round % 3 == 0 {
                    let (block, layout, mark) = blocks.swap_remove(round * 31 % blocks.len());
                    let size = layout.size() * 3 / 2;
                    let moved = allocator.realloc(block, layout, size);
                    let content = std::slice::from_raw_parts(moved, layout.size());
                    assert!(content.iter().all(|byte| *byte == mark));
                    allocator
                        .dealloc(moved, Layout::from_size_align(size, layout.align()).unwrap());
                }
                if blocks.len() > 200 {
                    let (block, layout, mark) = blocks.swap_remove(round * 17 % blocks.len());
                    let content = std::slice::from_raw_parts(block, layout.size());
                    assert!(content.iter().all(|byte| *byte == mark));
                    allocator.dealloc(block, layout);
                }
            }
        }
        let page = Layout::from_size_align(10, 4096).unwrap();
        // SAFETY: nothing is done with the result.
        assert!(unsafe { allocator.alloc(page) }.is_null(), "more alignment than we keep");
    }
}
