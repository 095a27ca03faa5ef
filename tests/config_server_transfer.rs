//! Exports and imports of all documents.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod config_server_support;
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use config_server_support::{body, ConfigServer};
use serde_json::{json, Value};
use support::{Answer, TempDir, WAIT_TIMEOUT};

const YAML: [(&str, &str); 1] = [("Content-Type", "application/yaml")];

fn import(central: &ConfigServer, query: &str, text: &str) -> Answer {
    central.send_with("PUT", &format!("/import{query}"), &YAML, text.as_bytes())
}

fn imported(central: &ConfigServer, query: &str, text: &str) -> Value {
    let answer = import(central, query, text);
    assert_eq!(answer.status, 200, "{}", answer.text());
    body(&answer)
}

fn export(central: &ConfigServer) -> String {
    let answer = central.get("/export");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("Content-Type"), Some("application/yaml"));
    answer.text()
}

#[test]
fn export_is_imported_into_an_empty_server_byte_for_byte() {
    let (dir, other) = (TempDir::new(), TempDir::new());
    for (file, text) in [
        (
            "edge-01.yaml",
            "# of people\ndevice_type: x86   # a PC\n\nmetrics: {a: true}\n",
        ),
        ("edge-02.yaml", "device_type: x86"),
        ("edge-03.yaml", "---\r\ndevice_type: x86\r\n"),
        (
            "edge-04.yaml",
            "device_type: x86\nhostname: \"\u{fc}\u{2028}\"\n\n",
        ),
        ("broken.yaml", "device_type: [\n"),
        ("empty.yaml", ""),
        (
            "groups/rack-3.yaml",
            "order: 10\nmembers: {name: edge-0*}\nconfig: {interval: 0.5}\n",
        ),
        (
            "groups/default.yaml",
            "config:\n  # all\n  config_poll: 60\n",
        ),
    ] {
        dir.write(file, text);
    }
    let (from, to) = (
        ConfigServer::start(dir.path()),
        ConfigServer::start(other.path()),
    );
    assert_eq!(export(&to), "# All groups, and the own documents of all boards. PUT /import of a config-server reads it.\ngroups: {}\ndevices: {}\n");
    let text = export(&from);
    assert!(
        text.contains("groups:\n  default:\n    config:\n      # all\n"),
        "{text}"
    );
    assert!(
        text.contains(
            "\n  edge-01:\n    # of people\n    device_type: x86   # a PC\n\n    metrics"
        ),
        "{text}"
    );
    let refused = import(&to, "", &text);
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert_eq!(body(&refused)["invalid"][0]["device_id"], "broken");
    assert_eq!(to.json("/devices")["total"], 0);
    let answer = imported(&to, "?force", &text);
    let created = |total| json!({"total": total, "created": total, "updated": 0, "deleted": 0});
    assert_eq!(
        (&answer["groups"], &answer["devices"]),
        (&created(2), &created(6))
    );
    assert_eq!(export(&to), text);
    for (id, own) in [("edge-01", true), ("edge-03", false)] {
        let path = format!("/config/{id}{}", if own { "?own" } else { "" });
        assert_eq!(to.get(&path).body, from.get(&path).body, "{path}");
    }
    let again = imported(&to, "?prune", &text);
    assert_eq!(again["status"], "unchanged");
    // An import is a change, and is undone.
    let undo = format!("/changes/{}/undo", answer["change"].as_str().unwrap());
    assert_eq!(to.send("POST", &undo, "").status, 200);
    assert_eq!(
        (
            to.json("/devices")["total"].clone(),
            to.json("/groups")["total"].clone()
        ),
        (json!(0), json!(0))
    );
}

#[test]
fn import_over_a_document_that_cannot_be_read_changes_nothing_else_either() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    imported(&central, "", "devices:\n  a:\n    device_type: x86\n");
    std::os::unix::fs::symlink("/nowhere", dir.path().join("b.yaml")).unwrap();
    let both = "devices:\n  a:\n    device_type: x86\n    port: 9300\n  b:\n    device_type: x86\n";
    for query in ["", "?dry_run", "?prune"] {
        let answer = body(&import(&central, query, both));
        assert_eq!(answer["invalid"][0]["device_id"], "b", "{query}: {answer}");
    }
    assert_eq!(central.json("/config/a"), json!({"device_type": "x86"}));
    assert_eq!(
        central.json("/changes")["changes"].as_array().map(Vec::len),
        Some(1)
    );
}

#[test]
fn import_changes_what_it_names_and_removes_others_only_when_told_to() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    let first = "groups:\n  g:\n    config: {interval: 2}\ndevices:\n  a:\n    device_type: x86\n  b: {device_type: x86}\n";
    let preview = imported(&central, "?dry_run", first);
    assert_eq!(
        (&preview["status"], &preview["changed"]),
        (&json!("dry_run"), &json!(["a", "b"]))
    );
    assert_eq!(central.json("/devices")["total"], 0);
    assert_eq!(
        imported(&central, "", first)["groups_changed"],
        json!(["g"])
    );
    assert_eq!(
        central.json("/config/b"),
        json!({"interval": 2, "device_type": "x86"})
    );
    let second =
        "devices:\n  a:\n    device_type: x86\n    port: 9300\n  c:\n    device_type: x86\n";
    let answer = imported(&central, "?prune=false", second);
    assert_eq!(
        answer["devices"],
        json!({"total": 2, "created": 1, "updated": 1, "deleted": 0})
    );
    let answer = imported(&central, "?prune", second);
    assert_eq!(
        answer["devices"],
        json!({"total": 2, "created": 0, "updated": 0, "deleted": 1})
    );
    assert_eq!(central.get("/config/b").status, 404);
    assert_eq!(
        central.json("/groups")["total"],
        1,
        "it says nothing of groups"
    );
    imported(&central, "?prune", "groups: {}\n");
    assert_eq!(
        (
            central.json("/groups")["total"].clone(),
            central.json("/devices")["total"].clone()
        ),
        (json!(0), json!(2))
    );
}

#[test]
fn wrong_and_hostile_imports_change_nothing() {
    let dir = TempDir::new();
    dir.write("a.yaml", "device_type: x86\n");
    let central = ConfigServer::start(dir.path());
    let deep = format!("devices:\n  b:\n    x: {}\n", "[".repeat(30_000));
    let lines = format!("devices:\n{}", "  b:\n".repeat(100_000));
    let spaces = format!("devices:\n  b:\n{}", " ".repeat(1 << 20));
    let long = format!("devices:\n  b:\n    x: {}\n", "y".repeat(70_000));
    let mut laughs = String::from("devices:\n  b:\n    a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for n in 1..10 {
        let aliases = vec![format!("*a{}", n - 1); 10].join(",");
        laughs.push_str(&format!("    a{n}: &a{n} [{aliases}]\n"));
    }
    for (text, status, words) in [
        ("", 400, "neither"),
        ("- 1\n", 400, "is wanted here"),
        (
            "devices:\n  a:\n    device_type: x86\n  a: {}\n",
            400,
            "twice",
        ),
        (
            "groups:\n  g:\n    memebrs: {}\ndevices:\n  b: {device_type: x86}\n",
            400,
            "did you mean",
        ),
        ("devices:\n  ../b: {}\n", 400, "letters"),
        (
            "devices:\n  b: {device_type: x86}\n  c: {device_type: x86, interval: -1}\n",
            409,
            "interval",
        ),
        (
            "devices:\n  b: {port: 9300}\n",
            409,
            "device_type is required",
        ),
        (&deep, 409, "brackets"),
        (&lines, 400, "twice"),
        (&spaces, 409, "device_type is required"),
        (&long, 400, "at most 65536"),
        (&laughs, 409, "aliases"),
    ] {
        let answer = import(&central, "?prune", text);
        assert_eq!(answer.status, status, "{words}: {}", answer.text());
        assert!(answer.text().contains(words), "{words}: {}", answer.text());
    }
    let answer = central.send_with("PUT", "/import", &YAML, b"devices:\n  b: \xff\n");
    assert_eq!((answer.status, &body(&answer)["line"]), (400, &json!(2)));
    assert_eq!(central.send("PUT", "/import", "{}").status, 415);
    assert_eq!(import(&central, "?purge", "devices: {}\n").status, 400);
    let page = [YAML[0], ("Origin", "http://elsewhere.example")];
    assert_eq!(
        central
            .send_with("PUT", "/import", &page, b"devices: {}\n")
            .status,
        403
    );
    assert_eq!(central.get("/import").status, 405);
    assert_eq!(central.get("/export?a").status, 400);
    let head = central.send_with("HEAD", "/export", &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(central.json("/changes")["total"], 0);
    assert_eq!(central.json("/devices")["total"], 1);
    // A document that cannot be read must not be missing silently.
    std::os::unix::fs::symlink("nowhere", dir.path().join("gone.yaml")).unwrap();
    let answer = central.get("/export");
    assert_eq!(answer.status, 500, "{}", answer.text());
    assert!(answer.text().contains("gone.yaml"), "{}", answer.text());
}

#[test]
fn one_large_body_at_a_time_is_received() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    let mut text = String::from("devices:\n");
    for n in 0..400 {
        text.push_str(&format!(
            "  edge-{n:03}:\n    device_type: x86\n    # {}\n",
            "x".repeat(1000)
        ));
    }
    assert!(text.len() > 64 * 1024);
    let begin_with = |header: &str, length: usize| {
        let mut stream = TcpStream::connect(central.address).unwrap();
        stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        let head = format!("PUT /import HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/yaml\r\nExpect: 100-continue\r\n{header}Content-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let begin = |length: usize| begin_with("", length);
    let read = |mut stream: TcpStream| {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    // Who may not change anything does not keep others waiting.
    let remote = read(begin_with("X-Forwarded-For: 192.0.2.1\r\n", text.len()));
    assert!(
        remote.starts_with("HTTP/1.1 403 ") && remote.contains("own machine alone"),
        "{remote}"
    );
    let mut first = begin(text.len());
    let mut answer = [0; 25];
    first.read_exact(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 100 "));
    let second = read(begin(text.len()));
    assert!(
        second.starts_with("HTTP/1.1 503 ") && second.contains("being received"),
        "{second}"
    );
    let huge = read(begin(40 << 20));
    assert!(
        huge.starts_with("HTTP/1.1 413 ") && huge.contains("33554432 by /import"),
        "{huge}"
    );
    // Others have the limit that they have.
    let other = central.send_with("PUT", "/config/a", &YAML, text.as_bytes());
    assert_eq!(other.status, 413, "{}", other.text());
    first.write_all(text.as_bytes()).unwrap();
    let first = read(first);
    assert!(first.contains("\"created\": 400"), "{first}");
    assert!(export(&central).contains("edge-399:\n    device_type: x86\n"));
    assert_eq!(
        imported(&central, "", &text)["status"],
        "unchanged",
        "it is free again"
    );
}
