//! `top` without a terminal: one picture of the board, and the end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access_support;
mod support;
mod workloads_support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use support::{binary, on_board, wait_until, TempDir};
use workloads_support::LoadedBoard;

/// `top` with its output in a pipe.
fn top() -> Command {
    let mut command = Command::new(binary());
    command
        .arg("top")
        .env_remove("LOCAL_CONFIG_PATH")
        .env_remove("RUST_LOG")
        .env_remove("COLUMNS")
        .env("LC_ALL", "C.UTF-8");
    command
}

fn text(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    assert_eq!(error, "");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The line of a picture that begins with this text.
fn line<'t>(text: &'t str, start: &str) -> &'t str {
    let mut lines = text.lines();
    lines
        .find(|line| line.starts_with(start))
        .unwrap_or_else(|| panic!("{start} is not in\n{text}"))
}

#[test]
fn board_is_read_here_and_its_power_is_attributed() {
    let board = LoadedBoard::new(true, &["system.slice/nginx.service"]);
    let temp = TempDir::new();
    // What is for the service does not keep its user from seeing everything.
    let config =
        "device_type: generic\nworkloads: {enabled: false}\nmetrics: {}\nself_metrics: false\n";
    let config = temp.write("config.yaml", config);
    let mut command = top();
    on_board(&mut command, board.path());
    let shown = text(&command.arg("--config").arg(config).output().unwrap());
    assert_eq!(shown.lines().next(), Some("loaded  generic"));
    assert!(
        line(&shown, "total ").starts_with("total 3.00 W"),
        "{shown}"
    );
    line(&shown, "RAILS ");
    assert!(
        line(&shown, "nginx.service ").contains(" service "),
        "{shown}"
    );
    assert!(line(&shown, "WORKLOADS board").ends_with("CPU TIME"));
    assert!(line(&shown, "idle ").contains("3.00 W 100.0 %"), "{shown}");
    assert!(!shown.contains('\u{1b}'));
}

#[test]
fn exporter_elsewhere_is_shown() {
    let board = LoadedBoard::new(false, &["system.slice/nginx.service"]);
    let exporter = board.exporter("");
    wait_until("it has shares", || {
        let text = exporter.scrape();
        text.contains("workload_domain_power_watts{").then_some(())
    });
    let url = format!("http://{}", exporter.metrics);
    let shown = text(&top().args(["--url", &url]).output().unwrap());
    assert_eq!(
        shown.lines().next(),
        Some(&*format!("loaded  generic  {url}/metrics"))
    );
    line(&shown, "total 3.00 W");
    line(&shown, "nginx.service ");
    // A narrow column and ASCII, if asked for.
    let mut command = top();
    let narrow = command.args(["--url", &url]).env("COLUMNS", "30");
    let shown = text(&narrow.env("LC_ALL", "C").output().unwrap());
    assert!(shown.is_ascii());
    assert!(shown.lines().all(|line| line.len() <= 30), "{shown}");
}

/// Answers one request with these bytes.
fn answering(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(&answer);
    });
    format!("http://{address}")
}

/// An answer with these metrics.
fn metrics(metrics: &str) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        metrics.len()
    );
    (head + metrics).into_bytes()
}

#[test]
fn hostile_exporter_sends_no_escape_sequence_to_the_terminal() {
    let evil = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}\u{200b}日本語\r\t";
    let text = format!(
        "power_total_watts{{hostname=\"{evil}\",device_type=\"{evil}\"}} 1e300\n\
         power_watts{{source=\"{evil}\",rail=\"{evil}\"}} -Inf\n\
         exporter_source_up{{source=\"{evil}\"}} 0\n\
         workload_domain_power_watts{{domain=\"{evil}\"}} 1\n\
         workload_power_watts{{kind=\"{evil}\",name=\"{evil}\",domain=\"{evil}\"}} NaN\n\
         workload_power_watts{{kind=\"k\",name=\"{}\",domain=\"{evil}\"}} 0.5\n\
         {evil}\nnot metrics at all {{\n",
        "n".repeat(100_000)
    );
    let url = answering(metrics(&text));
    let shown = self::text(&top().args(["--url", &url]).output().unwrap());
    let is_safe = |c: char| c == '\n' || !(c.is_control() || "\u{202e}\u{200b}".contains(c));
    assert!(shown.chars().all(is_safe), "{shown:?}");
    assert!(shown.contains("?[2J?]0;owned??31m日本語??"), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 100));
}

#[test]
fn endless_answer_is_refused_and_one_of_many_series_is_counted() {
    let line = "power_watts{source=\"x\",rail=\"endless\"} 1\n";
    let mut endless = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
    endless.extend(line.repeat((17 << 20) / line.len()).bytes());
    let output = top().args(["--url", &answering(endless)]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("the answer is longer than 16 MiB"),
        "{error}"
    );
    // As many series as fit into that.
    let (mut many, mut count) = (String::new(), 0);
    while many.len() < 15 << 20 {
        many.push_str(&format!("power_watts{{rail=\"r{count}\"}} 1\n"));
        count += 1;
    }
    let url = answering(metrics(&many));
    let shown = text(&top().args(["--url", &url]).output().unwrap());
    let left_out = format!("{} series more than are shown here", count - 256);
    assert!(shown.contains(&left_out), "{shown}");
}

#[test]
fn errors_about_hostile_answers_have_no_escape_sequence() {
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J";
    for answer in [
        evil.to_string(),
        format!("HTTP/1.1 500 {evil}\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\n{evil}: {evil}\r\n\r\n"),
        format!("HTTP/1.1 302 Found\r\nLocation: http://{evil}/\r\n\r\n"),
        format!("HTTP/1.1 302 Found\r\nLocation: {evil}://x/\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: {evil}\r\n\r\n"),
    ] {
        let url = answering(answer.clone().into_bytes());
        let output = top().args(["--url", &url]).output().unwrap();
        let (shown, error) = (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        );
        let is_safe = |c: char| c == '\n' || !c.is_control();
        assert!(
            shown.chars().chain(error.chars()).all(is_safe),
            "{answer:?}: {shown:?} {error:?}"
        );
    }
}

#[cfg(feature = "tls")]
#[test]
fn exporter_with_tls_and_a_login_is_shown() {
    let temp = TempDir::new();
    let web = access_support::tls("server", &[]) + &access_support::users(&["edge"]);
    let web = temp.write("web.yml", &web);
    let board = LoadedBoard::new(true, &[]);
    let mut command = support::exporter();
    on_board(&mut command, board.path());
    let exporter = support::Exporter::start(command.arg("--web.config.file").arg(web));
    let url = format!("https://localhost:{}", exporter.metrics.port());
    let login = format!(
        "basic_auth: {{username: edge, password: {}}}\n",
        access_support::PASSWORD
    );
    let ca = format!(
        "tls_config: {{ca_file: {}}}\n",
        access_support::pem("ca.pem").display()
    );
    let through = |http: &str| {
        let http = temp.write("http.yml", http);
        let arguments = ["--url", &url, "--http.config.file", http.to_str().unwrap()];
        top().args(arguments).output().unwrap()
    };
    let refused = |http: &str| String::from_utf8(through(http).stderr).unwrap();
    let unknown = refused(&login);
    assert!(unknown.contains("certificate"), "{unknown}");
    let anonymous = refused(&ca);
    assert!(anonymous.contains("status 401"), "{anonymous}");
    let shown = wait_until("it has power", || {
        let shown = text(&through(&(login.clone() + &ca)));
        shown.contains("total 3.00 W").then_some(shown)
    });
    assert!(line(&shown, "loaded ").ends_with(&format!("{url}/metrics")));
}

#[test]
fn what_cannot_be_shown_is_an_error_that_says_why() {
    let failed = |command: &mut Command| {
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), text)
    };
    // Nobody listens on this port any more.
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://user:secret@{closed}");
    let (code, error) = failed(top().args(["--url", &url]));
    assert_eq!(code, Some(1));
    assert!(
        error.contains(&closed.to_string()) && !error.contains("secret"),
        "{error}"
    );
    for (arguments, words) in [
        (&["--http.config.file", "x"][..], "goes with --url"),
        (&["--interval", "0"][..], "from 0.1"),
        (&["--prometheus.url", "x"][..], "prometheus.url"),
        (&["board"][..], "board"),
    ] {
        let (code, error) = failed(top().args(arguments));
        assert_eq!(code, Some(2), "{arguments:?}");
        assert!(error.contains(words), "{error}");
    }
    let (code, error) = failed(top().args(["--url", "http://x", "--http.config.file", "/no/such"]));
    assert_eq!(code, Some(1));
    assert!(error.contains("/no/such"), "{error}");
}

#[test]
fn exporter_on_this_board_is_shown_where_its_meters_cannot_be_read() {
    let board = LoadedBoard::new(true, &[]);
    let exporter = board.exporter("");
    wait_until("it has power", || {
        exporter
            .scrape()
            .contains("power_total_watts{")
            .then_some(())
    });
    // A board without meters, whose configuration says where the exporter listens.
    let temp = TempDir::new();
    let config = format!("port: {}\n", exporter.metrics.port());
    let config = temp.write("config.yaml", &config);
    let nothing = Path::new("/nonexistent");
    let mut command = top();
    on_board(&mut command, nothing);
    let shown = text(&command.arg("--config").arg(config).output().unwrap());
    let origin = format!("http://localhost:{}/metrics", exporter.metrics.port());
    assert!(line(&shown, "loaded ").ends_with(&origin), "{shown}");
    line(&shown, "total 3.00 W");
}
