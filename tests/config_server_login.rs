//! Calls to boards with a login and TLS, and HTTP client settings that are refused at the start.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod config_server_support;
mod support;

#[cfg(feature = "tls")]
mod access_support;

use std::process::{Command, Stdio};

use config_server_support::command;
use support::TempDir;

/// The error of a server that does not start.
fn start_error(command: &mut Command) -> String {
    let output = command.stdout(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn contradictory_settings_are_refused_at_the_start() {
    let dir = TempDir::new();
    let store = dir.path().join("store").display().to_string();
    let token = dir.write("token", "0123456789abcdef");
    let login = dir.write("login.yml", "authorization: {credentials_file: token}\n");
    let user = dir.write(
        "user.yml",
        "basic_auth: {username: a, password_file: gone}\n",
    );
    let wrong = dir.write("wrong.yml", "basic_auht: {username: a}\n");
    let tls = dir.write("tls.yml", "tls_config: {insecure_skip_verify: true}\n");
    let (boards, etcd) = ("--boards.http.config.file", "--store.http.config.file");
    let etcd_store = "etcd://127.0.0.1:1/x";
    for (place, option, file, more, words) in [
        (
            &*store,
            boards,
            &login,
            &["--management.allow-remote"][..],
            "anybody can register",
        ),
        (&store, boards, &user, &[], "gone"),
        (&store, boards, &wrong, &[], "wrong.yml:1:1"),
        (&store, etcd, &login, &[], "is a directory"),
        (etcd_store, etcd, &login, &[], "basic_auth"),
        (etcd_store, etcd, &user, &[], "gone"),
        (etcd_store, etcd, &tls, &[], "etcds://"),
    ] {
        let said = start_error(command(place).arg(option).arg(file).args(more));
        assert!(said.contains(option) && said.contains(words), "{said}");
        assert!(!said.contains("0123456789abcdef"), "{said}");
    }
    drop(token);
    if cfg!(not(feature = "tls")) {
        let said = start_error(&mut command("etcds://127.0.0.1:1/x"));
        assert!(said.contains("no TLS"), "{said}");
    }
}

#[cfg(feature = "tls")]
mod tls {
    use super::access_support::{pem, tls, users, with_web_config, PASSWORD};
    use super::config_server_support::{body, ConfigServer};
    use super::support::{exporter, wait_until, Exporter};
    use super::*;

    #[test]
    fn board_with_tls_and_users_is_listed_and_called() {
        let dir = TempDir::new();
        let store = dir.path().join("store");
        dir.write("password", PASSWORD);
        let http = format!(
            "basic_auth: {{username: alice, password_file: password}}\ntls_config: {{ca_file: {}}}\n",
            pem("ca.pem").display()
        );
        let http = dir.write("boards.yml", &http);
        let mut with_login = command(store.to_str().unwrap());
        let central = ConfigServer::of(with_login.arg("--boards.http.config.file").arg(http));
        let config = dir.write("config.yaml", "hostname: edge-07\n");
        let web = dir.write("web.yml", &(tls("server", &[]) + &users(&["alice"])));
        let mut board = exporter();
        with_web_config(&mut board, &web)
            .arg("--config")
            .arg(config)
            .env("CONFIG_SERVER_URL", format!("http://{}", central.address));
        let mut board = Exporter::start(&mut board);
        wait_until("the board is listed", || {
            let all = central.json("/devices");
            let device = all["devices"].as_array()?.first()?.clone();
            (device["scheme"] == "https").then_some(())
        });
        let listed = central.json("/sd");
        assert_eq!(listed[0]["labels"]["__scheme__"], "https", "{listed}");
        let told = central.send("POST", "/devices/edge-07/reload", "");
        assert_eq!(told.status, 200, "{}", told.text());
        board.wait_for_log("configuration reloaded");
        assert!(!central.log().contains(PASSWORD), "{}", central.log());
        central.kill();

        // A server without the password reports the board's answer, and does not list the board as unreachable.
        let trusting = format!("tls_config: {{ca_file: {}}}\n", pem("ca.pem").display());
        let http = dir.write("trusting.yml", &trusting);
        let mut without = command(store.to_str().unwrap());
        let central = ConfigServer::of(without.arg("--boards.http.config.file").arg(http));
        let told = central.send("POST", "/devices/edge-07/reload", "");
        let said = body(&told)["error"].as_str().unwrap().to_string();
        assert!(
            said.contains("https://127.0.0.1:") && said.contains("401"),
            "{said}"
        );
        assert_eq!(central.device("edge-07")["status"], "healthy");
        drop(central);

        // A server that does not trust the certificate lists the board as unreachable.
        let central = ConfigServer::start(&store);
        let told = central.send("POST", "/devices/edge-07/reload", "");
        assert_eq!(told.status, 503);
        assert_eq!(central.device("edge-07")["status"], "unreachable");
    }
}
