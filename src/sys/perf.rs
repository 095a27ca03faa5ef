//! Counters of the kernel's performance events, of everything that runs on one processor (perf_event_open(2)).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::FromRawFd;

use nix::libc;

/// `struct perf_event_attr` as far as its first version goes (`PERF_ATTR_SIZE_VER0`), which every kernel takes. All flags
/// are 0: the event counts from the start, and nothing is excluded or inherited.
#[repr(C)]
#[derive(Debug, Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    config1: u64,
}

/// `PERF_FORMAT_TOTAL_TIME_RUNNING`: a reading is the count, and the nanoseconds during which the event counted.
const TOTAL_TIME_RUNNING: u64 = 2;
/// `PERF_FLAG_FD_CLOEXEC`, since Linux 3.14.
const CLOEXEC: libc::c_ulong = 8;

/// An event that counts. It ends when this is dropped.
#[derive(Debug)]
pub struct PerfEvent(File);

/// A reading of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// What was counted since the event was opened.
    pub value: u64,
    /// The nanoseconds during which it counted. They stand still while the processor is offline.
    pub running: u64,
}

impl PerfEvent {
    /// Opens an event of a processor: `kind` is the number of its PMU, `config` that of the event.
    pub fn open(kind: u32, config: u64, cpu: u32) -> io::Result<PerfEvent> {
        let attributes = Attributes {
            kind,
            size: size_of::<Attributes>() as u32,
            config,
            read_format: TOTAL_TIME_RUNNING,
            ..Attributes::default()
        };
        let cpu = libc::c_int::try_from(cpu).map_err(|_| io::ErrorKind::InvalidInput)?;
        let (all_processes, no_group): (libc::pid_t, libc::c_int) = (-1, -1);
        // SAFETY: the one pointer is to a live value, of which the kernel reads as many bytes as its `size` says.
        #[allow(unsafe_code)]
        let opened = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attributes,
                all_processes,
                cpu,
                no_group,
                CLOEXEC,
            )
        };
        let descriptor = libc::c_int::try_from(opened).unwrap_or(-1);
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was opened just now, and nothing else has it.
        #[allow(unsafe_code)]
        let file = unsafe { File::from_raw_fd(descriptor) };
        Ok(PerfEvent(file))
    }

    /// Reads the event. `ENODEV`: it was removed from its processor, and does not count again.
    pub fn read(&self) -> io::Result<Count> {
        let mut words = [[0; 8]; 2];
        match (&self.0).read(words.as_flattened_mut())? {
            16 => {
                let [value, running] = words.map(u64::from_ne_bytes);
                Ok(Count { value, running })
            }
            0 => Err(io::Error::from_raw_os_error(libc::ENODEV)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// What tests of others need: to do something without the right to do it.
#[cfg(test)]
pub(crate) mod testing {
    use nix::libc;

    /// `struct __user_cap_header_struct` and two times `struct __user_cap_data_struct` (capset(2)).
    #[repr(C)]
    struct Header {
        version: u32,
        pid: libc::c_int,
    }
    const VERSION_3: u32 = 0x2008_0522;

    /// Runs this in a thread that has no capabilities.
    pub(crate) fn without_capabilities<T: Send>(run: impl FnOnce() -> T + Send) -> T {
        let drop_and_run = || {
            let header = Header {
                version: VERSION_3,
                pid: 0,
            };
            let none = [0u32; 6];
            // SAFETY: both pointers are to live values of the sizes that this version has. It concerns this thread alone.
            #[allow(unsafe_code)]
            let result =
                unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
            assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
            run()
        };
        std::thread::scope(|scope| scope.spawn(drop_and_run).join().unwrap())
    }

    /// Whether the kernel lets everybody count what a processor does: `kernel.perf_event_paranoid` is at most 0.
    pub(crate) fn is_allowed_to_all() -> bool {
        let level = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
        level.is_ok_and(|level| level.trim().parse::<i32>().unwrap() <= 0)
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{is_allowed_to_all, without_capabilities};
    use super::*;

    /// `PERF_TYPE_SOFTWARE` with `PERF_COUNT_SW_CPU_CLOCK`: nanoseconds, on every kernel that has performance events.
    const SOFTWARE: u32 = 1;
    const CPU_CLOCK: u64 = 0;

    fn is_refusal(error: &io::Error) -> bool {
        matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM))
    }

    /// The clock of processor 0; `None` where this process may not count it, which is then the only answer.
    fn clock() -> Option<PerfEvent> {
        match PerfEvent::open(SOFTWARE, CPU_CLOCK, 0) {
            Ok(event) => Some(event),
            Err(error) => {
                assert!(is_refusal(&error), "{error}");
                assert!(!is_allowed_to_all() || error.raw_os_error() == Some(libc::EPERM));
                None
            }
        }
    }

    #[test]
    fn attributes_have_the_size_of_their_first_version() {
        assert_eq!(size_of::<Attributes>(), 64);
    }

    #[test]
    fn event_counts_from_its_opening_on() {
        let Some(event) = clock() else { return };
        let (first, second) = (event.read().unwrap(), event.read().unwrap());
        assert!(first.running > 0);
        assert!(second.running > first.running && second.value > first.value);
        let other = clock().unwrap().read().unwrap();
        let third = event.read().unwrap();
        assert!(other.running < third.running, "the other began later");
    }

    #[test]
    fn missing_right_is_reported() {
        let opened = without_capabilities(|| PerfEvent::open(SOFTWARE, CPU_CLOCK, 0));
        match opened {
            Ok(event) => assert!(is_allowed_to_all() && event.read().is_ok()),
            Err(error) => assert!(is_refusal(&error), "{error}"),
        }
    }

    #[test]
    fn what_is_not_there_is_reported() {
        let Some(_) = clock() else { return };
        let errno = |kind, config, cpu| {
            let error = PerfEvent::open(kind, config, cpu).unwrap_err();
            error.raw_os_error()
        };
        assert_eq!(errno(u32::MAX, CPU_CLOCK, 0), Some(libc::ENOENT));
        assert_eq!(errno(SOFTWARE, u64::MAX, 0), Some(libc::ENOENT));
        // Linux answers one or the other for a processor that it has not.
        let no_processor = errno(SOFTWARE, CPU_CLOCK, i32::MAX as u32);
        assert!(matches!(no_processor, Some(libc::EINVAL | libc::ENODEV)));
        assert_eq!(errno(SOFTWARE, CPU_CLOCK, u32::MAX), None);
    }
}
