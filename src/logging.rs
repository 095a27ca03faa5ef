//! The log: one line per event, on standard error, by way of a queue that never blocks.

mod queue;

use std::io;
use std::os::fd::AsFd;
use std::str::FromStr;

use log::LevelFilter;

use queue::Queue;

/// Every line for standard error goes through it, so that their order is kept.
static QUEUE: Queue = Queue::new();

/// Starts it: at the given level, else as `RUST_LOG` says, else at `info`. No time stamps: the journal and syslog
/// have their own, and a board's clock may be wrong.
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
        // The HTTP client traces what it sends byte by byte, passwords included.
        if record.target().starts_with("ureq") && record.level() > LevelFilter::Info {
            return Ok(());
        }
        let level = record.level().as_str().to_lowercase();
        writeln!(out, "{level}: {}", record.args())
    });
    builder.target(env_logger::Target::Pipe(Box::new(Records)));
    // The standard library's own message would block where nobody reads it, and with it a process that is to abort.
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

/// Writes a line to standard error, behind those of the log.
pub fn write_line(line: &str) {
    QUEUE.push(format!("{line}\n").as_bytes());
}

/// Waits until all lines are written; not for long where standard error takes nothing. For the end of the process.
pub fn flush() {
    QUEUE.flush(io::stderr().as_fd());
}

/// How many lines were dropped because standard error did not take them.
pub fn dropped_lines() -> u64 {
    QUEUE.dropped()
}

/// What env_logger writes to: it gives each record whole.
struct Records;

impl io::Write for Records {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        // That of a line that is left out is empty.
        if !record.is_empty() {
            QUEUE.push(record);
        }
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
