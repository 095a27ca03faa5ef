//! The memory of the program's code and constants, as the kernel has mapped them.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ops::Range;

use nix::libc::{self, dl_phdr_info, size_t};
use nix::unistd::{sysconf, SysconfVar};

/// Unmaps the pages of code and constants. They stay in the page cache, and the next access to a page maps it again
/// (madvise(2), `MADV_DONTNEED`). Pages that only the start of the program needed then no longer count as memory of this
/// process, and the kernel can drop them.
pub fn give_back() {
    for pages in read_only_pages() {
        // SAFETY: these segments are never written to, not even by a relocation, so reading a page again from the file gives
        // the same bytes. The range is whole pages of the program alone. A failure (locked pages) does no harm.
        unsafe {
            libc::madvise(pages.start as *mut c_void, pages.len(), libc::MADV_DONTNEED);
        }
    }
}

/// The size of a memory page in bytes.
pub fn page_size() -> Option<usize> {
    let bytes = sysconf(SysconfVar::PAGE_SIZE).ok().flatten()?;
    usize::try_from(bytes).ok()
}

/// The whole pages of the program's read-only segments.
fn read_only_pages() -> Vec<Range<usize>> {
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

/// Callback of dl_iterate_phdr(3): collects the read-only segments of the first object, which is the program, and ends the
/// iteration.
unsafe extern "C" fn first_object(
    object: *mut dl_phdr_info,
    _size: size_t,
    segments: *mut c_void,
) -> c_int {
    // SAFETY: the C library gives an object whose headers stay where they are, and passes on what `read_only_pages` gave.
    let (object, segments) = unsafe { (&*object, &mut *segments.cast::<Vec<Range<usize>>>()) };
    if object.dlpi_phdr.is_null() {
        return 1;
    }
    // SAFETY: as above; `dlpi_phnum` is the number of headers.
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
    fn read_only_pages_have_code_and_constants_but_no_data() {
        static WRITTEN: std::sync::Mutex<u8> = std::sync::Mutex::new(0);
        let pages = read_only_pages();
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
    fn unmapped_pages_are_read_again() {
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
