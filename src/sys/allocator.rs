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

    /// Whether the kernel has had no more.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        // SAFETY: one thread, and the reference does not outlive the statement.
        unsafe { (*self.state.get()).is_spent }
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
    use proptest::prelude::*;
    use std::ops::Range;

    /// The largest block.
    const LARGEST: usize = 1 << (SMALLEST as usize + SIZES - 1);
    /// Bytes at either end of a block that are looked at.
    const EDGE: usize = 4096;

    /// What is done with the allocator.
    #[derive(Clone, Debug)]
    enum Step {
        Allocate { size: usize, align: u32, zeroed: bool },
        Resize { which: usize, size: usize },
        Free { which: usize },
    }

    /// Sizes: usual ones, around powers of two, up to and over the largest.
    fn any_size() -> impl Strategy<Value = usize> {
        prop_oneof![
            8 => 1_usize..5000,
            4 => (0_u32..25, 0_usize..3).prop_map(|(power, more)| ((1 << power) + more - 1).max(1)),
            1 => 1..LARGEST + 5000,
        ]
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (any_size(), prop_oneof![4 => 0_u32..5, 1 => 5_u32..13], any::<bool>())
                .prop_map(|(size, align, zeroed)| Step::Allocate { size, align, zeroed }),
            3 => (any::<usize>(), any_size()).prop_map(|(which, size)| Step::Resize { which, size }),
            2 => any::<usize>().prop_map(|which| Step::Free { which }),
        ]
    }

    /// A block in use, full of its mark.
    struct Block {
        at: *mut u8,
        layout: Layout,
        mark: u8,
    }

    impl Block {
        /// Both ends, or all of it.
        fn edges(size: usize) -> [Range<usize>; 2] {
            [0..size.min(EDGE), size.saturating_sub(EDGE)..size]
        }

        fn fill(&self) {
            for edge in Self::edges(self.layout.size()) {
                // SAFETY: within the block, which is in use.
                unsafe { self.at.add(edge.start).write_bytes(self.mark, edge.len()) };
            }
        }

        /// Whether its first `size` bytes still are what was written, or zeroes.
        fn holds(&self, size: usize, mark: u8) -> bool {
            Self::edges(size).into_iter().all(|edge| {
                // SAFETY: within the block, which is in use, and was written.
                let bytes =
                    unsafe { std::slice::from_raw_parts(self.at.add(edge.start), edge.len()) };
                bytes.iter().all(|byte| *byte == mark)
            })
        }

        /// What must hold of a block beside the others.
        fn check(&self, others: &[Block]) {
            assert!(self.at.addr().is_multiple_of(self.layout.align()));
            let end = self.at.addr() + self.layout.size();
            for other in others {
                let is_apart = end <= other.at.addr()
                    || other.at.addr() + other.layout.size() <= self.at.addr();
                assert!(is_apart, "two blocks in one place");
            }
        }
    }

    /// Whether a layout is served at all.
    fn is_served(size: usize, align: usize) -> bool {
        size <= LARGEST && align <= 1 << SMALLEST
    }

    fn play(steps: Vec<Step>) {
        // SAFETY: only this thread has it.
        let allocator = Box::new(unsafe { Allocator::new() });
        let mut blocks: Vec<Block> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            let mark = number as u8 | 1;
            match step {
                Step::Allocate { size, align, zeroed } => {
                    let layout = Layout::from_size_align(size, 1 << align).unwrap();
                    // SAFETY: no layout here is of size zero.
                    let at = unsafe {
                        if zeroed {
                            allocator.alloc_zeroed(layout)
                        } else {
                            allocator.alloc(layout)
                        }
                    };
                    assert_eq!(!at.is_null(), is_served(size, layout.align()), "{layout:?}");
                    if at.is_null() {
                        continue;
                    }
                    let block = Block { at, layout, mark };
                    block.check(&blocks);
                    assert!(!zeroed || block.holds(size, 0), "not zero");
                    block.fill();
                    blocks.push(block);
                }
                _ if blocks.is_empty() => {}
                Step::Resize { which, size } => {
                    let mut block = blocks.swap_remove(which % blocks.len());
                    let old = block.layout;
                    // SAFETY: the block is in use, and of this layout.
                    let at = unsafe { allocator.realloc(block.at, old, size) };
                    assert_eq!(!at.is_null(), is_served(size, old.align()), "{size}");
                    if at.is_null() {
                        assert!(block.holds(old.size(), block.mark), "lost with the failure");
                    } else {
                        block.at = at;
                        block.layout = Layout::from_size_align(size, old.align()).unwrap();
                        block.check(&blocks);
                        // Of a larger block the far end was not looked at, so it is not written.
                        let kept = size.min(old.size());
                        let known = if kept == old.size() { kept } else { kept.min(EDGE) };
                        assert!(block.holds(known, block.mark), "lost on the way");
                        block.mark = mark;
                        block.fill();
                    }
                    blocks.push(block);
                }
                Step::Free { which } => {
                    let block = blocks.swap_remove(which % blocks.len());
                    assert!(block.holds(block.layout.size(), block.mark), "overwritten");
                    // SAFETY: the block is in use, and of this layout.
                    unsafe { allocator.dealloc(block.at, block.layout) };
                }
            }
        }
        for block in &blocks {
            assert!(block.holds(block.layout.size(), block.mark), "overwritten");
        }
    }

    proptest! {
        #[test]
        fn blocks_are_what_a_model_says(steps in prop::collection::vec(any_step(), 1..200)) {
            play(steps);
        }
    }

    /// A million times the same sizes in some orders: once it has seen these, the kernel is not asked again.
    #[test]
    fn memory_comes_back() {
        // SAFETY: only this thread has it.
        let allocator = Box::new(unsafe { Allocator::new() });
        let layout = |number: usize| Layout::from_size_align(1 + number % 64 * 97, 8).unwrap();
        let mut after_all_orders = None;
        for round in 0..1_000_000 / 64 {
            // SAFETY: each block is used with its layout and given back once.
            unsafe {
                let order = (0..64).map(|number| layout(number * (2 * round + 1)));
                let blocks: Vec<_> = order
                    .map(|layout| {
                        let block = allocator.alloc(layout);
                        // And back: the larger block is another one.
                        let larger = allocator.realloc(block, layout, layout.size() * 2);
                        let doubled =
                            Layout::from_size_align(layout.size() * 2, layout.align()).unwrap();
                        (allocator.realloc(larger, doubled, layout.size()), layout)
                    })
                    .collect();
                for (block, layout) in blocks {
                    allocator.dealloc(block, layout);
                }
                let state = &*allocator.state.get();
                let fresh = (state.fresh, state.fresh_length);
                if round >= 32 {
                    assert_eq!(*after_all_orders.get_or_insert(fresh), fresh, "round {round}");
                }
            }
        }
    }

    /// A kernel that gives no more: after the reserve the answer is null, and what is given back can be had again.
    #[test]
    fn the_end_of_memory_is_null() {
        const MORE: u64 = 32 << 20;
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
        let limit = pages * 4096 + MORE;
        let layout = Layout::from_size_align(1 << 20, 8).unwrap();
        // SAFETY: the child does nothing but system calls, and memory that is its own.
        unsafe {
            let child = libc::fork();
            assert!(child >= 0);
            if child == 0 {
                let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
                let is_limited = libc::setrlimit(libc::RLIMIT_AS, &raw const limit) == 0;
                crate::sys::block_signals(crate::sys::STOP_SIGNALS);
                let allocator = Allocator::new();
                let (mut last, mut count) = (null_mut(), 0_u64);
                let ended = loop {
                    let block = allocator.alloc(layout);
                    if block.is_null() || count > MORE {
                        break block;
                    }
                    (last, count) = (block, count + 1);
                };
                let is_null = ended.is_null() && (8..=(MORE >> 20) + 1).contains(&count);
                let is_kept = allocator.realloc(last, layout, 2 << 20).is_null();
                allocator.dealloc(last, layout);
                let is_back = allocator.alloc(layout) == last;
                let is_good = is_limited && is_null && is_kept && is_back;
                libc::_exit(i32::from(!is_good));
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            assert_eq!(status, 0);
        }
    }
}
