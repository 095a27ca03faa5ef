//! Pictures of the screen as plain text.

use super::*;
use crate::exposition::{parse, Format};

const BOARD: &str = r#"
power_watts{device_type="jetson_orin",hostname="edge-7",rail="VDD_IN",source="tegrastats"} 8.5
power_watts{device_type="jetson_orin",hostname="edge-7",rail="VDD_CPU_GPU_CV",source="tegrastats"} 6.1
power_watts{device_type="jetson_orin",hostname="edge-7",rail="power",device="plug",source="shelly"} 9.25
energy_joules_total{device_type="jetson_orin",hostname="edge-7",rail="VDD_IN",source="tegrastats"} 59.1
power_total_watts{device_type="jetson_orin",hostname="edge-7"} 8.5
board_energy_joules_total{device_type="jetson_orin",hostname="edge-7"} 59.1
exporter_source_up{source="tegrastats"} 1
exporter_source_up{source="shelly",device="plug"} 1
exporter_source_up{source="hwmon"} 0
exporter_source_last_success_age_seconds{source="hwmon"} 130
workload_cpu_seconds_total{kind="service",name="nginx.service"} 3723.5
workload_cpu_seconds_total{kind="container",name="web"} 12.5
workload_cpu_seconds_total{kind="system",name="system"} 1.25
workload_domain_energy_joules_total{domain="board"} 59.1
workload_domain_power_watts{domain="board"} 8.5
workload_idle_watts{domain="board"} 2.5
workload_idle_energy_joules_total{domain="board"} 17.5
workload_energy_joules_total{kind="service",name="nginx.service",domain="board"} 30
workload_energy_joules_total{kind="container",name="web",domain="board"} 10.5
workload_energy_joules_total{kind="system",name="system",domain="board"} 1.1
workload_power_watts{kind="service",name="nginx.service",domain="board"} 4.25
workload_power_watts{kind="container",name="web",domain="board"} 1.7
workload_power_watts{kind="system",name="system",domain="board"} 0.05
"#;

fn model(text: &str) -> Model {
    let mut model = Model::default();
    model.update(parse(text, Format::Text).flatten(), None);
    model
}

/// The board after some readings, of which the first drew 1 W and the last 8.5 W.
fn board() -> Model {
    let mut model = Model::default();
    for watts in ["1", "2", "4", "8.5"] {
        let text = BOARD.replace(" 8.5\n", &format!(" {watts}\n"));
        model.update(parse(&text, Format::Text).flatten(), None);
    }
    model
}

fn screen(columns: usize, rows: usize) -> Screen {
    Screen {
        columns,
        rows: Some(rows),
        unicode: true,
        has_keys: true,
    }
}

fn context() -> Context {
    Context {
        origin: "http://edge-7:9100/metrics".to_owned(),
        message: None,
        interval: 1.0,
    }
}

fn picture(model: &Model, choice: &Choice, screen: Screen) -> Vec<String> {
    let lines = lines(model, &context(), choice, &screen);
    let lines: Vec<_> = lines.iter().map(Line::plain).collect();
    if let Some(rows) = screen.rows {
        assert!(lines.len() <= rows);
    }
    lines
}

/// The first column of the workloads.
fn names(model: &Model, choice: &Choice) -> Vec<String> {
    let lines = picture(model, choice, screen(80, 40));
    let mut lines = lines.into_iter();
    lines.find(|line| line.starts_with("WORKLOADS"));
    let name = |line: String| {
        line.split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    lines.map(name).collect()
}

#[test]
fn ordinary_terminal_has_everything() {
    let lines = picture(&board(), &Choice::default(), screen(80, 24));
    assert_eq!(
        lines.join("\n"),
        "\
edge-7  jetson_orin  http://edge-7:9100/metrics                  ? help  q quit
total 8.50 W                                  ▁▂▄█      1.00 W to 8.50 W  59.1 J

RAILS                    SOURCE           WATTS  LAST 4 s
VDD_IN                   tegrastats      8.50 W                             ▁▂▄█
VDD_CPU_GPU_CV           tegrastats      6.10 W                             ▅▅▅▅
plug power               shelly          9.25 W                             ▅▅▅▅

hwmon is not read for 2 min

WORKLOADS board                  KIND        WATTS▾   SHARE    ENERGY   CPU TIME
nginx.service                    service     4.25 W  50.0 %    30.0 J    1:02:03
idle                             idle        2.50 W  29.4 %    17.5 J          -
web                              container   1.70 W  20.0 %    10.5 J    12.50 s
system                           system     50.0 mW   0.6 %    1.10 J     1.25 s"
    );
}

#[test]
fn small_terminal_has_the_most_important() {
    let lines = picture(&board(), &Choice::default(), screen(20, 5));
    assert_eq!(
        lines.join("\n"),
        "\
edge-7  jetson_orin…
total 8.50 W    ▁▂▄█
VDD_IN        8.50 W
hwmon is not read f…
nginx.serv…   4.25 W"
    );
    let lines = picture(&board(), &Choice::default(), screen(40, 12));
    assert_eq!(
        lines.join("\n"),
        "\
edge-7  jetson_orin  http://edge-7:9100…
total 8.50 W  ▁▂▄█      1.00 W to 8.50 W
RAILS               WATTS  LAST 4 s
VDD_IN             8.50 W           ▁▂▄█
VDD_CPU_GPU_CV     6.10 W           ▅▅▅▅
plug power         9.25 W           ▅▅▅▅
hwmon is not read for 2 min
WORKLOADS board           WATTS▾   SHARE
nginx.service             4.25 W  50.0 %
idle                      2.50 W  29.4 %
web                       1.70 W  20.0 %
system                   50.0 mW   0.6 %"
    );
}

#[test]
fn ascii_terminal_gets_ascii() {
    let screen = Screen {
        unicode: false,
        ..screen(80, 24)
    };
    let hostile = BOARD.replace("nginx", "größe\u{1b}[31m");
    let mut model = board();
    model.update(parse(&hostile, Format::Text).flatten(), None);
    for line in picture(&model, &Choice::default(), screen) {
        assert!(line.chars().all(|c| (' '..='~').contains(&c)), "{line}");
    }
}

#[test]
fn snapshot_has_no_keys_and_all_lines() {
    let screen = Screen {
        columns: 100,
        rows: None,
        unicode: true,
        has_keys: false,
    };
    let lines = picture(&model(BOARD), &Choice::default(), screen);
    assert_eq!(
        lines.join("\n"),
        "\
edge-7  jetson_orin  http://edge-7:9100/metrics
total 8.50 W  59.1 J

RAILS                    SOURCE           WATTS
VDD_IN                   tegrastats      8.50 W
VDD_CPU_GPU_CV           tegrastats      6.10 W
plug power               shelly          9.25 W

hwmon is not read for 2 min

WORKLOADS board                                      KIND         WATTS   SHARE    ENERGY   CPU TIME
nginx.service                                        service     4.25 W  50.0 %    30.0 J    1:02:03
idle                                                 idle        2.50 W  29.4 %    17.5 J          -
web                                                  container   1.70 W  20.0 %    10.5 J    12.50 s
system                                               system     50.0 mW   0.6 %    1.10 J     1.25 s"
    );
}

#[test]
fn workloads_are_sorted_by_what_is_chosen() {
    let model = board();
    let by = |sort, is_reversed| {
        let choice = Choice {
            sort,
            is_reversed,
            ..Choice::default()
        };
        names(&model, &choice).join(" ")
    };
    assert_eq!(by(Sort::Watts, false), "nginx.service idle web system");
    assert_eq!(by(Sort::Watts, true), "system web idle nginx.service");
    assert_eq!(by(Sort::Energy, false), "nginx.service idle web system");
    assert_eq!(by(Sort::Cpu, false), "nginx.service web system idle");
    assert_eq!(by(Sort::Name, false), "idle nginx.service system web");
    assert_eq!(by(Sort::Kind, false), "web idle nginx.service system");
}

#[test]
fn list_scrolls_no_further_than_its_end() {
    let mut text = BOARD.to_owned();
    for n in 0..50 {
        text.push_str(&format!(
            "workload_power_watts{{kind=\"service\",name=\"s{n:02}\",domain=\"board\"}} 0.0{:02}\n",
            60 - n
        ));
    }
    let model = model(&text);
    let at = |scroll| {
        let choice = Choice {
            scroll,
            ..Choice::default()
        };
        picture(&model, &choice, screen(80, 24))
    };
    let first = at(0);
    assert!(first[7].starts_with("WORKLOADS"), "{first:?}");
    assert!(first[8].starts_with("nginx.service"));
    assert_eq!(first[23], "39 more of 54 workloads");
    let later = at(2);
    assert!(later[8].starts_with("idle"));
    assert_eq!(later[23], "37 more of 54 workloads");
    let last = at(usize::MAX);
    assert!(last[23].starts_with("s49"), "{last:?}");
    assert_eq!(at(39), last);
}

#[test]
fn shares_are_of_the_domain_that_is_chosen() {
    let text = BOARD.to_owned()
        + r#"
workload_domain_energy_joules_total{domain="package"} 20
workload_domain_power_watts{domain="package"} 2
workload_idle_energy_joules_total{domain="package"} 10
workload_power_watts{kind="service",name="nginx.service",domain="package"} 0.5
"#;
    let model = model(&text);
    let domain = model.next_domain(Some("board"));
    assert_eq!(domain.as_deref(), Some("package"));
    assert_eq!(
        model.next_domain(domain.as_deref()).as_deref(),
        Some("board")
    );
    let choice = Choice {
        domain,
        ..Choice::default()
    };
    let lines = picture(&model, &choice, screen(80, 24)).join("\n");
    assert!(lines.contains("WORKLOADS package 2/2 "), "{lines}");
    assert!(
        lines.contains("idle        1.50 W  75.0 %    10.0 J"),
        "{lines}"
    );
    assert!(lines.contains("service     500 mW  25.0 %"), "{lines}");
    assert!(
        lines.contains("container        -       -         -"),
        "{lines}"
    );
}

#[test]
fn what_is_missing_is_said() {
    let nothing = picture(&Model::default(), &Choice::default(), screen(80, 24));
    assert_eq!(nothing[1], "reading ...");
    let other = picture(
        &model("node_load1 0.5\n"),
        &Choice::default(),
        screen(80, 24),
    );
    assert_eq!(other[1], "no meter measures power");
    assert!(other
        .last()
        .unwrap()
        .starts_with("No workloads: `workloads: {enabled"));
    let text = "power_watts{rail=\"a\",source=\"hwmon\"} 1\nworkload_cpu_seconds_total{kind=\"system\",name=\"system\"} 1\n";
    let rails = picture(&model(text), &Choice::default(), screen(80, 24));
    assert_eq!(rails[1], "no meter measures the board's total");
    assert!(rails
        .last()
        .unwrap()
        .contains("nothing is measured whose energy"));
    let failed = Context {
        message: Some("http://edge-7:9100/metrics: connection refused".to_owned()),
        ..context()
    };
    let lines = lines(
        &Model::default(),
        &failed,
        &Choice::default(),
        &screen(80, 24),
    );
    assert_eq!(
        lines[2].plain(),
        "http://edge-7:9100/metrics: connection refused"
    );
}

#[test]
fn meter_that_is_missing_and_one_that_is_not_read_are_told_apart() {
    let total = "power_total_watts 5\npower_watts{rail=\"a\",source=\"x\"} 5\n";
    let rail = "power_watts{rail=\"b\",source=\"y\"} 1\n";
    let down = "exporter_source_up{source=\"x\"} 0\n";
    let both = format!("{rail}{down}");
    for (texts, expected) in [
        (&[rail][..], "no meter measures the board's total"),
        (&[total, rail], "the board's total is not read now"),
        (&[total, ""], "the board's total is not read now"),
        (&[&both], "no meter that is read measures the board's total"),
        (&[""], "no meter measures power"),
        (&[down], "no meter that measures power is read now"),
    ] {
        let mut model = Model::default();
        for text in texts {
            model.update(parse(text, Format::Text).flatten(), None);
        }
        let lines = picture(&model, &Choice::default(), screen(80, 24));
        assert_eq!(lines[1], expected, "{texts:?}");
    }
    let mut model = model(total);
    model.update(parse(rail, Format::Text).flatten(), None);
    let lines = picture(&model, &Choice::default(), screen(80, 24));
    let unread = lines.iter().find(|line| line.starts_with("a ")).unwrap();
    assert!(
        unread.contains(" x ") && unread.contains(" not read "),
        "{lines:?}"
    );
    // A source of this board that has only begun.
    let begun = std::collections::BTreeMap::new();
    let mut model = Model::default();
    model.update(parse(down, Format::Text).flatten(), Some(&begun));
    let lines = picture(&model, &Choice::default(), screen(80, 24));
    assert_eq!(lines[1], "reading ...");
}

#[test]
fn range_is_that_of_the_values_in_the_chart() {
    let mut model = Model::default();
    for n in 0..300 {
        // A high value leaves each chart at another moment.
        let watts = if n == 200 { "100" } else { "5" };
        let text = format!(
            "power_total_watts {watts}\nboard_energy_joules_total 7\npower_watts{{rail=\"a\",source=\"x\"}} {watts}\n"
        );
        model.update(parse(&text, Format::Text).flatten(), None);
        for columns in [40, 60, 80, 90, 120] {
            let lines = picture(&model, &Choice::default(), screen(columns, 24));
            let mut lines = lines.iter();
            let total = lines.find(|line| line.starts_with("total ")).unwrap();
            let rail = lines.find(|line| line.starts_with("a ")).unwrap();
            for line in [total, rail]
                .into_iter()
                .filter(|line| line.contains(" to "))
            {
                assert_eq!(
                    line.contains('█'),
                    line.contains("100 W"),
                    "{columns}: {line}"
                );
            }
        }
    }
}

#[test]
fn every_size_is_kept_to() {
    let mut text = BOARD.to_owned();
    for n in 0..300 {
        text.push_str(&format!(
            "power_watts{{rail=\"r{n}\",source=\"日本語\"}} {n}\n"
        ));
        text.push_str(&format!("exporter_source_up{{source=\"s{n}\"}} 0\n"));
    }
    let models = [board(), model(&text), model(""), Model::default()];
    let choices = [false, true].map(|shows_help| Choice {
        shows_help,
        scroll: 7,
        ..Choice::default()
    });
    let sizes = (0..12).chain([20, 31, 32, 33, 53, 54, 60, 72, 80, 90, 91, 1000]);
    for columns in sizes {
        for rows in (0..8).chain([12, 24, 1000]) {
            for model in &models {
                for choice in &choices {
                    for line in picture(model, choice, screen(columns, rows)) {
                        let width: usize = line.chars().map(|c| 1 + usize::from(c > '日')).sum();
                        assert!(width <= columns, "{columns}x{rows}: {line}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_beyond_a_limit_is_counted() {
    let mut text = String::new();
    for n in 0..300 {
        text.push_str(&format!("power_watts{{rail=\"r{n}\",source=\"x\"}} {n}\n"));
    }
    for n in 0..5000 {
        text.push_str(&format!(
            "workload_cpu_seconds_total{{kind=\"k\",name=\"w{n}\"}} 1\n"
        ));
    }
    let model = model(&text);
    assert_eq!((model.rails.len(), model.workloads.len()), (256, 4096));
    assert_eq!(model.left_out, 44 + 904);
    let lines = picture(&model, &Choice::default(), screen(80, 24)).join("\n");
    assert!(
        lines.contains("948 series more than are shown here"),
        "{lines}"
    );
    // Also where there is no room for all sources that are not read.
    for n in 0..9 {
        text.push_str(&format!("exporter_source_up{{source=\"s{n}\"}} 0\n"));
    }
    let model = self::model(&text);
    let lines = picture(&model, &Choice::default(), screen(80, 14)).join("\n");
    let expected = "948 series more than are shown here\ns0 is not read\n8 more of 9 sources";
    assert!(lines.contains(expected), "{lines}");
}
