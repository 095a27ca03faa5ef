//! The allocator: dlmalloc for small blocks, and mappings of their own for large ones. After a burst of allocations, unused
//! memory is given back to the kernel.
//!
//! dlmalloc itself only gives back memory at the end of its address range. Linux puts new mappings below the existing ones, so
//! the end holds the oldest blocks, and the memory of a burst lies before it.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;
use std::ptr;
use std::sync::Mutex;

use dlmalloc::{Allocator, Dlmalloc};
use nix::libc;

use super::lock::lock;
use super::program::page_size;

/// Bytes from which on a block has a mapping of its own: it grows without being copied (mremap(2)), needs no lock, and is
/// given back to the kernel when it is freed.
const LARGE: usize = 128 * 1024;
/// Every page is aligned to this many bytes.
const PAGE_ALIGNMENT: usize = 4096;
/// Bytes of freed memory that are not given back, so that ordinary scrapes need no new pages.
const RETAINED: usize = 128 * 1024;
/// Sizes of the free pieces that [`give_back`] looks for.
const MIN_PIECE: usize = 8 * 1024;
const MAX_PIECE: usize = 128 << 20;

/// The allocator of the program.
pub struct Heap;

static SMALL: Mutex<Small> = Mutex::new(Small {
    heap: Dlmalloc::new_with_allocator(Pages { closed: false }),
    used: 0,
    peak: 0,
});

struct Small {
    heap: Dlmalloc<Pages>,
    /// Bytes that are allocated.
    used: usize,
    /// The largest value of `used` since [`give_back`].
    peak: usize,
}

// SAFETY: large blocks have mappings of their own and small ones are dlmalloc's. The layout alone decides which, so every
// block is freed where it came from. Nothing here allocates or unwinds: the lock is a futex.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_large(layout) {
            return map(layout.size());
        }
        let mut small = lock(&SMALL);
        // SAFETY: the caller's promises are dlmalloc's conditions, here and below.
        let block = unsafe { small.heap.malloc(layout.size(), layout.align()) };
        small.count(block, 0, layout.size());
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_large(layout) {
            return map(layout.size());
        }
        let mut small = lock(&SMALL);
        // SAFETY: as in `alloc`.
        let block = unsafe { small.heap.calloc(layout.size(), layout.align()) };
        small.count(block, 0, layout.size());
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_large(layout) {
            unmap(block, layout.size());
            return;
        }
        let mut small = lock(&SMALL);
        small.used = small.used.saturating_sub(layout.size());
        // SAFETY: as in `alloc`.
        unsafe { small.heap.free(block, layout.size(), layout.align()) };
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that this is a layout.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (is_large(layout), is_large(wanted)) {
            (true, true) => remap(block, layout.size(), size),
            (false, false) => {
                let mut small = lock(&SMALL);
                // SAFETY: as in `alloc`.
                let new = unsafe {
                    let (size, align) = (layout.size(), layout.align());
                    small.heap.realloc(block, size, align, wanted.size())
                };
                small.count(new, layout.size(), size);
                new
            }
            _ => {
                // SAFETY: two blocks of at least the shorter size, of which one is new.
                unsafe {
                    let new = self.alloc(wanted);
                    if !new.is_null() {
                        ptr::copy_nonoverlapping(block, new, layout.size().min(size));
                        self.dealloc(block, layout);
                    }
                    new
                }
            }
        }
    }
}

impl Small {
    /// Counts a block of `old` bytes (0: a new one) that has `new` now, unless there was no memory for it.
    fn count(&mut self, block: *mut u8, old: usize, new: usize) {
        if !block.is_null() {
            self.used = self.used.saturating_sub(old).saturating_add(new);
            self.peak = self.peak.max(self.used);
        }
    }
}

/// Gives unused pages back to the kernel, if a burst has left some. They lie between used blocks: dlmalloc keeps the
/// addresses, and the kernel provides new pages when they are used again (madvise(2), `MADV_DONTNEED`).
pub fn give_back() {
    let mut small = lock(&SMALL);
    if small.peak.saturating_sub(small.used) <= RETAINED {
        return;
    }
    small.peak = small.used;
    let Some(page) = page_size() else {
        return;
    };
    // SAFETY: the blocks are allocated from dlmalloc and freed again. They are linked by their first words, and the pages
    // after those words hold nothing, so they may become empty.
    unsafe {
        small.heap.trim(0);
        // From now on dlmalloc gets no new memory, so all that it returns was free already.
        small.heap.allocator_mut().closed = true;
        let mut found: *mut Piece = ptr::null_mut();
        let mut size = MAX_PIECE;
        while size >= MIN_PIECE {
            let piece: *mut Piece = small.heap.malloc(size, align_of::<Piece>()).cast();
            if piece.is_null() {
                // A few sizes are enough: the rest of a piece is found with a smaller size.
                size = size / 8 * 7;
                continue;
            }
            piece.write(Piece { size, next: found });
            found = piece;
            let start = (piece as usize + size_of::<Piece>()).next_multiple_of(page);
            let end = (piece as usize + size) / page * page;
            if start < end {
                libc::madvise(start as *mut c_void, end - start, libc::MADV_DONTNEED);
            }
        }
        while !found.is_null() {
            let Piece { size, next } = found.read();
            small.heap.free(found.cast(), size, align_of::<Piece>());
            found = next;
        }
        small.heap.allocator_mut().closed = false;
    }
}

/// The first words of a free piece that [`give_back`] has found.
struct Piece {
    size: usize,
    next: *mut Piece,
}

/// Whether an allocation has a mapping of its own.
fn is_large(layout: Layout) -> bool {
    layout.size() >= LARGE && layout.align() <= PAGE_ALIGNMENT
}

/// New pages, which are zero; null if there are none.
fn map(size: usize) -> *mut u8 {
    let (access, kind) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a new mapping overlaps no other.
    or_null(unsafe { libc::mmap(ptr::null_mut(), size, access, kind, -1, 0) })
}

/// Resizes a mapping, which may move it. Null: there is no memory, and nothing has changed.
fn remap(block: *mut u8, old: usize, new: usize) -> *mut u8 {
    // SAFETY: `block` came from `map` with `old` bytes; the kernel rounds both up to pages.
    or_null(unsafe { libc::mremap(block.cast(), old, new, libc::MREMAP_MAYMOVE) })
}

fn unmap(block: *mut u8, size: usize) -> bool {
    // SAFETY: `block` came from `map` or `remap` with `size` bytes, and is not used any more.
    unsafe { libc::munmap(block.cast(), size) == 0 }
}

fn or_null(mapped: *mut c_void) -> *mut u8 {
    match mapped == libc::MAP_FAILED {
        true => ptr::null_mut(),
        false => mapped.cast(),
    }
}

/// Where dlmalloc gets its memory from.
struct Pages {
    /// dlmalloc gets no memory for the moment.
    closed: bool,
}

// SAFETY: these are mappings of the requested size, and any part of a mapping can be unmapped.
unsafe impl Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let block = match self.closed {
            true => ptr::null_mut(),
            false => map(size),
        };
        (block, size, 0)
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        // Only used for mappings of single blocks, which this dlmalloc does not make.
        ptr::null_mut()
    }

    fn free_part(&self, block: *mut u8, old: usize, new: usize) -> bool {
        unmap(block.wrapping_add(new), old - new)
    }

    fn free(&self, block: *mut u8, size: usize) -> bool {
        unmap(block, size)
    }

    fn can_release_part(&self, _flags: u32) -> bool {
        true
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE_ALIGNMENT
    }
}
