//! CPU time as the kernel tells it, in nanoseconds, and memory, in bytes. Pure.

/// `/proc/stat` counts in these, whatever the kernel's own clock is (USER_HZ; 100 on every architecture but alpha and ia64).
const NANOS_PER_TICK: u64 = 10_000_000;

/// The CPU time of a cgroup, in the first line of `cpu.stat`: `usage_usec 1234` (Linux, admin-guide/cgroup-v2.rst).
#[inline]
pub fn parse_cpu_stat(text: &[u8]) -> Option<u64> {
    const KEY: [u8; 11] = *b"usage_usec ";
    // Arrays are compared without a call.
    let usage = match text.split_first_chunk() {
        Some((key, usage)) if *key == KEY => usage,
        _ => {
            let mut lines = text.split_inclusive(|byte| *byte == b'\n');
            lines.find_map(|line| line.strip_prefix(&KEY))?
        }
    };
    line(usage)?.checked_mul(1000)
}

/// The same in `cpuacct.usage`, the one number of the file (Linux, admin-guide/cgroup-v1/cpuacct.rst).
#[inline]
pub fn parse_cpuacct_usage(text: &[u8]) -> Option<u64> {
    line(text)
}

/// The number that the first line consists of. It has up to 19 digits, which cannot overflow.
#[inline]
fn line(text: &[u8]) -> Option<u64> {
    let mut value: u64 = 0;
    for (place, byte) in text.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return (place > 0 && *byte == b'\n').then_some(value);
        }
        if place == 19 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    (!text.is_empty()).then_some(value)
}

/// The time of all processors that was not idle, in the first line of `/proc/stat`: user, nice, system, irq and softirq; idle,
/// waiting and stolen time is none, and a guest's is in the user's (proc(5)).
pub fn parse_busy(text: &[u8]) -> Option<u64> {
    let line = text.split(|byte| *byte == b'\n').next()?;
    let mut words = line.split(|byte| *byte == b' ').filter(|w| !w.is_empty());
    if words.next()? != b"cpu" {
        return None;
    }
    let mut ticks: u64 = 0;
    for place in 0..7 {
        let Some(word) = words.next() else {
            // Linux 2.4 has but four.
            return (place >= 4).then(|| ticks.saturating_mul(NANOS_PER_TICK));
        };
        let counted = number(word)?;
        if !matches!(place, 3 | 4) {
            ticks = ticks.checked_add(counted)?;
        }
    }
    ticks.checked_mul(NANOS_PER_TICK)
}

/// The memory of a cgroup, the one number of `memory.current` (Linux, admin-guide/cgroup-v2.rst) and of
/// `memory.usage_in_bytes` (admin-guide/cgroup-v1/memory.rst).
pub fn parse_memory_bytes(text: &[u8]) -> Option<u64> {
    number(text.trim_ascii())
}

/// The value of a line of `/proc/meminfo` (proc(5)), such as `MemTotal`, in bytes.
pub fn meminfo_bytes(text: &[u8], name: &str) -> Option<u64> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b":"))?;
    number(value.strip_suffix(b"kB")?.trim_ascii())?.checked_mul(1024)
}

/// The board's memory and what of it is available, in the first lines of `/proc/meminfo`. Linux before 3.14 has no
/// `MemAvailable`.
pub fn parse_meminfo(text: &[u8]) -> Option<(u64, u64)> {
    let bytes = |name: &str| meminfo_bytes(text, name);
    Some((bytes("MemTotal")?, bytes("MemAvailable")?))
}

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessStat<'a> {
    /// The program's name: up to 15 bytes, which the process can set.
    pub comm: &'a [u8],
    /// Whether it is a thread of the kernel.
    pub is_kernel: bool,
    /// CPU time of all its threads.
    pub nanos: u64,
    /// When it was started, in ticks since boot: with its number, that is the process.
    pub started: u64,
    /// Virtual memory.
    pub virtual_bytes: Option<u64>,
    /// Resident memory, in pages.
    pub resident_pages: Option<u64>,
}

/// The program's name in `/proc/PID/stat` (proc(5)), and the fields that follow, from the state (field 3) on.
pub fn stat_fields(text: &[u8]) -> Option<(&[u8], impl Iterator<Item = &[u8]>)> {
    // The name may have parentheses and blanks itself.
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let comm = text.get(open + 1..close)?;
    let fields = text.get(close + 1..)?;
    let words = fields.split(|byte| byte.is_ascii_whitespace());
    Some((comm, words.filter(|word| !word.is_empty())))
}

/// The process of `/proc/PID/stat`.
pub fn parse_process(text: &[u8]) -> Option<ProcessStat<'_>> {
    /// `PF_KTHREAD` (Linux, include/linux/sched.h).
    const KERNEL_THREAD: u64 = 0x0020_0000;
    let (comm, mut fields) = stat_fields(text)?;
    let flags = number(fields.nth(9 - 3)?)?;
    let user = number(fields.nth(14 - 10)?)?;
    let system = number(fields.next()?)?;
    let started = number(fields.nth(22 - 16)?)?;
    let mut more = || fields.next().and_then(number);
    let (virtual_bytes, resident_pages) = (more(), more());
    Some(ProcessStat {
        comm,
        is_kernel: flags & KERNEL_THREAD != 0,
        nanos: user.checked_add(system)?.checked_mul(NANOS_PER_TICK)?,
        started,
        virtual_bytes,
        resident_pages,
    })
}

/// The cgroup in `/proc/PID/cgroup`: of the `cpuacct` controller of version 1, else of version 2 (cgroups(7)).
pub fn parse_cgroup(text: &str) -> Option<String> {
    let mut found = None;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        if controllers
            .split(',')
            .any(|controller| controller == "cpuacct")
        {
            return Some(path.to_string());
        }
        if controllers.is_empty() {
            found = Some(path.to_string());
        }
    }
    found
}

/// How many processors a list such as `0-3,5` names (Linux, ABI/testing/sysfs-devices-system-cpu).
pub fn parse_cpu_list(text: &str) -> Option<u64> {
    let mut count: u64 = 0;
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let first: u32 = first.parse().ok()?;
        let last: u32 = last.parse().ok()?;
        count = count.checked_add(u64::from(last.checked_sub(first)?) + 1)?;
    }
    Some(count)
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_stat_of_cgroup_v2_is_read() {
        let text = b"usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\nnr_periods 0\n";
        assert_eq!(parse_cpu_stat(text), Some(1_234_567_000));
        assert_eq!(parse_cpu_stat(b"user_usec 5\nusage_usec 7\n"), Some(7_000));
        for text in [
            &b""[..],
            b"usage_usec \n",
            b"usage_usec -1\n",
            b"usage_usec 99999999999999999999\n",
            b"nr_periods 0\n",
        ] {
            assert_eq!(parse_cpu_stat(text), None, "{text:?}");
        }
    }

    #[test]
    fn cpuacct_usage_of_cgroup_v1_is_read() {
        assert_eq!(parse_cpuacct_usage(b"20863047321\n"), Some(20_863_047_321));
        assert_eq!(parse_cpuacct_usage(b"\n"), None);
        assert_eq!(parse_cpuacct_usage(b"1 2\n"), None);
    }

    #[test]
    fn busy_time_has_no_idle_waiting_stolen_or_guest_time() {
        let text = b"cpu  100 20 30 5000 700 4 6 9 50 1\ncpu0 1 1 1\n";
        assert_eq!(parse_busy(text), Some(160 * NANOS_PER_TICK));
        assert_eq!(parse_busy(b"cpu 1 2 3 4\n"), Some(6 * NANOS_PER_TICK));
        for text in [&b""[..], b"cpu0 1 2 3 4\n", b"cpu 1 2\n", b"cpu 1 2 x 4\n"] {
            assert_eq!(parse_busy(text), None, "{text:?}");
        }
    }

    #[test]
    fn memory_of_cgroups_and_of_the_board_is_read() {
        assert_eq!(parse_memory_bytes(b"7340032\n"), Some(7_340_032));
        assert_eq!(parse_memory_bytes(b"max\n"), None);
        let text =
            b"MemTotal:        3956400 kB\nMemFree:  105132 kB\nMemAvailable:    2711044 kB\nBuff";
        let bytes = (3_956_400 * 1024, 2_711_044 * 1024);
        assert_eq!(parse_meminfo(text), Some(bytes));
        for text in [
            &b""[..],
            b"MemTotal: 1 kB\nMemFree: 1 kB\n",
            b"MemTotal: 1\nMemAvailable: 1 kB\n",
            b"MemTotal: 99999999999999999999 kB\nMemAvailable: 1 kB\n",
        ] {
            assert_eq!(parse_meminfo(text), None, "{text:?}");
        }
    }

    #[test]
    fn process_with_a_hostile_name_is_read() {
        let text = b"42 (a) b\n(c) S 1 42 42 0 -1 4194560 1 2 3 4 150 50 7 8 20 0 1 0 987 1 2 3\n";
        let process = parse_process(text).unwrap();
        assert_eq!(process.comm, b"a) b\n(c");
        assert_eq!(process.nanos, 200 * NANOS_PER_TICK);
        assert_eq!(process.started, 987);
        assert!(!process.is_kernel);
        let kernel = b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 6 0 0 20 0 1 0 3 0\n";
        assert!(parse_process(kernel).unwrap().is_kernel);
        for text in [&b""[..], b"1 (x", b"1 )x(", b"1 (x) S 1 2 3"] {
            assert_eq!(parse_process(text), None, "{text:?}");
        }
    }

    #[test]
    fn cgroup_of_a_process_is_that_of_its_cpu_time() {
        let v2 = "0::/system.slice/ssh.service\n";
        assert_eq!(
            parse_cgroup(v2).as_deref(),
            Some("/system.slice/ssh.service")
        );
        let hybrid = "4:memory:/a\n3:cpu,cpuacct:/docker/b:c\n1:name=systemd:/d\n0::/e\n";
        assert_eq!(parse_cgroup(hybrid).as_deref(), Some("/docker/b:c"));
        for text in ["", "::", "1:name=systemd:/d\n", "x"] {
            let expected = if text == "::" { Some("") } else { None };
            assert_eq!(parse_cgroup(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn processors_of_a_list_are_counted() {
        assert_eq!(parse_cpu_list("0\n"), Some(1));
        assert_eq!(parse_cpu_list("0-3,5,8-9\n"), Some(7));
        for text in ["", "3-0", "a", "0-99999999999"] {
            assert_eq!(parse_cpu_list(text), None, "{text}");
        }
    }
}
