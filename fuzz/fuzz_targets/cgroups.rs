//! Any bytes as the path of a cgroup and as what the kernel says of CPU time: names are short and printable, whatever lies in a
//! pod is the pod's, and a number comes out of its own text again.
#![no_main]

use edge_metrics_exporter::sources::workloads::name::{classify, Kind, Scope, Workload};
use edge_metrics_exporter::sources::workloads::usage::{
    parse_busy, parse_cgroup, parse_cpu_list, parse_cpu_stat, parse_cpuacct_usage, parse_meminfo,
    parse_memory_bytes, parse_process,
};
use libfuzzer_sys::fuzz_target;

const KINDS: [Kind; 3] = [Kind::Service, Kind::Container, Kind::Pod];

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    for kinds in [&KINDS[..], &KINDS[..1], &KINDS[1..2]] {
        let mut scope = Scope::ROOT;
        let mut pod = None;
        for part in text.split('/') {
            let (workload, inner) = classify(scope, pod.as_deref(), part, kinds);
            pod = workload.as_ref().and_then(|one| one.origin.pod_uid.clone());
            if let Some(Workload { name, .. }) = workload {
                assert!(kinds.contains(&name.kind));
                assert!((1..=64).contains(&name.name.chars().count()));
                assert!(!name.name.chars().any(char::is_control));
                assert_ne!(scope, Scope::Closed);
            }
            scope = inner;
        }
    }
    if let Some(path) = parse_cgroup(&text) {
        assert!(!path.contains('\n'));
    }
    if let Some(nanos) = parse_cpu_stat(bytes) {
        let again = format!("usage_usec {}\n", nanos / 1000);
        assert_eq!(parse_cpu_stat(again.as_bytes()), Some(nanos));
    }
    if let Some(nanos) = parse_cpuacct_usage(bytes) {
        let again = format!("{nanos}\n");
        assert_eq!(parse_cpuacct_usage(again.as_bytes()), Some(nanos));
    }
    if let Some(nanos) = parse_busy(bytes) {
        let again = format!("cpu  {} 0 0 0\n", nanos / 10_000_000);
        assert!(parse_busy(again.as_bytes()).is_some());
    }
    if let Some(process) = parse_process(bytes) {
        assert!(process.comm.len() < bytes.len());
    }
    let _ = parse_cpu_list(&text);
    let _ = parse_meminfo(bytes);
    if let Some(memory) = parse_memory_bytes(bytes) {
        let again = format!("{memory}\n");
        assert_eq!(parse_memory_bytes(again.as_bytes()), Some(memory));
    }
});
