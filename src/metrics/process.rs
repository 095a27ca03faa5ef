//! Metrics of the exporter's own process, named as by Prometheus client libraries (prometheus.io, "Writing client
//! libraries", process metrics).

use std::time::{Duration, Instant};

use nix::sys::resource::{getrlimit, Resource};

use super::SelfGroup;
use crate::logging::dropped_lines;
use crate::sys::clock::process_cpu_seconds;
use crate::sys::program::page_size;

/// Scrapes within this time share one reading, which costs more than a scrape.
const MAX_USAGE_AGE: Duration = Duration::from_millis(100);

/// Labels of the build.
pub(crate) const BUILD: [(&str, &str); 2] = [
    ("version", env!("CARGO_PKG_VERSION")),
    ("arch", std::env::consts::ARCH),
];

/// Writes the process's metrics.
#[derive(Default)]
pub(crate) struct Process {
    /// What was last read, and when.
    read: Option<(Instant, Usage)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Usage {
    threads: f64,
    virtual_bytes: f64,
    resident_pages: f64,
    open_fds: f64,
}

impl Process {
    pub(crate) fn write(&mut self, out: &mut SelfGroup) {
        out.counter(
            "exporter_log_dropped_lines_total",
            "Log lines dropped because standard error did not accept them.",
            &[],
            dropped_lines() as f64,
        );
        out.counter(
            "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
            &[],
            process_cpu_seconds(),
        );
        let usage = self.usage();
        out.gauge(
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            &[],
            usage.and_then(|usage| Some(usage.resident_pages * page_size()? as f64)),
        );
        out.gauge(
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            &[],
            usage.map(|usage| usage.virtual_bytes),
        );
        out.gauge(
            "process_open_fds",
            "Number of open file descriptors.",
            &[],
            usage.map(|usage| usage.open_fds),
        );
        let files = getrlimit(Resource::RLIMIT_NOFILE);
        out.gauge(
            "process_max_fds",
            "Maximum number of open file descriptors.",
            &[],
            files.ok().map(|(soft, _)| soft as f64),
        );
        out.gauge(
            "process_threads",
            "Number of OS threads in the process.",
            &[],
            usage.map(|usage| usage.threads),
        );
    }

    fn usage(&mut self) -> Option<Usage> {
        let now = Instant::now();
        let is_fresh = |(at, _): &(Instant, Usage)| now.duration_since(*at) < MAX_USAGE_AGE;
        self.read = match self.read.filter(is_fresh) {
            None => Usage::read().map(|usage| (now, usage)),
            fresh => fresh,
        };
        self.read.map(|(_, usage)| usage)
    }
}

impl Usage {
    /// Reads this process's usage from `/proc`; `--path.procfs` is for the board.
    fn read() -> Option<Usage> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let mut usage = Usage::parse(&stat)?;
        // One descriptor is that of the directory itself.
        let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
        usage.open_fds = open.saturating_sub(1) as f64;
        Some(usage)
    }

    /// Parses `/proc/pid/stat` (proc(5)). The second field, the program's name in parentheses, may contain anything.
    fn parse(stat: &str) -> Option<Usage> {
        let (_, after_name) = stat.rsplit_once(')')?;
        let mut fields = after_name.split_ascii_whitespace();
        let mut field = |skip: usize| fields.nth(skip)?.parse().ok();
        Some(Usage {
            threads: field(17)?,
            virtual_bytes: field(2)?,
            resident_pages: field(0)?,
            open_fds: f64::NAN,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_scrapes_still_see_new_readings() {
        let mut process = Process::default();
        process.usage();
        let (first, _) = process.read.unwrap();
        let deadline = first + Duration::from_secs(60);
        while process.read.unwrap().0 == first {
            assert!(Instant::now() < deadline, "the usage is never read again");
            std::thread::sleep(MAX_USAGE_AGE / 20);
            process.usage();
        }
        assert!(process.read.unwrap().0 >= first + MAX_USAGE_AGE);
    }

    #[test]
    fn stat_line_is_parsed_whatever_the_program_name() {
        let line =
            "711 (a) b (c) S 1 711 711 0 -1 4194304 98 0 0 0 0 3 0 0 20 0 7 0 3434 2920448 227 \
                    18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0";
        let usage = Usage::parse(line).unwrap();
        assert_eq!(usage.threads, 7.0);
        assert_eq!(usage.virtual_bytes, 2_920_448.0);
        assert_eq!(usage.resident_pages, 227.0);
        assert_eq!(Usage::parse("711 (a) S 1"), None);
        assert!(Usage::read().unwrap().threads >= 1.0);
    }
}
