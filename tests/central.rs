//! A board with its central server: which configuration is in force, and how changes reach the other side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod config_server_support;
mod support;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use config_server_support::{command, ConfigServer};
use edge_metrics_exporter::http::{bind, Limits, Method, Request, Response, Server};
use serde_json::{json, Value};
use support::free_port::FreePort;
use support::{exporter, get, on_board, post, wait_until, Exporter, TempDir};

/// The board's metrics that these tests switch.
const POWER: &str = "power_watts";
const VOLTS: &str = "voltage_volts";

/// A board with the device id edge-07.
struct Board {
    dir: TempDir,
    file: PathBuf,
    url: String,
}

impl Board {
    fn new(config: &str, url: &str) -> Board {
        let dir = TempDir::new();
        let file = dir.write("config.yaml", &format!("hostname: edge-07\n{config}"));
        Board {
            dir,
            file,
            url: url.to_string(),
        }
    }

    fn command(&self) -> Command {
        let mut command = exporter();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boards/orange_pi_axp");
        on_board(&mut command, &fixture);
        command
            .arg("--config")
            .arg(&self.file)
            .env("CONFIG_SERVER_URL", &self.url)
            .env("CONFIG_TIMEOUT", "60");
        command
    }

    fn start(&self) -> Exporter {
        Exporter::start(&mut self.command())
    }

    /// The file of changes that the server does not have yet.
    fn unsent(&self) -> PathBuf {
        self.dir.path().join(".config.yaml.unsent")
    }
}

fn health(exporter: &Exporter) -> Value {
    serde_json::from_slice(&get(exporter.management, "/health").body).unwrap()
}

fn in_force(exporter: &Exporter) -> Value {
    serde_json::from_slice(&get(exporter.management, "/config").body).unwrap()
}

/// Makes the board reload its configuration, as soon as the rate limit allows.
fn reload(exporter: &Exporter) -> support::Answer {
    wait_until("a reload is due", || {
        let answer = post(exporter.management, "/reload", "");
        (answer.status != 429).then_some(answer)
    })
}

fn switch(exporter: &Exporter, name: &str, on: bool) {
    wait_until("the metric is known", || {
        let answer = post(
            exporter.management,
            "/metrics/enable",
            &json!({name: on}).to_string(),
        );
        assert!([200, 400].contains(&answer.status), "{}", answer.text());
        (answer.status == 200).then_some(())
    });
}

fn url(central: &ConfigServer) -> String {
    format!("http://{}", central.address)
}

/// Starts a server at this address.
fn at(dir: &Path, address: SocketAddr) -> ConfigServer {
    let mut command = command(dir.to_str().unwrap());
    command.args(["--web.listen-address", &address.to_string()]);
    ConfigServer::of(&mut command)
}

const SERVERS: &str =
    r#"{"device_type":"orange_pi","interval":0.2,"metrics":{"power_watts":true}}"#;

#[test]
fn server_configuration_takes_precedence_over_the_file() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    central.send("PUT", "/config/edge-07", SERVERS);
    let board = Board::new("interval: 9\n", &url(&central));
    let mut exporter = board.start();
    exporter.wait_for_log("configuration: http://");
    assert_eq!(in_force(&exporter)["interval"], 0.2);
    let config = &health(&exporter)["config"];
    assert_eq!(config["source"], "server", "{config}");
    assert!(config["path"]
        .as_str()
        .unwrap()
        .ends_with("/config/edge-07"));
    // The file is unchanged except for the metrics that were found.
    let file = std::fs::read_to_string(&board.file).unwrap();
    assert!(
        file.starts_with("hostname: edge-07\ninterval: 9\n"),
        "{file}"
    );
    // The server knows the board's address, and that it accepted its configuration.
    let device = wait_until("the board has reported its ports", || {
        let device = central.device("edge-07");
        (device["port"] == exporter.metrics.port()).then_some(device)
    });
    assert_eq!(device["reload_port"], exporter.management.port());
    assert_eq!(device["status"], "healthy");
    let target = format!("127.0.0.1:{}", exporter.metrics.port());
    assert_eq!(central.json("/sd")[0]["targets"][0], target);
    assert_eq!(exporter.value("exporter_config_server_up"), Some(1.0));
    // A change on the server reaches the board at once. Sources that the change does not affect keep running.
    let threads = exporter.threads_at_rest();
    let put = central.send("PATCH", "/config/edge-07", r#"{"interval":0.4}"#);
    assert_eq!(config_server_support::body(&put)["reload_triggered"], true);
    wait_until("the change is in force", || {
        (in_force(&exporter)["interval"] == 0.4).then_some(())
    });
    wait_until("no more threads than before", || {
        (exporter.status("Threads") <= threads).then_some(())
    });
}

#[test]
fn polling_board_finds_changes_without_a_call() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    // The management API is off, so the server cannot call the board.
    let config = json!({"device_type": "orange_pi", "config_poll": 0.1, "interval": 1});
    central.send("PUT", "/config/edge-07", &config.to_string());
    let board = Board::new("", &url(&central));
    let exporter = board.start();
    // The server does not call boards after an edit of the store's files.
    for interval in [2, 3] {
        let config = format!("device_type: orange_pi\nconfig_poll: 0.1\ninterval: {interval}\n");
        std::fs::write(dir.path().join("edge-07.yaml"), config).unwrap();
        wait_until("the change is in force", || {
            (in_force(&exporter)["interval"] == interval).then_some(())
        });
    }
    wait_until("most answers are that nothing has changed", || {
        let metrics = central.get("/metrics").text();
        let unchanged =
            "config_server_requests_total{method=\"GET\",route=\"/config/{device_id}\",status=\"304\"}";
        (support::value(&metrics, unchanged)? >= 5.0).then_some(())
    });
}

#[test]
fn file_is_in_force_until_the_server_answers() {
    let port = FreePort::new();
    let board = Board::new("interval: 9\n", &format!("http://{}", port.address()));
    let mut exporter = board.start();
    exporter.wait_for_log("fallback: using the local configuration");
    assert_eq!(in_force(&exporter)["interval"], 9);
    assert_eq!(health(&exporter)["config"]["source"], "file");
    assert_eq!(exporter.value("exporter_config_server_up"), Some(0.0));
    // The reload succeeds nevertheless.
    assert_eq!(reload(&exporter).status, 200);
    exporter.wait_for_log("trying again");
    let dir = TempDir::new();
    dir.write("edge-07.yaml", "device_type: orange_pi\ninterval: 0.3\n");
    let _central = at(dir.path(), port.address());
    wait_until("the server's configuration is in force", || {
        (in_force(&exporter)["interval"] == 0.3).then_some(())
    });
    exporter.wait_for_log("the config server answers again");
    assert_eq!(health(&exporter)["config_server"]["answered"], true);
    // With the server gone, a reload keeps the server's last configuration.
    drop(_central);
    assert_eq!(reload(&exporter).status, 200);
    exporter.wait_for_log("fallback: the configuration in force is kept");
    assert_eq!(in_force(&exporter)["interval"], 0.3);
}

#[test]
fn hanging_server_only_delays_the_start() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let board = Board::new(
        "interval: 9\n",
        &format!("http://{}", silent.local_addr().unwrap()),
    );
    let mut exporter = Exporter::start(board.command().env("CONFIG_TIMEOUT", "1"));
    exporter.wait_for_log("no whole answer within 1 s");
    exporter.wait_for_log("fallback");
    assert_eq!(in_force(&exporter)["interval"], 9);
}

#[test]
fn unknown_board_registers_itself() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    let board = Board::new(
        "# mine\ninterval: 9\nina260: {i2c_bus: 0x1}\n",
        &url(&central),
    );
    let mut exporter = board.start();
    exporter.wait_for_log("fallback");
    wait_until("the board is registered", || {
        (central.get("/config/edge-07").status == 200).then_some(())
    });
    let config = central.json("/config/edge-07");
    assert_eq!(
        (&config["interval"], &config["hostname"]),
        (&json!(9), &json!("edge-07"))
    );
    assert!(config["device_type"].is_string(), "{config}");
    wait_until("it is found", || {
        let target = format!("127.0.0.1:{}", exporter.metrics.port());
        (central.json("/sd")[0]["targets"][0] == target).then_some(())
    });
    // The server lists the type that the board found, as in the labels of its metrics.
    let list: Value =
        serde_json::from_slice(&get(exporter.management, "/metrics/list").body).unwrap();
    assert!(
        config["device_type"] == "auto" && list["device_type"] != "auto",
        "{config} {list}"
    );
    let label = &central.json("/sd")[0]["labels"]["device_type"];
    assert_eq!(label, &list["device_type"]);
    // A board registers again with a server that lost its configuration.
    central.send("PATCH", "/config/edge-07", r#"{"interval":0.5}"#);
    wait_until("the change is in force", || {
        (in_force(&exporter)["interval"] == 0.5).then_some(())
    });
    central.send("DELETE", "/config/edge-07", "");
    assert_eq!(reload(&exporter).status, 200);
    wait_until("the board is registered again", || {
        (central.get("/config/edge-07").status == 200).then_some(())
    });
    assert_eq!(central.json("/config/edge-07")["interval"], 0.5);
    assert_eq!(in_force(&exporter)["interval"], 0.5);

    // A configuration with a password is not registered, since every client of the server could read it.
    let secret = Board::new(
        "shelly: {host: 127.0.0.1, password: hunter2}\n",
        &url(&central),
    );
    std::fs::write(
        &secret.file,
        "hostname: edge-08\nshelly: {host: \"127.0.0.1:9\", password: hunter2}\n",
    )
    .unwrap();
    let mut exporter = secret.start();
    exporter.wait_for_log("does not register itself");
    assert_eq!(central.get("/config/edge-08").status, 404);
    assert!(!exporter.log().contains("hunter2"));
}

#[test]
fn board_with_every_default_in_its_file_registers_with_what_differs() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    let group = r#"{"config": {"interval": 0.25}}"#;
    assert_eq!(central.send("PUT", "/groups/default", group).status, 200);
    let template = include_str!("../config.yaml.template");
    assert!(template.contains("\ninterval: 1\n"), "{template}");
    let changed = template.replace("\nthermal:\n  enabled: auto\n", "\nthermal: null\n");
    assert_ne!(changed, template);
    let board = Board::new(
        &format!("{changed}\nconfig_poll: 1\ncolour: green\n"),
        &url(&central),
    );
    let mut exporter = board.start();
    exporter.wait_for_log("fallback");
    wait_until("the board is registered", || {
        (central.get("/config/edge-07").status == 200).then_some(())
    });
    let own = central.json("/config/edge-07?own");
    let keys: Vec<&str> = own
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        keys,
        [
            "hostname",
            "device_type",
            "thermal",
            "config_poll",
            "colour"
        ],
        "{own}"
    );
    let is_in_force = |interval: f64| {
        wait_until("the group's interval is in force", || {
            (in_force(&exporter)["interval"] == interval).then_some(())
        });
    };
    is_in_force(0.25);
    // It registers again with what it got last, of which the groups' part is not its own.
    assert_eq!(central.send("DELETE", "/config/edge-07", "").status, 200);
    wait_until("the board is registered again", || {
        (central.get("/config/edge-07").status == 200).then_some(())
    });
    assert_eq!(central.json("/config/edge-07?own")["interval"], Value::Null);
    let changed = r#"{"config": {"interval": 0.75}}"#;
    assert_eq!(central.send("PUT", "/groups/default", changed).status, 200);
    is_in_force(0.75);
}

#[test]
fn metric_switches_reach_the_server_and_keep_its_other_changes() {
    let dir = TempDir::new();
    let central = ConfigServer::start(dir.path());
    central.send("PUT", "/config/edge-07", SERVERS);
    let board = Board::new("metrics: {}\n", &url(&central));
    let exporter = board.start();
    let metric = |name: &str| central.json("/config/edge-07")["metrics"][name].clone();
    switch(&exporter, VOLTS, true);
    wait_until("the switch arrives", || {
        (metric(VOLTS) == true).then_some(())
    });
    assert_eq!(
        (metric(POWER), &central.json("/config/edge-07")["interval"]),
        (json!(true), &json!(0.2))
    );
    assert!(exporter.scrape().contains("\nvoltage_volts{"));
    // The file has the switch too, for a start without the server.
    let file = std::fs::read_to_string(&board.file).unwrap();
    assert!(file.contains("voltage_volts: true"), "{file}");

    // Both sides change something. The server's changes win except for metrics that the board switched.
    let held = std::fs::read_to_string(dir.path().join("edge-07.yaml")).unwrap();
    let edited = held
        .replace("interval: 0.2", "interval: 0.7")
        .replace("power_watts: true", "power_watts: false");
    std::fs::write(dir.path().join("edge-07.yaml"), edited).unwrap();
    switch(&exporter, VOLTS, false);
    wait_until("the switch arrives", || {
        (metric(VOLTS) == false).then_some(())
    });
    assert_eq!(
        (metric(POWER), &central.json("/config/edge-07")["interval"]),
        (json!(false), &json!(0.7))
    );
    wait_until("the board follows", || {
        let config = in_force(&exporter);
        (config["interval"] == 0.7 && config["metrics"][POWER] == false).then_some(())
    });
    assert_eq!(health(&exporter)["config_server"]["unsent"], 0);
    assert!(!board.unsent().exists());
}

#[test]
fn switch_without_a_server_survives_a_restart() {
    let dir = TempDir::new();
    let port = FreePort::new();
    let central = at(dir.path(), port.address());
    central.send("PUT", "/config/edge-07", SERVERS);
    let board = Board::new("", &url(&central));
    let mut exporter = board.start();
    exporter.wait_for_log("configuration: http://");
    central.kill();
    switch(&exporter, VOLTS, true);
    switch(&exporter, POWER, true);
    switch(&exporter, POWER, false);
    wait_until("it is kept", || {
        let unsent = std::fs::read_to_string(board.unsent()).ok()?;
        (unsent.contains("\"power_watts\":false") && unsent.contains("\"voltage_volts\":true"))
            .then_some(())
    });
    assert!(exporter.value("exporter_config_server_unsent") >= Some(2.0));
    drop(exporter);
    let mut exporter = board.start();
    exporter.wait_for_log("fallback");
    let central = at(dir.path(), port.address());
    wait_until("the switches arrive", || {
        let metrics = &central.json("/config/edge-07")["metrics"];
        (metrics[VOLTS] == true && metrics[POWER] == false).then_some(())
    });
    wait_until("nothing is left to tell", || {
        (!board.unsent().exists()).then_some(())
    });
    wait_until("they are in force", || {
        let metrics = &in_force(&exporter)["metrics"];
        (metrics[VOLTS] == true && metrics[POWER] == false).then_some(())
    });
}

/// A fake central server, which records requests.
struct Stub {
    server: Server,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Stub {
    fn new(answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Stub {
        let asked: Arc<Mutex<Vec<Request>>> = Arc::default();
        let notes = Arc::clone(&asked);
        let handler = move |request: &Request| {
            notes.lock().unwrap().push(request.clone());
            answer(request)
        };
        let listener = bind("127.0.0.1:0", "the test").unwrap();
        let server = Server::start(listener, Arc::new(handler), Limits::default()).unwrap();
        Stub { server, asked }
    }

    fn url(&self) -> String {
        format!("http://{}/base/", self.server.local_addr())
    }

    fn heard(&self, what: &str, wanted: impl Fn(&Request) -> bool) -> Request {
        wait_until(what, || {
            self.asked
                .lock()
                .unwrap()
                .iter()
                .find(|r| wanted(r))
                .cloned()
        })
    }
}

#[test]
fn invalid_configuration_is_refused_and_the_last_valid_one_kept() {
    let answer = Arc::new(Mutex::new(SERVERS.to_string()));
    let shared = Arc::clone(&answer);
    let stub = Stub::new(move |request| match request.method {
        Method::Get => Response::new(200, "application/json", shared.lock().unwrap().clone()),
        _ => Response::text(403, "no"),
    });
    let board = Board::new("interval: 9\n", &stub.url());
    let mut exporter = board.start();
    exporter.wait_for_log("configuration: http://");
    assert_eq!(in_force(&exporter)["interval"], 0.2);
    let asked = stub.heard("the first question", |r| r.path == "/base/config/edge-07");
    assert!(asked.header("Exporter-Version").is_some());
    // Its power is told as soon as it is known, with the energy and for how long that is counted.
    let told = wait_until("it tells what it draws", || {
        reload(&exporter);
        let all = stub.asked.lock().unwrap();
        let is_told = |r: &&Request| {
            r.header("Exporter-Power").is_some() && r.header("Exporter-Energy").is_some()
        };
        all.iter().find(is_told).cloned()
    });
    let number = |text: &str| text.parse::<f64>().unwrap();
    assert!(number(told.header("Exporter-Power").unwrap()) > 0.0);
    let (joules, seconds) = told
        .header("Exporter-Energy")
        .unwrap()
        .split_once(' ')
        .unwrap();
    assert!(number(joules) >= 0.0 && number(seconds) > 0.0);
    for (wrong, words) in [
        (
            r#"{"device_type":"orange_pi","interval":"fast"}"#,
            "interval",
        ),
        (r#"{"device_type":"toaster"}"#, "toaster"),
        (r#"{"port":7,"reload_port":7}"#, "two"),
    ] {
        *answer.lock().unwrap() = wrong.to_string();
        let reload = reload(&exporter);
        assert_eq!(reload.status, 422, "{}", reload.text());
        assert!(reload.text().contains(words), "{}", reload.text());
        assert_eq!(in_force(&exporter)["interval"], 0.2);
        let health = health(&exporter);
        assert!(
            health["config"]["error"].as_str().unwrap().contains(words),
            "{health}"
        );
        // The server hears of it.
        stub.heard("why it was refused", |r| {
            r.header("Exporter-Refused")
                .is_some_and(|why| why.contains(words))
        });
    }
    // Malformed and empty responses change nothing either.
    for nonsense in ["<html>", "[1]", "{", "{}", "null"] {
        *answer.lock().unwrap() = nonsense.to_string();
        reload(&exporter);
        assert_eq!(in_force(&exporter)["interval"], 0.2, "{nonsense}");
        *answer.lock().unwrap() = SERVERS.to_string();
        assert_eq!(reload(&exporter).status, 200);
        assert_eq!(in_force(&exporter)["interval"], 0.2);
    }
}

#[test]
fn invalid_server_configuration_at_the_start_falls_back_to_the_file() {
    let stub = Stub::new(|_| Response::new(200, "application/json", r#"{"interval":"fast"}"#));
    let board = Board::new("interval: 9\n", &stub.url());
    let mut exporter = board.start();
    exporter.wait_for_log("the config server's configuration is refused");
    exporter.wait_for_log("fallback");
    assert_eq!(in_force(&exporter)["interval"], 9);
    stub.heard("why it was refused", |r| {
        r.header("Exporter-Refused").is_some()
    });
    // If the file is invalid too, the exporter stops and reports both errors.
    std::fs::write(&board.file, "interval: slow\n").unwrap();
    let output = board.command().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("no configuration: ") && said.contains("slow") && said.contains("fast"),
        "{said}"
    );
}

#[test]
fn invalid_file_on_the_server_is_reported_to_the_board() {
    let store = TempDir::new();
    let central = ConfigServer::start(store.path());
    let file = store.write("edge-07.yaml", "device_type: orange_pi\ninterval: 0.2\n");
    let board = Board::new("interval: 9\n", &url(&central));
    let mut exporter = board.start();
    exporter.wait_for_log("(config server)");
    assert_eq!(in_force(&exporter)["interval"], 0.2);
    let words = "the config server has an invalid configuration for this board: ";
    for (broken, why) in [
        ("interval: [\n", "line"),
        ("device_type: orange_pi\ninterval: fast\n", "line 2"),
        ("- a list\n", "list"),
        ("ip_address: somewhere\n", "ip_address"),
    ] {
        std::fs::write(&file, broken).unwrap();
        let reload = reload(&exporter);
        assert_eq!(reload.status, 422, "{}", reload.text());
        let health = health(&exporter);
        let said = health["config"]["error"].as_str().unwrap();
        assert!(said.contains(words) && said.contains(why), "{said}");
        assert_eq!(health["config_server"]["answered"], true);
        assert_eq!(in_force(&exporter)["interval"], 0.2);
        let device = central.device("edge-07");
        assert_eq!(device["status"], "unhealthy", "{device}");
    }
    // A directory in the place of the file.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert_eq!(reload(&exporter).status, 422);
    assert!(central.device("edge-07")["error"]
        .as_str()
        .unwrap()
        .contains("directory"));
    std::fs::remove_dir(&file).unwrap();
    assert!(
        !exporter.log().contains("does not answer"),
        "{}",
        exporter.log()
    );
    // The file is as it was before. The board notices that it is valid again without a call.
    std::fs::write(&file, "device_type: orange_pi\ninterval: 0.2\n").unwrap();
    wait_until("the board has no error", || {
        health(&exporter)["config"]["error"].is_null().then_some(())
    });
    wait_until("the server lists the board as healthy", || {
        (central.device("edge-07")["status"] == "healthy").then_some(())
    });
}

#[test]
fn invalid_file_on_the_server_at_the_start_falls_back_to_the_file() {
    let store = TempDir::new();
    let central = ConfigServer::start(store.path());
    let file = store.write("edge-07.yaml", "interval: fast\n");
    let board = Board::new("interval: 9\n", &url(&central));
    let mut exporter = board.start();
    exporter.wait_for_log("the config server has an invalid configuration for this board: ");
    exporter.wait_for_log("fallback");
    assert_eq!(in_force(&exporter)["interval"], 9);
    std::fs::write(&file, "device_type: orange_pi\ninterval: 0.2\n").unwrap();
    wait_until("the mended one is in force", || {
        (in_force(&exporter)["interval"] == 0.2).then_some(())
    });
}

#[test]
fn degraded_board_is_listed_as_degraded() {
    let store = TempDir::new();
    let central = ConfigServer::start(store.path());
    store.write("edge-07.yaml", "device_type: generic\ninterval: 0.1\n");
    let board = Board::new("", &url(&central));
    let sensor = "sys/class/thermal/thermal_zone0";
    board.dir.write(&format!("{sensor}/type"), "cpu-thermal\n");
    let temp = board.dir.write(&format!("{sensor}/temp"), "45000\n");
    let mut command = exporter();
    on_board(&mut command, board.dir.path());
    command
        .arg("--config")
        .arg(&board.file)
        .env("CONFIG_SERVER_URL", &board.url);
    let mut exporter = Exporter::start(&mut command);
    exporter.wait_for_log("(config server)");
    let status = |wanted: &str| {
        wait_until(wanted, || {
            let device = central.device("edge-07");
            (device["status"] == wanted).then_some(device)
        })
    };
    status("healthy");
    std::fs::write(&temp, "broken\n").unwrap();
    let device = status("degraded");
    assert!(
        device["error"].as_str().unwrap().contains("thermal"),
        "{device}"
    );
    let all = central.json("/devices");
    assert_eq!((&all["degraded"], &all["healthy"]), (&json!(1), &json!(0)));
    let labels = &central.json("/sd")[0]["labels"];
    assert_eq!(labels["__meta_edge_status"], "degraded");
    std::fs::write(&temp, "45000\n").unwrap();
    assert!(status("healthy")["error"].is_null());
}

#[test]
fn token_from_a_file_is_sent_and_never_shown() {
    let stub = Stub::new(|request| match request.header("Authorization") {
        Some("Bearer s3cret") => Response::new(200, "application/json", SERVERS),
        _ => Response::error(401, "Unauthorized", "who are you?"),
    });
    let board = Board::new("", "");
    let token = board.dir.write("token", "s3cret\n");
    let config = format!(
        "hostname: edge-07\nconfig_server:\n  url: {}\n  authorization: {{credentials_file: {}}}\n",
        stub.url(),
        token.display()
    );
    std::fs::write(&board.file, config).unwrap();
    let mut exporter = board.start();
    exporter.wait_for_log("configuration: http://");
    std::fs::write(&token, "wrong\n").unwrap();
    assert_eq!(reload(&exporter).status, 200);
    exporter.wait_for_log("status 401: who are you?");
    assert_eq!(in_force(&exporter)["interval"], 0.2);
    assert!(!exporter.log().contains("s3cret"), "{}", exporter.log());
}

#[test]
fn refused_changes_are_logged_once() {
    let stub = Stub::new(|request| match request.method {
        Method::Get => Response::new(200, "application/json", SERVERS).with_header("ETag", "\"1\""),
        _ => Response::error(403, "Forbidden", "not from there"),
    });
    let board = Board::new("", &stub.url());
    let mut exporter = board.start();
    exporter.wait_for_log("configuration: http://");
    switch(&exporter, VOLTS, true);
    let put = stub.heard("the switch is sent", |r| r.method == Method::Put);
    assert_eq!(put.header("If-Match"), Some("\"1\""));
    assert!(String::from_utf8_lossy(&put.body).contains("\"voltage_volts\":true"));
    exporter.wait_for_log("status 403: not from there");
    let puts = || {
        stub.asked
            .lock()
            .unwrap()
            .iter()
            .filter(|r| r.method == Method::Put)
            .count()
    };
    wait_until("the switch is sent again", || (puts() >= 2).then_some(()));
    assert_eq!(
        exporter.log().matches("not from there").count(),
        1,
        "{}",
        exporter.log()
    );
    // The switch stays in force on the board, also after a reload.
    assert_eq!(reload(&exporter).status, 200);
    assert_eq!(in_force(&exporter)["metrics"][VOLTS], true);
}

#[test]
fn invalid_environment_settings_are_reported() {
    let board = Board::new("", "localhost:8080");
    let output = board.command().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("CONFIG_SERVER_URL"), "{said}");
    let board = Board::new("", "http://127.0.0.1:1");
    std::fs::write(&board.file, "hostname: a name\n").unwrap();
    let output = board.command().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("set `hostname`"), "{said}");
}

/// A central server with TLS and the certificate of tests/tls, which requires a login.
#[cfg(feature = "tls")]
fn tls_server() -> SocketAddr {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use std::io::{Read, Write};
    let file = |name: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls");
        folder.join(name)
    };
    let chain = CertificateDer::pem_file_iter(file("server.pem")).unwrap();
    let chain: Vec<_> = chain.map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, socket.unwrap());
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                request.push(byte[0]);
            }
            let request = String::from_utf8_lossy(&request).to_lowercase();
            // edge:s3cret
            let (status, body) = match request.contains("authorization: basic zwrnztpzm2nyzxq=\r\n")
            {
                true => ("200 OK", SERVERS),
                false => ("401 Unauthorized", "{}"),
            };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all((head + body).as_bytes());
        }
    });
    address
}

#[cfg(feature = "tls")]
#[test]
fn https_server_needs_its_ca_and_a_login() {
    let port = tls_server().port();
    let board = Board::new("", "");
    let password = board.dir.write("password", "s3cret\n");
    let ca = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls/ca.pem");
    let config = |tls: &str| {
        format!(
            "hostname: edge-07\ninterval: 9\nconfig_server:\n  url: https://localhost:{port}\n  timeout: 20\n  \
             basic_auth: {{username: edge, password_file: {}}}\n{tls}",
            password.display()
        )
    };
    let trusting = format!("  tls_config: {{ca_file: {}}}\n", ca.display());
    std::fs::write(&board.file, config(&trusting)).unwrap();
    let start = || Exporter::start(board.command().env_remove("CONFIG_TIMEOUT"));
    let mut exporter = start();
    exporter.wait_for_log("configuration: https://");
    assert_eq!(in_force(&exporter)["interval"], 0.2);
    drop(exporter);
    // Without the CA the server is not trusted.
    std::fs::write(&board.file, config("")).unwrap();
    let mut exporter = start();
    exporter.wait_for_log("tls_config.ca_file");
    exporter.wait_for_log("fallback");
    assert_eq!(in_force(&exporter)["interval"], 9);
    assert!(!exporter.log().contains("s3cret"), "{}", exporter.log());
}
