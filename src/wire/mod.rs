//! What boards and the central server say to each other: the name of a device, and what a board reports of itself.

mod device_id;
mod report;

pub use device_id::DeviceId;
pub use report::{Ports, Report};
