//! The `collect` role.
pub mod prometheus;
