//! The list of containers of Docker's API, which Podman speaks, too: `GET /containers/json`
//! (<https://docs.docker.com/reference/api/engine/>). Pure.

use std::fmt;
use std::io::{BufReader, Read};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::Deserialize;

use super::json::{Each, First};
use super::table::Table;
use crate::metrics::shorten;
use crate::sources::workloads::name::{is_container_id, Kind, Name, Origin};

/// The labels that presets show.
const SHOWN: [&str; 2] = ["com.docker.compose.project", "com.docker.compose.service"];
/// The labels of cri-dockerd, which kubelet runs containers by.
const NAMESPACE: &str = "io.kubernetes.pod.namespace";
const POD: &str = "io.kubernetes.pod.name";
const POD_UID: &str = "io.kubernetes.pod.uid";
const CONTAINER: &str = "io.kubernetes.container.name";
const KEPT: [&str; 6] = [SHOWN[0], SHOWN[1], NAMESPACE, POD, POD_UID, CONTAINER];
/// What cri-dockerd calls the container that keeps a pod's network.
const SANDBOX: &str = "POD";
/// The longest value of a label, in characters.
const MAX_LABEL: usize = 128;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    id: String,
    #[serde(default)]
    names: First<String, 1>,
    #[serde(default)]
    labels: Labels,
}

/// The labels that are kept.
#[derive(Default)]
struct Labels(Vec<(&'static str, String)>);

impl Labels {
    fn get(&self, name: &str) -> Option<&str> {
        let mut labels = self.0.iter();
        labels.find_map(|(label, value)| (*label == name).then_some(value.as_str()))
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Labels, D::Error> {
        struct Kept;
        impl<'de> Visitor<'de> for Kept {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("labels")
            }

            fn visit_unit<E>(self) -> Result<Labels, E> {
                Ok(Labels::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut labels = Labels::default();
                while let Some(key) = map.next_key::<String>()? {
                    let kept = KEPT.iter().find(|kept| **kept == key);
                    match kept.filter(|kept| labels.get(kept).is_none()) {
                        Some(kept) => {
                            let value: String = map.next_value()?;
                            labels
                                .0
                                .push((kept, shorten(&value, MAX_LABEL).into_owned()));
                        }
                        None => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(labels)
            }
        }
        from.deserialize_any(Kept)
    }
}

/// Reads a list of containers of this runtime.
pub fn parse_containers(from: impl Read, runtime: &'static str) -> serde_json::Result<Table> {
    let mut table = Table::default();
    let mut json = serde_json::Deserializer::from_reader(BufReader::new(from));
    Each::new(|container: Container| add(&mut table, container, runtime)).deserialize(&mut json)?;
    json.end()?;
    Ok(table)
}

fn add(table: &mut Table, container: Container, runtime: &'static str) {
    let Container { id, names, labels } = container;
    if !is_container_id(&id) {
        return;
    }
    let name = match (labels.get(NAMESPACE), labels.get(POD)) {
        (Some(namespace), Some(pod)) => {
            if let Some(uid) = labels.get(POD_UID) {
                table.add_pod(uid, namespace, pod);
            }
            let container = labels.get(CONTAINER);
            Name::of_pod(namespace, pod, container.filter(|name| *name != SANDBOX))
        }
        _ => {
            let name = names.0.first().map(|name| name.trim_start_matches('/'));
            let Some(name) = name.filter(|name| !name.is_empty()) else {
                return;
            };
            Name::new(Kind::Container, name)
        }
    };
    let shown = labels.0.into_iter();
    let origin = Origin {
        runtime: Some(runtime),
        labels: shown.filter(|(name, _)| SHOWN.contains(name)).collect(),
        ..Origin::default()
    };
    table.add_container(&id, name, origin);
}
