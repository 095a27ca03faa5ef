//! The list of a node's pods of the Kubernetes API, and of kubelet
//! (<https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/>). Pure.

use std::fmt;
use std::io::{BufReader, Read};

use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde::Deserialize;

use super::json::{Each, First};
use super::table::Table;
use crate::sources::workloads::name::{is_container_id, Name, Origin};

/// The most containers of one kind in a pod.
const MAX_CONTAINERS: usize = 256;
/// Runtimes by the scheme of their containers' ids.
const RUNTIMES: [(&str, &str); 3] = [
    ("containerd", "containerd"),
    ("cri-o", "crio"),
    ("docker", "docker"),
];

#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
    status: Option<Status>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    annotations: Option<Annotations>,
}

/// The uid in the cgroups of a pod that kubelet has from a file is not the one that the API gives it.
#[derive(Deserialize)]
struct Annotations {
    #[serde(rename = "kubernetes.io/config.hash")]
    hash: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    container_statuses: First<Container, MAX_CONTAINERS>,
    #[serde(default)]
    init_container_statuses: First<Container, MAX_CONTAINERS>,
    #[serde(default)]
    ephemeral_container_statuses: First<Container, MAX_CONTAINERS>,
}

#[derive(Deserialize)]
struct Container {
    name: String,
    /// `containerd://<id>`; none while it waits.
    #[serde(rename = "containerID")]
    id: Option<String>,
}

/// Reads a list of pods.
pub fn parse_pods(from: impl Read) -> serde_json::Result<Table> {
    let mut table = Table::default();
    let mut json = serde_json::Deserializer::from_reader(BufReader::new(from));
    json.deserialize_map(List(&mut table))?;
    json.end()?;
    Ok(table)
}

/// The top-level object.
struct List<'t>(&'t mut Table);

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of pods")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut is_list = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "items" => {
                    is_list = true;
                    map.next_value_seed(Each::new(|pod: Pod| add(self.0, pod)))?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        match is_list {
            true => Ok(()),
            false => Err(A::Error::custom("it has no items")),
        }
    }
}

fn add(table: &mut Table, pod: Pod) {
    let Metadata {
        name,
        namespace,
        uid,
        annotations,
    } = pod.metadata;
    let hash = annotations.and_then(|annotations| annotations.hash);
    table.add_pod(hash.as_ref().unwrap_or(&uid), &namespace, &name);
    let Some(status) = pod.status else {
        return;
    };
    let containers = [
        status.container_statuses,
        status.init_container_statuses,
        status.ephemeral_container_statuses,
    ];
    for container in containers.into_iter().flat_map(|kind| kind.0) {
        let id = container.id.as_deref().and_then(|id| id.split_once("://"));
        let Some((scheme, id)) = id.filter(|(_, id)| is_container_id(id)) else {
            continue;
        };
        let runtime = RUNTIMES.iter().find(|(known, _)| *known == scheme);
        let origin = Origin {
            runtime: runtime.map(|(_, name)| *name),
            ..Origin::default()
        };
        table.add_container(
            id,
            Name::of_pod(&namespace, &name, Some(&container.name)),
            origin,
        );
    }
}
