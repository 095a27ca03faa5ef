//! Reads every power meter a Linux board has and delivers what it read to Prometheus.
//!
//! The way through the house: a *meter* is read by a thread of its own ([`sources`]), which publishes what one poll
//! read to its group in the registry ([`metrics`]); a scrape takes a snapshot of all groups and writes it as text
//! ([`exposition`]), which our own listener delivers ([`http`]). A scrape never touches a meter. Whoever wants every sample
//! gets the rows that a group keeps, by a scrape or sent ([`remote_write`]). What the user wrote ([`config`]) goes through
//! one supervisor ([`exporter`]), which starts and stops all of it. Two roles have rooms of their own: the central server
//! ([`config_server`]), and [`collector`], which gets out of Prometheus what went in, as CSV and as streams.
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
