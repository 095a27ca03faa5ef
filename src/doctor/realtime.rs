//! Whether this user has what `realtime: true` needs.

use crate::sys::realtime;

/// A sentence about what is missing, if real-time priority is configured.
pub(super) fn doubt(is_configured: bool) -> Option<String> {
    if !is_configured {
        return None;
    }
    // The priority is the thread's, which ends here.
    let tried = std::thread::spawn(realtime::prioritize).join();
    if matches!(tried, Ok(Ok(()))) {
        return None;
    }
    Some(
        "`realtime: true`: this user may not have real-time priority, which needs CAP_SYS_NICE (the service gets that and \
         CAP_IPC_LOCK by the drop-in realtime.conf)"
            .to_string(),
    )
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
