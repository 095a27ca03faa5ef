//! The few things that talk to the kernel by hand, and the only place for `unsafe`.

pub mod boot_id;
pub mod calendar;
pub mod child;
pub mod clock;
pub mod constant_time;
pub mod datagram;
pub mod file;
pub mod file_stamp;
pub mod heap;
pub mod listen_fds;
pub mod lock;
pub mod notify;
pub mod program;
mod reason;
pub mod signals;
pub mod stop;
pub mod vcio;

pub use reason::reason;

#[cfg(test)]
#[path = "../../tests/support/temp_dir.rs"]
pub(crate) mod temp_dir;
