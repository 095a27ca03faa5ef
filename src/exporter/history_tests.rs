use super::*;
use crate::metrics::{Desc, Rail, Readings, SeriesId};

const SECOND: u64 = 1_000_000_000;

/// An exporter with one source of two rails, the first of which is the total.
struct Board {
    exporter: Exporter,
    group: Arc<Group>,
    rails: Vec<Rail>,
    total: SeriesId,
    generation: u64,
    out: Readings,
}

impl Board {
    fn new() -> Board {
        let exporter = Exporter::idle();
        let group = exporter.registry.add_group(0, "test", Vec::new());
        group.set_interval(Duration::from_secs(1));
        group.history().limit(Duration::from_secs(3600), 1 << 24);
        Board {
            rails: vec![Rail::new(&group, "in"), Rail::new(&group, "<cpu>")],
            total: group.series(&Desc::gauge(TOTAL, "x").single(), &[]),
            generation: group.new_generation(),
            out: Readings::new(5.0),
            exporter,
            group,
        }
    }

    fn read(&mut self, ms: u64, watts: [f64; 2]) {
        self.out.begin(BootTime(ms * 1_000_000));
        for (rail, watts) in self.rails.iter_mut().zip(watts) {
            rail.set_watts(&mut self.out, watts);
        }
        self.out.set(self.total, watts[0]);
        assert!(self.group.publish(self.generation, &self.out));
    }

    fn history(&self, cursor: Option<&str>, seconds: u64) -> Value {
        self.exporter.history(cursor, BootTime(seconds * SECOND))
    }
}

fn cursor(response: &Value) -> Option<&str> {
    response["cursor"].as_str()
}

fn numbers(response: &Value, rail: usize) -> Vec<u64> {
    let columns = response["rails"][rail]["columns"].as_array().unwrap();
    columns.iter().map(|c| c[0].as_u64().unwrap()).collect()
}

#[test]
fn cursor_gets_everything_once_and_then_what_is_new() {
    let mut board = Board::new();
    for ms in 0..2000 {
        board.read(10_000 + ms, [if ms == 700 { 90.0 } else { 10.0 }, 4.0]);
    }
    let first = board.history(None, 12);
    assert_eq!(first["whole"], true);
    let rail = &first["rails"][0];
    assert_eq!(
        (&rail["source"], &rail["rail"]),
        (&json!("test"), &json!("in"))
    );
    assert_eq!(first["rails"][1]["rail"], "<cpu>");
    assert_eq!(rail["watts"], 10.0);
    // A peak of a thousandth of a second is seen.
    assert_eq!(rail["columns"][1], json!([21, 10.0, 90.0, 10.16]));
    assert_eq!(numbers(&first, 0), [20, 21, 22, 23]);
    let total = &first["total"];
    assert_eq!(
        (&total["watts"], &total["seconds"]),
        (&json!(10.0), &json!(2.5))
    );
    let joules = total["joules"].as_f64().unwrap();
    assert!((joules - 20.07).abs() < 0.001, "{joules}");

    let nothing = board.history(cursor(&first), 12);
    assert_eq!(
        (&nothing["whole"], numbers(&nothing, 0)),
        (&json!(false), vec![])
    );
    board.read(12_100, [11.0, 4.0]);
    let next = board.history(cursor(&nothing), 12);
    assert_eq!(numbers(&next, 0), [24]);
    // The column that had begun is told again, whole; another page's cursor is its own.
    board.read(12_400, [13.0, 4.0]);
    let more = board.history(cursor(&next), 12);
    assert_eq!(more["rails"][0]["columns"], json!([[24, 11.0, 13.0, 12.0]]));
    assert_eq!(numbers(&board.history(cursor(&first), 12), 0), [24]);
}

#[test]
fn invalid_cursor_gets_everything() {
    let mut board = Board::new();
    board.read(1000, [1.0, 1.0]);
    let own = board.history(None, 2);
    let own = cursor(&own).unwrap();
    let (epoch, _) = own.split_once('-').unwrap();
    let later = format!("{epoch}-99");
    for wrong in [
        "",
        "-",
        "1",
        "0-0-0",
        "x-1",
        "-1-1",
        "1-1",
        &later,
        "99999999999999999999-1",
    ] {
        let response = board.history(Some(wrong), 2);
        assert_eq!(
            (&response["whole"], numbers(&response, 0)),
            (&json!(true), vec![2]),
            "{wrong}"
        );
    }
    assert_eq!(board.history(Some(own), 2)["whole"], false);
}

#[test]
fn response_is_bounded() {
    let mut board = Board::new();
    let group = board.exporter.registry.add_group(1, "many", Vec::new());
    let many: Vec<_> = (0..100)
        .map(|n| Rail::new(&group, &n.to_string()))
        .collect();
    for half_second in 0..2000 {
        board.read(half_second * 500, [1.0, 1.0]);
    }
    let response = board.history(None, 1000);
    assert_eq!(numbers(&response, 0).len(), MAX_COLUMNS - 1);
    let rails = response["rails"].as_array().unwrap().len();
    // Of the lines, one is the total's.
    assert_eq!(
        (rails, &response["left_out"]),
        (MAX_RAILS - 1, &json!(many.len() + 3 - MAX_RAILS))
    );
    board.exporter.registry.add_group(2, "more", Vec::new());
    assert_eq!(board.history(None, 1000)["left_out"], response["left_out"]);
    // What nobody reads any more is not shown for ever.
    let silent = board.history(None, 5000);
    assert_eq!(
        (numbers(&silent, 0).len(), &silent["rails"][0]["watts"]),
        (0, &Value::Null)
    );
}

#[test]
fn rails_come_and_go() {
    let mut board = Board::new();
    board.read(1000, [1.0, 1.0]);
    let before = board.history(None, 2);
    let usb = board.exporter.registry.add_group(1, "usb", Vec::new());
    usb.history().limit(Duration::from_secs(60), 1 << 16);
    let mut rail = Rail::new(&usb, "usb");
    let mut out = Readings::new(5.0);
    out.begin(BootTime(1_700_000_000));
    rail.set_watts(&mut out, 7.0);
    usb.publish(usb.new_generation(), &out);
    let with = board.history(cursor(&before), 2);
    assert_eq!(
        (&with["whole"], numbers(&with, 2)),
        (&json!(false), vec![3])
    );
    let group = Arc::clone(&board.group);
    board.exporter.registry.remove_group(&group);
    let without = board.history(cursor(&with), 2);
    let rails = without["rails"].as_array().unwrap();
    assert_eq!((rails.len(), &rails[0]["rail"]), (1, &json!("usb")));
    assert_eq!(without["total"], Value::Null);
}

#[test]
fn idle_columns_are_dropped() {
    let mut board = Board::new();
    board.read(1000, [1.0, 1.0]);
    let first = board.history(None, 2);
    let charts = &board.exporter.charts;
    charts.drop_if_idle(BootTime(60 * SECOND));
    assert!(charts.0.lock().unwrap().is_some());
    charts.drop_if_idle(BootTime(63 * SECOND));
    assert!(charts.0.lock().unwrap().is_none());
    let again = board.history(cursor(&first), 64);
    assert_eq!(
        (&again["whole"], numbers(&again, 0)),
        (&json!(true), vec![2])
    );
}

#[test]
fn disabled_metrics_are_shown_in_charts() {
    use crate::metrics::Policy;
    let mut board = Board::new();
    let only = [("energy_joules_total".to_string(), true)];
    board
        .exporter
        .registry
        .set_policy(Policy::Listed(only.into()));
    board.read(1000, [3.0, 1.0]);
    let response = board.history(None, 2);
    assert_eq!(response["total"]["watts"], 3.0);
    assert_eq!(response["rails"][0]["columns"], json!([[2, 3.0, 3.0, 3.0]]));
}
