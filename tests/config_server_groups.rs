//! Groups of the config-server: configurations made of groups and of the boards' own documents, labels, and changes of groups.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod config_server_support;
mod support;

use config_server_support::{body, Board, ConfigServer};
use edge_metrics_exporter::http::Response;
use serde_json::{json, Value};
use support::{value, wait_until, Answer, TempDir};

const BOARD: [(&str, &str); 3] = [
    ("Content-Type", "application/json"),
    ("Exporter-Version", "0.1.0"),
    ("Exporter-Device-Type", "jetson_orin"),
];

/// Sends a request that must succeed, and returns its body.
fn ok(central: &ConfigServer, method: &str, path: &str, sent: Value) -> Value {
    let answer = central.send(method, path, &sent.to_string());
    assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
    body(&answer)
}

fn etag(answer: &Answer) -> String {
    answer.header("ETag").unwrap().to_string()
}

fn parsed(central: &ConfigServer) -> f64 {
    let metrics = central.get("/metrics").text();
    value(&metrics, "config_server_configurations_parsed_total").unwrap()
}

#[test]
fn configuration_is_made_of_groups_in_order_and_of_the_own_document() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    let own = json!({"device_type": "x86", "port": 9300, "metrics": {"own": true}});
    ok(&central, "PUT", "/config/edge-01", own.clone());
    ok(&central, "PUT", "/config/far", own.clone());
    let alone = central.get("/config/edge-01");
    let default =
        json!({"config": {"interval": 2, "port": 9200, "metrics": {"all": true, "rack": true}}});
    let made = ok(&central, "PUT", "/groups/default", default);
    assert_eq!(
        made,
        json!({"status": "created", "group": "default", "changed": 2, "reload_triggered": 0})
    );
    let late = json!({
        "order": 10, "members": {"name": ["edge-0*"]},
        "config": {"interval": 0.5, "metrics": {"rack": false}},
    });
    // By its name it would be the first.
    assert_eq!(ok(&central, "PUT", "/groups/a", late)["changed"], 1);
    assert_eq!(
        central.json("/config/edge-01"),
        json!({
            "device_type": "x86", "interval": 0.5, "port": 9300,
            "metrics": {"all": true, "rack": false, "own": true},
        })
    );
    assert_eq!(central.json("/config/far")["interval"], 2);
    assert_eq!(central.json("/config/edge-01?own"), own);
    assert_eq!(
        etag(&central.get("/config/edge-01?own")),
        etag(&alone),
        "the own document's tag"
    );
    let explained = central.json("/config/edge-01?explain");
    assert_eq!(explained["groups"], json!(["default", "a"]));
    for (key, setting) in [
        (
            "interval",
            json!({"value": 0.5, "from": "group", "group": "a"}),
        ),
        ("port", json!({"value": 9300, "from": "own"})),
        ("reload_port", json!({"value": 9101, "from": "default"})),
        (
            "metrics.all",
            json!({"value": true, "from": "group", "group": "default"}),
        ),
    ] {
        assert_eq!(explained["settings"][key], setting, "{key}");
    }
    let list = central.json("/groups");
    assert_eq!(
        list,
        json!({"total": 2, "groups": [
            {"name": "default", "order": 0, "members": 2, "status": "healthy"},
            {"name": "a", "order": 10, "members": 1, "status": "healthy"},
        ]})
    );
    // Files are edited by users, and `null` gives a setting its default again.
    dir.write(
        "groups/a.yaml",
        "order: 10\nmembers: {devices: [far]}\nconfig: {interval: null}\n",
    );
    assert_eq!(central.json("/config/edge-01")["interval"], 2);
    assert_eq!(central.json("/config/far")["interval"], Value::Null);
    for group in ["a", "default"] {
        ok(&central, "DELETE", &format!("/groups/{group}"), json!({}));
    }
    let again = central.get("/config/edge-01");
    assert_eq!((etag(&again), again.body), (etag(&alone), alone.body));
    assert_eq!(central.get("/groups/a").status, 404);
}

#[test]
fn etag_changes_with_the_configuration_and_guards_changes() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    ok(
        &central,
        "PUT",
        "/config/edge-01",
        json!({"device_type": "x86"}),
    );
    ok(
        &central,
        "PUT",
        "/config/edge-02",
        json!({"device_type": "x86"}),
    );
    let group = |interval: u32| {
        let group = json!({"members": {"devices": ["edge-01"]}, "config": {"interval": interval}});
        ok(&central, "PUT", "/groups/g", group)
    };
    group(1);
    let first = etag(&central.get("/config/edge-01"));
    let other = etag(&central.get("/config/edge-02"));
    let poll = |id: &str, tag: &str| {
        let headers = [("If-None-Match", tag)];
        central
            .send_with("GET", &format!("/config/{id}"), &headers, b"")
            .status
    };
    assert_eq!(central.json("/devices")["total"], 2);
    let before = parsed(&central);
    for _ in 0..50 {
        assert_eq!(poll("edge-01", &first), 304);
        assert_eq!(poll("edge-02", &other), 304);
    }
    // Files that were written just now are read again, but not parsed.
    assert_eq!(parsed(&central), before);
    group(2);
    assert_eq!(poll("edge-01", &first), 200);
    assert_eq!(poll("edge-02", &other), 304);
    let second = etag(&central.get("/config/edge-01"));
    assert_ne!(first, second);
    // The check of the change, and the configuration, by the requests and by the call of the board.
    assert!(parsed(&central) <= before + 3.0);
    let change = |tag: &str, sent: &str| {
        let headers = [("Content-Type", "application/json"), ("If-Match", tag)];
        central.send_with("PATCH", "/config/edge-01", &headers, sent.as_bytes())
    };
    let late = change(&first, "{\"port\":1}");
    assert_eq!((late.status, etag(&late)), (412, second.clone()));
    let changed = change(&second, "{\"port\":1}");
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert_eq!(etag(&changed), etag(&central.get("/config/edge-01")));
    // The tag of the own document guards it too.
    let own = etag(&central.get("/config/edge-01?own"));
    assert_eq!(change(&own, "{\"port\":2}").status, 200);
    assert_eq!(
        central.json("/config/edge-01?own"),
        json!({"device_type": "x86", "port": 2})
    );
    // Neither order nor labels are part of the configuration.
    let before = etag(&central.get("/config/edge-01"));
    let patch = json!({"order": 5, "labels": {"rack": "3"}});
    assert_eq!(ok(&central, "PATCH", "/groups/g", patch)["changed"], 0);
    assert_eq!(etag(&central.get("/config/edge-01")), before);
}

#[test]
fn change_that_makes_a_member_invalid_is_refused() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    for n in 0..30 {
        let own = json!({"device_type": "x86", "port": 9000 + n});
        ok(&central, "PUT", &format!("/config/edge-{n:02}"), own);
    }
    let port = json!({"config": {"reload_port": 9007}});
    let dry = ok(&central, "PUT", "/groups/default?dry_run", port.clone());
    assert_eq!(dry["status"], "dry_run");
    assert_eq!(dry["changed"]["total"], 30);
    assert_eq!(dry["changed"]["devices"].as_array().unwrap().len(), 20);
    assert_eq!(dry["refused"]["total"], 1);
    assert_eq!(dry["refused"]["devices"][0]["device_id"], "edge-07");
    assert_eq!(central.json("/groups")["total"], 0);
    let refused = central.send("PUT", "/groups/default", &port.to_string());
    let said = body(&refused);
    assert_eq!(refused.status, 409);
    assert!(
        said["message"].as_str().unwrap().contains("edge-07"),
        "{said}"
    );
    assert_eq!(central.get("/groups/default").status, 404);
    ok(&central, "PUT", "/groups/default?force", port);
    let device = central.device("edge-07");
    assert_eq!(device["status"], "unhealthy");
    assert!(
        device["error"].as_str().unwrap().contains("`default`"),
        "{device}"
    );
    assert_eq!(central.get("/config/edge-07").status, 500);
    assert_eq!(central.json("/config/edge-08")["reload_port"], 9007);
    // What is invalid already is no reason to refuse a change.
    let patch = json!({"config": {"interval": 3}});
    assert_eq!(
        ok(&central, "PATCH", "/groups/default", patch)["changed"],
        30
    );
    // An invalid value is named with its group.
    let wrong = json!({"config": {"interval": "fast"}});
    let said = body(&central.send("PATCH", "/groups/default", &wrong.to_string()));
    assert_eq!(said["refused"]["total"], 29, "{said}");
    let first = &said["refused"]["devices"][0];
    assert_eq!(first["key"], "interval");
    assert!(
        first["message"]
            .as_str()
            .unwrap()
            .starts_with("group `default`: `interval`"),
        "{first}"
    );
    // A board cannot make its own configuration invalid either.
    let own = json!({"device_type": "x86", "port": 9007});
    let said = central.send("PUT", "/config/edge-08", &own.to_string());
    assert_eq!(
        (said.status, &body(&said)["error"]),
        (400, &json!("Invalid configuration"))
    );
    // Without the group all are valid.
    let gone = ok(&central, "DELETE", "/groups/default", json!({}));
    assert_eq!(
        (&gone["status"], &gone["changed"]),
        (&json!("deleted"), &json!(30))
    );
    assert_eq!(central.json("/devices")["unhealthy"], 0);
}

#[test]
fn wrong_groups_and_forbidden_changes_are_refused() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    let said = central.send("PUT", "/groups/g", r#"{"memebrs":{"devices":["a"]}}"#);
    assert_eq!((said.status, &body(&said)["key"]), (400, &json!("memebrs")));
    assert_eq!(body(&said)["group"], "g");
    let yaml = [("Content-Type", "application/yaml")];
    let text = b"# the rack\nmembers:\n  name: '[a]'\n";
    let said = body(&central.send_with("PUT", "/groups/g", &yaml, text));
    assert_eq!(
        (&said["line"], &said["column"]),
        (&json!(3), &json!(9)),
        "{said}"
    );
    let text = b"# the rack\nmembers:\n  name: 'a*'\n";
    let put = central.send_with("PUT", "/groups/g", &yaml, text);
    assert_eq!(put.status, 200, "{}", put.text());
    let file = std::fs::read(dir.path().join("groups/g.yaml")).unwrap();
    assert_eq!(file, text);
    let got = central.get("/groups/g");
    assert_eq!(body(&got), json!({"members": {"name": "a*"}}));
    assert_eq!(etag(&got), etag(&put));
    let tagged = |method: &str, condition: &str, tag: &str| {
        let headers = [("Content-Type", "application/json"), (condition, tag)];
        central
            .send_with(method, "/groups/g", &headers, b"{}")
            .status
    };
    assert_eq!(tagged("GET", "If-None-Match", &etag(&got)), 304);
    assert_eq!(tagged("PUT", "If-None-Match", "*"), 412);
    assert_eq!(tagged("PATCH", "If-Match", "\"x\""), 412);
    assert_eq!(tagged("PATCH", "If-Match", &etag(&got)), 200);
    let warned = ok(
        &central,
        "PUT",
        "/groups/g",
        json!({"config": {"intervall": 1}}),
    );
    assert!(
        warned["warnings"][0]
            .as_str()
            .unwrap()
            .contains("did you mean"),
        "{warned}"
    );
    for (method, path, status) in [
        ("POST", "/groups/g", 405),
        ("POST", "/groups", 405),
        ("PUT", "/groups/.hidden", 400),
        ("PUT", "/groups/..%2fx", 400),
        ("PATCH", "/groups/none", 404),
        ("DELETE", "/groups/none", 404),
    ] {
        assert_eq!(
            central.send(method, path, "{}").status,
            status,
            "{method} {path}"
        );
    }
    let remote = [
        ("Content-Type", "application/json"),
        ("X-Forwarded-For", "10.0.0.1"),
    ];
    for method in ["PUT", "PATCH", "DELETE"] {
        let answer = central.send_with(method, "/groups/g", &remote, b"{}");
        let said = body(&answer);
        assert_eq!(
            (answer.status, &said["group"]),
            (403, &json!("g")),
            "{said}"
        );
    }
    assert_eq!(
        central.send_with("GET", "/groups", &remote, b"").status,
        200
    );
}

/// Boards keep what they have while the server answers an error.
#[test]
fn invalid_group_file_makes_its_members_invalid() {
    let dir = TempDir::new();
    std::fs::create_dir(dir.path().join("groups")).unwrap();
    for id in ["a", "b"] {
        dir.write(&format!("{id}.yaml"), "device_type: x86\n");
    }
    dir.write("groups/g.yaml", "members: {devices: [a]}\nlabels: 5\n");
    let central = ConfigServer::start(dir.path());
    let status = |id: &str| central.get(&format!("/config/{id}")).status;
    let said = central.get("/config/a");
    assert_eq!(
        (said.status, &body(&said)["error"]),
        (500, &json!("Invalid configuration"))
    );
    assert!(said.text().contains("group `g`: line 2"), "{}", said.text());
    assert_eq!(
        (status("b"), central.device("b")["status"].clone()),
        (200, json!("unknown"))
    );
    assert_eq!(central.device("a")["status"], "unhealthy");
    let group = central.json("/groups")["groups"][0].clone();
    assert_eq!(
        (&group["status"], &group["members"]),
        (&json!("unhealthy"), &json!(1))
    );
    // A board's own document can be changed meanwhile.
    let changed = ok(&central, "PATCH", "/config/a", json!({"port": 9300}));
    assert!(
        changed["warnings"][0]
            .as_str()
            .unwrap()
            .contains("group `g`"),
        "{changed}"
    );
    // It is not known who the members are.
    let file = dir.path().join("groups/g.yaml");
    let is_everyone = |words: &str| {
        assert_eq!((status("a"), status("b")), (500, 500), "{words}");
        let group = central.json("/groups")["groups"][0].clone();
        assert!(group["error"].as_str().unwrap().contains(words), "{group}");
        assert_eq!(central.json("/health")["status"], "healthy");
    };
    dir.write("groups/g.yaml", "{");
    is_everyone("line");
    dir.write("groups/g.yaml", &"# long\n".repeat(10_000));
    is_everyone("bytes");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    is_everyone("directory");
    std::fs::remove_dir(&file).unwrap();
    std::os::unix::fs::symlink("g.yaml", &file).unwrap();
    is_everyone("g.yaml");
    std::fs::remove_file(&file).unwrap();
    assert_eq!((status("a"), status("b")), (200, 200));
    // A link to a file is as good as the file.
    dir.write("elsewhere", "config: {interval: 7}\n");
    std::os::unix::fs::symlink("../elsewhere", &file).unwrap();
    assert_eq!(central.json("/config/b")["interval"], 7);
    std::fs::remove_dir_all(dir.path().join("groups")).unwrap();
    assert_eq!(central.json("/config/b"), json!({"device_type": "x86"}));
}

#[test]
fn too_many_groups_are_refused_and_said() {
    let dir = TempDir::new();
    std::fs::create_dir(dir.path().join("groups")).unwrap();
    for n in 0..1000 {
        // Long names, and rules that are slow to match by trying everything.
        let rule = format!("members: {{name: ['{}b']}}\n", "*a".repeat(60));
        dir.write(&format!("groups/g{n:04}.yaml"), &rule);
    }
    let board = "a".repeat(127);
    dir.write(&format!("{board}.yaml"), "device_type: x86\n");
    let central = ConfigServer::start(dir.path());
    assert_eq!(central.get(&format!("/config/{board}")).status, 200);
    assert_eq!(central.json("/groups")["total"], 1000);
    let full = central.send("PUT", "/groups/one-more", "{}");
    assert_eq!(
        (full.status, &body(&full)["error"]),
        (507, &json!("Too many groups"))
    );
    dir.write("groups/one-more.yaml", "{}");
    let said = central.get(&format!("/config/{board}"));
    assert_eq!(said.status, 500);
    assert!(said.text().contains("at most 1000"), "{}", said.text());
    let metrics = central.get("/metrics").text();
    assert_eq!(value(&metrics, "config_server_groups_left_out"), Some(1.0));
    assert!(
        central.log().contains("groups are not read"),
        "{}",
        central.log()
    );
    std::fs::remove_file(dir.path().join("groups/one-more.yaml")).unwrap();
    assert_eq!(central.get(&format!("/config/{board}")).status, 200);
}

/// A board sends its whole configuration when a metric is switched on it. What it has from groups stays theirs.
#[test]
fn board_that_sends_its_configuration_stays_in_its_groups() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    let own =
        json!({"device_type": "auto", "target_labels": {"rack": "3"}, "ip_address": "127.0.0.7"});
    ok(&central, "PUT", "/config/edge-01", own);
    // The board is a member by the type that it reports, from its first request on.
    let group = json!({
        "members": {"device_type": "jetson_*"}, "config": {"interval": 2, "metrics": {"a": true}},
    });
    assert_eq!(ok(&central, "PUT", "/groups/jetsons", group)["changed"], 0);
    let got = central.send_with("GET", "/config/edge-01", &BOARD, b"");
    let mut config = body(&got);
    assert_eq!(
        config,
        json!({"interval": 2, "metrics": {"a": true}, "device_type": "auto"})
    );
    config["metrics"]["b"] = true.into();
    let tag = etag(&got);
    let headers = [&BOARD[..], &[("If-Match", tag.as_str())]].concat();
    let put = central.send_with(
        "PUT",
        "/config/edge-01",
        &headers,
        config.to_string().as_bytes(),
    );
    assert_eq!(put.status, 200, "{}", put.text());
    assert_eq!(
        central.json("/config/edge-01?own"),
        json!({
            "ip_address": "127.0.0.7", "device_type": "auto", "metrics": {"b": true},
            "target_labels": {"rack": "3"},
        })
    );
    let poll = [("If-None-Match", put.header("ETag").unwrap())];
    assert_eq!(
        central
            .send_with("GET", "/config/edge-01", &poll, b"")
            .status,
        304
    );
    ok(
        &central,
        "PATCH",
        "/groups/jetsons",
        json!({"config": {"interval": 5}}),
    );
    assert_eq!(central.json("/config/edge-01")["interval"], 5);
    // It may have been called in vain by now: nothing listens at its address.
    assert_ne!(central.device("edge-01")["status"], "unhealthy");
}

#[test]
fn labels_of_groups_and_of_the_board_are_those_of_the_target() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    let own = json!({"device_type": "x86", "target_labels": {"rack": "4", "owner": null}});
    ok(&central, "PUT", "/config/edge-01", own);
    ok(
        &central,
        "PUT",
        "/config/edge-02",
        json!({"device_type": "x86"}),
    );
    let default = json!({"labels": {"site": "berlin", "rack": "1", "owner": "x"}});
    let made = ok(&central, "PUT", "/groups/default", default);
    assert_eq!(made["warnings"], Value::Null, "{made}");
    let rack = json!({"order": 1, "members": {"name": "*2"}, "labels": {"rack": 2}});
    ok(&central, "PUT", "/groups/rack", rack);
    let labels = || {
        let all = central.json("/sd");
        let of = |n: usize| {
            let labels = all[n]["labels"].clone();
            ["site", "rack", "owner"].map(|name| labels[name].clone())
        };
        [of(0), of(1)]
    };
    assert_eq!(
        labels(),
        [
            [json!("berlin"), json!("4"), Value::Null],
            [json!("berlin"), json!("2"), json!("x")]
        ]
    );
    // They are not part of the configuration.
    assert_eq!(
        central.json("/config/edge-01"),
        json!({"device_type": "x86"})
    );
    // An edited file of a group is seen by the next request.
    dir.write("groups/default.yaml", "labels: {site: bonn}\n");
    assert_eq!(labels()[1], [json!("bonn"), json!("2"), Value::Null]);
    let explained = central.json("/config/edge-02?explain");
    assert_eq!(explained["labels"], json!({"site": "bonn", "rack": "2"}));
    let wrong = json!({"device_type": "x86", "target_labels": {"hostname": "x"}});
    let said = central.send("PUT", "/config/edge-03", &wrong.to_string());
    assert_eq!(said.status, 400, "{}", said.text());
}

/// Where a group asks for it, the labels of /sd are labels of all series, too: of groups in their order, then the board's own.
#[test]
fn labels_are_applied_to_series_where_a_group_asks_for_it() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    let own = json!({"device_type": "x86", "target_labels": {"rack": "4", "owner": null}});
    ok(&central, "PUT", "/config/edge-01", own);
    ok(
        &central,
        "PUT",
        "/config/edge-02",
        json!({"device_type": "x86"}),
    );
    let default = json!({
        "labels": {"site": "berlin", "rack": "1", "owner": "x"},
        "config": {"constant_labels": {"floor": "2"}},
    });
    ok(&central, "PUT", "/groups/default", default);
    let rack = json!({"order": 1, "members": {"name": "*2"}, "labels": {"rack": 2}});
    ok(&central, "PUT", "/groups/rack", rack);
    let of = |id: &str| central.json(&format!("/config/{id}"))["constant_labels"].clone();
    assert_eq!(of("edge-01"), json!({"floor": "2"}));
    let before = central.get("/config/edge-02");
    let asked = json!({"apply_labels": true});
    let tried = ok(&central, "PATCH", "/groups/default?dry_run", asked.clone());
    assert_eq!(
        tried["changed"]["devices"],
        json!(["edge-01", "edge-02"]),
        "{tried}"
    );
    ok(&central, "PATCH", "/groups/default", asked);
    assert_eq!(
        of("edge-01"),
        json!({"floor": "2", "site": "berlin", "rack": "4"})
    );
    let edge_02 = json!({"floor": "2", "site": "berlin", "rack": "2", "owner": "x"});
    assert_eq!(of("edge-02"), edge_02);
    let after = central.get("/config/edge-02");
    assert_ne!(etag(&before), etag(&after));
    let explained = central.json("/config/edge-01?explain")["settings"].clone();
    for (label, source) in [
        ("site", json!({"from": "group", "group": "default"})),
        ("floor", json!({"from": "group", "group": "default"})),
        ("rack", json!({"from": "own"})),
    ] {
        let said = &explained[format!("constant_labels.{label}")];
        assert_eq!(said["from"], source["from"], "{label}: {said}");
        assert_eq!(said["group"], source["group"], "{label}: {said}");
    }
    // A label is changed: the configuration is another one.
    let bonn = json!({"labels": {"site": "bonn"}});
    assert_eq!(ok(&central, "PATCH", "/groups/default", bonn)["changed"], 2);
    assert_eq!(of("edge-01")["site"], "bonn");
    // A board that sends its whole configuration does not make the labels its own.
    let mut config = central.json("/config/edge-01");
    config["metrics"] = json!({"a": true});
    let put = central.send_with(
        "PUT",
        "/config/edge-01",
        &BOARD,
        config.to_string().as_bytes(),
    );
    assert_eq!(put.status, 200, "{}", put.text());
    let own = central.json("/config/edge-01?own");
    assert_eq!(own["constant_labels"], Value::Null, "{own}");
    // A label that series have already is refused, with the group that it comes from.
    let rail = json!({"labels": {"rail": "x"}});
    let refused = central.send("PATCH", "/groups/rack", &rail.to_string());
    assert_eq!(refused.status, 409, "{}", refused.text());
    let said = refused.text();
    assert!(
        said.contains("group `rack`") && said.contains("`rail`"),
        "{said}"
    );
    // A later group decides otherwise for its members.
    ok(
        &central,
        "PATCH",
        "/groups/rack",
        json!({"apply_labels": false}),
    );
    assert_eq!(of("edge-02"), json!({"floor": "2"}));
    assert_eq!(of("edge-01")["site"], "bonn");
    let target = central.json("/sd")[1]["labels"].clone();
    assert_eq!(target["site"], "bonn", "{target}");
}

#[test]
fn members_are_told_to_reload() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    let member = Board::new(|| Response::text(200, "Config reload triggered\n"));
    let other = Board::new(|| Response::text(200, "Config reload triggered\n"));
    for (id, board) in [("member", &member), ("other", &other)] {
        let own = json!({
            "device_type": "x86", "ip_address": "127.0.0.1", "port": 9100, "reload_port": board.port(),
        });
        ok(&central, "PUT", &format!("/config/{id}"), own);
    }
    let told = |board: &Board, times: usize| {
        wait_until("the board is called", || {
            (board.asked().len() == times).then_some(())
        });
    };
    told(&member, 1);
    told(&other, 1);
    let group = json!({"members": {"devices": ["member", "gone"]}, "config": {"interval": 2}});
    let made = ok(&central, "PUT", "/groups/g", group.clone());
    assert_eq!(
        (&made["changed"], &made["reload_triggered"]),
        (&json!(1), &json!(1))
    );
    told(&member, 2);
    assert_eq!(ok(&central, "PUT", "/groups/g", group)["changed"], 0);
    let everyone = json!({"config": {"interval": 2}});
    assert_eq!(ok(&central, "PUT", "/groups/g", everyone)["changed"], 1);
    told(&other, 2);
    assert_eq!(member.asked().len(), 2);
}

#[test]
fn failed_write_of_a_group_changes_nothing() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    ok(&central, "PUT", "/config/a", json!({"device_type": "x86"}));
    // A file in the place of the directory fails for root too, where a read-only one would not.
    let place = dir.write("groups", "");
    let put = central.send("PUT", "/groups/g", r#"{"config":{"interval":2}}"#);
    assert_eq!(
        (put.status, &body(&put)["error"]),
        (500, &json!("Store failed"))
    );
    assert_eq!(central.get("/config/a").status, 500);
    std::fs::remove_file(place).unwrap();
    assert_eq!(central.json("/config/a"), json!({"device_type": "x86"}));
    ok(
        &central,
        "PUT",
        "/groups/g",
        json!({"config": {"interval": 2}}),
    );
    assert_eq!(central.json("/config/a")["interval"], 2);
}
