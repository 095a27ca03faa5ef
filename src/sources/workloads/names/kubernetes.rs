//! The pods of this node by the Kubernetes API, or by kubelet's own list of them.

use std::io::Read;
use std::time::Duration;

use super::pods::parse_pods;
use super::table::Table;
use crate::config::{Kubernetes as Settings, Switch};
use crate::http::client::{in_cluster, Client, Limits};

/// The time for one answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer. The description of a pod takes some 10 kB, sometimes 50 kB.
const MAX_BODY: u64 = 16 * 1024 * 1024;
/// The longest reason for a refusal that is read.
const MAX_REFUSAL: u64 = 4096;

/// The Kubernetes API.
#[derive(Debug)]
pub(super) struct Kubernetes {
    client: Client,
    url: String,
    /// Whether this is kubelet's list.
    is_kubelet: bool,
}

impl Kubernetes {
    /// The API that the configuration and the environment name; `None` if it is not to be used.
    pub(super) fn new(
        settings: &Settings,
        node: &str,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Kubernetes>, String> {
        let token = settings.service_account.join("token");
        let wanted = match settings.enabled {
            Switch::Off => false,
            Switch::On => true,
            Switch::Auto => token.exists(),
        };
        if !wanted {
            return Ok(None);
        }
        let base = settings
            .url
            .clone()
            .or_else(|| in_cluster::url(&environment));
        let Some(base) = base else {
            return match settings.enabled {
                Switch::On => Err("the Kubernetes API is to be asked, but neither workloads.names.kubernetes.url nor \
                     KUBERNETES_SERVICE_HOST says where it is"
                    .into()),
                _ => Ok(None),
            };
        };
        let is_kubelet = base.ends_with("/pods");
        let url = match is_kubelet {
            true => base,
            // Version 0 is what the API server has in its cache.
            false => {
                format!("{base}/api/v1/pods?fieldSelector=spec.nodeName%3D{node}&resourceVersion=0")
            }
        };
        let limits = Limits {
            timeout: TIMEOUT,
            body: MAX_BODY,
        };
        let client = Client::new(in_cluster::settings(&settings.service_account), limits)
            .map_err(|error| error.to_string())?;
        Ok(Some(Kubernetes {
            client,
            url,
            is_kubelet,
        }))
    }

    /// The pods now. The error is a message that names the URL.
    pub(super) fn read(&self) -> Result<Table, String> {
        let accept = [("Accept", "application/json")];
        let answer = self.client.get_for_stream(&self.url, &accept);
        let (status, body) = answer.map_err(|error| error.to_string())?;
        if status != 200 {
            return Err(self.refused(status, body));
        }
        parse_pods(body).map_err(|error| {
            format!(
                "{}: the answer is no list of pods of at most {} MiB ({error})",
                self.url,
                MAX_BODY >> 20
            )
        })
    }

    fn refused(&self, status: u16, body: impl Read) -> String {
        let mut text = Vec::new();
        let _ = body.take(MAX_REFUSAL).read_to_end(&mut text);
        let said = in_cluster::refusal(&text).unwrap_or_else(|| "no reason given".to_string());
        let hint = match (status, self.is_kubelet) {
            (401 | 403, true) => {
                " (the service account needs a ClusterRole with the verb get on nodes/proxy)"
            }
            (401 | 403, false) => {
                " (the service account needs a ClusterRole with the verb list on pods: deploy/kubernetes/exporter)"
            }
            _ => "",
        };
        format!("{}: status {status}: {}{hint}", self.url, excerpt(&said))
    }
}

/// The beginning of what a server says.
fn excerpt(text: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(200).map(printable).collect()
}
