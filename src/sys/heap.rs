//! The heap: dlmalloc for what is small, pages of the kernel's for what is large, and both given back after a burst.
//!
//! dlmalloc alone gives back the end of its address range. Linux puts new mappings below the ones that are there, so that
//! this end is what was allocated first, and a burst's memory lies before it.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;
use std::ptr;
use std::sync::Mutex;

use dlmalloc::{Allocator, Dlmalloc};
use nix::libc;

use super::lock::lock;
use super::program::page_size;

/// From so many bytes on, an allocation has a mapping of its own: it grows without being copied (mremap(2)), waits for no
/// lock of ours, and is the kernel's again when it is freed.
const LARGE: usize = 128 * 1024;
/// The alignment that every page has.
const PAGE_ALIGNMENT: usize = 4096;
/// What may stay after it is freed, so that ordinary scrapes find their pages.
const KEPT: usize = 128 * 1024;
/// Free pieces of at least this size are looked for, and of at most that.
const PIECES: (usize, usize) = (8 * 1024, 128 << 20);

/// The allocator of the program.
pub struct Heap;

static SMALL: Mutex<Small> = Mutex::new(Small {
    heap: Dlmalloc::new_with_allocator(Pages { closed: false }),
    used: 0,
    most: 0,
});

struct Small {
    heap: Dlmalloc<Pages>,
    /// Bytes that are allocated.
    used: usize,
    /// The most that were since [`give_back`].
    most: usize,
}

// SAFETY: what is large has a mapping of its own, what is small is dlmalloc's; which it is follows from the layout alone,
// so that it is freed where it came from. Nothing here allocates or unwinds: the lock is a futex.
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
            self.most = self.most.max(self.used);
        }
    }
}

/// Gives the pages back that nothing is in, if a burst has left some. What is free lies between what is not: dlmalloc
/// keeps the addresses, and the kernel gives new pages when they are used again (madvise(2), `MADV_DONTNEED`).
pub fn give_back() {
    let mut small = lock(&SMALL);
    if small.most.saturating_sub(small.used) <= KEPT {
        return;
    }
    small.most = small.used;
    let Some(page) = page_size() else {
        return;
    };
    // SAFETY: dlmalloc is asked for blocks as anybody asks, and given them back. They are linked by their first words, and
    // between those and their ends nothing is kept: those pages may be empty.
    unsafe {
        small.heap.trim(0);
        // What it finds from now on is what it had free.
        small.heap.allocator_mut().closed = true;
        let mut found: *mut Piece = ptr::null_mut();
        let mut size = PIECES.1;
        while size >= PIECES.0 {
            let piece: *mut Piece = small.heap.malloc(size, align_of::<Piece>()).cast();
            if piece.is_null() {
                // Few sizes are enough: what is left of a piece is found by a smaller one.
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

/// A free piece of memory, while it is looked at.
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
    // SAFETY: a new mapping is nobody else's.
    or_null(unsafe { libc::mmap(ptr::null_mut(), size, access, kind, -1, 0) })
}

/// The same pages, more of them or fewer, perhaps elsewhere; null if there are none, and then all is as it was.
fn remap(block: *mut u8, old: usize, new: usize) -> *mut u8 {
    // SAFETY: `block` came from `map` with `old` bytes; the kernel rounds both up to pages.
    or_null(unsafe { libc::mremap(block.cast(), old, new, libc::MREMAP_MAYMOVE) })
}

fn unmap(block: *mut u8, size: usize) -> bool {
    // SAFETY: `block` came from `map` or `remap` with `size` bytes, and nobody has it any more.
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
    /// It gets none for the moment.
    closed: bool,
}

// SAFETY: mappings of the size that is asked for, whose parts can be given back.
unsafe impl Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let block = match self.closed {
            true => ptr::null_mut(),
            false => map(size),
        };
        (block, size, 0)
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        // Asked for mappings of single blocks alone, which dlmalloc does not make.
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
