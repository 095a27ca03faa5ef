//! Renders snapshots and batches of samples as the text of a scrape, and parses such text. Pure: samples and a format in, bytes
//! out.

pub mod csv;
mod history_csv;
mod multirate;
mod negotiate;
mod number;
mod openmetrics;
mod parse;
#[cfg(test)]
mod testing;
mod text;
mod window;

pub use history_csv::{render_history, HistoryRange, TimeFormat, TooLong};
pub use multirate::render_batch;
pub use negotiate::{accepts_gzip, negotiate, Format};
pub use number::write_number;
pub use parse::{parse, Malformed, Sample, Samples};
pub use window::render_window;

use std::borrow::Cow;

use crate::metrics::{Family, Snapshot, SnapshotFamily};

/// Appends the snapshot in the given format.
pub fn render(snapshot: &Snapshot, format: Format, out: &mut Vec<u8>) {
    render_families(snapshot, format, |_| true, out);
    render_end(format, out);
}

/// Appends the families of the snapshot for which `wanted` is true, without an end mark.
pub fn render_families(
    snapshot: &Snapshot,
    format: Format,
    wanted: impl Fn(&Family) -> bool,
    out: &mut Vec<u8>,
) {
    for family in snapshot.families().filter(|f| wanted(f.family)) {
        write_header(family.family, format, out);
        write_samples(&family, out);
    }
}

/// Appends the end mark, which only OpenMetrics has.
pub fn render_end(format: Format, out: &mut Vec<u8>) {
    match format {
        Format::Text => {}
        Format::OpenMetrics1 | Format::OpenMetrics0 => out.extend_from_slice(b"# EOF\n"),
    }
}

/// Appends the metadata lines of a family, which precede its samples.
fn write_header(family: &Family, format: Format, out: &mut Vec<u8>) {
    match format {
        Format::Text => text::write_header(family, out),
        Format::OpenMetrics1 | Format::OpenMetrics0 => openmetrics::write_header(family, out),
    }
}

/// Appends the sample lines of a family, which are the same in both formats.
fn write_samples(family: &SnapshotFamily<'_>, out: &mut Vec<u8>) {
    for (prefix, value) in family.lines() {
        out.extend_from_slice(prefix.as_bytes());
        write_number(value, out);
        out.push(b'\n');
    }
}

/// The help text with these characters escaped. Hardly any help text contains one, so that it is rarely copied.
fn escaped<'a>(help: &'a str, escapes: &[(char, &str)]) -> Cow<'a, str> {
    let mut help = Cow::Borrowed(help);
    for (character, escape) in escapes {
        if help.contains(*character) {
            help = help.replace(*character, escape).into();
        }
    }
    help
}

/// Appends a metadata line: `# HELP name text`.
fn write_meta(keyword: &str, name: &str, text: &str, out: &mut Vec<u8>) {
    for part in ["# ", keyword, " ", name, " ", text, "\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}
