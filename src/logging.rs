//! The log: one line per event on standard error, written through a queue so that logging never blocks.

mod queue;

use std::io;
use std::os::fd::AsFd;
use std::str::FromStr;

use log::LevelFilter;

use queue::Queue;

/// All lines for standard error go through this queue, so that they keep their order.
static QUEUE: Queue = Queue::new();

/// Starts the log at the given level, else at that of `RUST_LOG`, else at `info`. Lines have no time stamps: the journal and
/// syslog add their own, and a board's clock may be wrong. The error is for people.
pub fn start(level: Option<&str>) -> Result<(), String> {
    let mut builder = env_logger::Builder::new();
    match level {
        Some(level) => {
            let level = LevelFilter::from_str(level).map_err(|_| {
                format!("--log.level {level}: there are error, warn, info, debug, trace and off")
            })?;
            builder.filter_level(level);
        }
        None => {
            builder.filter_level(LevelFilter::Info);
            builder.parse_default_env();
        }
    }
    builder.format(|out, record| {
        use io::Write;
        // ureq traces every byte that it sends, passwords included.
        if record.target().starts_with("ureq") && record.level() > LevelFilter::Info {
            return Ok(());
        }
        let level = record.level().as_str().to_lowercase();
        writeln!(out, "{level}: {}", record.args())
    });
    builder.target(env_logger::Target::Pipe(Box::new(QueueWriter)));
    // The standard library's panic hook would block while nobody reads standard error, and the process could not abort.
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        write_line(&format!(
            "error: thread '{}' {panic}",
            thread.name().unwrap_or("?")
        ));
        flush();
    }));
    builder
        .try_init()
        .map_err(|e| format!("cannot start the log: {e}"))
}

/// Writes a line to standard error, after all earlier lines of the log.
pub fn write_line(line: &str) {
    QUEUE.push(format!("{line}\n").as_bytes());
}

/// Waits until all lines are written, for the end of the process. Gives up soon while standard error accepts nothing.
pub fn flush() {
    QUEUE.flush(io::stderr().as_fd());
}

/// How many lines were dropped because standard error did not accept them.
pub fn dropped_lines() -> u64 {
    QUEUE.dropped()
}

/// Where env_logger writes to. Each call of `write` has one whole record.
struct QueueWriter;

impl io::Write for QueueWriter {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        // A record that the format left out is empty.
        if !record.is_empty() {
            QUEUE.push(record);
        }
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
