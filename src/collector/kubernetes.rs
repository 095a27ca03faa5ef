//! Learns from the Kubernetes API which pod a container is in: `GET /api/v1/namespaces/NAMESPACE/pods`
//! (<https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/>). The service account only needs the
//! right to list the namespace's pods.

use std::time::Duration;

use serde_json::Value;

use super::names::Names;
use super::prometheus::{excerpt, MAX_LABEL};
use crate::config;
use crate::http::client::{in_cluster, Client, Limits};

/// The most pods of one answer. The description of a pod takes some 10 kB, sometimes 50 kB.
const PAGE_SIZE: usize = 250;
/// The longest answer.
const MAX_BODY: u64 = 32 * 1024 * 1024;
/// The most answers: 10,000 pods in all.
const MAX_PAGES: usize = 40;

/// The Kubernetes API.
pub struct Kubernetes {
    client: Client,
    /// `…/pods`.
    url: String,
}

impl Kubernetes {
    /// The API that the configuration and the environment name; `None` if it is not to be used. The error is a message for
    /// the user.
    pub fn new(
        config: &config::Kubernetes,
        namespace: &str,
        timeout: Duration,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Kubernetes>, String> {
        let token = config.service_account.join("token");
        let wanted = match config.enabled {
            config::Switch::Off => false,
            config::Switch::On => true,
            config::Switch::Auto => token.exists(),
        };
        if !wanted {
            return Ok(None);
        }
        let Some(base) = config.url.clone().or_else(|| in_cluster::url(environment)) else {
            return match config.enabled {
                config::Switch::On => Err(
                    "the Kubernetes API is to be asked, but neither `kubernetes.url` nor \
                     KUBERNETES_SERVICE_HOST says where it is"
                        .into(),
                ),
                _ => Ok(None),
            };
        };
        let url = format!("{base}/api/v1/namespaces/{namespace}/pods");
        let limits = Limits {
            timeout,
            body: MAX_BODY,
        };
        let client = Client::new(in_cluster::settings(&config.service_account), limits)
            .and_then(|client| client.check(&url).map(|()| client));
        match (client, config.enabled) {
            (Ok(client), _) => Ok(Some(Kubernetes { client, url })),
            (Err(error), config::Switch::On) => Err(error.to_string()),
            (Err(error), _) => {
                log::warn!(
                    "pods of containers cannot be requested from the Kubernetes API: {error}"
                );
                Ok(None)
            }
        }
    }

    /// Learns the containers of the namespace's pods. The error is a message that names the URL.
    pub fn learn(&self, names: &mut Names) -> Result<(), String> {
        let mut next = String::new();
        for _ in 0..MAX_PAGES {
            let url = match next.as_str() {
                "" => format!("{}?limit={PAGE_SIZE}", self.url),
                token => format!(
                    "{}?limit={PAGE_SIZE}&continue={}",
                    self.url,
                    super::query::percent_encoded(token)
                ),
            };
            let accept = [("Accept", "application/json")];
            let answer = self.client.get(&url, &accept).map_err(|e| e.to_string())?;
            if answer.status != 200 {
                return Err(self.refused(answer.status, &answer.body));
            }
            let page = match answer.whole {
                true => parse_pods(&answer.body, names),
                false => Err("the answer is too long"),
            };
            match page.map_err(|what| format!("{}: {what}", self.url))? {
                Some(token) => next = token,
                None => return Ok(()),
            }
        }
        Err(format!(
            "{}: more than {} pods",
            self.url,
            PAGE_SIZE * MAX_PAGES
        ))
    }

    fn refused(&self, status: u16, body: &[u8]) -> String {
        let said = in_cluster::refusal(body);
        let hint = match status {
            401 | 403 => " (the service account needs a role that may list pods in this namespace: deploy/kubernetes/collector)",
            _ => "",
        };
        format!(
            "{}: status {status}: {}{hint}",
            self.url,
            excerpt(said.as_deref().unwrap_or("no reason given"))
        )
    }
}

/// Learns the containers in a list of pods. Returns the token for the next list, if there is one.
pub fn parse_pods(body: &[u8], names: &mut Names) -> Result<Option<String>, &'static str> {
    let list: Value = serde_json::from_slice(body).map_err(|_| "the answer is not JSON")?;
    let items = list.get("items").and_then(Value::as_array);
    for pod in items.ok_or("the answer is no list of pods")? {
        let text = |section: &str, key: &str| {
            let text = pod.get(section)?.get(key)?.as_str()?;
            Some(text).filter(|text| !text.is_empty() && text.len() <= MAX_LABEL)
        };
        let Some(name) = text("metadata", "name") else {
            continue;
        };
        let node = text("spec", "nodeName");
        let kinds = [
            "containerStatuses",
            "initContainerStatuses",
            "ephemeralContainerStatuses",
        ];
        let containers = kinds
            .iter()
            .filter_map(|kind| pod.get("status")?.get(kind)?.as_array())
            .flatten();
        for container in containers {
            let id = container.get("containerID").and_then(Value::as_str);
            if let Some(id) = id.filter(|id| id.len() <= MAX_LABEL) {
                names.learn_container(id, name, node);
            }
        }
    }
    let token = list
        .get("metadata")
        .and_then(|m| m.get("continue")?.as_str());
    Ok(token.filter(|t| !t.is_empty()).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::prometheus::Series;

    fn pod(names: &Names, id: &str) -> Option<(String, Option<String>)> {
        let series = Series {
            labels: vec![("container_id", id.into())],
            at: 0.0,
            value: 0.0,
        };
        let (pod, _) = names.pod(&series)?;
        Some((pod.name.into(), pod.node.map(Into::into)))
    }

    #[test]
    fn containers_are_learned_from_a_list_of_pods() {
        let mut names = Names::default();
        let list = br#"{"kind":"PodList","metadata":{"continue":"more"},"items":[
            {"metadata":{"name":"web-0"},"spec":{"nodeName":"node-a"},"status":{
                "containerStatuses":[{"containerID":"containerd://aa"},{"name":"waiting"},{"containerID":null}],
                "initContainerStatuses":[{"containerID":"containerd://bb"}]}},
            {"metadata":{"name":"pending"},"spec":{},"status":{}},
            {"metadata":{"name":"db-0"},"spec":{},"status":{"containerStatuses":[{"containerID":"docker://cc"}]}},
            7, null, {"metadata":7}, {"metadata":{"name":"x"},"status":{"containerStatuses":{}}}]}"#;
        assert_eq!(parse_pods(list, &mut names), Ok(Some("more".into())));
        let web = Some(("web-0".into(), Some("node-a".into())));
        assert_eq!(pod(&names, "cri-containerd-aa"), web);
        assert_eq!(pod(&names, "bb"), web);
        assert_eq!(pod(&names, "cc"), Some(("db-0".into(), None)));
        assert_eq!(parse_pods(br#"{"items":[]}"#, &mut names), Ok(None));
    }

    #[test]
    fn malformed_lists_are_refused() {
        for body in [
            &b""[..],
            b"<html>",
            b"[]",
            b"{}",
            br#"{"items":null}"#,
            &[b'['; 10_000],
        ] {
            assert!(parse_pods(body, &mut Names::default()).is_err());
        }
    }
}
