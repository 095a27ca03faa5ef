//! `/history.csv`: what is kept, as a table that takes no sample from anybody.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use support::{exporter, get, on_board, request, wait_until, Exporter, TempDir};

/// An exporter of a board with two thermometers, read every 20 ms.
fn start(config: &str) -> (TempDir, Exporter) {
    let board = TempDir::new();
    board.write("proc/sys/kernel/hostname", "edge-01\n");
    for (zone, name) in ["cpu, \"big\"", "gpu"].into_iter().enumerate() {
        let zone = format!("sys/class/thermal/thermal_zone{zone}");
        board.write(&format!("{zone}/type"), &format!("{name}\n"));
        board.write(&format!("{zone}/temp"), "41250\n");
    }
    let config = format!("device_type: generic\ninterval: 0.02\n{config}");
    let path = board.write("config.yaml", &config);
    let mut command = exporter();
    on_board(&mut command, board.path());
    let exporter = Exporter::start(command.arg("--config").arg(path));
    (board, exporter)
}

/// Splits a line of CSV.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut is_quoted) = (vec![String::new()], false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            // Two in quotes are one.
            '"' if is_quoted && chars.next_if_eq(&'"').is_some() => {
                fields.last_mut().unwrap().push('"');
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(String::new()),
            c => fields.last_mut().unwrap().push(c),
        }
    }
    fields
}

#[test]
fn table_has_the_samples_that_a_consumer_gets_and_takes_none_of_them() {
    let (_board, exporter) = start("");
    let path = "/history.csv?time=unix&name[]=temperature_celsius";
    wait_until("there are ten rows", || {
        (get(exporter.metrics, path).text().lines().count() > 10).then_some(())
    });
    let table = get(exporter.metrics, path);
    assert_eq!(table.status, 200);
    assert_eq!(
        table.header("Content-Type"),
        Some("text/csv; charset=utf-8; header=present")
    );
    assert_eq!(
        table.header("Content-Disposition"),
        Some("attachment; filename=history.csv")
    );
    let text = table.text();
    assert!(text.ends_with("\r\n"));
    let mut lines = text.lines();
    let header = fields(lines.next().unwrap());
    assert_eq!(header.len(), 3, "{header:?}");
    assert_eq!(header[0], "time");
    assert!(
        header[1].starts_with("temperature_celsius{device_type="),
        "{header:?}"
    );
    // Every row is a sample of each, of the same time as in /multirate, which has all of them.
    let minute = [("X-Prometheus-Scrape-Timeout-Seconds", "60")];
    let every = request(exporter.metrics, "GET", "/multirate", &minute).text();
    let rows: Vec<_> = lines.map(fields).collect();
    assert!(rows.len() > 9, "{text}");
    for row in &rows {
        assert_eq!(row[1..], ["41.25", "41.25"]);
        let millis = row[0].replace('.', "");
        assert_eq!(
            every.matches(&format!(" 41.25 {millis}\n")).count(),
            2,
            "{millis}"
        );
    }
    let (first, last) = (&rows[0][0], &rows.last().unwrap()[0]);
    assert!(first.parse::<f64>().unwrap() < last.parse::<f64>().unwrap());
}

#[test]
fn rows_and_columns_are_chosen_by_the_request() {
    let (_board, exporter) = start("");
    let ask = |query: &str| get(exporter.metrics, &format!("/history.csv{query}"));
    wait_until("there are samples of two seconds", || {
        (ask("?step=1s").text().lines().count() > 3).then_some(())
    });
    let text = ask("?step=1s").text();
    let second = text.lines().nth(2).unwrap();
    assert!(
        second.contains(":") && second.contains(".000Z,"),
        "{second}"
    );
    let header = fields(text.lines().next().unwrap());
    let gpu = header.iter().find(|name| name.contains("gpu")).unwrap();
    let encoded: String = gpu.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let one = ask(&format!("?name[]={encoded}&last=1s")).text();
    assert_eq!(fields(one.lines().next().unwrap()), ["time", gpu]);
    assert!(one.lines().count() < ask("").text().lines().count());
    let gzip = [("Accept-Encoding", "gzip")];
    let zipped = request(exporter.metrics, "GET", "/history.csv", &gzip);
    let coding = cfg!(feature = "gzip").then_some("gzip");
    assert_eq!(zipped.header("Content-Encoding"), coding);
    assert_eq!(zipped.body.starts_with(b"\x1f\x8b"), coding.is_some());
    let head = request(exporter.metrics, "HEAD", "/history.csv", &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    for (query, status) in [
        ("?last=0", 400),
        ("?last=soon", 400),
        ("?step=-1s", 400),
        ("?time=local", 400),
        ("?name[]=nothing", 404),
        ("?last=100y&step=99w&time=boot", 200),
    ] {
        let answer = ask(query);
        assert_eq!(answer.status, status, "{query}: {}", answer.text());
    }
    let refused = request(exporter.metrics, "POST", "/history.csv", &[]);
    assert_eq!(refused.header("Allow"), Some("GET, HEAD"));
}

#[test]
fn exporter_without_history_says_what_to_set() {
    let (_board, exporter) = start("history: {seconds: 0}\n");
    let answer = get(exporter.metrics, "/history.csv");
    assert_eq!(answer.status, 404);
    assert!(
        answer.text().contains("`history: {seconds: 300"),
        "{}",
        answer.text()
    );
}
