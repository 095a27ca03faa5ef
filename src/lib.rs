//! Reads every power meter a Linux board has and delivers what it read to Prometheus.
//!
//! A *meter* is read by a thread of its own ([`sources`]), which publishes each poll to its group in the registry
//! ([`metrics`]). A scrape takes a snapshot of all groups and renders it as text ([`exposition`]), which our own listener
//! delivers ([`http`]); it never touches a meter. Consumers of every sample get the rows that a group keeps, by a scrape or
//! by [`remote_write`]. The schema of the configuration is [`config`]; the configuration in force is [`store`], and one
//! supervisor ([`exporter`]) starts and stops what it asks for. Two more roles have modules of their own: the central server
//! ([`config_server`]), and [`collector`], which reads energy back out of Prometheus, as CSV and as streams. [`wire`] has the
//! types that a board and the central server exchange, and [`sys`] what talks to the kernel.
//!
//! Modules are in layers, and use only those below them; `tests/architecture.rs` has the order.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod cli;
pub mod collector;
pub mod config;
pub mod config_server;
pub mod demo;
pub mod doctor;
pub mod exporter;
pub mod exposition;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod remote_write;
pub mod sources;
pub mod store;
pub mod sys;
pub mod wire;
