use super::*;

fn series(labels: &[(&'static str, &str)]) -> Series {
    Series {
        labels: labels.iter().map(|(n, v)| (*n, (*v).into())).collect(),
        at: 0.0,
        value: 1.0,
    }
}

fn node(names: &Names, labels: &[(&'static str, &str)]) -> Option<String> {
    names.node(&series(labels)).map(Into::into)
}

#[test]
fn node_name_excludes_the_port() {
    let names = Names::default();
    for (instance, name) in [
        ("edge-01:9100", "edge-01"),
        ("edge-01", "edge-01"),
        ("10.0.0.7:10250", "10.0.0.7"),
        ("[fe80::1]:80", "fe80::1"),
        ("[fe80::1", "fe80::1"),
        ("[", "["),
        ("[]:80", "[]:80"),
        ("fe80::1", "fe80::1"),
        (":80", ":80"),
    ] {
        assert_eq!(
            node(&names, &[("instance", instance)]).as_deref(),
            Some(name)
        );
    }
    assert_eq!(node(&names, &[("pod", "x")]), None);
}

#[test]
fn node_label_takes_precedence_over_instance() {
    let names = Names::default();
    for label in NODE_LABELS {
        let labels = [("instance", "10.0.0.7:9100"), (*label, "edge-01")];
        assert_eq!(node(&names, &labels).as_deref(), Some("edge-01"), "{label}");
    }
}

#[test]
fn addresses_resolve_to_nodes() {
    let mut names = Names::default();
    names.learn_nodes(&[
        series(&[("internal_ip", "10.0.0.7"), ("node", "node-a.local")]),
        series(&[
            ("internal_ip", "fd00::8"),
            ("node", "node-b.local"),
            ("instance", "10.42.0.9:8080"),
        ]),
        series(&[("internal_ip", "10.0.0.9")]),
    ]);
    names.learn_nodes(&[
        series(&[("pod_ip", "10.42.0.3"), ("node", "node-a.local")]),
        series(&[("pod_ip", "10.0.0.7"), ("node", "another")]),
    ]);
    names.learn_nodes(&[
        series(&[("instance", "10.0.0.7:9100"), ("nodename", "node-a")]),
        series(&[("instance", "192.0.2.1:9100"), ("nodename", "edge-01")]),
    ]);
    for (instance, name) in [
        ("10.0.0.7:9100", "node-a.local"),
        ("10.0.0.7:10250", "node-a.local"),
        ("10.42.0.3:8080", "node-a.local"),
        ("[fd00::8]:9100", "node-b.local"),
        ("192.0.2.1:9100", "edge-01"),
        ("192.0.2.1:9200", "edge-01"),
        ("10.0.0.9:1", "10.0.0.9"),
        ("10.42.0.9:8080", "10.42.0.9"),
    ] {
        let found = node(&names, &[("instance", instance)]);
        assert_eq!(found.as_deref(), Some(name), "{instance}");
    }
    // The node's own host name resolves to its name in the cluster.
    assert_eq!(
        node(&names, &[("hostname", "node-a")]).as_deref(),
        Some("node-a.local")
    );
}

/// Boards behind one address, each on another port.
#[test]
fn shared_address_keeps_its_port() {
    let mut names = Names::default();
    names.learn_nodes(&[
        series(&[("instance", "gateway:9101"), ("nodename", "edge-01")]),
        series(&[("instance", "gateway:9102"), ("nodename", "edge-02")]),
    ]);
    for (instance, name) in [
        ("gateway:9101", "edge-01"),
        ("gateway:9102", "edge-02"),
        ("gateway:9201", "gateway:9201"),
    ] {
        assert_eq!(
            node(&names, &[("instance", instance)]).as_deref(),
            Some(name)
        );
    }
}

#[test]
fn containers_resolve_to_pods() {
    let mut names = Names::default();
    let id = "4ffb78ad06ec9a4e8a3f2c1b5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f80";
    let known = format!("containerd://{id}");
    names.learn_containers(&[
        series(&[
            ("container_id", &known),
            ("pod", "web-0"),
            ("node", "node-a"),
        ]),
        series(&[("container_id", ""), ("pod", "nothing")]),
        series(&[("container_id", "docker://x")]),
    ]);
    for form in [
        id.to_owned(),
        format!("cri-containerd-{id}"),
        format!("docker-{id}.scope"),
        known.clone(),
    ] {
        let (pod, by_container) = names.pod(&series(&[("container_id", &form)])).unwrap();
        assert!(by_container);
        assert_eq!(
            (&*pod.name, pod.node.as_deref()),
            ("web-0", Some("node-a")),
            "{form}"
        );
    }
    assert_eq!(names.pod(&series(&[("container_id", "x")])), None);
    assert_eq!(names.pod(&series(&[("container_id", "")])), None);
    // `pod` is the exporter's own pod, `pod_name` the measured one.
    let labels = [
        ("pod", "kepler-x"),
        ("pod_name", "web-1"),
        ("container_id", id),
    ];
    let (pod, by_container) = names.pod(&series(&labels)).unwrap();
    assert_eq!((&*pod.name, by_container), ("web-1", false));
}
