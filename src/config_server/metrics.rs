//! The server's own metrics, at `/metrics`.

use std::sync::Mutex;

use super::catalog::Catalog;
use super::groups::{GroupSet, Groups};
use crate::exposition::{negotiate, render};
use crate::http::{Method, Request, Response};
use crate::metrics::{Policy, Process, Registry, SelfGroup, BUILD};
use crate::sys::clock::BootTime;
use crate::sys::lock;

/// Counts what the server does, and shows it.
pub(super) struct Metrics {
    registry: Registry,
    state: Mutex<State>,
}

struct State {
    out: SelfGroup,
    process: Process,
    /// Whether the last call of the store succeeded, if there was one.
    store_up: Option<bool>,
    store_errors: u64,
    /// In the order in which each was answered first. There are as many as routes, methods and statuses, which are all ours.
    requests: Vec<Requests>,
    reloads: u64,
    failed_reloads: u64,
}

/// The requests of one method, route and status.
struct Requests {
    method: &'static str,
    route: &'static str,
    status: u16,
    status_text: String,
    count: u64,
}

impl Metrics {
    pub(super) fn new() -> Metrics {
        let registry = Registry::new(Policy::All);
        let state = State {
            out: SelfGroup::new(&registry, 0, "config-server", vec![]),
            process: Process::default(),
            store_up: None,
            store_errors: 0,
            requests: Vec::new(),
            reloads: 0,
            failed_reloads: 0,
        };
        Metrics {
            registry,
            state: Mutex::new(state),
        }
    }

    /// Counts a request that was answered.
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
        let mut known = state.requests.iter_mut();
        match known.find(|r| r.status == status && r.method == method && r.route == route) {
            Some(requests) => requests.count += 1,
            None => state.requests.push(Requests {
                method,
                route,
                status,
                status_text: status.to_string(),
                count: 1,
            }),
        }
    }

    /// Counts a call of the store. `true`: the call before it had the other outcome, or there was none.
    pub(super) fn store_called(&self, worked: bool) -> bool {
        let mut state = lock::lock(&self.state);
        state.store_errors += u64::from(!worked);
        state.store_up.replace(worked) != Some(worked)
    }

    /// Counts a board that was told to reload.
    pub(super) fn reloaded(&self, worked: bool) {
        let mut state = lock::lock(&self.state);
        match worked {
            true => state.reloads += 1,
            false => state.failed_reloads += 1,
        }
    }

    /// The response to a scrape.
    pub(super) fn scrape(
        &self,
        request: &Request,
        (catalog, groups): (&Catalog, &Groups),
        dropped_records: u64,
    ) -> Response {
        let now = BootTime::now();
        lock::lock(&self.state).write(now, catalog, groups, dropped_records);
        let format = negotiate(request.header_list("Accept").as_deref());
        let mut text = Vec::new();
        render(&self.registry.snapshot(now), format, &mut text);
        Response::new(200, format.content_type(), text).with_header("Vary", "Accept")
    }
}

impl State {
    fn write(&mut self, now: BootTime, catalog: &Catalog, groups: &Groups, dropped_records: u64) {
        let out = &mut self.out;
        out.begin(now);
        for (result, count) in [("success", self.reloads), ("failed", self.failed_reloads)] {
            out.counter(
                "config_server_reloads_total",
                "Requests to boards to load their configuration, by outcome.",
                &[("result", result)],
                count as f64,
            );
        }
        self.process.write(out);
        out.gauge(
            "config_server_build_info",
            "1. The labels describe this server's build.",
            &BUILD,
            1.0,
        );
        out.gauge(
            "config_server_store_up",
            "Whether the last access to the store succeeded: 1 or 0.",
            &[],
            self.store_up.map(f64::from),
        );
        out.counter(
            "config_server_store_errors_total",
            "Accesses to the store that failed.",
            &[],
            self.store_errors as f64,
        );
        out.gauge(
            "config_server_devices",
            "Devices in the store when it was last read.",
            &[],
            catalog.count().map(|count| count as f64),
        );
        let set = groups.known();
        let count = |count: fn(&GroupSet) -> usize| set.as_deref().map(|set| count(set) as f64);
        out.gauge(
            "config_server_groups",
            "Groups in the store when it was last read.",
            &[],
            count(|set| set.entries.len()),
        );
        out.gauge(
            "config_server_groups_invalid",
            "Invalid groups. Their members have no valid configuration.",
            &[],
            count(GroupSet::broken),
        );
        out.gauge(
            "config_server_groups_left_out",
            "Groups not read because they exceed the limit. If there are any, no board has a valid configuration.",
            &[],
            count(|set| set.left_out),
        );
        out.counter(
            "config_server_changes_dropped_total",
            "Records of changes that this server has dropped because they exceed the limit, the oldest first.",
            &[],
            dropped_records as f64,
        );
        let (parsed, rendered) = catalog.work();
        out.counter(
            "config_server_configurations_parsed_total",
            "Configurations parsed because they were new, had changed, or are too long to be kept in memory.",
            &[],
            parsed as f64,
        );
        out.counter(
            "config_server_pieces_rendered_total",
            "Segments of /devices and /sd rendered because a board had changed. A segment has up to 128 boards.",
            &[],
            rendered as f64,
        );
        for requests in &self.requests {
            let labels = [
                ("method", requests.method),
                ("route", requests.route),
                ("status", requests.status_text.as_str()),
            ];
            out.counter(
                "config_server_requests_total",
                "Requests answered, by method, route and status.",
                &labels,
                requests.count as f64,
            );
        }
        out.publish();
    }
}
