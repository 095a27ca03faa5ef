//! The config-server with a large fleet: unchanged responses are not rendered again, and changes are visible at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod config_server_support;
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;

use config_server_support::{body, ConfigServer};
use serde_json::{json, Value};
use support::{value, wait_until, TempDir};

/// The directory of a fleet of this many boards, and a server that has loaded it.
fn fleet(boards: usize) -> (TempDir, ConfigServer) {
    let dir = TempDir::new();
    for n in 0..boards {
        let name = format!("edge-{n:05}.yaml");
        dir.write(
            &name,
            &format!("device_type: jetson_orin\nport: {}\n", 9200 + n % 100),
        );
    }
    let central = ConfigServer::start(dir.path());
    assert_eq!(central.json("/devices")["total"], boards);
    assert_eq!(central.json("/sd").as_array().unwrap().len(), boards);
    (dir, central)
}

/// The numbers of configurations parsed and of pieces rendered.
fn work(central: &ConfigServer) -> [f64; 2] {
    let metrics = central.get("/metrics").text();
    let names = [
        "config_server_configurations_parsed_total",
        "config_server_pieces_rendered_total",
    ];
    names.map(|name| value(&metrics, name).unwrap())
}

fn ids(devices: &Value) -> Vec<String> {
    let devices = devices["devices"].as_array().unwrap().iter();
    devices
        .map(|device| device["device_id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn unchanged_boards_are_not_parsed_or_rendered_again() {
    let (dir, central) = fleet(1000);
    let before = work(&central);
    assert_eq!(before[0], 1000.0);
    let gzip = [("Accept-Encoding", "gzip")];
    for n in 0..25 {
        for path in [
            "/sd",
            "/devices",
            "/devices?limit=10",
            &format!("/config/edge-000{n:02}"),
        ] {
            assert_eq!(central.get(path).status, 200);
            assert_eq!(central.send_with("GET", path, &gzip, b"").status, 200);
        }
    }
    assert_eq!(work(&central), before);
    // One change costs parsing one configuration, and rendering one piece of each response.
    let made = |n: f64, what: &str| {
        central.get("/sd");
        central.get("/devices");
        let now = work(&central);
        assert_eq!(now[0], before[0] + n, "{what}");
        assert!(now[1] <= before[1] + 3.0 * n, "{what}: {now:?} {before:?}");
    };
    dir.write("edge-00500.yaml", "device_type: shelly\n");
    made(1.0, "an edited file");
    // A file written with the same content is read, but not parsed.
    dir.write("edge-00500.yaml", "device_type: shelly\n");
    made(1.0, "a file that was saved again");
    let put = central.send("PUT", "/config/edge-00501", r#"{"device_type":"x86"}"#);
    assert_eq!(put.status, 200);
    made(2.0, "a change by the API");
    // A contact of a board renders pieces, but parses nothing.
    let board = [
        ("Exporter-Version", "0.1.0"),
        ("Exporter-Ports", "31000 31001"),
    ];
    assert_eq!(
        central
            .send_with("GET", "/config/edge-00700", &board, b"")
            .status,
        200
    );
    made(2.0, "a board that asks");
    assert_eq!(central.device("edge-00700")["port"], 31000);
}

#[test]
fn every_change_of_a_file_is_visible_to_the_next_request() {
    let (dir, central) = fleet(300);
    let types = |name: &str| central.device(name)["device_type"].clone();
    let there = |name: &str| ids(&central.json("/devices")).iter().any(|id| id == name);
    // With the same length, within one tick of the clock.
    for _ in 0..20 {
        for kind in ["raspberry_pi", "jetson_orin_"] {
            let kind = kind.trim_end_matches('_');
            dir.write("edge-00007.yaml", &format!("device_type: {kind:12}\n"));
            assert_eq!(types("edge-00007"), kind);
            assert_eq!(central.json("/config/edge-00007")["device_type"], kind);
        }
    }
    let file = |name: &str| dir.path().join(format!("{name}.yaml"));
    std::fs::remove_file(file("edge-00008")).unwrap();
    assert!(!there("edge-00008"));
    assert_eq!(central.get("/config/edge-00008").status, 404);
    std::fs::rename(file("edge-00009"), file("new")).unwrap();
    assert!(!there("edge-00009") && there("new"));
    // Editors write a temporary file and rename it.
    dir.write("edge-00010.yaml~", "device_type: shelly\n");
    std::fs::rename(dir.path().join("edge-00010.yaml~"), file("edge-00010")).unwrap();
    assert_eq!(types("edge-00010"), "shelly");
    // An unreadable file affects its board only.
    let is_broken = |name: &str, words: &str| {
        let device = central.device(name);
        assert_eq!(device["status"], "unhealthy", "{device}");
        assert!(
            device["error"].as_str().unwrap().contains(words),
            "{device}"
        );
        let answer = central.get(&format!("/config/{name}"));
        assert_eq!(answer.status, 500);
        let said = body(&answer);
        assert_eq!(
            (&said["error"], &said["device_id"]),
            (&json!("Invalid configuration"), &json!(name))
        );
        assert_eq!(central.json("/health")["status"], "healthy");
    };
    std::fs::remove_file(file("edge-00011")).unwrap();
    symlink("edge-00011.yaml", file("edge-00011")).unwrap();
    is_broken("edge-00011", "edge-00011.yaml");
    std::fs::remove_file(file("edge-00011")).unwrap();
    nix::unistd::mkfifo(&file("edge-00011"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    is_broken("edge-00011", "FIFO");
    std::fs::remove_file(file("edge-00011")).unwrap();
    std::fs::create_dir(file("edge-00011")).unwrap();
    is_broken("edge-00011", "directory");
    std::fs::remove_dir(file("edge-00011")).unwrap();
    dir.write("edge-00011.yaml", "interval: fast\n");
    is_broken("edge-00011", "interval");
    dir.write("edge-00011.yaml", "\u{7}\0");
    is_broken("edge-00011", "line");
    dir.write("edge-00011.yaml", &"# long\n".repeat(10_000));
    is_broken("edge-00011", "bytes");
    dir.write("edge-00011.yaml", "device_type: x86\n");
    assert_eq!(
        (
            types("edge-00011"),
            central.device("edge-00011")["status"].clone()
        ),
        (json!("x86"), json!("unknown"))
    );
    // Names that are no device ids.
    for name in ["a b.yaml", ".hidden.yaml", "x.yml", "ä.yaml", "-x.yaml"] {
        dir.write(name, "device_type: x86\n");
    }
    assert_eq!(central.json("/devices")["total"], 299);
    // All files at once.
    for n in 100..200 {
        std::fs::remove_file(file(&format!("edge-{n:05}"))).unwrap();
    }
    assert_eq!(central.json("/devices")["total"], 199);
    assert_eq!(central.json("/sd").as_array().unwrap().len(), 199);
}

/// inotify does not report changes of a link's target. Scans find them.
#[test]
fn change_of_a_link_target_is_found() {
    let elsewhere = TempDir::new();
    let (dir, central) = fleet(3);
    let real = elsewhere.write("real", "device_type: x86\n");
    symlink(&real, dir.path().join("linked.yaml")).unwrap();
    assert_eq!(central.device("linked")["device_type"], "x86");
    std::fs::write(&real, "device_type: shelly\n").unwrap();
    assert_eq!(central.json("/config/linked")["device_type"], "shelly");
    wait_until("it is found", || {
        (central.device("linked")["device_type"] == "shelly").then_some(())
    });
}

#[test]
fn fleet_is_listed_by_pages_and_searches() {
    let (_dir, central) = fleet(700);
    let all = central.json("/devices");
    let (mut found, mut path) = (Vec::new(), "/devices?limit=64".to_string());
    loop {
        let answer = central.get(&path);
        let page = body(&answer);
        assert_eq!((answer.status, &page["total"]), (200, &json!(700)));
        assert!(page["devices"].as_array().unwrap().len() <= 64);
        found.extend(ids(&page));
        let Some(link) = answer.header("Link") else {
            assert!(page["next"].is_null());
            break;
        };
        let (to, rel) = link.split_once('>').unwrap();
        assert_eq!(rel, "; rel=\"next\"");
        path = to.trim_start_matches('<').to_string();
        assert!(path.ends_with(page["next"].as_str().unwrap()), "{path}");
    }
    assert_eq!(found, ids(&all));
    let of = |query: &str| ids(&central.json(&format!("/devices?{query}")));
    assert_eq!(of("after=edge-00698"), ["edge-00699"]);
    assert_eq!(of("after=zzz"), [""; 0]);
    assert_eq!(
        of("search=EDGE-0012"),
        (120..130)
            .map(|n| format!("edge-{n:05}"))
            .collect::<Vec<_>>()
    );
    assert_eq!(
        of("search=edge-0012&limit=2&after=edge-00125"),
        ["edge-00126", "edge-00127"]
    );
    let board = [
        ("Exporter-Version", "1"),
        ("Exporter-Degraded", "no <chip>"),
    ];
    central.send_with("GET", "/config/edge-00005", &board, b"");
    assert_eq!(of("status=degraded,healthy"), ["edge-00005"]);
    assert_eq!(of("status=unknown&search=chip"), [""; 0]);
    assert_eq!(of("search=no%20%3Cchip"), ["edge-00005"]);
    for bad in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=-1",
        "status=ill",
        "limit=",
    ] {
        assert_eq!(central.get(&format!("/devices?{bad}")).status, 400, "{bad}");
    }
    assert_eq!(
        central
            .get(&format!("/devices?search={}", "x".repeat(257)))
            .status,
        400
    );
}

/// A board's contact: what it draws, in watts, joules, and seconds since its counter began.
fn contact(central: &ConfigServer, id: &str, power: &str, energy: &str) {
    let headers = [
        ("Exporter-Version", "1"),
        ("Exporter-Power", power),
        ("Exporter-Energy", energy),
    ];
    let answer = central.send_with("GET", &format!("/config/{id}"), &headers, b"");
    assert_eq!(answer.status, 200);
}

#[test]
fn power_is_listed_summed_and_sorted_by() {
    let (dir, central) = fleet(300);
    let page = |query: &str| central.json(&format!("/devices?{query}"));
    let none = page("sort=power");
    assert_eq!(
        (&none["boards_with_power"], &none["found"]),
        (&json!(0), &json!(300))
    );
    for key in ["power_watts", "energy_day_joules"] {
        assert!(
            none[key].is_null() && none["devices"][0][key].is_null(),
            "{none}"
        );
    }
    contact(&central, "edge-00007", "12.5", "1000 100");
    contact(&central, "edge-00100", "20", "500 100");
    // One that does not know its total, and one that says what is no number.
    contact(&central, "edge-00200", "x", "");
    let all = page("sort=power&limit=2");
    assert_eq!(ids(&all), ["edge-00100", "edge-00007"]);
    assert_eq!(
        (&all["boards_with_power"], &all["found"]),
        (&json!(2), &json!(300))
    );
    assert_eq!(
        (&all["power_watts"], &all["energy_day_joules"]),
        (&json!(32.5), &json!(1500.0))
    );
    assert_eq!(all["healthy"], 3);
    let second = &all["devices"][1];
    assert_eq!(
        (&second["power_watts"], &second["energy_day_joules"]),
        (&json!(12.5), &json!(1000.0))
    );
    let curve = second["power_history"].as_array().unwrap();
    assert!((1..=48).contains(&curve.len()), "{second}");
    assert_eq!(second["power_history_seconds"], 15.0);
    let rest = page("sort=power&limit=3&after=edge-00007");
    assert_eq!(ids(&rest), ["edge-00000", "edge-00001", "edge-00002"]);
    assert_eq!(
        ids(&page("sort=energy&limit=2")),
        ["edge-00007", "edge-00100"]
    );
    assert_eq!(
        ids(&page("sort=name&limit=2&after=edge-00006x")),
        ["edge-00007", "edge-00008"]
    );
    assert_eq!(ids(&page("sort=power&after=gone")), [""; 0]);
    let found = page("search=edge-0000&sort=power&limit=1");
    assert_eq!(
        (&found["power_watts"], &found["found"]),
        (&json!(12.5), &json!(10))
    );
    assert!(page("search=edge-00200")["power_watts"].is_null());
    // The whole list has its keys and no others.
    let whole = central.json("/devices");
    assert!(whole["power_watts"].is_null() && whole["devices"][7]["power_watts"].is_null());
    // The worst status first.
    dir.write("edge-00150.yaml", "interval: fast\n");
    assert_eq!(ids(&page("sort=status&limit=1")), ["edge-00150"]);
    assert_eq!(ids(&page("limit=1&after=edge-00006")), ["edge-00007"]);
    for bad in ["sort=watts", "label=site", "label==berlin"] {
        assert_eq!(central.get(&format!("/devices?{bad}")).status, 400, "{bad}");
    }
}

#[test]
fn power_costs_no_write_to_the_store_and_survives_a_restart() {
    let (dir, central) = fleet(2);
    contact(&central, "edge-00000", "10", "1000 100");
    let notes = || {
        let files = std::fs::read_dir(dir.path().join(".notes"))
            .unwrap()
            .flatten();
        let texts = files.map(|file| std::fs::read_to_string(file.path()).unwrap());
        texts.collect::<Vec<_>>()
    };
    let before = notes();
    assert_eq!(before.len(), 1);
    let rendered = || {
        central.get("/devices");
        work(&central)[1]
    };
    let rendered_before = rendered();
    for watts in ["11", "12", "13"] {
        contact(&central, "edge-00000", watts, "1000 100");
        assert_eq!(rendered(), rendered_before);
    }
    assert_eq!(notes(), before);
    central.kill();
    let central = ConfigServer::start(dir.path());
    let device = &central.json("/devices?sort=name")["devices"][0];
    assert_eq!(
        (&device["power_watts"], &device["energy_day_joules"]),
        (&json!(10.0), &json!(1000.0))
    );
}

#[test]
fn boards_are_listed_by_group_and_label() {
    let (dir, central) = fleet(20);
    std::fs::create_dir_all(dir.path().join("groups")).unwrap();
    dir.write(
        "groups/low.yaml",
        "members: {name: \"edge-0000*\"}\nlabels: {site: berlin, rack: \"3\"}\n",
    );
    dir.write("groups/all.yaml", "labels: {site: paris}\norder: -1\n");
    let page = |query: &str| central.json(&format!("/devices?{query}"));
    let low = page("group=low&limit=1");
    assert_eq!((&low["found"], &low["total"]), (&json!(10), &json!(20)));
    let device = &low["devices"][0];
    assert_eq!(device["groups"], json!(["all", "low"]));
    assert_eq!(device["labels"], json!({"site": "berlin", "rack": "3"}));
    assert_eq!(page("label=site%3Dparis")["found"], 10);
    assert_eq!(page("label=site=berlin&label=rack=3")["found"], 10);
    assert_eq!(page("label=site=berlin&label=rack=4")["found"], 0);
    assert_eq!(
        page("group=all&label=site=berlin&search=edge-00003")["found"],
        1
    );
    assert_eq!(page("group=nobody")["found"], 0);
    let plain = page("limit=1");
    assert!(plain["found"].is_null() && plain["devices"][0]["labels"].is_object());
}

#[cfg(feature = "gzip")]
#[test]
fn compressed_responses_have_the_same_text() {
    let (dir, central) = fleet(400);
    for turn in 0..3 {
        for path in ["/sd", "/devices"] {
            let plain = central.get(path);
            let packed = central.send_with("GET", path, &[("Accept-Encoding", "gzip")], b"");
            assert_eq!(packed.header("Content-Encoding"), Some("gzip"));
            assert_eq!(packed.header("Vary"), Some("Accept-Encoding"));
            assert!(packed.body.len() < plain.body.len() / 5);
            let mut text = Vec::new();
            flate2::read::GzDecoder::new(packed.body.as_slice())
                .read_to_end(&mut text)
                .unwrap();
            assert!(text == plain.body, "{path}");
            body(&plain);
        }
        dir.write(&format!("edge-0010{turn}.yaml"), "port: 1\n");
    }
    let head = central.send_with("HEAD", "/devices", &[("Accept-Encoding", "gzip")], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    let refused = central.send_with("GET", "/sd", &[("Accept-Encoding", "gzip;q=0")], b"");
    assert_eq!(refused.header("Content-Encoding"), None);
}

/// Clients that do not read share the bytes of the response.
#[test]
fn unread_responses_share_memory() {
    let (_dir, central) = fleet(1500);
    let rss = || {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", central.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<usize>()
            .unwrap()
    };
    let answer = central.get("/devices").body.len();
    let before = rss();
    let ask = || {
        let mut stream = TcpStream::connect(central.address).unwrap();
        let request = format!("GET /devices HTTP/1.1\r\nHost: {}\r\n\r\n", central.address);
        stream.write_all(request.as_bytes()).unwrap();
        // The response is on its way.
        let mut first = [0];
        stream.read_exact(&mut first).unwrap();
        stream
    };
    let unread: Vec<TcpStream> = (0..64).map(|_| ask()).collect();
    let grown = rss().saturating_sub(before);
    drop(unread);
    assert!(
        grown < 64 * answer / 1024 / 4,
        "{grown} kB for answers of {answer} bytes"
    );
    assert_eq!(central.json("/health")["status"], "healthy");
}
