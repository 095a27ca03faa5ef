//! The layout of a recording's directory, its limits, and its manifest.

use super::line;
use super::source_log::MAX_LINES;

/// The files of a recording.
pub(super) const MANIFEST: &str = "recording.txt";
pub(super) const MANIFEST_HEAD: &str = "edge-metrics-exporter recording 1";
pub(super) const CONFIG: &str = "config.yaml";
pub(super) const METRICS: &str = "metrics.prom";
pub(super) const LOGS: &str = "logs";

/// The trees of a board's files.
pub(super) const TREES: [&str; 3] = ["sys", "proc", "dev"];

/// The limits on the size of a recording.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The recording ends when it has this many bytes.
    pub(super) end_at_bytes: u64,
    /// The recording ends when it has this many lines.
    pub(super) end_at_lines: u64,
    /// Until the recording has ended, nothing is written beyond this many bytes.
    pub(super) max_bytes: u64,
}

/// A recording with more bytes is not read.
pub(super) const MAX_BYTES: u64 = 80 << 20;

pub(super) const LIMITS: Limits = Limits {
    end_at_bytes: 64 << 20,
    end_at_lines: MAX_LINES as u64 / 8 * 7,
    max_bytes: MAX_BYTES,
};

/// A source's name as it stands in a log's first line: without control characters.
pub(super) fn name_in_log(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).collect()
}

/// The manifest of a recording of this length, in nanoseconds.
pub(super) fn manifest(length: u64) -> String {
    format!(
        "{MANIFEST_HEAD}\n\n\
         made by     edge-metrics-exporter {} record\n\
         shown by    edge-metrics-exporter --replay .\n\
         seconds     {}\n\n\
         {ABOUT}",
        env!("CARGO_PKG_VERSION"),
        line::format_time(length),
    )
}

const ABOUT: &str = "\
config.yaml    the settings of the sources, without passwords
logs/          what each source asked and was answered, in the order of time
sys proc dev   the files that were looked at, with the content that was read first
metrics.prom   what was exported at the end

Passwords and logins are not in here. What the sources read is: the host's name, the board's model, what
/proc/cpuinfo says (a Raspberry Pi's serial number too), addresses of devices that were asked, and what
Shelly devices say of themselves, which includes MAC addresses and the name of their wireless network.
All of it is plain text: look before you send it.
";
