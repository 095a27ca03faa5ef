//! The `collect` role.
pub mod form;
pub mod join;
pub mod names;
pub mod prometheus;
pub mod queries;
pub mod rows;
