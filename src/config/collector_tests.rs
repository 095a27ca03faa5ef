use super::*;

fn parse(text: &str) -> Result<Collector, String> {
    let root = tree::build(text).map_err(|e| e.to_string())?;
    let (collector, keys) = read(&root).map_err(|problem| problem.locate(text).to_string())?;
    match key_warnings(text, &keys).first() {
        None => Ok(collector),
        Some(warning) => Err(warning.to_string()),
    }
}

fn template() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("collector.yaml.template");
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn template_has_the_defaults() {
    assert_eq!(parse(&template()).unwrap(), Collector::default());
    assert_eq!(parse("").unwrap(), Collector::default());
}

/// The template also has the keys without a default, which are commented out.
#[test]
fn template_shows_every_key() {
    let text = template();
    for key in Collector::known_keys() {
        let name = key.rsplit('.').next().unwrap();
        let shown = text.lines().any(|line| {
            let line = line.trim_start().trim_start_matches('#').trim_start();
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(':'))
        });
        assert!(shown, "{key}");
    }
}

#[test]
fn queries_are_replaced_one_by_one() {
    let config = parse(
        "queries:\n  nodes:\n    wattage: my_watts\n    num_processes: off\n  pods:\n    cpu_usage: [a, 'b{x=\"y\"}']\n  \
         names:\n    containers: false\n",
    )
    .unwrap();
    let default = Queries::default();
    assert_eq!(config.queries.nodes[3], ["my_watts"]);
    assert_eq!(config.queries.nodes[4], [""; 0]);
    assert_eq!(config.queries.nodes[5], default.nodes[5]);
    assert_eq!(config.queries.pods[0], ["a", "b{x=\"y\"}"]);
    assert_eq!(config.queries.containers, [""; 0]);
    assert_eq!(config.queries.node_names, default.node_names);
}

#[test]
fn client_settings_are_read() {
    let config = parse(
        "prometheus:\n  url: http://p/prometheus/\n  authorization: {credentials_file: /token}\n  \
         tls_config: {ca_file: /ca.pem}\n  follow_redirects: false\n",
    )
    .unwrap();
    assert_eq!(config.url, "http://p/prometheus");
    assert!(config.http.authorization.is_some() && !config.http.follow_redirects);
    assert_eq!(
        config.http.tls.ca_file.as_deref(),
        Some(Path::new("/ca.pem"))
    );
}

#[test]
fn errors_have_a_position() {
    for (text, start) in [
        (
            "prometheus: {url: 'prometheus:9090'}",
            "line 1, column 19: `prometheus.url` is refused",
        ),
        (
            "prometheus:\n  url: 'http://a:b@c'",
            "line 2, column 8: `prometheus.url` is refused",
        ),
        (
            "prometheus: {url: 'http://c/?x=1'}",
            "line 1, column 19: `prometheus.url` is refused: it has a query",
        ),
        (
            "prometheus: http://c",
            "line 1, column 13: `prometheus` is the text",
        ),
        ("interval: 0", "line 1, column 11: `interval` is 0"),
        (
            "namespace: a b",
            "line 1, column 12: `namespace` is the text",
        ),
        (
            "namespace: 'x\"} or up{a=\"'",
            "line 1, column 12: `namespace` is the text",
        ),
        ("keep: {nodes: 0}", "line 1, column 15: `keep.nodes` is 0"),
        (
            "streams: {clients: 1000000}",
            "line 1, column 20: `streams.clients` is",
        ),
        (
            "queries: {nodes: {wattage: [a, 1]}}",
            "line 1, column 32: an item of `queries.nodes.wattage`",
        ),
        (
            "queries: {nodes: {wattage: ' '}}",
            "line 1, column 28: `queries.nodes.wattage` is",
        ),
        (
            "queries: {nodes: {watage: a}}",
            "line 1, column 19: unknown key `queries.nodes.watage`: did you mean `wattage`?",
        ),
        (
            "promtheus: {}",
            "line 1, column 1: unknown key `promtheus`: did you mean `prometheus`?",
        ),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.starts_with(start), "{text}\n{error}");
    }
}

#[test]
fn overrides_take_precedence_over_the_file() {
    let dir = std::env::temp_dir().join(format!("eme-collector-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("collector.yaml");
    std::fs::write(&path, "interval: 5\nnamespace: file\nprot: 1\n").unwrap();
    let setting = |from: &str, key: &str, value: &str| KeyOverride {
        from: from.into(),
        key: key.into(),
        value: value.into(),
    };
    let settings = [
        setting(
            "PROMETHEUSSERVER",
            "prometheus.url",
            "http://p:9090/prometheus/",
        ),
        setting("NAMESPACE", "namespace", "environment"),
        setting("--namespace", "namespace", "12"),
    ];
    let (config, warnings) = Collector::load(Some(&path), &settings).unwrap();
    assert_eq!(config.interval, Duration::from_secs(5));
    assert_eq!(config.url, "http://p:9090/prometheus");
    assert_eq!(config.namespace.as_deref(), Some("12"));
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].is_unknown_name, "{warnings:?}");
    let warning = warnings[0].to_string();
    assert_eq!(
        warning,
        "line 3, column 1: unknown key `prot`: did you mean `port`?"
    );
    let bad = [setting("UPDATE_INTERVAL", "interval", "soon")];
    let error = Collector::load(Some(&path), &bad).unwrap_err();
    assert!(
        error.starts_with("UPDATE_INTERVAL: `interval` is the text"),
        "{error}"
    );
    std::fs::write(&path, b"# caf\xe9\n").unwrap();
    let error = Collector::load(Some(&path), &[]).unwrap_err();
    assert!(
        error.contains("collector.yaml:1:6: the byte 0xe9 is not UTF-8"),
        "{error}"
    );
    std::fs::remove_dir_all(&dir).unwrap();
}
