//! System calls, clocks, the allocator and other services of the operating system. Only this module has `unsafe` code.

pub mod boot_id;
pub mod calendar;
pub mod child;
pub mod clock;
pub mod constant_time;
pub mod datagram;
pub mod file;
pub mod file_stamp;
pub mod heap;
pub mod interfaces;
pub mod listen_fds;
pub mod lock;
pub mod notify;
pub mod perf;
pub mod port_holder;
mod printable;
pub mod program;
pub mod random;
pub mod realtime;
mod reason;
pub mod signals;
pub mod sort;
pub mod stop;
pub mod terminal;
pub mod vcio;
pub mod wrap;

pub use printable::printable;
pub use reason::reason;

#[cfg(test)]
#[path = "../../tests/support/temp_dir.rs"]
pub(crate) mod temp_dir;
