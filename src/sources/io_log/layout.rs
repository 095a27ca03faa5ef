//! What a recording's directory holds, and how much of it.

use super::line;
use super::log::MOST_LINES;

/// The files of a recording.
pub(super) const MANIFEST: &str = "recording.txt";
pub(super) const MANIFEST_HEAD: &str = "edge-metrics-exporter recording 1";
pub(super) const CONFIG: &str = "config.yaml";
pub(super) const METRICS: &str = "metrics.prom";
pub(super) const LOGS: &str = "logs";

/// The trees of a board's files.
pub(super) const TREES: [&str; 3] = ["sys", "proc", "dev"];

/// How large a recording may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// At so many bytes it is to end.
    pub(super) bytes: u64,
    /// At so many lines.
    pub(super) lines: u64,
    /// What comes until it has ended is not recorded beyond so many bytes.
    pub(super) bytes_in_all: u64,
}

/// No recording has more bytes.
pub(super) const BYTES_IN_ALL: u64 = 80 << 20;

pub(super) const LIMITS: Limits = Limits {
    bytes: 64 << 20,
    lines: MOST_LINES as u64 / 8 * 7,
    bytes_in_all: BYTES_IN_ALL,
};
/// A source's name in a log: a line's worth of text.
pub(super) fn plain(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).collect()
}

/// What the manifest says of a recording that is so long.
pub(super) fn manifest(length: u64) -> String {
    format!(
        "{MANIFEST_HEAD}\n\n\
         made by     edge-metrics-exporter {} record\n\
         shown by    edge-metrics-exporter --replay .\n\
         seconds     {}\n\n\
         {ABOUT}",
        env!("CARGO_PKG_VERSION"),
        line::time(length),
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
