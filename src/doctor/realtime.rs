//! Whether this user has what `realtime: true` needs.

use crate::sys::realtime;

/// A sentence about what is missing, if real-time priority is configured.
pub(super) fn doubt(is_configured: bool) -> Option<String> {
    if !is_configured {
        return None;
    }
    // The priority is the thread's, which ends here.
    let has_priority = matches!(std::thread::spawn(realtime::prioritize).join(), Ok(Ok(())));
    let has_memory = realtime::lock_memory().is_ok();
    realtime::unlock_memory();
    let missing = match (has_priority, has_memory) {
        (true, true) => return None,
        (false, true) => "have real-time priority, which needs CAP_SYS_NICE",
        (true, false) => "keep its memory resident, which needs CAP_IPC_LOCK",
        (false, false) => {
            "have real-time priority and keep its memory resident, which needs CAP_SYS_NICE and CAP_IPC_LOCK"
        }
    };
    Some(format!(
        "`realtime: true`: this user may not {missing} (the service gets both by the drop-in realtime.conf)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::perf::testing::without_capabilities;

    #[test]
    fn missing_right_is_said_if_it_is_needed() {
        assert_eq!(doubt(false), None);
        // A limit may allow it to everybody.
        let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_RTPRIO);
        if limit.unwrap().0 == 0 {
            let said = without_capabilities(|| doubt(true)).unwrap();
            assert!(said.contains("CAP_SYS_NICE"), "{said}");
        }
    }
}
