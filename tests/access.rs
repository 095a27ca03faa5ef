//! Access control: users and passwords, tokens, and the files that configure them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access_support;
mod support;

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use access_support::{basic, users, with_web_config, PASSWORD};
use support::{exporter, get, request, request_from, wait_until, Answer, Exporter, TempDir};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn start(web: &std::path::Path) -> Exporter {
    Exporter::start(with_web_config(&mut exporter(), web))
}

fn ask(address: SocketAddr, login: &str) -> Answer {
    request(address, "GET", "/metrics", &[("Authorization", login)])
}

#[test]
fn both_ports_require_a_login() {
    let dir = TempDir::new();
    let headers = "http_server_config:\n  headers:\n    X-Frame-Options: deny\n";
    let web = dir.write("web.yml", &(users(&["alice", "bob"]) + headers));
    let exporter = start(&web);
    for address in [exporter.metrics, exporter.management] {
        let unknown = get(address, "/metrics");
        assert_eq!(unknown.status, 401);
        let challenge = unknown.header("WWW-Authenticate").unwrap();
        assert!(challenge.starts_with("Basic realm="), "{challenge}");
        assert_eq!(unknown.header("X-Frame-Options"), Some("deny"));
        for (user, password) in [
            ("alice", "open sesam"),
            ("alice", ""),
            ("carol", PASSWORD),
            ("", ""),
        ] {
            let refused = ask(address, &basic(user, password));
            assert_eq!(refused.status, 401, "{user} {}", refused.text());
        }
    }
    for user in ["alice", "bob"] {
        let scrape = ask(exporter.metrics, &basic(user, PASSWORD));
        assert_eq!(scrape.status, 200);
        assert!(scrape.text().contains("exporter_build_info"));
        assert_eq!(scrape.header("X-Frame-Options"), Some("deny"));
        // A login is valid for one request, not for the connection.
        assert_eq!(get(exporter.metrics, "/metrics").status, 401);
    }
    let login = [("Authorization", basic("bob", PASSWORD))];
    let login = login.each_ref().map(|(n, v)| (*n, v.as_str()));
    assert_eq!(
        request(exporter.management, "POST", "/reload", &login).status,
        200
    );
    assert_eq!(
        request(exporter.management, "POST", "/reload", &[]).status,
        401
    );
    let (status, _, log) = exporter.stop();
    assert!(status.success() && !log.contains(PASSWORD), "{log}");
}

#[test]
fn token_is_accepted_in_place_of_a_password() {
    let dir = TempDir::new();
    let web = dir.write("web.yml", &users(&["alice"]));
    let tokens = dir.write("tokens", &format!("# ours\n{TOKEN}\n"));
    let config = dir.write(
        "config.yaml",
        &format!("management:\n  token_file: {}\n", tokens.display()),
    );
    let mut command = exporter();
    let mut exporter = Exporter::start(with_web_config(command.arg("--config").arg(&config), &web));
    let management = exporter.management;
    let bearer = |token: &str| ask(management, &format!("Bearer {token}")).status;
    // An authenticated client gets 404: the path does not exist.
    assert_eq!(bearer(TOKEN), 404);
    assert_eq!(bearer(&TOKEN.replace('0', "1")), 401);
    dir.write("tokens", &TOKEN.replace('0', "1"));
    wait_until("the other token is taken", || {
        // Every attempt before the reload counts as a wrong token, and the number of those is limited.
        std::thread::sleep(Duration::from_millis(500));
        (bearer(&TOKEN.replace('0', "1")) == 404).then_some(())
    });
    assert_eq!(bearer(TOKEN), 401);
    dir.write("tokens", "short\n");
    wait_until("the file is read again", || {
        let _ = bearer(&TOKEN.replace('0', "1"));
        exporter.log().contains("too short").then_some(())
    });
    assert_eq!(bearer(&TOKEN.replace('0', "1")), 404);
    // The configuration may name another file, but not one that cannot be read.
    dir.write("config.yaml", "management: {token_file: /nonexistent}\n");
    exporter.signal(nix::sys::signal::Signal::SIGHUP);
    exporter.wait_for_log("cannot read the tokens /nonexistent");
    assert_eq!(bearer(&TOKEN.replace('0', "1")), 404);
    let (_, _, log) = exporter.stop();
    assert!(!log.contains(TOKEN), "{log}");
}

#[test]
fn web_config_is_reloaded_and_an_invalid_one_is_ignored() {
    let dir = TempDir::new();
    let web = dir.write("web.yml", &users(&["alice"]));
    let exporter = start(&web);
    let metrics = exporter.metrics;
    let status = |user: &str| ask(metrics, &basic(user, PASSWORD)).status;
    assert_eq!((status("alice"), status("bob")), (200, 401));
    dir.write("web.yml", &users(&["bob"]));
    wait_until("bob is known", || (status("bob") == 200).then_some(()));
    assert_eq!(status("alice"), 401);
    dir.write("web.yml", "basic_auth_users:\n  alice: secret\n");
    wait_until("the log says what is wrong", || {
        let _ = get(metrics, "/metrics");
        exporter
            .log()
            .contains("web.yml:2:10: `basic_auth_users.alice` is no bcrypt hash")
            .then_some(())
    });
    assert_eq!((status("alice"), status("bob")), (401, 200));
    // A file that is being written grants no access.
    dir.write("web.yml", "");
    wait_until("the log says so", || {
        assert_eq!(get(metrics, "/metrics").status, 401);
        exporter
            .log()
            .contains("everybody would be let in")
            .then_some(())
    });
    dir.write("web.yml", &users(&["alice"]));
    wait_until("alice is back", || (status("alice") == 200).then_some(()));
    let (_, _, log) = exporter.stop();
    assert!(!log.contains("secret"), "{log}");
}

#[test]
fn invalid_web_config_prevents_the_start_with_a_reason() {
    let dir = TempDir::new();
    let web = dir.write("web.yml", "basic_auth_user:\n  alice: x\n");
    let output = with_web_config(&mut exporter(), &web).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(
        error.contains(
            "web.yml:1:1: unknown key `basic_auth_user`: did you mean `basic_auth_users`?"
        ),
        "{error}"
    );

    let check = |web: &str, tokens: &str| {
        let mut command = std::process::Command::new(support::binary());
        let web = dir.write("web.yml", web);
        let tokens = dir.write("tokens", tokens);
        let output = command
            .args(["check-config", "/dev/null", "--web.config.file"])
            .arg(&web)
            .arg("--management.token-file")
            .arg(&tokens)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    };
    let slow = users(&["alice"]).replace("$08$", "$15$");
    let (good, text) = check(&slow, TOKEN);
    assert!(good && text.contains("web.yml: good\n"), "{text}");
    assert!(
        text.contains("tokens: good\n") && text.contains("web.yml:2:10: a bcrypt cost of 15"),
        "{text}"
    );
    let (good, text) = check("http_server_config: {headers: {X: y}}\n", TOKEN);
    assert!(
        !good && text.contains("names \"X\", which cannot be set"),
        "{text}"
    );
    let (good, text) = check("", "x\n");
    assert!(
        !good && text.contains("tokens: line 1: this token is too short"),
        "{text}"
    );
    let missing = "tls_server_config: {cert_file: a.pem, key_file: a.key}\n";
    let (good, text) = check(missing, TOKEN);
    let part = match cfg!(feature = "tls") {
        true => "a.pem: no such file",
        false => "this build has none: build with the feature `tls`",
    };
    assert!(!good && text.contains(part), "{text}");
}

/// More logins at once than may wait for their check: each gets 401 or 429.
#[test]
fn concurrent_wrong_passwords_get_401_or_429() {
    let dir = TempDir::new();
    let web = dir.write("web.yml", &users(&["alice"]));
    let exporter = start(&web);
    let metrics = exporter.metrics;
    for round in 0..3 {
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..24_u8)
                .map(|n| {
                    scope.spawn(move || {
                        let wrong = basic("alice", &format!("{round} {n}"));
                        // From one peer, then from many.
                        let from = if round == 0 { 1 } else { 1 + n };
                        let answer = request_from([127, 0, 0, from].into(), metrics, &wrong);
                        let answer = answer.unwrap();
                        let waits = answer.header("Retry-After").is_some();
                        assert_eq!(waits, answer.status == 429, "{}", answer.text());
                        answer.status
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(
            statuses.iter().all(|s| [401, 429].contains(s)),
            "{statuses:?}"
        );
        assert!(statuses.contains(&429), "{statuses:?}");
    }
}

/// Several hundred wrong passwords a second, each on its own connection, from the address of a valid client and from
/// others.
#[test]
fn password_guessing_does_not_block_valid_logins() {
    const GUESSES: u64 = 1000;
    const SCRAPES: u64 = 50;
    let dir = TempDir::new();
    let web = dir.write("web.yml", &users(&["alice", "bob"]));
    let exporter = start(&web);
    let metrics = exporter.metrics;
    let right = basic("alice", PASSWORD);
    assert_eq!(ask(metrics, &right).status, 200);
    let (stop, guesses) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for guesser in 0..8_u64 {
            let (stop, guesses) = (&stop, &guesses);
            scope.spawn(move || {
                let began = Instant::now();
                for guess in 0..4_000 {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let wrong = basic("alice", &format!("{guesser} {guess}"));
                    let from = [127, 0, 0, 1 + (guesser % 2) as u8];
                    let answer = request_from(from.into(), metrics, &wrong);
                    let status = answer.map(|answer| answer.status);
                    assert!(matches!(status, None | Some(401 | 429)), "{status:?}");
                    guesses.fetch_add(1, Ordering::Relaxed);
                    // 63 a second each, 500 in all.
                    let next = began + Duration::from_millis((guess + 1) * 16);
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            });
        }
        let mut scrapes = 0;
        let mut newcomer = None;
        while scrapes < SCRAPES || guesses.load(Ordering::Relaxed) < GUESSES {
            let answer = ask(metrics, &right);
            assert_eq!(
                answer.status,
                200,
                "after {scrapes} scrapes: {}",
                answer.text()
            );
            scrapes += 1;
            if scrapes == 10 {
                // A client whose password is not cached yet.
                newcomer = Some(scope.spawn(move || {
                    wait_until("a newcomer is let in", || {
                        let login = basic("bob", PASSWORD);
                        let answer = request_from([127, 0, 0, 3].into(), metrics, &login)?;
                        assert_ne!(answer.status, 401);
                        (answer.status == 200).then_some(())
                    });
                }));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        newcomer.unwrap().join().unwrap();
        stop.store(true, Ordering::Relaxed);
    });
    // The allowance for password checks recovers with time, but not fast enough for all of these.
    let again = |i| {
        request_from(
            [127, 0, 0, 1].into(),
            metrics,
            &basic("alice", &format!("another {i}")),
        )
    };
    let refused = (0..50)
        .filter_map(again)
        .find(|answer| answer.status == 429);
    let refused = refused.expect("too many are refused");
    assert!(
        refused
            .header("Retry-After")
            .unwrap()
            .parse::<u32>()
            .unwrap()
            > 0
    );
    let (status, _, log) = exporter.stop();
    assert!(status.success(), "{log}");
    // Guessing does not fill the log.
    assert!(log.lines().count() < 50, "{log}");
}
