//! The columns of the collector's tables of nodes, pods and workloads, and the Prometheus queries that fill them.
//!
//! The first query of a column is that of the original program, with node labels added to `sum by`, so that rows can be joined
//! by node. If a query has no value for a row, the next query is used. `$namespace` is replaced by the namespace whose pods
//! are observed.
//!
//! The last queries are for nodes where this exporter runs alone. Power domains contain each other, so that only one of them
//! is taken: the board, else the processor packages, else the rail that feeds the processor. A Prometheus that has labels
//! `namespace` and `pod` for the exporter itself renames those of the exporter's series to `exported_namespace` and
//! `exported_pod`. Hence each of these queries of pods is there twice, and takes the pod from the label `name`.

/// A column of measurements and its queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// The name in the header and in the configuration.
    pub name: &'static str,
    /// PromQL queries in order of precedence.
    pub queries: &'static [&'static str],
}

/// The columns of nodes, in order. The original program has the last one only in its header.
pub const NODES: &[Column] = &[
    // Cores.
    Column {
        name: "cpu_usage",
        queries: &[
            r#"sum by (node, instance) (rate(node_cpu_seconds_total{mode!="idle"}[1m]))"#,
            "sum by (node, hostname, instance) (rate(board_cpu_seconds_total[1m]))",
        ],
    },
    // The part that is used, from 0 to 1.
    Column {
        name: "memory_usage",
        queries: &[
            "sum by (node, instance) (1 - (avg_over_time(node_memory_MemFree_bytes[1m]) \
             + avg_over_time(node_memory_Cached_bytes[1m]) + avg_over_time(node_memory_Buffers_bytes[1m])) \
             / avg_over_time(node_memory_MemTotal_bytes[1m]))",
            "max by (node, hostname, instance) (1 - board_memory_available_bytes / board_memory_size_bytes)",
        ],
    },
    // MB/s, in and out.
    Column {
        name: "network_usage",
        queries: &[
            "sum by (node, instance) (rate(node_network_receive_bytes_total[1m]) \
             + rate(node_network_transmit_bytes_total[1m])) / 1e6",
        ],
    },
    // Watts: a plug's, else what this exporter measures on the board.
    Column {
        name: "wattage",
        queries: &[
            "tapo_total_wattage",
            "max by (node, hostname, instance) (power_total_watts)",
            r#"sum by (node, hostname, instance) (rate(workload_domain_energy_joules_total{domain=~"cpu.*|vdd_core"}[1m]))"#,
        ],
    },
    // Pods that work.
    Column {
        name: "num_processes",
        queries: &[
            "sum by (node, instance) (kubelet_working_pods)",
            r#"count by (node, hostname, instance) (count by (namespace, exported_namespace, name, node, hostname, instance) (workload_cpu_seconds_total{kind="pod"}))"#,
        ],
    },
    // Watts: Kepler to 0.9 as the original added them up (core and uncore are parts of package), or without the domains
    // that a processor does not have; Kepler from 0.10 on.
    Column {
        name: "kepler_wattage",
        queries: &[
            "sum by (node, instance) (irate(kepler_node_core_joules_total[60s])) \
             + sum by (node, instance) (irate(kepler_node_uncore_joules_total[60s])) \
             + sum by (node, instance) (irate(kepler_node_package_joules_total[60s])) \
             + sum by (node, instance) (irate(kepler_node_dram_joules_total[60s]))",
            "sum by (node, instance) (irate(kepler_node_package_joules_total[60s])) \
             + sum by (node, instance) (irate(kepler_node_dram_joules_total[60s]))",
            "sum by (node, instance) (irate(kepler_node_package_joules_total[60s]))",
            r#"sum by (node, node_name, instance) (irate(kepler_node_cpu_joules_total{zone=~"package|dram"}[60s]))"#,
            r#"sum by (node, node_name, instance) (kepler_node_cpu_watts{zone=~"package|dram"})"#,
        ],
    },
    // Watts.
    Column {
        name: "scaph_wattage",
        queries: &["sum by (node, instance) (scaph_host_power_microwatts / 1e6)"],
    },
    // Watts of processes in no container.
    Column {
        name: "wattage_auxilary",
        queries: &[
            r#"sum by (node, instance) (scaph_process_power_consumption_microwatts{container_id=""} > 0) / 1e6"#,
            r#"sum by (node, hostname, instance) (workload_power_watts{kind!~"pod|container",domain="board"})"#,
            r#"sum by (node, hostname, instance) (workload_power_watts{kind!~"pod|container",domain="package"})"#,
            r#"sum by (node, hostname, instance) (workload_power_watts{kind!~"pod|container",domain=~"cpu.*|vdd_core"})"#,
        ],
    },
    // Degrees Celsius.
    Column {
        name: "temperature",
        queries: &[
            "max by (node, instance) (node_thermal_zone_temp)",
            r#"max by (node, hostname, instance) (temperature_celsius{source="thermal"})"#,
        ],
    },
    // Watts.
    Column {
        name: "idle_wattage",
        queries: &[
            r#"sum by (node, hostname, instance) (workload_idle_watts{domain="board"})"#,
            r#"sum by (node, hostname, instance) (workload_idle_watts{domain="package"})"#,
            r#"sum by (node, hostname, instance) (workload_idle_watts{domain=~"cpu.*|vdd_core"})"#,
        ],
    },
    // Joules since the counter began.
    Column {
        name: "energy_joules",
        queries: &[
            "max by (node, hostname, instance) (board_energy_joules_total)",
            r#"sum by (node, hostname, instance) (workload_domain_energy_joules_total{domain=~"cpu.*|vdd_core"})"#,
            r#"sum by (node, node_name, instance) (kepler_node_cpu_joules_total{zone=~"package|dram"})"#,
            "sum by (node, instance) (scaph_host_energy_microjoules / 1e6)",
        ],
    },
];

/// The columns of pods, in order.
pub const PODS: &[Column] = &[
    // Cores.
    Column {
        name: "cpu_usage",
        queries: &[
            r#"sum by (pod, node, instance) (irate(container_cpu_usage_seconds_total{namespace="$namespace"}[1m]))"#,
            r#"sum by (name, node, hostname, instance) (rate(workload_cpu_seconds_total{kind="pod",namespace="$namespace",exported_namespace=""}[1m]))"#,
            r#"sum by (name, node, hostname, instance) (rate(workload_cpu_seconds_total{kind="pod",exported_namespace="$namespace"}[1m]))"#,
        ],
    },
    // MB.
    Column {
        name: "memory_usage",
        queries: &[
            r#"avg by (pod, node, instance) (container_memory_working_set_bytes{namespace="$namespace"} / 1e6)"#,
            r#"sum by (name, node, hostname, instance) (workload_memory_bytes{kind="pod",namespace="$namespace",exported_namespace=""} / 1e6)"#,
            r#"sum by (name, node, hostname, instance) (workload_memory_bytes{kind="pod",exported_namespace="$namespace"} / 1e6)"#,
        ],
    },
    // MB/s, in and out.
    Column {
        name: "network_usage",
        queries: &[
            r#"sum by (pod, node, instance) (rate(container_network_transmit_bytes_total{pod!="",namespace="$namespace"}[1m]) + rate(container_network_receive_bytes_total{pod!="",namespace="$namespace"}[1m])) / 1e6"#,
        ],
    },
    // Watts.
    Column {
        name: "wattage_kepler",
        queries: &[
            r#"sum by (pod_name, node) (irate(kepler_container_package_joules_total{container_namespace="$namespace"}[1m])) + sum by (pod_name, node) (irate(kepler_container_core_joules_total{container_namespace="$namespace"}[1m])) + sum by (pod_name, node) (irate(kepler_container_dram_joules_total{container_namespace="$namespace"}[1m]))"#,
            r#"sum by (pod_name, node) (irate(kepler_container_package_joules_total{container_namespace="$namespace"}[1m])) + sum by (pod_name, node) (irate(kepler_container_dram_joules_total{container_namespace="$namespace"}[1m]))"#,
            r#"sum by (pod_name, node, node_name) (irate(kepler_pod_cpu_joules_total{pod_namespace="$namespace",zone=~"package|dram"}[1m]))"#,
            r#"sum by (pod_name, node, node_name) (kepler_pod_cpu_watts{pod_namespace="$namespace",zone=~"package|dram",state!="terminated"})"#,
            r#"sum by (name, node, hostname, instance) (workload_power_watts{kind="pod",namespace="$namespace",exported_namespace="",domain="board"})"#,
            r#"sum by (name, node, hostname, instance) (workload_power_watts{kind="pod",exported_namespace="$namespace",domain="board"})"#,
            r#"sum by (name, node, hostname, instance) (workload_power_watts{kind="pod",namespace="$namespace",exported_namespace="",domain="package"})"#,
            r#"sum by (name, node, hostname, instance) (workload_power_watts{kind="pod",exported_namespace="$namespace",domain="package"})"#,
            r#"sum by (name, node, hostname, instance) (workload_power_watts{kind="pod",namespace="$namespace",exported_namespace="",domain=~"cpu.*|vdd_core"})"#,
            r#"sum by (name, node, hostname, instance) (workload_power_watts{kind="pod",exported_namespace="$namespace",domain=~"cpu.*|vdd_core"})"#,
        ],
    },
    // Watts: by the pods that Scaphandre names itself, else by container.
    Column {
        name: "wattage_scaph",
        queries: &[
            r#"sum by (kubernetes_pod_name, kubernetes_node_name, node) (scaph_process_power_consumption_microwatts{kubernetes_pod_namespace="$namespace"} / 1e6)"#,
            r#"sum by (container_id, node, instance) (scaph_process_power_consumption_microwatts{container_id!=""} / 1e6)"#,
        ],
    },
    // Watts: this exporter's, else Kepler's, else Scaphandre's.
    Column {
        name: "wattage",
        queries: &[
            r#"sum by (name, node, hostname, instance) (workload_power_watts{kind="pod",namespace="$namespace",exported_namespace="",domain="board"})"#,
            r#"sum by (name, node, hostname, instance) (workload_power_watts{kind="pod",exported_namespace="$namespace",domain="board"})"#,
            r#"sum by (name, node, hostname, instance) (workload_power_watts{kind="pod",namespace="$namespace",exported_namespace="",domain="package"})"#,
            r#"sum by (name, node, hostname, instance) (workload_power_watts{kind="pod",exported_namespace="$namespace",domain="package"})"#,
            r#"sum by (name, node, hostname, instance) (workload_power_watts{kind="pod",namespace="$namespace",exported_namespace="",domain=~"cpu.*|vdd_core"})"#,
            r#"sum by (name, node, hostname, instance) (workload_power_watts{kind="pod",exported_namespace="$namespace",domain=~"cpu.*|vdd_core"})"#,
            r#"sum by (pod_name, node, node_name) (irate(kepler_pod_cpu_joules_total{pod_namespace="$namespace",zone=~"package|dram"}[1m]))"#,
            r#"sum by (kubernetes_pod_name, kubernetes_node_name, node) (scaph_process_power_consumption_microwatts{kubernetes_pod_namespace="$namespace"} / 1e6)"#,
        ],
    },
    // Joules since the counters of its containers began, which are added up.
    Column {
        name: "energy_joules",
        queries: &[
            r#"sum by (name, container, exported_container, node, hostname, instance) (workload_energy_joules_total{kind="pod",namespace="$namespace",exported_namespace="",domain="board"})"#,
            r#"sum by (name, container, exported_container, node, hostname, instance) (workload_energy_joules_total{kind="pod",exported_namespace="$namespace",domain="board"})"#,
            r#"sum by (name, container, exported_container, node, hostname, instance) (workload_energy_joules_total{kind="pod",namespace="$namespace",exported_namespace="",domain="package"})"#,
            r#"sum by (name, container, exported_container, node, hostname, instance) (workload_energy_joules_total{kind="pod",exported_namespace="$namespace",domain="package"})"#,
            r#"sum by (name, container, exported_container, node, hostname, instance) (workload_energy_joules_total{kind="pod",namespace="$namespace",exported_namespace="",domain=~"cpu.*|vdd_core"})"#,
            r#"sum by (name, container, exported_container, node, hostname, instance) (workload_energy_joules_total{kind="pod",exported_namespace="$namespace",domain=~"cpu.*|vdd_core"})"#,
            r#"sum by (pod_name, node, node_name) (kepler_pod_cpu_joules_total{pod_namespace="$namespace",zone=~"package|dram"})"#,
        ],
    },
];

/// The columns of workloads other than pods, in order.
pub const WORKLOADS: &[Column] = &[
    // Cores.
    Column {
        name: "cpu_usage",
        queries: &[
            r#"sum by (kind, name, node, hostname, instance) (rate(workload_cpu_seconds_total{kind!="pod"}[1m]))"#,
        ],
    },
    // MB.
    Column {
        name: "memory_usage",
        queries: &[
            r#"sum by (kind, name, node, hostname, instance) (workload_memory_bytes{kind!="pod"} / 1e6)"#,
        ],
    },
    // Watts.
    Column {
        name: "wattage",
        queries: &[
            r#"sum by (kind, name, node, hostname, instance) (workload_power_watts{kind!="pod",domain="board"})"#,
            r#"sum by (kind, name, node, hostname, instance) (workload_power_watts{kind!="pod",domain="package"})"#,
            r#"sum by (kind, name, node, hostname, instance) (workload_power_watts{kind!="pod",domain=~"cpu.*|vdd_core"})"#,
        ],
    },
    // Joules since its counter began.
    Column {
        name: "energy_joules",
        queries: &[
            r#"sum by (kind, name, node, hostname, instance) (workload_energy_joules_total{kind!="pod",domain="board"})"#,
            r#"sum by (kind, name, node, hostname, instance) (workload_energy_joules_total{kind!="pod",domain="package"})"#,
            r#"sum by (kind, name, node, hostname, instance) (workload_energy_joules_total{kind!="pod",domain=~"cpu.*|vdd_core"})"#,
        ],
    },
];

/// The column of cumulative energy, which each table has: the energy between two rows is computed from it.
pub const ENERGY: &str = "energy_joules";

/// Maps addresses (`internal_ip`, `pod_ip` or `instance`) to nodes (`node` or `nodename`). Earlier queries take precedence.
pub const NODE_NAMES: Column = Column {
    name: "nodes",
    queries: &[
        "max by (internal_ip, node) (kube_node_info)",
        "max by (pod_ip, node) (kube_pod_info)",
        "max by (instance, nodename) (node_uname_info)",
    ],
};

/// Maps containers (`container_id`) to pods (`pod`).
pub const CONTAINERS: Column = Column {
    name: "containers",
    queries: &[
        r#"max by (container_id, pod, node) (kube_pod_container_info{namespace="$namespace"})"#,
    ],
};

/// The labels that may contain the node of a series, in order of precedence.
pub const NODE_LABELS: &[&str] = &[
    "node_name",
    "kubernetes_node_name",
    "node",
    "kubernetes_node",
    "nodename",
    "hostname",
];

/// The labels that may contain the pod of a series, in order of precedence. `pod` comes after those of other exporters: beside
/// them it is the pod of the exporter itself.
pub const POD_LABELS: &[&str] = &["pod_name", "kubernetes_pod_name", "pod", "name"];

/// All labels that are read.
pub const LABELS: &[&str] = &[
    "node_name",
    "kubernetes_node_name",
    "node",
    "kubernetes_node",
    "nodename",
    "hostname",
    "instance",
    "pod_name",
    "kubernetes_pod_name",
    "pod",
    "container_id",
    "container",
    "exported_container",
    "kind",
    "name",
    "internal_ip",
    "pod_ip",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_and_pod_labels_are_read() {
        for label in NODE_LABELS.iter().chain(POD_LABELS) {
            assert!(LABELS.contains(label), "{label}");
        }
    }

    /// As in the tables of the original program's README.
    #[test]
    fn columns_have_the_order_of_the_original_program() {
        let names = |columns: &[Column]| columns.iter().map(|c| c.name).collect::<Vec<_>>();
        assert_eq!(
            names(NODES),
            [
                "cpu_usage",
                "memory_usage",
                "network_usage",
                "wattage",
                "num_processes",
                "kepler_wattage",
                "scaph_wattage",
                "wattage_auxilary",
                "temperature",
                "idle_wattage",
                "energy_joules"
            ]
        );
        assert_eq!(
            names(PODS),
            [
                "cpu_usage",
                "memory_usage",
                "network_usage",
                "wattage_kepler",
                "wattage_scaph",
                "wattage",
                "energy_joules"
            ]
        );
    }

    #[test]
    fn every_table_has_energy() {
        for columns in [NODES, PODS, WORKLOADS] {
            assert!(columns.iter().any(|column| column.name == ENERGY));
        }
    }
}
