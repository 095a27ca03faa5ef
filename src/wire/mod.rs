//! The types that boards and the central server exchange: device names, and what a board tells about itself.

mod device_id;
mod power;
mod report;

pub use device_id::DeviceId;
pub use power::{EnergyReading, PowerReading};
pub use report::{Ports, Report};

/// The `error` field of a 500 response: the configuration that the server holds for the board is invalid. The server itself
/// works.
pub const INVALID_CONFIGURATION: &str = "Invalid configuration";
