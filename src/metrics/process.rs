//! Metrics of the exporter's own process, named as by Prometheus client libraries (prometheus.io, "Writing client
//! libraries", process metrics).

use std::time::{Duration, Instant};

use nix::sys::resource::{getrlimit, Resource};

use super::{Desc, Group, Readings, SeriesId};
use crate::logging::dropped_lines;
use crate::sys::clock::process_cpu_seconds;
use crate::sys::program::page_size;

/// Scrapes within this time share one reading, which costs more than a scrape.
const USAGE_CACHE_TIME: Duration = Duration::from_millis(100);

/// Labels of the build.
pub(crate) const BUILD: [(&str, &str); 2] = [
    ("version", env!("CARGO_PKG_VERSION")),
    ("arch", std::env::consts::ARCH),
];

/// The process's series and their last reading.
pub(crate) struct Process {
    cpu: SeriesId,
    resident: SeriesId,
    virtual_memory: SeriesId,
    open_fds: SeriesId,
    max_fds: SeriesId,
    threads: SeriesId,
    dropped_lines: SeriesId,
    page: f64,
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
    pub(crate) fn new(group: &Group) -> Process {
        let gauge = |name: &'static str, help: &'static str| {
            group.series(&Desc::gauge(name, help).own(), &[])
        };
        let cpu = Desc::counter(
            "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
        );
        let dropped_lines = Desc::counter(
            "exporter_log_dropped_lines_total",
            "Lines of the log that standard error did not take.",
        );
        Process {
            dropped_lines: group.series(&dropped_lines.own(), &[]),
            cpu: group.series(&cpu.own(), &[]),
            resident: gauge(
                "process_resident_memory_bytes",
                "Resident memory size in bytes.",
            ),
            virtual_memory: gauge(
                "process_virtual_memory_bytes",
                "Virtual memory size in bytes.",
            ),
            open_fds: gauge("process_open_fds", "Number of open file descriptors."),
            max_fds: gauge(
                "process_max_fds",
                "Maximum number of open file descriptors.",
            ),
            threads: gauge("process_threads", "Number of OS threads in the process."),
            page: page_size().map_or(f64::NAN, |bytes| bytes as f64),
            read: None,
        }
    }

    pub(crate) fn set(&mut self, out: &mut Readings) {
        out.set(self.cpu, process_cpu_seconds());
        out.set(self.dropped_lines, dropped_lines() as f64);
        if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
            out.set(self.max_fds, soft as f64);
        }
        let now = Instant::now();
        if self
            .read
            .is_none_or(|(at, _)| now.duration_since(at) >= USAGE_CACHE_TIME)
        {
            self.read = Usage::read().map(|usage| (now, usage));
        }
        let Some((_, usage)) = self.read else {
            return;
        };
        out.set(self.threads, usage.threads);
        out.set(self.virtual_memory, usage.virtual_bytes);
        out.set(self.resident, usage.resident_pages * self.page);
        out.set(self.open_fds, usage.open_fds);
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
        let registry = crate::metrics::Registry::default();
        let mut process = Process::new(&registry.add_group(0, "exporter", vec![]));
        let mut out = Readings::default();
        process.set(&mut out);
        let (first, _) = process.read.unwrap();
        let deadline = first + Duration::from_secs(60);
        while process.read.unwrap().0 == first {
            assert!(Instant::now() < deadline, "usage is never read again");
            std::thread::sleep(USAGE_CACHE_TIME / 20);
            process.set(&mut out);
        }
        assert!(process.read.unwrap().0 >= first + USAGE_CACHE_TIME);
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
