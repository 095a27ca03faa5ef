//! What boards and the central server say to each other: the name of a device, and what a board reports of itself.

mod device_id;
mod report;

pub use device_id::DeviceId;
pub use report::{Ports, Report};

/// The `error` of a 500 by which the server says that the configuration it has for a board is none, and that the server
/// itself is well.
pub const INVALID_CONFIGURATION: &str = "Invalid configuration";
