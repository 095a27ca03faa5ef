//! The config-server from outside: responses, stored configurations, and calls to boards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod config_server_support;
mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use config_server_support::{body, command, Board, ConfigServer};
use edge_metrics_exporter::http::Response;
use serde_json::{json, Value};
use support::free_port::FreePort;
use support::{wait_until, TempDir};

const ORIN: &str = r#"{"device_type":"jetson_orin","interval":1,"port":9100,"reload_port":9101,"metrics":{"power_total_watts":true}}"#;

#[test]
fn methods_answer_as_the_original_server_did() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    let expect = |method: &str, path: &str, sent: &str, status: u16, answered: Value| {
        let answer = central.send(method, path, sent);
        assert_eq!(
            (answer.status, body(&answer)),
            (status, answered),
            "{method} {path}"
        );
    };
    expect(
        "GET",
        "/config/edge-01",
        "",
        404,
        json!({"error": "Device not found", "device_id": "edge-01", "message": "No configuration available for this device"}),
    );
    let put =
        |status: &str| json!({"status": status, "device_id": "edge-01", "reload_triggered": false});
    expect("PUT", "/config/edge-01", ORIN, 200, put("registered"));
    expect("PUT", "/config/edge-01", ORIN, 200, put("updated"));
    expect(
        "GET",
        "/config/edge-01",
        "",
        200,
        serde_json::from_str(ORIN).unwrap(),
    );
    expect(
        "POST",
        "/config/edge-01",
        ORIN,
        409,
        json!({"error": "Device already exists", "device_id": "edge-01", "message": "Use PUT to update existing device"}),
    );
    expect(
        "POST",
        "/config/edge-02",
        ORIN,
        201,
        json!({"status": "created", "device_id": "edge-02"}),
    );
    expect(
        "PATCH",
        "/config/edge-03",
        "{}",
        404,
        json!({"error": "Device not found", "device_id": "edge-03", "message": "Use POST or PUT to create new device"}),
    );
    expect(
        "PATCH",
        "/config/edge-02",
        r#"{"interval":0.5,"port":null,"metrics":{"jetson_temp_cpu_celsius":false}}"#,
        200,
        json!({"status": "patched", "device_id": "edge-02", "reload_triggered": false}),
    );
    expect(
        "GET",
        "/config/edge-02",
        "",
        200,
        json!({
            "device_type": "jetson_orin", "interval": 0.5, "reload_port": 9101,
            "metrics": {"power_total_watts": true, "jetson_temp_cpu_celsius": false},
        }),
    );
    expect(
        "DELETE",
        "/config/edge-02",
        "",
        200,
        json!({"status": "deleted", "device_id": "edge-02"}),
    );
    expect(
        "DELETE",
        "/config/edge-02",
        "",
        404,
        json!({"error": "Device not found", "device_id": "edge-02"}),
    );
    let health = central.json("/health");
    assert_eq!(
        (&health["status"], &health["service"]),
        (&json!("healthy"), &json!("config-server"))
    );
    let head = central.send("HEAD", "/config/edge-01", "");
    assert_eq!((head.status, head.body.len()), (200, 0));
    let answer = central.send("OPTIONS", "/config/edge-01", "");
    assert_eq!(answer.status, 405);
    assert_eq!(
        answer.header("Allow"),
        Some("GET, HEAD, PUT, POST, PATCH, DELETE")
    );
    assert_eq!(central.get("/nothing").status, 404);
    assert_eq!(central.send("POST", "/devices", "").status, 405);
    // The stored file is one that a board could use.
    let file = std::fs::read_to_string(dir.path().join("edge-01.yaml")).unwrap();
    assert!(file.starts_with("device_type: jetson_orin\n"), "{file}");
}

#[test]
fn invalid_configuration_is_refused_with_line_and_column() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    let many: Vec<String> = (0..1001).map(|i| format!("\"m{i}\":true")).collect();
    let many = format!(
        "{{\"device_type\":\"generic\",\"metrics\":{{{}}}}}",
        many.join(",")
    );
    for (sent, error, words) in [
        (
            "{\"port\": 9100}",
            "Missing required field",
            "device_type is required",
        ),
        (
            "{\"device_type\": null}",
            "Missing required field",
            "device_type is required",
        ),
        ("", "Invalid JSON", "EOF"),
        ("{", "Invalid JSON", "EOF"),
        ("[]", "Invalid JSON", "settings are wanted"),
        ("{\"a\":1,\"a\":2}", "Invalid JSON", "a second time"),
        (
            "{\"device_type\":\"toaster\"}",
            "Invalid configuration",
            "jetson_orin",
        ),
        (
            "{\"device_type\":\"generic\",\"interval\":\"fast\"}",
            "Invalid configuration",
            "seconds",
        ),
        (
            "{\"device_type\":\"generic\",\"port\":1,\"reload_port\":1}",
            "Invalid configuration",
            "they need two",
        ),
        (
            "{\"device_type\":\"generic\",\"ip_address\":\"plug\"}",
            "invalid_ip_address",
            "no IP address",
        ),
        (
            "{\"device_type\":\"generic\",\"ip_address\":\"0.0.0.0\"}",
            "invalid_ip_address",
            "no IP address",
        ),
        (
            "{\"device_type\":\"generic\",\"ip_address\":\"::ffff:0.0.0.0\"}",
            "invalid_ip_address",
            "no IP address",
        ),
        (
            "{\"device_type\":\"generic\",\"ip_address\":\"::ffff:e000:1\"}",
            "invalid_ip_address",
            "no IP address",
        ),
        (
            "{\"device_type\":\"generic\",\"device_id\":\"edge-02\"}",
            "Invalid configuration",
            "device_id",
        ),
        (&many, "Invalid configuration", "at most 1000"),
    ] {
        let answer = central.send("PUT", "/config/edge-01", sent);
        let said = body(&answer);
        assert_eq!(
            (answer.status, &said["error"]),
            (400, &json!(error)),
            "{sent}"
        );
        assert!(said["message"].as_str().unwrap().contains(words), "{said}");
    }
    let said = body(&central.send(
        "PUT",
        "/config/edge-01",
        r#"{"device_type":"generic","udp":{"port":70000}}"#,
    ));
    assert_eq!(said["key"], "udp.port");
    let said = body(&central.send("PUT", "/config/edge-01", "{\n\"port\": 1,\n\"port\": 2}"));
    assert_eq!(said["line"], 3);
    let yaml = [("Content-Type", "application/yaml")];
    let answer = central.send_with(
        "PUT",
        "/config/edge-01",
        &yaml,
        b"device_type: generic\ninterval: fast\n",
    );
    let said = body(&answer);
    assert_eq!(
        (&said["key"], &said["line"], &said["column"]),
        (&json!("interval"), &json!(2), &json!(11))
    );
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    assert_eq!(
        central
            .send_with("PUT", "/config/edge-01", &form, b"{}")
            .status,
        415
    );
    assert_eq!(
        central
            .send_with("PATCH", "/config/edge-01", &yaml, b"{}")
            .status,
        415
    );
    assert_eq!(central.json("/devices")["total"], 0);
    // An unknown key is a warning, and is stored.
    let said = body(&central.send(
        "PUT",
        "/config/edge-01",
        r#"{"device_type":"generic","prot":1}"#,
    ));
    assert!(
        said["warnings"][0]
            .as_str()
            .unwrap()
            .contains("did you mean"),
        "{said}"
    );
}

#[test]
fn change_requires_its_preconditions() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    let send = |method: &str, condition: (&str, &str), sent: &str| {
        let headers = [("Content-Type", "application/json"), condition];
        central.send_with(method, "/config/edge-01", &headers, sent.as_bytes())
    };
    assert_eq!(send("PUT", ("If-Match", "*"), ORIN).status, 412);
    let created = send("PUT", ("If-None-Match", "*"), ORIN);
    assert_eq!(created.status, 200);
    let first = created.header("ETag").unwrap().to_string();
    let again = send("PUT", ("If-None-Match", "*"), ORIN);
    assert_eq!(
        (again.status, again.header("ETag")),
        (412, Some(first.as_str()))
    );
    let got = central.get("/config/edge-01");
    assert_eq!(got.header("ETag"), Some(first.as_str()));
    let unchanged = send("GET", ("If-None-Match", &first), "");
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    assert_eq!(unchanged.header("ETag"), Some(first.as_str()));
    let weak = format!("W/{first}, \"x\"");
    assert_eq!(send("GET", ("If-None-Match", &weak), "").status, 304);
    let changed = send("PATCH", ("If-Match", &first), r#"{"interval":2}"#);
    assert_eq!(changed.status, 200);
    let second = changed.header("ETag").unwrap().to_string();
    assert_ne!(first, second);
    assert_eq!(send("GET", ("If-None-Match", &first), "").status, 200);
    for method in ["PUT", "PATCH", "DELETE"] {
        let late = send(method, ("If-Match", &first), ORIN);
        assert_eq!(
            (late.status, late.header("ETag")),
            (412, Some(second.as_str())),
            "{method}"
        );
        assert_eq!(body(&late)["error"], "Precondition failed");
    }
    assert_eq!(send("PUT", ("If-Match", "edge"), ORIN).status, 400);
    // The tag depends on the content only, so a restart does not change it.
    drop(central);
    let central = ConfigServer::start(dir.path());
    assert_eq!(
        central.get("/config/edge-01").header("ETag"),
        Some(second.as_str())
    );
    let headers = [("If-Match", second.as_str())];
    assert_eq!(
        central
            .send_with("DELETE", "/config/edge-01", &headers, b"")
            .status,
        200
    );
}

#[test]
fn edited_files_are_served_and_keep_their_comments() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    let text =
        "# the one in the hall\ndevice_type: generic # for now\nina260: {i2c_address: 0x40}\n";
    let yaml = [("Content-Type", "application/yaml")];
    let put = central.send_with("PUT", "/config/hall", &yaml, text.as_bytes());
    assert_eq!(put.status, 200, "{}", put.text());
    let file = dir.path().join("hall.yaml");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    assert_eq!(
        central.json("/config/hall"),
        json!({"device_type": "generic", "ina260": {"i2c_address": 64}})
    );
    std::fs::write(&file, "device_type: generic\ninterval: 7\n").unwrap();
    assert_eq!(central.json("/config/hall")["interval"], 7);
    dir.write(
        "attic.yaml",
        "device_type: generic\nport: 9300\nip_address: 10.0.0.9\n",
    );
    assert_eq!(central.device("attic")["ip_address"], "10.0.0.9");
    assert_eq!(
        central.json("/config/attic"),
        json!({"device_type": "generic", "port": 9300})
    );
    // An invalid file is reported, and does not affect the others.
    std::fs::write(&file, "device_type: generic\ninterval: fast\n").unwrap();
    let answer = central.get("/config/hall");
    assert_eq!(answer.status, 500);
    assert!(body(&answer)["message"]
        .as_str()
        .unwrap()
        .starts_with("line 2, column 11: "));
    let device = central.device("hall");
    assert_eq!(device["status"], "unhealthy");
    assert!(
        device["error"].as_str().unwrap().contains("interval"),
        "{device}"
    );
    assert_eq!(central.json("/sd").as_array().unwrap().len(), 1);
    assert_eq!(
        central
            .send("PATCH", "/config/hall", r#"{"interval":1}"#)
            .status,
        200
    );
    assert_eq!(central.json("/config/hall")["interval"], 1);
    std::fs::write(&file, "{").unwrap();
    assert_eq!(central.send("PATCH", "/config/hall", "{}").status, 409);
    assert_eq!(central.send("PUT", "/config/hall", ORIN).status, 200);
}

#[test]
fn device_ids_cannot_leave_the_directory() {
    let dir = TempDir::new();
    let inside = dir.path().join("store");
    dir.write("secret.yaml", "device_type: generic\n");
    let central = ConfigServer::start(&inside);
    for path in [
        "/config/../secret",
        "/config/..%2fsecret",
        "/config/%2e%2e%2fsecret",
        "/config/..",
        "/config/.",
        "/config/",
        "/config/.lock",
        "/config/.notes",
        "/config/-rf",
        "/config/a%00b",
        "/config/a\\..\\..\\b",
        "/config/edge-01/",
        "/config/edge-01/../..",
        "//config/edge-01",
        "/config/ä",
        "/devices/../reload",
        "/devices/..%2f/reload",
    ] {
        for method in ["GET", "PUT", "POST", "PATCH", "DELETE"] {
            let answer = central.send(method, path, ORIN);
            assert!(
                [400, 404, 405].contains(&answer.status),
                "{method} {path}: {}",
                answer.status
            );
        }
    }
    let long = "x".repeat(129);
    assert_eq!(
        central.send("PUT", &format!("/config/{long}"), ORIN).status,
        400
    );
    assert_eq!(
        central
            .send("PUT", &format!("/config/{}", &long[1..]), ORIN)
            .status,
        200
    );
    let names = |path: &std::path::Path| {
        let mut names: Vec<_> = std::fs::read_dir(path)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(dir.path()), ["secret.yaml", "store"]);
    assert_eq!(
        names(&inside),
        [
            ".lock",
            ".notes",
            "changes",
            &format!("{}.yaml", &long[1..])
        ]
    );
    let secret = std::fs::read_to_string(dir.path().join("secret.yaml")).unwrap();
    assert_eq!(secret, "device_type: generic\n");
}

#[test]
fn concurrent_changes_are_not_lost() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    central.send(
        "PUT",
        "/config/edge-01",
        r#"{"device_type":"generic","metrics":{}}"#,
    );
    std::thread::scope(|scope| {
        for worker in 0..6 {
            let central = &central;
            scope.spawn(move || {
                for n in 0..5 {
                    let patch = format!(r#"{{"metrics":{{"w{worker}_{n}":true}}}}"#);
                    if worker % 2 == 0 {
                        let answer = central.send("PATCH", "/config/edge-01", &patch);
                        assert_eq!(answer.status, 200, "{}", answer.text());
                        continue;
                    }
                    // Read, change, and write back with If-Match.
                    wait_until("a change by If-Match", || {
                        let got = central.get("/config/edge-01");
                        let mut config: Value = serde_json::from_slice(&got.body).unwrap();
                        config["metrics"][format!("w{worker}_{n}")] = true.into();
                        let headers = [
                            ("Content-Type", "application/json"),
                            ("If-Match", got.header("ETag").unwrap()),
                        ];
                        let put = central.send_with(
                            "PUT",
                            "/config/edge-01",
                            &headers,
                            config.to_string().as_bytes(),
                        );
                        assert!([200, 412].contains(&put.status), "{}", put.text());
                        (put.status == 200).then_some(())
                    });
                }
            });
        }
    });
    let config = central.json("/config/edge-01");
    assert_eq!(config["metrics"].as_object().unwrap().len(), 30, "{config}");
}

#[test]
fn boards_reload_and_outcomes_are_reported() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    let good = Board::new(|| Response::text(200, "Config reload triggered\n"));
    let bad = Board::new(|| {
        Response::new(
            400,
            "application/json",
            r#"{"error":"x","message":"line 1: no"}"#,
        )
    });
    let gone = FreePort::new();
    let register = |id: &str, port: u16| {
        let config = json!({"device_type": "generic", "ip_address": "127.0.0.1", "reload_port": port, "port": 9100});
        assert_eq!(
            central
                .send("PUT", &format!("/config/{id}"), &config.to_string())
                .status,
            200
        );
    };
    register("good", good.port());
    register("bad", bad.port());
    register("gone", gone.number());
    // Their addresses are known, so they are called for the first configuration too.
    let failed = || {
        let metrics = central.get("/metrics").text();
        support::value(&metrics, "config_server_reloads_total{result=\"failed\"}")
    };
    wait_until("they are told", || {
        (good.asked().len() == 1 && failed() == Some(2.0)).then_some(())
    });
    central.send(
        "PUT",
        "/config/off",
        r#"{"device_type":"generic","reload_port":"off"}"#,
    );
    let answer = central.send("POST", "/devices/reload", "");
    let said = body(&answer);
    assert_eq!(answer.status, 200);
    assert_eq!(
        (&said["total"], &said["success"], &said["failed"]),
        (&json!(4), &json!(1), &json!(3)),
        "{said}"
    );
    let outcome = |id: &str| {
        let results = said["results"].as_array().unwrap();
        results
            .iter()
            .find(|result| result["device_id"] == id)
            .unwrap()
            .clone()
    };
    assert_eq!(
        outcome("good"),
        json!({"device_id": "good", "status": "reloaded"})
    );
    assert!(
        outcome("bad")["error"]
            .as_str()
            .unwrap()
            .ends_with("status 400: line 1: no"),
        "{said}"
    );
    assert!(
        outcome("gone")["error"]
            .as_str()
            .unwrap()
            .contains("refused"),
        "{said}"
    );
    assert!(
        outcome("off")["error"].as_str().unwrap().contains("off"),
        "{said}"
    );
    assert_eq!(central.device("gone")["status"], "unreachable");
    let one = central.send("POST", "/devices/good/reload", "");
    assert_eq!(
        (one.status, body(&one)),
        (200, json!({"status": "reloaded", "device_id": "good"}))
    );
    let one = central.send("POST", "/devices/gone/reload", "");
    assert_eq!((one.status, &body(&one)["status"]), (503, &json!("failed")));
    assert_eq!(
        central.send("POST", "/devices/nobody/reload", "").status,
        404
    );
    assert_eq!(central.send("GET", "/devices/good/reload", "").status, 405);
    assert_eq!(good.asked(), ["POST /reload"; 3]);

    // The board is called after a change by another client, and not if nothing changed.
    let config =
        json!({"device_type": "generic", "reload_port": good.port(), "port": 9100, "interval": 3});
    let put = || body(&central.send("PUT", "/config/good", &config.to_string()));
    assert_eq!(put()["reload_triggered"], true);
    wait_until("the board is called", || {
        (good.asked().len() == 4).then_some(())
    });
    assert_eq!(put()["reload_triggered"], false);
    // The registered address stays.
    assert_eq!(central.device("good")["ip_address"], "127.0.0.1");
    assert_eq!(failed(), Some(6.0));
}

#[test]
fn first_configuration_calls_a_board_of_known_address() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    let board = Board::new(|| Response::text(200, "Config reload triggered\n"));
    let config = |more: &str| {
        let port = board.port();
        format!("{{\"device_type\":\"generic\",\"port\":9100,\"reload_port\":{port}{more}}}")
    };
    let at = config(",\"ip_address\":\"127.0.0.1\"");
    let told = |times: usize| {
        wait_until("the board is called", || {
            (board.asked().len() == times).then_some(())
        });
    };
    let put = body(&central.send("PUT", "/config/edge-01", &at));
    assert_eq!(
        (&put["status"], &put["reload_triggered"]),
        (&json!("registered"), &json!(true))
    );
    told(1);
    assert_eq!(central.send("POST", "/config/edge-02", &at).status, 201);
    told(2);
    // This board's address is not known.
    let put = body(&central.send("PUT", "/config/edge-03", &config("")));
    assert_eq!(put["reload_triggered"], false);
    // This board sent the configuration itself.
    let own = [
        ("Content-Type", "application/json"),
        ("Exporter-Version", "0.1.0"),
    ];
    let put = body(&central.send_with("PUT", "/config/edge-04", &own, at.as_bytes()));
    assert_eq!(put["reload_triggered"], false);
    assert_eq!(central.send("DELETE", "/config/edge-01", "").status, 200);
    let put = body(&central.send("PUT", "/config/edge-01", &at));
    assert_eq!(put["reload_triggered"], true);
    told(3);
}

/// A board that answers 429 counts as reachable, and is called until it has the last change.
#[test]
fn board_that_answers_429_is_called_again() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    let busy = Arc::new(AtomicBool::new(true));
    let is_busy = Arc::clone(&busy);
    let board = Board::new(move || match is_busy.load(Ordering::SeqCst) {
        true => Response::error(429, "Too Many Requests", "later").with_header("Retry-After", "1"),
        false => Response::text(200, ""),
    });
    let change = |interval: u32| {
        let config = json!({
            "device_type": "generic", "ip_address": "127.0.0.1", "reload_port": board.port(), "interval": interval,
        });
        body(&central.send("PUT", "/config/busy", &config.to_string()))
    };
    change(1);
    let one = central.send("POST", "/devices/busy/reload", "");
    assert_eq!(one.status, 503);
    assert!(one.text().contains("429"), "{}", one.text());
    assert_eq!(central.device("busy")["status"], "unknown");
    // More changes than concurrent calls are allowed.
    for interval in 2..50 {
        assert_eq!(change(interval)["reload_triggered"], true, "{interval}");
    }
    busy.store(false, Ordering::SeqCst);
    wait_until("the board is called", || {
        let metrics = central.get("/metrics").text();
        let name = "config_server_reloads_total{result=\"success\"}";
        support::value(&metrics, name).filter(|told| *told > 0.0)
    });
    assert_eq!(central.device("busy")["status"], "unknown");
}

#[test]
fn service_discovery_lists_every_board() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    let board = |ports: &'static str| {
        [
            ("Content-Type", "application/json"),
            ("Exporter-Version", "0.1.0"),
            ("Exporter-Ports", ports),
        ]
    };
    // A board with a registered address, one that contacts the server, one known by name only, and one without metrics.
    central.send(
        "PUT",
        "/config/fixed",
        r#"{"device_type":"raspberry_pi","ip_address":"fd00::7","port":9200}"#,
    );
    let put = central.send_with(
        "PUT",
        "/config/asks",
        &board("31000 31001"),
        ORIN.as_bytes(),
    );
    assert_eq!(body(&put)["reload_triggered"], false);
    central.send(
        "PUT",
        "/config/named",
        r#"{"device_type":"generic","hostname":"a name"}"#,
    );
    central.send(
        "PUT",
        "/config/off",
        r#"{"device_type":"generic","port":"off"}"#,
    );
    let answer = central.get("/sd");
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    let target = |address: &str,
                  id: &str,
                  device_type: &str,
                  hostname: &str,
                  from: &str,
                  status: &str,
                  port: &str| {
        json!({
            "targets": [address],
            "labels": {
                "device_type": device_type, "hostname": hostname, "__meta_edge_device_id": id,
                "__meta_edge_address_from": from, "__meta_edge_status": status, "__meta_edge_reload_port": port,
            },
        })
    };
    let expected = json!([
        target(
            "127.0.0.1:31000",
            "asks",
            "jetson_orin",
            "asks",
            "seen",
            "healthy",
            "31001"
        ),
        target(
            "[fd00::7]:9200",
            "fixed",
            "raspberry_pi",
            "fixed",
            "registered",
            "unknown",
            "9101"
        ),
        target(
            "named:9100",
            "named",
            "generic",
            "a name",
            "name",
            "unknown",
            "9101"
        ),
    ]);
    assert_eq!(body(&answer), expected);
    // A server that was killed still knows all of them.
    central.kill();
    let central = ConfigServer::start(dir.path());
    assert_eq!(central.json("/sd"), expected);
    // A board reports a refused configuration until it accepts one.
    let refused = [
        &board("31000 31001")[..],
        &[("Exporter-Refused", "`interval` is no number")],
    ]
    .concat();
    assert_eq!(
        central
            .send_with("GET", "/config/asks", &refused, b"")
            .status,
        200
    );
    let device = central.device("asks");
    assert_eq!(
        (&device["status"], &device["error"]),
        (&json!("unhealthy"), &json!("`interval` is no number"))
    );
    assert_eq!(
        central
            .send_with("GET", "/config/asks", &board("31000 -"), b"")
            .status,
        200
    );
    let device = central.device("asks");
    assert_eq!(
        (&device["status"], &device["reload_port"]),
        (&json!("healthy"), &Value::Null)
    );
    assert!(device["last_seen"].as_str().unwrap().ends_with('Z'));
    // A board with TLS is listed with https until it reports otherwise.
    let tls = [&board("31000 31001")[..], &[("Exporter-Scheme", "https")]].concat();
    for (headers, shown, label) in [
        (&tls[..], "https", json!("https")),
        (&board("31000 31001"), "http", Value::Null),
    ] {
        central.send_with("GET", "/config/asks", headers, b"");
        assert_eq!(central.device("asks")["scheme"], shown);
        let listed = central.json("/sd");
        assert_eq!(listed[0]["labels"]["__scheme__"], label, "{listed}");
    }
    // A client that may not change anything cannot change a board's address either.
    let proxied = [&board("666 666")[..], &[("X-Forwarded-For", "10.6.6.6")]].concat();
    assert_eq!(
        central
            .send_with("GET", "/config/asks", &proxied, b"")
            .status,
        200
    );
    assert_eq!(central.device("asks")["port"], 31000);
    // A deleted board is forgotten.
    central.send("DELETE", "/config/asks", "");
    central.send("PUT", "/config/asks", ORIN);
    assert_eq!(central.device("asks")["address_from"], "name");
}

#[test]
fn changes_from_elsewhere_need_allow_remote() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    let remote = [
        ("Content-Type", "application/json"),
        ("X-Forwarded-For", "10.0.0.1"),
    ];
    let page = [
        ("Content-Type", "application/json"),
        ("Origin", "http://evil.example"),
    ];
    for headers in [remote, page] {
        for method in ["PUT", "POST", "PATCH", "DELETE"] {
            let answer = central.send_with(method, "/config/edge-01", &headers, ORIN.as_bytes());
            assert_eq!(
                (answer.status, &body(&answer)["error"]),
                (403, &json!("Forbidden")),
                "{method}"
            );
        }
    }
    let said = body(&central.send_with("PUT", "/config/edge-01", &remote, ORIN.as_bytes()));
    assert!(
        said["message"]
            .as_str()
            .unwrap()
            .contains("--management.allow-remote"),
        "{said}"
    );
    assert_eq!(
        central
            .send_with("POST", "/devices/reload", &page, b"")
            .status,
        403
    );
    // Every client may read, and reload at a limited rate.
    assert_eq!(
        central.send_with("GET", "/devices", &remote, b"").status,
        200
    );
    let statuses: Vec<_> = (0..40)
        .map(|_| {
            central
                .send_with("POST", "/devices/nobody/reload", &remote, b"")
                .status
        })
        .collect();
    assert!(
        statuses.starts_with(&[404; 10]) && statuses.contains(&429),
        "{statuses:?}"
    );
    assert_eq!(
        central.send("POST", "/devices/nobody/reload", "").status,
        404
    );
    drop(central);
    let central =
        ConfigServer::of(command(dir.path().to_str().unwrap()).arg("--management.allow-remote"));
    assert_eq!(
        central
            .send_with("PUT", "/config/edge-01", &remote, ORIN.as_bytes())
            .status,
        200
    );
    assert_eq!(
        central
            .send_with("PUT", "/config/edge-01", &page, ORIN.as_bytes())
            .status,
        403
    );
}
