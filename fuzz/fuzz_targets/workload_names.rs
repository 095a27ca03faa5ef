//! Any bytes as what a container engine or the Kubernetes API lists: names are short and printable, and there are not too many.
#![no_main]

use edge_metrics_exporter::sources::workloads::name::{Kind, Name, Origin, Workload};
use edge_metrics_exporter::sources::workloads::names::{docker, pods};
use libfuzzer_sys::fuzz_target;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde1";
const UID: &str = "2f3c4d5e-0123-4567-89ab-cdef01234567";

fuzz_target!(|bytes: &[u8]| {
    let tables = [
        docker::parse_containers(bytes, "docker").ok(),
        pods::parse_pods(bytes).ok(),
    ];
    for table in tables.into_iter().flatten() {
        for (kind, id) in [
            (Kind::Container, Some(ID)),
            (Kind::Pod, Some(ID)),
            (Kind::Pod, None),
        ] {
            let workload = Workload {
                name: Name::new(kind, "x"),
                origin: Origin {
                    container_id: id.map(str::to_string),
                    pod_uid: Some(UID.to_string()),
                    ..Origin::default()
                },
            };
            let Some(found) = table.find(&workload) else {
                continue;
            };
            for (label, value) in found.workload.name.labels() {
                assert!((1..=64).contains(&value.chars().count()), "{label}");
                assert!(!value.chars().any(char::is_control), "{label}");
            }
            for (_, value) in found.workload.origin.labels {
                assert!(value.chars().count() <= 128);
            }
        }
    }
});
