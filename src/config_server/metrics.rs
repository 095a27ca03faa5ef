//! What the server says of itself at `/metrics`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::catalog::Catalog;
use crate::exposition::{negotiate, render};
use crate::http::{Method, Request, Response};
use crate::metrics::{Desc, Group, Policy, Readings, Registry, SeriesId};
use crate::metrics::{Process, BUILD};
use crate::sys::clock::BootTime;
use crate::sys::lock;

/// What is counted, and shown.
pub(super) struct Metrics {
    registry: Registry,
    group: Arc<Group>,
    generation: u64,
    state: Mutex<State>,
}

struct State {
    readings: Readings,
    process: Process,
    build_info: SeriesId,
    store_up: SeriesId,
    store_errors: SeriesId,
    devices: SeriesId,
    parsed: SeriesId,
    rendered: SeriesId,
    requests: HashMap<(&'static str, &'static str, u16), (SeriesId, u64)>,
    reloads: [(SeriesId, u64); 2],
    store: Option<bool>,
    errors: u64,
}

impl Metrics {
    pub(super) fn new() -> Metrics {
        let registry = Registry::new(Policy::All);
        let group = registry.add_group(0, "config-server", vec![]);
        let gauge = |name: &'static str, help: &'static str| {
            group.series(&Desc::gauge(name, help).own(), &[])
        };
        let counter = |name: &'static str, help: &'static str| {
            group.series(&Desc::counter(name, help).own(), &[])
        };
        let reloads = ["success", "failed"].map(|result| {
            let desc = Desc::counter(
                "config_server_reloads_total",
                "Boards that were told to load their configuration again, by what became of it.",
            );
            (group.series(&desc.own(), &[("result", result)]), 0)
        });
        let build_info = Desc::gauge(
            "config_server_build_info",
            "1, with what this server was built from as labels.",
        );
        let errors = Desc::counter(
            "config_server_store_errors_total",
            "Calls of the store that failed.",
        );
        let state = State {
            readings: Readings::default(),
            process: Process::new(&group),
            build_info: group.series(&build_info.own(), &BUILD),
            store_up: gauge(
                "config_server_store_up",
                "Whether the last call of the store succeeded: 1 or 0.",
            ),
            store_errors: group.series(&errors.own(), &[]),
            devices: gauge(
                "config_server_devices",
                "Devices in the store, when it was last asked.",
            ),
            parsed: counter(
                "config_server_configurations_parsed_total",
                "Configurations that were parsed, since they were new, had changed, or are too long to be kept in memory.",
            ),
            rendered: counter(
                "config_server_pieces_rendered_total",
                "Pieces of /devices and /sd that were rendered, each of up to 128 boards, since one of them had changed.",
            ),
            requests: HashMap::new(),
            reloads,
            store: None,
            errors: 0,
        };
        Metrics {
            generation: group.new_generation(),
            registry,
            group,
            state: Mutex::new(state),
        }
    }

    /// A request was answered. There are as many series as routes, methods and statuses, which are all ours.
    pub(super) fn answered(&self, method: &Method, route: &'static str, status: u16) {
        let method = match method {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Put => "PUT",
            Method::Post => "POST",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
            _ => "other",
        };
        let mut state = lock::lock(&self.state);
        let (_, count) = state
            .requests
            .entry((method, route, status))
            .or_insert_with(|| {
                let desc = Desc::counter(
                    "config_server_requests_total",
                    "Requests that were answered, by method, route and status.",
                );
                let status = status.to_string();
                let labels = [("method", method), ("route", route), ("status", &status)];
                (self.group.series(&desc.own(), &labels), 0)
            });
        *count += 1;
    }

    /// The store was called. True: it is the first time that it goes so, or goes so again.
    pub(super) fn store_called(&self, worked: bool) -> bool {
        let mut state = lock::lock(&self.state);
        state.errors += u64::from(!worked);
        state.store.replace(worked) != Some(worked)
    }

    /// A board was told to reload.
    pub(super) fn reloaded(&self, worked: bool) {
        let mut state = lock::lock(&self.state);
        let [success, failed] = &mut state.reloads;
        let (_, count) = if worked { success } else { failed };
        *count += 1;
    }

    /// The answer to a scrape.
    pub(super) fn scrape(&self, request: &Request, catalog: &Catalog) -> Response {
        let now = BootTime::now();
        let mut state = lock::lock(&self.state);
        let State {
            readings,
            process,
            build_info,
            store_up,
            store_errors,
            devices,
            parsed,
            rendered,
            requests,
            reloads,
            store,
            errors,
        } = &mut *state;
        readings.begin(now);
        process.set(readings);
        readings.set(*build_info, 1.0);
        readings.set(*store_errors, *errors as f64);
        if let Some(store) = store {
            readings.set(*store_up, f64::from(*store));
        }
        if let Some(count) = catalog.count() {
            readings.set(*devices, count as f64);
        }
        let work = catalog.work();
        readings.set(*parsed, work.0 as f64);
        readings.set(*rendered, work.1 as f64);
        for (id, count) in requests.values().chain(reloads.iter()) {
            readings.set(*id, *count as f64);
        }
        self.group.publish(self.generation, readings);
        let format = negotiate(request.header_list("Accept").as_deref());
        let mut text = Vec::new();
        render(&self.registry.snapshot(now), format, &mut text);
        Response::new(200, format.content_type(), text).with_header("Vary", "Accept")
    }
}
