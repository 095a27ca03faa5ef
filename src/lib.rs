//! A Prometheus exporter for the power meters of Linux boards.
//!
//! One binary has several roles: the exporter that runs on a board, the central server that holds the boards'
//! configurations, and the collector that reads energy back out of Prometheus. [`cli`] reads the command line and starts
//! one of them.
//!
//! A sample in the exporter takes this path:
//!
//! 1. [`sources`] reads the meters. A source is an open meter, or one device of a meter that has several. Every source has a
//!    thread of its own, which polls it and publishes the values of a poll together.
//! 2. [`metrics`] keeps the last value of every series, the energy counters, and a history of recent samples. It reads no
//!    meter.
//! 3. [`exposition`] renders the values as text for a scrape, and [`http`] sends that to Prometheus. A scrape never reads a
//!    meter. [`remote_write`] sends the samples of the history to receivers, where the configuration names any.
//!
//! The other modules:
//!
//! * [`config`] is the schema of the configuration: types, defaults, reading and checking. [`store`] is the configuration in
//!   force: its file, changes of it, and the central server that it may come from.
//! * [`exporter`], [`config_server`] and [`collector`] are the roles. In the exporter one supervisor starts and stops the
//!   sources, listeners and remote-write senders that the configuration asks for.
//! * [`doctor`] reports what this board has and what is missing; [`demo`] simulates a board; [`top`] shows one in a terminal, and
//!   [`measure`] says what a command used.
//! * [`mdns`] finds hosts and devices of the network by their names.
//! * [`wire`] has the types that a board and the central server exchange, [`sys`] the system calls, and [`logging`] the log.
//!
//! These modules are in layers, and each uses only those below it: `tests/architecture.rs` has the order and checks it.
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
pub mod mdns;
pub mod measure;
pub mod metrics;
pub mod remote_write;
pub mod sources;
pub mod store;
pub mod sys;
pub mod top;
pub mod wire;
