//! The bounds of numbers, texts and lists in both OpenAPI documents are those of the program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod config_server_support;
mod support;

use config_server_support::ConfigServer;
use edge_metrics_exporter::config::{
    valid_metric_name, DEVICE_TYPES, MAX_METRICS, MAX_NAME_LENGTH,
};
use serde_json::{json, Map, Value};
use support::TempDir;

fn document(name: &str) -> Value {
    let path = format!("{}/docs/openapi/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Resolves a `$ref`.
fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(to) => document.pointer(to.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

/// The alternatives of a schema, each with no further ones.
fn alternatives<'a>(document: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let schema = resolved(document, schema);
    let others = ["oneOf", "anyOf"]
        .iter()
        .filter_map(|key| schema[key].as_array());
    let others: Vec<_> = others
        .flatten()
        .flat_map(|other| alternatives(document, other))
        .collect();
    if others.is_empty() {
        vec![schema]
    } else {
        others
    }
}

/// Every number is accepted at its bounds and refused beyond them, by PUT and by PATCH.
#[test]
fn numbers_are_accepted_exactly_within_their_bounds() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    let document = document("config-server");
    let mut bounds = 0;
    for (schema, method) in [("NewConfig", "PUT"), ("Patch", "PATCH")] {
        let properties = &document["components"]["schemas"][schema]["properties"];
        for (key, schema) in properties.as_object().unwrap() {
            for schema in alternatives(&document, schema) {
                let number = |bound: &str| schema[bound].as_f64();
                let (Some(least), Some(most)) = (number("minimum"), number("maximum")) else {
                    continue;
                };
                bounds += 1;
                let is_whole = !schema["type"].to_string().contains("number");
                let step = if is_whole { 1.0 } else { least.min(1.0) / 2.0 };
                for (value, is_good) in [
                    (least, true),
                    (most, true),
                    (least - step, false),
                    (most + step, false),
                ] {
                    let value = match is_whole {
                        true => json!(value as i64),
                        false => json!(value),
                    };
                    let mut config = Map::new();
                    config.insert("device_type".into(), "generic".into());
                    config.insert(key.clone(), value);
                    central.send("PUT", "/config/edge-01", r#"{"device_type":"generic"}"#);
                    let config = Value::Object(config).to_string();
                    let answer = central.send(method, "/config/edge-01", &config);
                    let wanted = if is_good { 200 } else { 400 };
                    assert_eq!(
                        answer.status,
                        wanted,
                        "{method} {config}: {}",
                        answer.text()
                    );
                }
            }
        }
    }
    assert_eq!(bounds, 6);
    // Values that are no numbers.
    for schema in alternatives(&document, &document["components"]["schemas"]["Port"]) {
        for value in schema["enum"].as_array().into_iter().flatten() {
            for key in ["port", "reload_port"] {
                let config = json!({"device_type": "generic", key: value}).to_string();
                let answer = central.send("PUT", "/config/edge-01", &config);
                assert_eq!(answer.status, 200, "{config}: {}", answer.text());
            }
        }
    }
    for (address, status) in [
        ("10.0.0.1", 200),
        ("fd00::1", 200),
        ("0.0.0.0", 400),
        ("ff02::1", 400),
        ("host", 400),
    ] {
        let config = json!({"device_type": "generic", "ip_address": address}).to_string();
        assert_eq!(
            central.send("PUT", "/config/edge-02", &config).status,
            status,
            "{address}"
        );
    }
}

#[test]
fn texts_lists_and_queries_are_accepted_exactly_within_their_bounds() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    let document = document("config-server");
    let at = |pointer: &str| {
        document
            .pointer(pointer)
            .unwrap_or_else(|| panic!("{pointer}"))
    };
    let id = at("/components/parameters/DeviceId/schema");
    let longest = id["maxLength"].as_u64().unwrap() as usize;
    let put = |id: &str, config: &Value| {
        central
            .send("PUT", &format!("/config/{id}"), &config.to_string())
            .status
    };
    let generic = json!({"device_type": "generic"});
    assert_eq!(id["minLength"], 1);
    for (name, status) in [
        ("x".repeat(longest), 200),
        ("x".repeat(longest + 1), 400),
        ("A0.b_c-d".into(), 200),
        (".a".into(), 400),
        ("-a".into(), 400),
        ("_a".into(), 400),
        ("a%20b".into(), 400),
    ] {
        assert_eq!(put(&name, &generic), status, "{name}");
    }
    let types: Vec<&str> = at("/components/schemas/DeviceType/enum")
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(types, DEVICE_TYPES);
    let metrics = at("/components/schemas/NewConfig/properties/metrics");
    assert_eq!(metrics["maxProperties"], MAX_METRICS);
    let pattern = metrics["propertyNames"]["pattern"].as_str().unwrap();
    assert_eq!(
        pattern,
        format!("^[a-zA-Z_:][a-zA-Z0-9_:]{{0,{}}}$", MAX_NAME_LENGTH - 1)
    );
    assert!(
        valid_metric_name(&"x".repeat(MAX_NAME_LENGTH))
            && !valid_metric_name(&"x".repeat(MAX_NAME_LENGTH + 1))
    );
    for (count, status) in [(MAX_METRICS, 200), (MAX_METRICS + 1, 400)] {
        let metrics: Map<String, Value> =
            (0..count).map(|n| (format!("m{n}"), true.into())).collect();
        assert_eq!(
            put(
                "many",
                &json!({"device_type": "generic", "metrics": metrics})
            ),
            status,
            "{count}"
        );
    }
    let get = |query: String| central.get(&format!("/devices?{query}")).status;
    for parameter in at("/paths/~1devices/get/parameters").as_array().unwrap() {
        let (name, schema) = (parameter["name"].as_str().unwrap(), &parameter["schema"]);
        match (
            schema["minimum"].as_u64(),
            schema["maximum"].as_u64(),
            schema["maxLength"].as_u64(),
        ) {
            (Some(least), Some(most), _) => {
                for (value, status) in
                    [(least, 200), (most, 200), (least - 1, 400), (most + 1, 400)]
                {
                    assert_eq!(get(format!("{name}={value}")), status, "{name}={value}");
                }
            }
            (_, _, Some(longest)) => {
                for (length, status) in [(longest, 200), (longest + 1, 400)] {
                    let text = "x".repeat(length as usize);
                    assert_eq!(get(format!("{name}={text}")), status, "{name}: {length}");
                }
            }
            _ => assert!(["status", "label", "sort"].contains(&name), "{name}"),
        }
        for order in schema["enum"].as_array().into_iter().flatten() {
            assert_eq!(get(format!("{name}={}", order.as_str().unwrap())), 200);
        }
        if let Some(most) = schema["maxItems"].as_u64() {
            for (count, status) in [(most, 200), (most + 1, 400)] {
                let labels = vec![format!("{name}=a=b"); count as usize];
                assert_eq!(get(labels.join("&")), status, "{name}: {count}");
            }
        }
    }
    for status in at("/components/schemas/Status/enum").as_array().unwrap() {
        assert_eq!(get(format!("status={}", status.as_str().unwrap())), 200);
    }
}

#[test]
fn documented_bounds_match_the_exporter() {
    let document = document("exporter");
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["Switches"]["maxProperties"], MAX_METRICS);
    let port = &schemas["Port"]["oneOf"][0];
    assert_eq!(
        (&port["minimum"], &port["maximum"]),
        (&json!(0), &json!(u16::MAX))
    );
}
