//! Changes of many boards' documents by one request, the record of changes, and undoing them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod config_server_support;
mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use config_server_support::{body, command, try_send, Board, ConfigServer};
use edge_metrics_exporter::http::Response;
use nix::sys::signal::Signal;
use serde_json::{json, Value};
use support::{value, wait_until, TempDir};

/// Sends a request that must have this status, and returns its body.
fn sent(central: &ConfigServer, status: u16, method: &str, path: &str, body_sent: Value) -> Value {
    let body_sent = match body_sent {
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let answer = central.send(method, path, &body_sent);
    assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
    body(&answer)
}

/// Writes the files of some boards, all of them `generic`, with interval 1.
fn write_boards(dir: &TempDir, ids: impl IntoIterator<Item = String>) {
    for id in ids {
        let text = "# of people\ndevice_type: generic\ninterval: 1\n";
        dir.write(&format!("{id}.yaml"), text);
    }
}

fn interval(central: &ConfigServer, id: &str) -> Value {
    central.json(&format!("/config/{id}?own"))["interval"].clone()
}

#[test]
fn selected_boards_are_patched_together_and_recorded() {
    let dir = TempDir::new();
    write_boards(&dir, (1..=3).map(|n| format!("edge-0{n}")));
    dir.write(
        "far.yaml",
        "device_type: x86\ntarget_labels: {site: berlin}\n",
    );
    let board = Board::new(|| Response::json(200, &json!({})));
    let near =
        json!({"device_type": "x86", "reload_port": board.port(), "ip_address": "127.0.0.1"});
    let central = ConfigServer::start(dir.path());
    sent(&central, 200, "PUT", "/config/near", near);
    let rack = json!({"members": {"name": "edge-0[12]"}});
    sent(&central, 400, "PUT", "/groups/rack-3", rack);
    let rack = json!({"members": {"devices": ["edge-01", "edge-02"]}, "labels": {"rack": "3"}});
    sent(&central, 200, "PUT", "/groups/rack-3", rack);

    let preview = "/config?selector=group=rack-*,name=edge-0*&dry_run";
    let answer = sent(&central, 200, "PATCH", preview, json!({"interval": 2}));
    let expected = json!({
        "status": "dry_run", "boards": 2, "changed_total": 2, "changed": ["edge-01", "edge-02"],
        "invalid_total": 0, "invalid": [],
    });
    assert_eq!(answer, expected);
    assert_eq!(interval(&central, "edge-01"), 1, "nothing is changed");
    for (selector, boards, patch) in [
        (
            "group=rack-3",
            vec!["edge-01", "edge-02"],
            json!({"interval": 2}),
        ),
        ("label.site=ber*", vec!["far"], json!({"interval": 3})),
        (
            "label.rack=*,name=*2",
            vec!["edge-02"],
            json!({"interval": 4}),
        ),
        (
            "device_type=x86",
            vec!["far", "near"],
            json!({"interval": 5}),
        ),
        (
            "*",
            vec!["edge-01", "edge-02", "edge-03", "far", "near"],
            json!({"port": 9300}),
        ),
    ] {
        let path = format!("/config?selector={selector}");
        let answer = sent(&central, 200, "PATCH", &path, patch.clone());
        assert_eq!(answer["status"], "patched", "{selector}");
        assert_eq!(answer["boards"], boards.len(), "{selector}");
        assert_eq!(answer["changed"], json!(boards), "{selector}");
        // The same once more changes nothing, and leaves no record.
        let again = sent(&central, 200, "PATCH", &path, patch);
        assert_eq!(again["status"], "unchanged", "{selector}");
        assert_eq!(again["changed_total"], 0, "{selector}");
    }
    wait_until("the board is told", || {
        board
            .asked()
            .contains(&"POST /reload".to_string())
            .then_some(())
    });
    let nobody = sent(
        &central,
        200,
        "PATCH",
        "/config?selector=name=nobody",
        json!({"port": 1}),
    );
    assert_eq!(
        (&nobody["status"], &nobody["boards"]),
        (&json!("unchanged"), &json!(0))
    );
    let records = central.json("/changes");
    let actions = records["changes"].as_array().unwrap().iter();
    let actions: Vec<_> = actions
        .map(|record| record["action"].as_str().unwrap())
        .collect();
    assert_eq!(
        actions,
        ["bulk", "bulk", "bulk", "bulk", "bulk", "put", "put"]
    );
}

#[test]
fn one_board_that_would_be_invalid_keeps_all_from_being_changed() {
    let dir = TempDir::new();
    write_boards(&dir, (1..=30).map(|n| format!("edge-{n:02}")));
    for n in 6..=30 {
        // With a group's port, these two would be the same.
        dir.write(
            &format!("edge-{n:02}.yaml"),
            "device_type: generic\nreload_port: 9300\n",
        );
    }
    dir.write("broken.yaml", "device_type: [\n");
    let central = ConfigServer::start(dir.path());
    let path = "/config?selector=name=edge-*";
    let answer = sent(&central, 409, "PATCH", path, json!({"port": 9300}));
    assert_eq!(
        (&answer["boards"], &answer["invalid_total"]),
        (&json!(30), &json!(25))
    );
    let invalid = answer["invalid"].as_array().unwrap();
    assert_eq!(
        (invalid.len(), &invalid[0]["device_id"]),
        (20, &json!("edge-06"))
    );
    assert!(
        invalid[0]["error"].as_str().unwrap().contains("port"),
        "{answer}"
    );
    let message = answer["message"].as_str().unwrap();
    assert!(
        message.contains("and 5 more") && message.contains("?force"),
        "{message}"
    );
    assert_eq!(
        central.json("/config/edge-01?own"),
        json!({"device_type": "generic", "interval": 1})
    );
    assert_eq!(central.json("/changes")["total"], 0);
    // An unknown key is stored, and named.
    let path_of_one = "/config?selector=name=edge-0?&dry_run";
    let warned = sent(&central, 200, "PATCH", path_of_one, json!({"intervall": 2}));
    assert_eq!(
        (
            &warned["warnings_total"],
            &warned["warnings"][0]["device_id"]
        ),
        (&json!(9), &json!("edge-01"))
    );
    let warning = warned["warnings"][8]["warnings"][0].as_str().unwrap();
    assert!(warning.contains("`intervall`"), "{warned}");
    let right = sent(&central, 200, "PATCH", path_of_one, json!({"interval": 2}));
    assert_eq!(right["warnings_total"], Value::Null);
    // What cannot be patched is named, and left as it is.
    let all = sent(
        &central,
        409,
        "PATCH",
        "/config?selector=*",
        json!({"interval": 2}),
    );
    assert_eq!(all["invalid"][0]["device_id"], "broken");
    let message = all["message"].as_str().unwrap();
    assert!(
        message.contains("?force changes the others alone"),
        "{message}"
    );
    let forced = sent(
        &central,
        200,
        "PATCH",
        "/config?selector=*&force",
        json!({"interval": 2}),
    );
    assert_eq!(
        (&forced["changed_total"], &forced["invalid_total"]),
        (&json!(30), &json!(1))
    );
    assert_eq!(
        std::fs::read_to_string(dir.path().join("broken.yaml")).unwrap(),
        "device_type: [\n"
    );
    let forced = sent(
        &central,
        200,
        "PATCH",
        &format!("{path}&force"),
        json!({"port": 9300}),
    );
    assert_eq!(
        (&forced["changed_total"], &forced["invalid_total"]),
        (&json!(30), &json!(25))
    );
    assert_eq!(central.get("/config/edge-30").status, 500);
}

#[test]
fn wrong_and_hostile_requests_change_nothing() {
    let dir = TempDir::new();
    write_boards(&dir, ["edge-01".to_owned()]);
    let central = ConfigServer::start(dir.path());
    let many = vec!["name=*"; 1000].join(",");
    let slow = format!("name={}b", "*a".repeat(120));
    for (query, patch, status, words) in [
        ("", "{\"port\": 1}", 400, "`*` selects all"),
        ("selector=", "{}", 400, "`*` selects all"),
        ("selector=%20", "{}", 400, "`*` selects all"),
        (&format!("selector={many}"), "{}", 400, "1000 terms"),
        ("selector=*&dryrun", "{\"port\": 1}", 400, "`dryrun`"),
        ("selector=*&selector=name=a", "{}", 400, "several selectors"),
        ("selector=serial=7", "{}", 400, "there are group"),
        ("selector=*", "[1]", 400, "keys with values"),
        ("selector=*", "{", 400, "EOF"),
        (
            "selector=*",
            "{\"ip_address\": \"10.0.0.1\"}",
            400,
            "single board",
        ),
        ("selector=*", "{\"device_id\": \"a\"}", 400, "single board"),
        (
            "selector=*",
            "{\"device_type\": null}",
            409,
            "device_type is required",
        ),
        (
            &format!("selector={slow}"),
            "{\"port\": 9300}",
            200,
            "unchanged",
        ),
    ] {
        let answer = central.send("PATCH", &format!("/config?{query}"), patch);
        assert_eq!(answer.status, status, "{query}: {}", answer.text());
        assert!(answer.text().contains(words), "{query}: {}", answer.text());
    }
    let headers = [("Content-Type", "application/json"), ("If-Match", "\"a\"")];
    let guarded = central.send_with("PATCH", "/config?selector=*", &headers, b"{\"port\":1}");
    assert_eq!(guarded.status, 400, "{}", guarded.text());
    let origin = [
        ("Content-Type", "application/json"),
        ("Origin", "http://elsewhere.example"),
    ];
    for (method, path) in [
        ("PATCH", "/config?selector=*"),
        ("POST", "/changes/0000000000001-0000/undo"),
    ] {
        assert_eq!(
            central
                .send_with(method, path, &origin, b"{\"port\":1}")
                .status,
            403,
            "{path}"
        );
    }
    for path in ["/config", "/changes/x/undo"] {
        assert_eq!(central.get(path).status, 405, "{path}");
    }
    assert_eq!(central.send("PATCH", "/changes", "{}").status, 405);
    assert_eq!(central.json("/changes")["total"], 0);
    assert_eq!(interval(&central, "edge-01"), 1);
}

/// Each change adds one to every board's interval, as it reads it: only whole changes, one after the other, keep all boards the same.
#[test]
fn concurrent_changes_do_not_interleave() {
    let dir = TempDir::new();
    write_boards(&dir, (0..12).map(|n| format!("edge-{n:02}")));
    let central = ConfigServer::start(dir.path());
    let busy = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (central, busy) = (&central, &busy);
            scope.spawn(move || {
                for round in 0..2 {
                    let patch = json!({"interval": 2 + thread * 2 + round}).to_string();
                    let answer = central.send("PATCH", "/config?selector=*", &patch);
                    match answer.status {
                        200 => {}
                        503 => {
                            busy.fetch_add(1, Ordering::Relaxed);
                        }
                        other => panic!("{other}: {}", answer.text()),
                    }
                    // One board at a time, meanwhile.
                    let patch = json!({"port": 9300 + round}).to_string();
                    let path = format!("/config/edge-0{thread}");
                    assert_eq!(central.send("PATCH", &path, &patch).status, 200);
                }
            });
        }
    });
    let intervals: BTreeSet<String> = (0..12)
        .map(|n| interval(&central, &format!("edge-{n:02}")).to_string())
        .collect();
    assert_eq!(intervals.len(), 1, "{intervals:?}");
    let done = 16 + 16 - busy.load(Ordering::Relaxed);
    assert_eq!(central.json("/changes")["total"], done);
    assert_eq!(central.json("/changes")["unfinished"], Value::Null);
}

/// After a kill all boards have the change, or none has it.
#[test]
fn kill_during_a_change_of_many_boards_leaves_all_or_none_changed() {
    const BOARDS: usize = 60;
    let dir = TempDir::new();
    write_boards(&dir, (0..BOARDS).map(|n| format!("edge-{n:03}")));
    let mut put_back = 0;
    for round in 0..8_u64 {
        let central = ConfigServer::start(dir.path());
        assert_eq!(central.json("/devices")["total"], BOARDS);
        let before = interval(&central, "edge-000");
        let killed = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let patch = json!({"interval": 10 + round}).to_string();
                let headers = [("Content-Type", "application/json")];
                let sent = try_send(
                    central.address,
                    "PATCH",
                    "/config?selector=*",
                    &headers,
                    patch.as_bytes(),
                );
                killed.store(true, Ordering::SeqCst);
                sent.is_ok()
            });
            // Sometime after the change has begun.
            let changes = dir.path().join("changes");
            wait_until("the change begins", || {
                let entries = std::fs::read_dir(&changes).into_iter().flatten().flatten();
                let mut names =
                    entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
                (killed.load(Ordering::SeqCst) || names.any(|name| name.ends_with(".unfinished")))
                    .then_some(())
            });
            std::thread::sleep(std::time::Duration::from_millis(round * 7));
            central.signal(Signal::SIGKILL);
        });
        let half = (0..BOARDS).filter(|n| {
            let text = std::fs::read_to_string(dir.path().join(format!("edge-{n:03}.yaml")));
            text.unwrap()
                .contains(&format!("interval: {}\n", 10 + round))
        });
        let half = half.count();
        central.kill();
        let central = ConfigServer::start(dir.path());
        let intervals: BTreeSet<String> = (0..BOARDS)
            .map(|n| interval(&central, &format!("edge-{n:03}")).to_string())
            .collect();
        assert_eq!(
            intervals.len(),
            1,
            "{intervals:?}, after {half} were changed"
        );
        if (1..BOARDS).contains(&half) {
            put_back += 1;
            assert_eq!(interval(&central, "edge-000"), before);
            assert!(
                central.log().contains("was interrupted"),
                "{}",
                central.log()
            );
        }
        assert_eq!(central.json("/changes")["unfinished"], Value::Null);
        central.kill();
    }
    assert!(put_back > 0, "no kill came in the middle of a change");
}

#[test]
fn change_is_shown_with_its_documents_and_undone() {
    let dir = TempDir::new();
    write_boards(&dir, ["edge-01".to_owned(), "edge-02".to_owned()]);
    let central = ConfigServer::start(dir.path());
    let text = |id: &str| std::fs::read_to_string(dir.path().join(format!("{id}.yaml"))).ok();
    let original = text("edge-01");
    let made = sent(
        &central,
        200,
        "PATCH",
        "/config?selector=*",
        json!({"interval": 2}),
    );
    let id = made["change"].as_str().unwrap().to_owned();
    let record = central.json(&format!("/changes/{id}"));
    assert_eq!(record["selector"], "*");
    assert_eq!(
        (&record["devices"], &record["address"]),
        (&json!(2), &json!("127.0.0.1"))
    );
    assert_eq!(
        record["documents"][0],
        json!({
            "kind": "device", "id": "edge-01", "before": original, "after": text("edge-01"), "now": "as_after",
        })
    );
    let page = central.json(&format!("/changes/{id}?limit=1"));
    assert_eq!(
        (page["documents"].as_array().unwrap().len(), &page["next"]),
        (1, &json!(1))
    );
    let page = central.json(&format!("/changes/{id}?from=1"));
    assert_eq!(
        (&page["documents"][0]["id"], &page["next"]),
        (&json!("edge-02"), &Value::Null)
    );

    // A later change of a board is not lost without `force`.
    sent(
        &central,
        200,
        "PATCH",
        "/config/edge-02",
        json!({"port": 9300}),
    );
    let undo = format!("/changes/{id}/undo");
    let refused = sent(&central, 409, "POST", &undo, Value::Null);
    assert_eq!(
        refused["changed_since"],
        json!([{"kind": "device", "id": "edge-02"}])
    );
    assert_eq!(interval(&central, "edge-01"), 2);
    let preview = sent(
        &central,
        200,
        "POST",
        &format!("{undo}?force&dry_run"),
        Value::Null,
    );
    assert_eq!(
        (&preview["status"], &preview["changed_total"]),
        (&json!("dry_run"), &json!(2))
    );
    let undone = sent(&central, 200, "POST", &format!("{undo}?force"), Value::Null);
    assert_eq!(
        (&undone["status"], &undone["undoes"]),
        (&json!("undone"), &json!(id))
    );
    assert_eq!(text("edge-01"), original, "to the letter");
    assert_eq!(
        central.json("/config/edge-02?own"),
        json!({"device_type": "generic", "interval": 1})
    );
    // An undo is a change, and is undone as one.
    let redo = format!("/changes/{}/undo", undone["change"].as_str().unwrap());
    sent(&central, 200, "POST", &redo, Value::Null);
    assert_eq!(central.json("/config/edge-02?own")["port"], 9300);
    assert_eq!(
        sent(&central, 200, "POST", &redo, Value::Null)["status"],
        "unchanged"
    );

    // Boards and groups that were made or removed.
    sent(
        &central,
        200,
        "PUT",
        "/config/new",
        json!({"device_type": "x86"}),
    );
    sent(
        &central,
        200,
        "PUT",
        "/groups/g",
        json!({"config": {"interval": 7}}),
    );
    sent(&central, 200, "DELETE", "/config/new", Value::Null);
    let latest = |n: usize| {
        let id = central.json("/changes")["changes"][n]["id"].clone();
        format!("/changes/{}/undo", id.as_str().unwrap())
    };
    sent(&central, 200, "POST", &latest(0), Value::Null);
    assert_eq!(
        central.json("/config/new"),
        json!({"interval": 7, "device_type": "x86"})
    );
    let of_group = latest(2);
    sent(&central, 200, "POST", &of_group, Value::Null);
    assert_eq!(central.json("/groups")["total"], 0);
    assert_eq!(
        sent(
            &central,
            404,
            "POST",
            "/changes/1796000000123-00ff/undo",
            Value::Null
        )["error"],
        "Change not found"
    );
}

#[test]
fn undo_that_would_make_boards_invalid_is_refused() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    sent(
        &central,
        200,
        "PUT",
        "/config/a",
        json!({"device_type": "x86", "port": 9300}),
    );
    let made = sent(
        &central,
        200,
        "PATCH",
        "/config?selector=*",
        json!({"port": 9400}),
    );
    sent(
        &central,
        200,
        "PUT",
        "/groups/g",
        json!({"config": {"reload_port": 9300}}),
    );
    let undo = format!("/changes/{}/undo", made["change"].as_str().unwrap());
    let refused = sent(&central, 409, "POST", &undo, Value::Null);
    assert_eq!(refused["invalid"][0]["device_id"], "a");
    sent(&central, 200, "POST", &format!("{undo}?force"), Value::Null);
    assert_eq!(central.get("/config/a").status, 500);
}

#[test]
fn records_are_paged_and_only_so_many_are_kept() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    for n in 1..=5 {
        sent(
            &central,
            200,
            "PUT",
            "/config/a",
            json!({"device_type": "x86", "interval": n}),
        );
    }
    let mut seen = Vec::new();
    let mut query = "?limit=2".to_owned();
    loop {
        let page = central.json(&format!("/changes{query}"));
        assert_eq!(page["total"], 5);
        for record in page["changes"].as_array().unwrap() {
            seen.push(record["id"].as_str().unwrap().to_owned());
        }
        let Some(next) = page["next"].as_str() else {
            break;
        };
        query = format!("?limit=2&before={next}");
    }
    assert_eq!(seen.len(), 5);
    assert!(seen.is_sorted_by(|a, b| a > b), "{seen:?}");
    for bad in ["limit=0", "limit=1001", "before=x", "after=1"] {
        assert_eq!(central.get(&format!("/changes?{bad}")).status, 400, "{bad}");
    }
    let path = format!("/changes/{}", seen[0]);
    assert_eq!(central.get(&format!("{path}?from=-1")).status, 400);
    assert_eq!(
        central.json(&format!("{path}?from=9"))["documents"],
        json!([])
    );
    central.kill();
    // As many as are kept, and older ones.
    let mut written = String::new();
    for n in 0..1000 {
        let id = format!("{n:013}-0000");
        written.clear();
        writeln!(
            written,
            "{}",
            json!({"id": id, "devices": 0, "groups": 0, "bytes": 10})
        )
        .unwrap();
        dir.write(&format!("changes/{id}.jsonl"), &written);
    }
    dir.write("changes/0000000000007-00ff.jsonl", "not a record");
    let central = ConfigServer::start(dir.path());
    assert_eq!(central.json("/changes")["total"], 1005, "as it was found");
    sent(
        &central,
        200,
        "PUT",
        "/config/a",
        json!({"device_type": "x86", "interval": 9}),
    );
    let page = central.json("/changes?limit=1000");
    assert_eq!(page["total"], 1000);
    assert_eq!(page["changes"][999]["id"], "0000000000006-0000");
    let metrics = central.get("/metrics").text();
    assert_eq!(
        value(&metrics, "config_server_changes_dropped_total"),
        Some(6.0)
    );
    // A change of a clock that was set back comes last all the same.
    assert!(page["changes"][0]["id"].as_str().unwrap() > seen[0].as_str());
}

#[test]
fn record_is_removed_with_the_documents_in_it_and_the_change_stays() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    for interval in [1, 2] {
        let body = json!({"device_type": "x86", "interval": interval});
        sent(&central, 200, "PUT", "/config/a", body);
    }
    let id = central.json("/changes")["changes"][1]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/changes/{id}");
    let record = dir.path().join(format!("changes/{id}.jsonl"));
    assert!(record.exists());
    for refused in [format!("{path}?force"), format!("{path}?dry_run")] {
        assert_eq!(
            central.send("DELETE", &refused, "").status,
            400,
            "{refused}"
        );
    }
    assert_eq!(central.send("PUT", &path, "").status, 405);
    assert_eq!(central.send("DELETE", &path, "").status, 204);
    assert!(!record.exists());
    for _ in 0..2 {
        assert_eq!(central.get(&path).status, 404);
        assert_eq!(central.send("DELETE", &path, "").status, 404);
        assert_eq!(
            central.send("POST", &format!("{path}/undo"), "").status,
            404
        );
    }
    assert_eq!(central.json("/changes")["total"], 1);
    assert_eq!(interval(&central, "a"), 2);
    assert!(central.log().contains(&format!(
        "the record of the change {id} is removed, by 127.0.0.1"
    )));
}

#[test]
fn record_says_who_made_the_change() {
    let dir = TempDir::new();
    let token = "0123456789abcdef";
    let tokens = dir.write("tokens", token);
    let store = dir.path().join("devices");
    let mut command = command(store.to_str().unwrap());
    command.arg("--management.token-file").arg(&tokens);
    let central = ConfigServer::of(&mut command);
    let bearer = format!("Bearer {token}");
    let headers = [
        ("Content-Type", "application/json"),
        ("Authorization", bearer.as_str()),
    ];
    let put = |headers: &[(&str, &str)]| {
        let config = b"{\"device_type\":\"x86\"}";
        central
            .send_with("PUT", "/config/a", headers, config)
            .status
    };
    assert_eq!(put(&headers[..1]), 401);
    assert_eq!(
        central
            .send("PATCH", "/config?selector=*", "{\"port\": 1}")
            .status,
        401
    );
    let large = format!("devices:\n{}", "# \n".repeat(30_000));
    let yaml = [("Content-Type", "application/yaml")];
    let import = central.send_with("PUT", "/import", &yaml, large.as_bytes());
    assert_eq!(import.status, 403, "{}", import.text());
    assert_eq!(put(&headers), 200);
    let records = central.json("/changes");
    // The first digits of the token's SHA-256.
    assert_eq!(records["changes"][0]["by"], "token 9f9f5111");
    assert!(!records.to_string().contains(token));
}
