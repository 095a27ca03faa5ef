//! The memory that the program itself takes: its code and its constants, as the kernel has mapped them.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ops::Range;

use nix::libc::{self, dl_phdr_info, size_t};
use nix::unistd::{sysconf, SysconfVar};

/// Gives back the pages of code and constants: they are in the page cache, and whichever is needed again is mapped again by
/// the next access to it (madvise(2), `MADV_DONTNEED`). What only starting needed then counts no longer as memory of this
/// process, and the kernel sees that nobody uses it.
pub fn give_back() {
    for pages in read_only() {
        // SAFETY: the program's own segments that are never written to, not even by a relocation: what is read of these
        // pages next is what the file says, as it was. The range is whole pages, and nobody else's.
        // That it fails (pages that are locked in memory) is no harm.
        unsafe {
            libc::madvise(pages.start as *mut c_void, pages.len(), libc::MADV_DONTNEED);
        }
    }
}

/// Bytes of a page of memory.
pub fn page_size() -> Option<usize> {
    let bytes = sysconf(SysconfVar::PAGE_SIZE).ok().flatten()?;
    usize::try_from(bytes).ok()
}

/// The whole pages of the program's segments that are not writable.
fn read_only() -> Vec<Range<usize>> {
    let Some(page) = page_size() else {
        return Vec::new();
    };
    let mut segments: Vec<Range<usize>> = Vec::new();
    // SAFETY: the callback is called with the vector that it expects, before this returns.
    unsafe {
        libc::dl_iterate_phdr(Some(first_object), (&raw mut segments).cast());
    }
    let whole = segments
        .into_iter()
        .map(|segment| segment.start.next_multiple_of(page)..segment.end / page * page);
    whole.filter(|pages| !pages.is_empty()).collect()
}

/// Takes the segments of the first object, which is the program (dl_iterate_phdr(3)), and goes no further.
unsafe extern "C" fn first_object(
    object: *mut dl_phdr_info,
    _size: size_t,
    segments: *mut c_void,
) -> c_int {
    // SAFETY: the C library gives an object whose headers stay where they are, and passes on what `read_only` gave.
    let (object, segments) = unsafe { (&*object, &mut *segments.cast::<Vec<Range<usize>>>()) };
    if object.dlpi_phdr.is_null() {
        return 1;
    }
    // SAFETY: as above; there are so many of them.
    let headers =
        unsafe { std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)) };
    for header in headers {
        if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0 {
            let start = (object.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize);
            segments.push(start..start.saturating_add(header.p_memsz as usize));
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_constants_are_among_them_and_what_is_written_to_is_not() {
        static WRITTEN: std::sync::Mutex<u8> = std::sync::Mutex::new(0);
        let pages = read_only();
        let has = |address: usize| pages.iter().any(|pages| pages.contains(&address));
        assert!(has(give_back as *const () as usize), "{pages:?}");
        assert!(
            has(include_bytes!("program.rs").as_ptr() as usize + 2048),
            "{pages:?}"
        );
        let local = 0_u8;
        assert!(!has((&raw const local) as usize));
        assert!(!has((&raw const WRITTEN) as usize));
    }

    #[test]
    fn what_is_given_back_is_there_again_when_it_is_needed() {
        let before: u64 = include_bytes!("program.rs")
            .iter()
            .map(|b| u64::from(*b))
            .sum();
        give_back();
        let after: u64 = include_bytes!("program.rs")
            .iter()
            .map(|b| u64::from(*b))
            .sum();
        assert_eq!(before, after);
    }
}
