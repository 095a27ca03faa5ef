//! Hostile input on the management port and in the configuration file: the exporter keeps running and its configuration,
//! uses little memory, and still answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use support::{exporter, get, post, request, wait_until, Exporter, TempDir, WAIT_TIMEOUT};

/// The limit of resident memory in kB. See tests/abuse.rs.
const MEMORY: u64 = 8 * 1024;
const GIGABYTE: usize = 1 << 30;

struct Victim {
    dir: TempDir,
    exporter: Exporter,
}

impl Victim {
    fn start(config: &str) -> Victim {
        let dir = TempDir::new();
        dir.write("sys/class/thermal/thermal_zone0/type", "cpu\n");
        dir.write("sys/class/thermal/thermal_zone0/temp", "41500\n");
        let path = dir.write("config.yaml", config);
        let mut command = exporter();
        support::on_board(&mut command, dir.path());
        let exporter = Exporter::start(command.arg("--config").arg(path));
        let victim = Victim { dir, exporter };
        wait_until("the temperature", || {
            victim
                .exporter
                .scrape()
                .contains("temperature_celsius{")
                .then_some(())
        });
        victim
    }

    /// Sends `head` and up to `times` chunks; returns the response.
    fn send(&self, head: &str, chunk: &[u8], times: usize) -> String {
        let mut stream = TcpStream::connect(self.exporter.management).unwrap();
        stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(WAIT_TIMEOUT)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        for _ in 0..times {
            if stream.write_all(chunk).is_err() {
                break;
            }
        }
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn enable(&self, body: &[u8]) -> (u16, String) {
        let head = format!(
            "POST /metrics/enable HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let answer = self.send(&head, body, 1);
        let status = answer.split(' ').nth(1).unwrap_or("0").parse().unwrap();
        (status, answer)
    }

    fn assert_unharmed(self) {
        assert!(self.exporter.scrape().contains("temperature_celsius{"));
        assert_eq!(get(self.exporter.management, "/health").status, 200);
        let body = "{\"temperature_celsius\": false}";
        let answer = post(self.exporter.management, "/metrics/enable", body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let memory = self.exporter.peak_memory();
        assert!(memory < MEMORY, "it grew to {memory} kB");
        let (status, _, log) = self.exporter.stop();
        assert!(status.success(), "{log}");
        assert!(!log.contains("panicked"), "{log}");
        drop(self.dir);
    }
}

#[test]
fn bodies_of_a_gigabyte_are_refused() {
    let victim = Victim::start("device_type: generic\n");
    let chunk = vec![b'['; 1 << 20];
    for path in ["/metrics/enable", "/reload", "/health", "/nothing"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {GIGABYTE}\r\n\r\n"
        );
        let answer = victim.send(&head, &chunk, GIGABYTE / chunk.len());
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 413 "),
            "{answer}"
        );
        let answer = victim.send(&head, b"", 0);
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        for part in ["\"error\": \"Request too large\"", "at most ", " bytes"] {
            assert!(answer.contains(part), "{answer}");
        }
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        let mut chunk = format!("{:x}\r\n", 1 << 20).into_bytes();
        chunk.extend(vec![b'['; 1 << 20]);
        chunk.extend(b"\r\n");
        let answer = victim.send(&head, &chunk, GIGABYTE / chunk.len());
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 501 "),
            "{answer}"
        );
        let answer = victim.send(&head, b"", 0);
        assert!(answer.starts_with("HTTP/1.1 501 "), "{answer}");
    }
    // The largest body that is read, and the smallest that is not.
    let (status, answer) = victim.enable(&vec![b' '; 102_400]);
    assert_eq!(status, 400, "{answer}");
    let (status, answer) = victim.enable(&vec![b' '; 102_401]);
    assert_eq!(status, 413, "{answer}");
    victim.assert_unharmed();
}

#[test]
fn malformed_bodies_are_refused() {
    let victim = Victim::start("device_type: generic\n");
    let thousand_and_one: Vec<_> = (0..1001).map(|n| format!("\"m{n}\":true")).collect();
    let long_name = format!("{{\"{}\": true}}", "x".repeat(100_000));
    for body in [
        "[".repeat(102_400),
        "{\"a\":".repeat(20_000),
        "{\"a\":[".repeat(17_000),
        format!("{}{}", "[".repeat(51_200), "]".repeat(51_200)),
        format!("{{{}}}", thousand_and_one.join(",")),
        long_name,
        "{\"temperature_celsius\": null}".into(),
        "{\"temperature_celsius\": {}}".into(),
        "{\"temperature_celsius\": 1e999}".into(),
        "{\"\\ud800\": true}".into(),
        "{\"\\u0000\": true}".into(),
        "{\"exporter_build_info\": false}".into(),
        "nul".into(),
        "\u{feff}{}".into(),
    ] {
        let (status, answer) = victim.enable(body.as_bytes());
        assert_eq!(status, 400, "{body:.40}: {answer}");
        assert!(answer.contains("\"message\": "), "{answer}");
    }
    for body in [
        &b"\xff\xfe{\0}\0"[..],
        b"{\"\xc3\x28\": true}",
        b"\0",
        b"{\"a\": true}\xff",
    ] {
        let (status, answer) = victim.enable(body);
        assert_eq!(status, 400, "{body:?}: {answer}");
    }
    let shown = std::fs::read_to_string(victim.dir.path().join("config.yaml")).unwrap();
    assert_eq!(shown, "device_type: generic\n");
    victim.assert_unharmed();
}

#[test]
fn configuration_bombs_are_refused() {
    let victim = Victim::start("device_type: generic\n");
    let mut laughs = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for i in 1..10 {
        let aliases = vec![format!("*a{}", i - 1); 10].join(",");
        laughs.push_str(&format!("a{i}: &a{i} [{aliases}]\n"));
    }
    let names: String = (0..1001).map(|n| format!("  m{n}: true\n")).collect();
    for bomb in [
        laughs,
        "[".repeat(65_536),
        "a: [".repeat(16_000),
        "- ".repeat(32_000),
        "? ".repeat(32_000),
        "a: &a [*a]\n".into(),
        format!("metrics:\n{names}"),
        "x".repeat(1 << 20),
    ] {
        victim.dir.write("config.yaml", &bomb);
        // The rate limit permits one more each second.
        let answer = wait_until("it may be asked again", || {
            let answer = request(victim.exporter.management, "POST", "/reload", &[]);
            (answer.status != 429).then_some(answer)
        });
        assert_eq!(answer.status, 422, "{bomb:.40}");
        // The file is not edited.
        let toggle = "{\"temperature_celsius\": true}";
        let answer = post(victim.exporter.management, "/metrics/enable", toggle);
        assert!(
            answer.text().contains("\"saved\": false"),
            "{}",
            answer.text()
        );
        let file = std::fs::read_to_string(victim.dir.path().join("config.yaml")).unwrap();
        assert_eq!(file, bomb);
    }
    let path = victim.dir.path().join("config.yaml");
    std::fs::write(&path, b"metrics: {}\nhostname: \xff\n").unwrap();
    let toggle = "{\"temperature_celsius\": true}";
    let answer = post(victim.exporter.management, "/metrics/enable", toggle);
    assert!(answer.text().contains("UTF-8"), "{}", answer.text());
    victim.assert_unharmed();
}

#[test]
fn a_thousand_reloads_do_not_block_scrapes() {
    let victim = Victim::start("device_type: generic\n");
    let address = victim.exporter.management;
    let (mut done, mut refused) = (0, 0);
    for n in 0..1000 {
        match request(address, "POST", "/reload", &[]).status {
            200 => done += 1,
            429 => refused += 1,
            status => panic!("{status}"),
        }
        if n % 100 == 0 {
            assert!(victim.exporter.scrape().contains("temperature_celsius{"));
        }
    }
    assert!(done >= 10 && refused > 0, "{done} done, {refused} refused");
    victim.assert_unharmed();
}
