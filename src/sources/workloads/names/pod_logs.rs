//! The names of pods and containers in the names of their log files, which kubelet makes for every pod: `/var/log/pods/NAMESPACE_POD_UID`
//! and `/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log`. Kubernetes' own names have no underscore.

use std::io;
use std::path::Path;

use super::not_listed;
use super::table::Table;
use crate::sources::workloads::name::{is_container_id, Name, Origin};

/// The most files of a folder that are looked at.
const MAX_FILES: usize = 16 * 1024;

/// Reads the names of the files below `/var/log`. `None`: there are none.
pub(super) fn read(logs: &Path) -> Result<Option<Table>, String> {
    let mut table = Table::default();
    let mut are_there = false;
    for (folder, add) in [
        ("pods", add_pod as fn(&mut Table, &str)),
        ("containers", add_container),
    ] {
        let folder = logs.join(folder);
        let failed = |error| not_listed(&folder, &error);
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        are_there = true;
        for (i, entry) in entries.enumerate() {
            if i >= MAX_FILES {
                table.left_out += 1;
                break;
            }
            let name = entry.map_err(failed)?.file_name();
            add(&mut table, &name.to_string_lossy());
        }
    }
    Ok(are_there.then_some(table))
}

fn add_pod(table: &mut Table, file: &str) {
    let mut words = file.splitn(3, '_');
    if let (Some(namespace), Some(pod), Some(uid)) = (words.next(), words.next(), words.next()) {
        if ![namespace, pod, uid].contains(&"") {
            table.add_pod(uid, namespace, pod);
        }
    }
}

fn add_container(table: &mut Table, file: &str) {
    let mut words = file.splitn(3, '_');
    let (Some(pod), Some(namespace), Some(rest)) = (words.next(), words.next(), words.next())
    else {
        return;
    };
    let Some((container, id)) = rest
        .strip_suffix(".log")
        .and_then(|rest| rest.rsplit_once('-'))
    else {
        return;
    };
    if is_container_id(id) && ![pod, namespace, container].contains(&"") {
        let name = Name::of_pod(namespace, pod, Some(container));
        table.add_container(id, name, Origin::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::testing::Tree;
    use crate::sources::workloads::name::{Kind, Workload};

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    /// A static pod's.
    const UID: &str = "35bc3bbb1e3c4b7f8c1ad6f0d7a0ee1b";

    #[test]
    fn pods_and_containers_are_read_from_the_names_of_their_logs() {
        let tree = Tree::new(&[]);
        assert!(read(&tree.path("log")).unwrap().is_none());
        for file in [
            format!("log/pods/kube-system_etcd-node-a_{UID}/etcd/0.log"),
            format!("log/containers/etcd-node-a_kube-system_etcd-{ID}.log"),
            "log/pods/__".to_string(),
            "log/pods/a_b".to_string(),
            "log/containers/a_b_c-12.log".to_string(),
            format!("log/containers/__-{ID}.log"),
        ] {
            tree.write(&file, "");
        }
        let table = read(&tree.path("log")).unwrap().unwrap();
        assert_eq!(table.len(), 2);
        let find = |id: Option<&str>| {
            let found = Workload {
                name: Name::new(Kind::Pod, UID),
                origin: Origin {
                    container_id: id.map(str::to_string),
                    pod_uid: Some(UID.to_string()),
                    ..Origin::default()
                },
            };
            table.find(&found).unwrap().workload.name
        };
        let of_pod = |container| Name::of_pod("kube-system", "etcd-node-a", container);
        assert_eq!(find(None), of_pod(None));
        assert_eq!(find(Some(ID)), of_pod(Some("etcd")));
    }
}
