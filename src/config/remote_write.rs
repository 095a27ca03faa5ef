//! `remote_write:`, a list with the keys of Prometheus
//! (prometheus.io/docs/prometheus/latest/configuration, `remote_write`).

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::diagnose::quoted;
use super::section::{Problem, Section};
use super::show;
use super::tree::Node;
use super::values::{self, Outcome, Refusal};
use super::{check_url, duration, http_client, valid_metric_name, ClientSettings};

/// Settings of one receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RemoteWrite {
    /// The name in logs and metrics; by default host and port of the URL.
    pub name: String,
    /// The URL of the receiver.
    #[serde(serialize_with = "show::url_without_query")]
    pub url: String,
    /// The timeout of a request.
    #[serde(rename = "remote_timeout", serialize_with = "show::seconds")]
    pub timeout: Duration,
    /// The protocol to try first.
    #[serde(rename = "protobuf_message")]
    pub protocol: Protocol,
    /// The label `job`; empty is no label.
    pub job: String,
    /// The label `instance`; `None` is the board's name and the port of its metrics, empty is no label.
    pub instance: Option<String>,
    /// Labels added to every series that does not have them.
    #[serde(serialize_with = "show::mapping")]
    pub external_labels: Vec<(String, String)>,
    /// Whether to request the time from the receiver (`HEAD /`) while the kernel reports an unsynchronised clock.
    pub ask_time: bool,
    /// Batching and retries.
    #[serde(rename = "queue_config")]
    pub queue: Queue,
    /// Login, TLS and proxy.
    #[serde(flatten)]
    pub client: ClientSettings,
    /// The queue on disk; `None` is a queue in memory only.
    #[serde(flatten)]
    pub disk: Option<DiskQueue>,
}

/// The versions of the protocol, by the names of their messages in Prometheus's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum Protocol {
    /// `prometheus.WriteRequest`: 1.0.
    #[default]
    #[serde(rename = "prometheus.WriteRequest")]
    V1,
    /// `io.prometheus.write.v2.Request`: 2.0.
    #[serde(rename = "io.prometheus.write.v2.Request")]
    V2,
}

/// Settings of the queue on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiskQueue {
    /// The directory, which only this queue uses.
    #[serde(rename = "queue_directory")]
    pub directory: PathBuf,
    /// The maximum size in bytes.
    #[serde(rename = "queue_bytes")]
    pub bytes: u64,
    /// Samples that were not sent are written to disk at the latest after this time.
    #[serde(serialize_with = "show::seconds")]
    pub sync_interval: Duration,
}

/// `queue_config:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// The maximum number of samples in a request.
    pub max_samples_per_send: usize,
    /// The exact number of readings of each source in a request, for which the sender waits. `None` is as many as there are.
    pub readings_per_send: Option<usize>,
    /// The maximum time that a sample waits for a batch.
    #[serde(serialize_with = "show::seconds")]
    pub batch_send_deadline: Duration,
    /// The delay before the first retry of a request.
    #[serde(serialize_with = "show::seconds")]
    pub min_backoff: Duration,
    /// The maximum delay between retries.
    #[serde(serialize_with = "show::seconds")]
    pub max_backoff: Duration,
    /// Whether to retry after status 429 (too many requests).
    pub retry_on_http_429: bool,
    /// Older samples are not sent; zero is no limit.
    #[serde(serialize_with = "show::seconds")]
    pub sample_age_limit: Duration,
    /// The maximum number of requests that follow a rejected one (400, 413, 422), each with a half of a rejected request; 0
    /// drops a rejected request as a whole.
    pub split_requests: u32,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            max_samples_per_send: 2000,
            readings_per_send: None,
            batch_send_deadline: Duration::from_secs(5),
            min_backoff: Duration::from_millis(30),
            max_backoff: Duration::from_secs(5),
            retry_on_http_429: true,
            sample_age_limit: Duration::ZERO,
            split_requests: 0,
        }
    }
}

impl RemoteWrite {
    /// The maximum time that a sample waits for a batch. With a queue on disk, at most half of `sync_interval`, so that no
    /// sample is written to disk merely because its batch was not complete.
    pub fn max_batch_wait(&self) -> Duration {
        let deadline = self.queue.batch_send_deadline;
        match &self.disk {
            Some(disk) if self.queue.readings_per_send.is_none() => {
                deadline.min(disk.sync_interval / 2)
            }
            _ => deadline,
        }
    }
}

/// Reads the list.
pub(super) fn read(top: &mut Section<'_, '_>) -> Result<Vec<RemoteWrite>, Problem> {
    let entries = top.sections("remote_write", entry)?;
    for (i, entry) in entries.iter().enumerate() {
        if entries.iter().take(i).any(|other| other.name == entry.name) {
            let message = format!(
                "two entries of `remote_write` are called {}: give them a `name` each, or remove one",
                quoted(&entry.name)
            );
            return Err(top.refuse(Some("remote_write"), message));
        }
        let directory = |of: &RemoteWrite| of.disk.as_ref().map(|disk| disk.directory.clone());
        let same = |other: &RemoteWrite| {
            directory(entry).is_some() && directory(other) == directory(entry)
        };
        if entries.iter().take(i).any(same) {
            let message = "two entries of `remote_write` have the same `queue_directory`: each needs one of its own";
            return Err(top.refuse(Some("remote_write"), message.into()));
        }
    }
    Ok(entries)
}

fn entry(section: &mut Section<'_, '_>) -> Result<RemoteWrite, Problem> {
    let (mut url, mut name) = (None, None);
    let mut entry = RemoteWrite {
        name: String::new(),
        url: String::new(),
        timeout: Duration::from_secs(30),
        protocol: Protocol::default(),
        client: ClientSettings::default(),
        external_labels: Vec::new(),
        job: env!("CARGO_PKG_NAME").to_owned(),
        instance: None,
        ask_time: true,
        queue: Queue::default(),
        disk: None,
    };
    section.option("url", http_client::url, &mut url)?;
    section.option("name", values::label, &mut name)?;
    section.set("remote_timeout", duration::positive, &mut entry.timeout)?;
    section.set("protobuf_message", protocol, &mut entry.protocol)?;
    section.set("job", label_value, &mut entry.job)?;
    section.option("instance", label_value, &mut entry.instance)?;
    section.set("external_labels", labels, &mut entry.external_labels)?;
    section.set("ask_time", values::flag, &mut entry.ask_time)?;
    http_client::read(section, &mut entry.client)?;
    section.section("queue_config", |section| {
        queue_config(section, &mut entry.queue)
    })?;
    entry.disk = disk(section)?;
    for key in ["write_relabel_configs", "sigv4", "azuread", "google_iam"] {
        let instead = match key {
            "write_relabel_configs" => "choose with `metrics`, or relabel at the receiver",
            _ => "put a token's file below `authorization`, or a proxy that signs in between",
        };
        section.unsupported(key, instead)?;
    }
    for key in ["send_exemplars", "send_native_histograms"] {
        section.ignored(key, "there are none");
    }
    section.ignored("metadata_config", "metadata go with the samples, in 2.0");
    section.ignored("round_robin_dns", "the addresses are tried in their order");
    let Some(url) = url else {
        let message = "an item of `remote_write` has no `url`: write where to send, such as http://prometheus:9090/api/v1/write";
        return Err(section.refuse(None, message.into()));
    };
    entry.name = name.unwrap_or_else(|| host_and_port(&url));
    entry.url = url;
    Ok(entry)
}

/// Host and port of a URL.
fn host_and_port(url: &str) -> String {
    let authority = check_url(url)
        .ok()
        .and_then(|url| url.into_parts().authority);
    authority.map_or_else(String::new, |authority| authority.to_string())
}

fn queue_config(section: &mut Section<'_, '_>, queue: &mut Queue) -> Result<(), Problem> {
    section.set(
        "max_samples_per_send",
        values::rows,
        &mut queue.max_samples_per_send,
    )?;
    section.option(
        "readings_per_send",
        values::rows,
        &mut queue.readings_per_send,
    )?;
    section.set(
        "batch_send_deadline",
        duration::positive,
        &mut queue.batch_send_deadline,
    )?;
    section.set("min_backoff", duration::positive, &mut queue.min_backoff)?;
    section.set("max_backoff", duration::positive, &mut queue.max_backoff)?;
    section.set(
        "retry_on_http_429",
        values::flag,
        &mut queue.retry_on_http_429,
    )?;
    section.set(
        "sample_age_limit",
        duration::read,
        &mut queue.sample_age_limit,
    )?;
    section.set("split_requests", split_requests, &mut queue.split_requests)?;
    section.ignored("capacity", "`history` says how much is kept");
    for key in ["min_shards", "max_shards"] {
        section.ignored(
            key,
            "one request at a time keeps the samples in their order",
        );
    }
    if queue.min_backoff > queue.max_backoff {
        let message = "`queue_config.min_backoff` is longer than `max_backoff`";
        return Err(section.refuse(Some("min_backoff"), message.into()));
    }
    Ok(())
}

/// Reads the settings of the queue on disk, if it has a directory.
fn disk(section: &mut Section<'_, '_>) -> Result<Option<DiskQueue>, Problem> {
    let mut directory = None;
    section.option("queue_directory", values::path, &mut directory)?;
    let Some(directory) = directory else {
        for key in ["queue_bytes", "sync_interval"] {
            section.ignored(key, "there is no `queue_directory`, the queue is in memory");
        }
        return Ok(None);
    };
    let mut settings = DiskQueue {
        directory,
        bytes: 64 << 20,
        sync_interval: Duration::from_secs(10),
    };
    section.set("queue_bytes", queue_bytes, &mut settings.bytes)?;
    section.set(
        "sync_interval",
        duration::positive,
        &mut settings.sync_interval,
    )?;
    Ok(Some(settings))
}

/// The maximum suffices to find a few bad samples among thousands without flooding the receiver.
fn split_requests(node: &Node) -> Outcome<u32> {
    const MAX: u32 = 1000;
    match values::whole(node).filter(|requests| *requests <= MAX) {
        Some(requests) => Ok(requests),
        None => values::refuse(node, &format!("a whole number of requests from 0 to {MAX}")),
    }
}

fn queue_bytes(node: &Node) -> Outcome<u64> {
    const MIN: u64 = 1 << 20;
    const MAX: u64 = 1 << 40;
    match values::whole(node).filter(|bytes| (MIN..=MAX).contains(bytes)) {
        Some(bytes) => Ok(bytes),
        None => values::refuse(
            node,
            &format!("a whole number of bytes from {MIN} to {MAX}"),
        ),
    }
}

fn protocol(node: &Node) -> Outcome<Protocol> {
    match node {
        Node::Text(text) if text == "prometheus.WriteRequest" => Ok(Protocol::V1),
        Node::Text(text) if text == "io.prometheus.write.v2.Request" => Ok(Protocol::V2),
        _ => values::refuse(
            node,
            "prometheus.WriteRequest or io.prometheus.write.v2.Request",
        ),
    }
}

/// The value of a label; empty is no label.
fn label_value(node: &Node) -> Outcome<String> {
    match node {
        Node::Text(text) if text.is_empty() => Ok(String::new()),
        _ => values::label(node),
    }
}

fn labels(node: &Node) -> Outcome<Vec<(String, String)>> {
    let Node::Map(entries) = node else {
        return values::refuse(node, "names with values, `name: value`, one a line");
    };
    if entries.len() > values::MAX_ITEMS {
        let message = format!("has more than {} names", values::MAX_ITEMS);
        return Err(Refusal::new(message));
    }
    let label = |(name, value): &(String, Node)| {
        if !valid_label_name(name) {
            let message = format!("names {}, which is no label's name", quoted(name));
            return Err(Refusal {
                key: true,
                ..Refusal::new(message).at(name)
            });
        }
        let value = label_value(value).map_err(|refusal| refusal.at(name))?;
        Ok((name.clone(), value))
    };
    entries.iter().map(label).collect()
}

/// Whether this is a valid label name: `[a-zA-Z_][a-zA-Z0-9_]*`, without two leading underscores, which Prometheus reserves.
pub fn valid_label_name(name: &str) -> bool {
    valid_metric_name(name) && !name.contains(':') && !name.starts_with("__")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn max_batch_wait(settings: &str) -> Duration {
        let text = format!("remote_write:\n  - url: http://h/\n{settings}");
        let (config, _) = crate::config::Schema::default().parse(&text).unwrap();
        config.remote_write[0].max_batch_wait()
    }

    #[test]
    fn batch_wait_is_shorter_than_the_sync_interval() {
        let disk = "    queue_directory: /q\n";
        assert_eq!(max_batch_wait(""), Duration::from_secs(5));
        assert_eq!(max_batch_wait(disk), Duration::from_secs(5));
        let short = format!("{disk}    sync_interval: 2s\n");
        assert_eq!(max_batch_wait(&short), Duration::from_secs(1));
        let hour = "    queue_config: {batch_send_deadline: 1h}\n";
        assert_eq!(max_batch_wait(hour), Duration::from_secs(3600));
        let by_default = format!("{disk}{hour}");
        assert_eq!(max_batch_wait(&by_default), Duration::from_secs(5));
        // An exact number of readings takes precedence.
        let exact = format!(
            "{disk}    queue_config: {{readings_per_send: 100, batch_send_deadline: 1h}}\n"
        );
        assert_eq!(max_batch_wait(&exact), Duration::from_secs(3600));
    }
}
