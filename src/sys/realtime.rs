//! Real-time scheduling of threads, memory that stays resident, and exact timers.

use nix::libc;
use nix::sys::prctl::set_timerslack;
use nix::sys::resource::{getrlimit, setrlimit, Resource, RLIM_INFINITY};

/// `SCHED_FIFO` with `SCHED_RESET_ON_FORK`: threads and processes that the thread starts have the usual scheduling.
const FIFO: libc::c_int = libc::SCHED_FIFO | 0x4000_0000;
/// The lowest real-time priority: above all usual threads, below the kernel's own and those that the user gave a higher one.
const PRIORITY: libc::c_int = 1;
/// `MCL_ONFAULT` (Linux 4.4): pages are locked when they are first used, not all at once.
const ON_FAULT: libc::c_int = 4;

/// `struct sched_param` of the kernel.
#[repr(C)]
struct Parameters {
    priority: libc::c_int,
}

/// Gives the calling thread real-time priority (sched_setscheduler(2), `SCHED_FIFO`), which needs `CAP_SYS_NICE`, or
/// `RLIMIT_RTPRIO` of at least 1.
pub fn prioritize() -> nix::Result<()> {
    let parameters = Parameters { priority: PRIORITY };
    // The system call itself: musl's function of this name only returns ENOSYS.
    // SAFETY: the pointer is to a live value of the layout that the kernel reads. 0 is the calling thread.
    #[allow(unsafe_code)]
    let result =
        unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, FIFO, &raw const parameters) };
    nix::errno::Errno::result(result).map(|_| ())
}

/// Keeps all pages of the process resident once they are used (mlockall(2)), which needs `CAP_IPC_LOCK`, or no limit
/// `RLIMIT_MEMLOCK`. A limit that suffices now is refused too: the kernel would refuse all memory beyond it later.
pub fn lock_memory() -> nix::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    // With a limit of 0 only `CAP_IPC_LOCK` allows it.
    let limit = if hard == RLIM_INFINITY { hard } else { 0 };
    setrlimit(Resource::RLIMIT_MEMLOCK, limit, hard)?;
    // SAFETY: no pointer is passed, and no memory changes its content or its place.
    #[allow(unsafe_code)]
    let result = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | ON_FAULT) };
    let result = nix::errno::Errno::result(result).map(|_| ());
    // Without a hard limit the soft one stays away: what was locked may depend on that.
    if result.is_err() || limit == 0 {
        setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard)?;
    }
    result
}

/// The reverse of [`lock_memory`].
pub fn unlock_memory() {
    // SAFETY: as above.
    #[allow(unsafe_code)]
    let _ = unsafe { libc::munlockall() };
}

/// Has the calling thread's sleeps end at most this many nanoseconds late (prctl(2), `PR_SET_TIMERSLACK`; the usual value is
/// 50,000). Threads with real-time priority have none.
pub fn limit_timer_slack(nanos: u64) {
    let nanos = libc::c_ulong::try_from(nanos.max(1)).unwrap_or(libc::c_ulong::MAX);
    // It fails for no value above 0. 0 would be the default.
    let _ = set_timerslack(nanos);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::perf::testing::without_capabilities;

    /// `policy` and the real-time priority of the calling thread (proc(5), fields 41 and 40 of `stat`).
    fn scheduling() -> (String, String) {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let rest = stat.rsplit_once(") ").unwrap().1;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        (fields[38].to_string(), fields[37].to_string())
    }

    #[test]
    fn thread_gets_priority_where_that_is_allowed_and_its_children_do_not() {
        let in_thread = || {
            let result = prioritize();
            let own = scheduling();
            let child = std::thread::spawn(scheduling).join().unwrap();
            (result, own, child)
        };
        let (result, own, child) = std::thread::spawn(in_thread).join().unwrap();
        assert_eq!(child.0, "0");
        match result {
            Ok(()) => assert_eq!(own, ("1".to_string(), "1".to_string())),
            Err(errno) => {
                assert_eq!(errno, nix::errno::Errno::EPERM);
                assert_eq!(own.0, "0");
            }
        }
    }

    #[test]
    fn missing_right_is_reported() {
        let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_RTPRIO);
        let is_limited = limit.unwrap().0 == 0;
        let result = without_capabilities(prioritize);
        assert!(
            !is_limited || result == Err(nix::errno::Errno::EPERM),
            "{result:?}"
        );
    }

    #[test]
    fn memory_is_not_locked_within_a_limit() {
        let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).unwrap();
        // Nobody without CAP_SYS_RESOURCE gets the old limit back, but another process has its own.
        if hard == RLIM_INFINITY || soft == 0 {
            return;
        }
        assert_eq!(
            without_capabilities(lock_memory),
            Err(nix::errno::Errno::EPERM)
        );
        assert_eq!(getrlimit(Resource::RLIMIT_MEMLOCK), Ok((soft, hard)));
    }

    #[test]
    fn slack_is_that_of_the_thread() {
        let slack = std::thread::spawn(|| {
            limit_timer_slack(1000);
            nix::sys::prctl::get_timerslack().unwrap()
        });
        assert_eq!(slack.join().unwrap(), 1000);
    }
}
