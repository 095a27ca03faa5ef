//! What is known of containers and pods. Pure.

use std::collections::HashMap;

use crate::sources::workloads::name::{Kind, Name, Origin, Workload};

/// The most containers, and the most pods, that are kept of one source.
const MAX_ENTRIES: usize = 4096;
/// The longest uid of a pod, in bytes.
const MAX_UID: usize = 64;

/// What one source of names said last.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// By id.
    containers: HashMap<String, Workload>,
    /// By uid.
    pods: HashMap<String, Name>,
    /// How many were left out, since there are too many.
    pub left_out: u64,
}

/// What is known of a workload.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The workload with its names.
    pub workload: Workload,
    /// Whether nothing more is to be learned. Of a container in a known pod, its own name may be missing.
    pub is_whole: bool,
}

impl Table {
    /// Adds a container, whose name and origin may be whatever a stranger says.
    pub fn add_container(&mut self, id: &str, name: Name, origin: Origin) {
        let id = id.to_ascii_lowercase();
        if self.containers.len() >= MAX_ENTRIES && !self.containers.contains_key(&id) {
            self.left_out += 1;
            return;
        }
        self.containers.insert(id, Workload { name, origin });
    }

    /// Adds a pod.
    pub fn add_pod(&mut self, uid: &str, namespace: &str, name: &str) {
        if self.pods.len() >= MAX_ENTRIES && !self.pods.contains_key(uid) {
            self.left_out += 1;
        } else if uid.len() <= MAX_UID {
            let pod = Name::of_pod(namespace, name, None);
            self.pods.insert(uid.to_string(), pod);
        }
    }

    /// How many containers and pods are known.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.containers.len() + self.pods.len()
    }

    /// What is known of a workload that was found by its cgroup.
    pub fn find(&self, workload: &Workload) -> Option<Found> {
        let origin = &workload.origin;
        let by_id = origin.container_id.as_ref();
        if let Some(known) = by_id.and_then(|id| self.containers.get(id)) {
            if let Some(name) = name_as(workload.name.kind, &known.name) {
                let is_rest = workload.name.kind == Kind::Pod && name.container.is_none();
                let workload = Workload {
                    name,
                    origin: Origin {
                        container_id: origin.container_id.clone().filter(|_| !is_rest),
                        runtime: known.origin.runtime.or(origin.runtime),
                        pod_uid: origin.pod_uid.clone(),
                        labels: known.origin.labels.clone(),
                        ..Origin::default()
                    },
                };
                let is_whole = true;
                return Some(Found { workload, is_whole });
            }
        }
        let uid = origin.pod_uid.as_ref()?;
        let pod = self.pods.get(uid)?;
        let is_pod = origin.container_id.is_none();
        Some(Found {
            // What is in no container of which the name is known is the pod's.
            workload: Workload {
                name: pod.clone(),
                origin: Origin {
                    pod_uid: Some(uid.clone()),
                    ..Origin::default()
                },
            },
            is_whole: is_pod,
        })
    }
}

/// A container's name where workloads of this kind are asked for.
fn name_as(kind: Kind, name: &Name) -> Option<Name> {
    if kind == name.kind {
        return Some(name.clone());
    }
    // A container of a pod that has a cgroup of its own, as where pods are not asked for.
    let (Kind::Container, Some(namespace)) = (kind, &name.namespace) else {
        return None;
    };
    let container = name.container.as_ref()?;
    let path = format!("{namespace}/{}/{container}", name.name);
    Some(Name::new(Kind::Container, &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "2f3c4d5e-0123-4567-89ab-cdef01234567";

    fn found(kind: Kind, id: Option<&str>, uid: Option<&str>) -> Workload {
        Workload {
            name: Name::new(kind, uid.or(id).unwrap()),
            origin: Origin {
                container_id: id.map(str::to_string),
                pod_uid: uid.map(str::to_string),
                ..Origin::default()
            },
        }
    }

    fn table() -> Table {
        let mut table = Table::default();
        let docker = Origin {
            runtime: Some("docker"),
            ..Origin::default()
        };
        table.add_container("AA", Name::new(Kind::Container, "web"), docker);
        let nginx = Name::of_pod("default", "web-0", Some("nginx"));
        table.add_container("bb", nginx, Origin::default());
        table.add_pod(UID, "default", "web-0");
        table
    }

    #[test]
    fn containers_and_pods_have_the_names_that_are_known() {
        let table = table();
        let web = table
            .find(&found(Kind::Container, Some("aa"), None))
            .unwrap();
        assert_eq!(web.workload.name, Name::new(Kind::Container, "web"));
        assert_eq!(web.workload.origin.runtime, Some("docker"));
        assert_eq!(web.workload.origin.container_id.as_deref(), Some("aa"));
        let nginx = table
            .find(&found(Kind::Pod, Some("bb"), Some(UID)))
            .unwrap();
        let labels: Vec<_> = nginx.workload.name.labels().collect();
        assert_eq!(
            labels,
            [
                ("kind", "pod"),
                ("name", "web-0"),
                ("namespace", "default"),
                ("pod", "web-0"),
                ("container", "nginx")
            ]
        );
        assert!(nginx.is_whole);
        let unknown = found(Kind::Container, Some("cc"), None);
        assert_eq!(table.find(&unknown), None);
        assert_eq!(table.find(&Name::new(Kind::Service, "a").into()), None);
    }

    #[test]
    fn container_of_no_name_is_its_pods_rest_until_more_is_known() {
        let table = table();
        let pod = table.find(&found(Kind::Pod, None, Some(UID))).unwrap();
        let rest = table
            .find(&found(Kind::Pod, Some("cc"), Some(UID)))
            .unwrap();
        assert_eq!(rest.workload, pod.workload);
        assert_eq!((pod.is_whole, rest.is_whole), (true, false));
    }

    #[test]
    fn pods_container_is_called_by_its_path_where_pods_are_not_asked_for() {
        let found = table()
            .find(&found(Kind::Container, Some("bb"), None))
            .unwrap();
        let name = Name::new(Kind::Container, "default/web-0/nginx");
        assert_eq!(found.workload.name, name);
    }

    #[test]
    fn table_is_bounded_and_counts_the_rest() {
        let mut table = Table::default();
        for i in 0..MAX_ENTRIES + 3 {
            table.add_container(
                &i.to_string(),
                Name::new(Kind::Container, "x"),
                Origin::default(),
            );
            table.add_pod(&i.to_string(), "n", "p");
        }
        assert_eq!((table.len(), table.left_out), (2 * MAX_ENTRIES, 6));
    }
}
