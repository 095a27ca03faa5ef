//! The report for programs: JSON, and CSV with a line for each run and rail. docs/measure.md has the shapes.

use serde_json::{json, Value};

use super::{RailRun, Results, Run};
use crate::exposition::csv::{float, write_field, LINE_END};
use crate::measure::rail::Rail;
use crate::measure::statistics::Estimate;
use crate::sys::child::Status;

/// The columns of the CSV.
const COLUMNS: &str = "run,source,rail,seconds,joules,joules_at_least,joules_at_most,mean_watts,peak_watts,idle_watts,\
                       joules_above_idle,cpu_seconds,cpu_share,attributed_joules,measured_seconds,readings,exit_status,signal";

/// The report as JSON.
pub fn json(results: &Results) -> Value {
    let idle = results.idle.as_ref().map(|idle| {
        let rails: Vec<_> = idle
            .watts
            .iter()
            .map(|(rail, watts)| json!({"source": rail.source(), "rail": rail.name(), "watts": watts}))
            .collect();
        json!({"seconds": idle.seconds, "rails": rails})
    });
    let runs: Vec<_> = results
        .runs
        .iter()
        .map(|run| run_json(results, run))
        .collect();
    let rails: Vec<_> = results
        .rails()
        .into_iter()
        .map(|rail| {
            let mean = results.rail_mean(rail);
            json!({
                "source": rail.source(),
                "rail": rail.name(),
                "joules": estimate(mean.joules),
                "mean_watts": estimate(mean.mean_watts),
                "peak_watts": mean.peak_watts,
                "joules_above_idle": estimate(mean.above_idle),
                "attributed_joules": estimate(mean.attributed),
            })
        })
        .collect();
    let mut notes = results.notes.clone();
    notes.extend(results.caveats());
    json!({
        "command": results.command,
        "url": results.url,
        "interval_seconds": results.interval.map(|interval| interval.as_secs_f64()),
        "repeat": results.repeat,
        "idle": idle,
        "runs": runs,
        "mean": {
            "seconds": estimate(results.mean(|run| Some(run.seconds))),
            "cpu_seconds": estimate(results.mean(|run| run.cpu_seconds)),
            "cpu_share": estimate(results.mean(Run::cpu_share)),
            "rails": rails,
        },
        "notes": notes,
    })
}

fn run_json(results: &Results, run: &Run) -> Value {
    let (exit_status, signal) = ending(run);
    let rails: Vec<_> = run
        .rails
        .keys()
        .filter_map(|rail| Some(rail_json(rail, &results.rail_run(run, rail)?)))
        .collect();
    json!({
        "seconds": run.seconds,
        "exit_status": exit_status,
        "signal": signal,
        "interrupted": run.is_interrupted,
        "cpu_seconds": run.cpu_seconds,
        "busy_cpu_seconds": run.busy_seconds,
        "cpu_share": run.cpu_share(),
        "rails": rails,
    })
}

fn rail_json(rail: &Rail, run: &RailRun) -> Value {
    let measured = &run.measured;
    json!({
        "source": rail.source(),
        "rail": rail.name(),
        "joules": measured.joules,
        "joules_at_least": measured.at_least,
        "joules_at_most": measured.at_most,
        "mean_watts": measured.mean_watts(),
        "peak_watts": measured.peak_watts,
        "joules_above_idle": run.above_idle,
        "attributed_joules": run.attributed,
        "measured_seconds": measured.seconds,
        "readings": measured.readings,
        "method": measured.method.as_str(),
    })
}

fn estimate(estimate: Option<Estimate>) -> Option<Value> {
    estimate.map(|e| json!({"mean": e.mean, "interval_95": e.half_width}))
}

/// Exit status and signal.
fn ending(run: &Run) -> (Option<u8>, Option<u8>) {
    match run.status {
        Some(Status::Exited(status)) => (Some(status), None),
        Some(Status::Killed(signal)) => (None, Some(signal)),
        None => (None, None),
    }
}

/// The report as CSV. A value that is not known is empty.
pub fn csv(results: &Results) -> String {
    let mut out = format!("{COLUMNS}{LINE_END}");
    for (number, run) in results.runs.iter().enumerate() {
        for rail in run.rails.keys() {
            let Some(of_rail) = results.rail_run(run, rail) else {
                continue;
            };
            let measured = &of_rail.measured;
            let (exit_status, signal) = ending(run);
            let known = |value: Option<f64>| value.map_or(String::new(), float);
            let whole = |value: Option<u8>| value.map_or(String::new(), |value| value.to_string());
            let mut row = String::new();
            for field in [
                (number + 1).to_string(),
                rail.source().unwrap_or_default().to_string(),
                rail.name().to_string(),
                float(run.seconds),
                float(measured.joules),
                float(measured.at_least),
                float(measured.at_most),
                float(measured.mean_watts()),
                known(measured.peak_watts),
                known(of_rail.idle_watts),
                known(of_rail.above_idle),
                known(run.cpu_seconds),
                known(run.cpu_share()),
                known(of_rail.attributed),
                float(measured.seconds),
                measured.readings.to_string(),
                whole(exit_status),
                whole(signal),
            ] {
                write_field(&field, &mut row);
            }
            out.push_str(&row);
            out.push_str(LINE_END);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::testing::results;
    use super::*;

    #[test]
    fn json_has_each_run_and_the_mean() {
        let report = json(&results(&[10.0, 12.0, 14.0]));
        assert_eq!(report["command"], json!(["make", "a b"]));
        assert_eq!(report["runs"][1]["rails"][0]["joules"], 12.0);
        assert_eq!(report["runs"][1]["rails"][0]["source"], Value::Null);
        assert_eq!(report["runs"][1]["rails"][0]["joules_above_idle"], 8.0);
        assert_eq!(report["runs"][0]["exit_status"], 0);
        assert_eq!(report["mean"]["rails"][2]["rail"], "package-0");
        assert_eq!(report["mean"]["rails"][2]["joules"]["mean"], 6.0);
        assert_eq!(report["mean"]["rails"][1]["attributed_joules"], Value::Null);
        assert_eq!(report["idle"]["rails"][0]["watts"], 2.0);
        assert_eq!(report["interval_seconds"], 0.01);
    }

    #[test]
    fn csv_has_a_line_for_each_run_and_rail() {
        let mut results = results(&[10.0, 12.0]);
        let rails = &mut results.runs[0].rails;
        let gpu = rails.remove(&Rail::of("nvidia", "0")).unwrap();
        rails.insert(Rail::of("x", "a,\"b\""), gpu);
        results.runs[1].status = Some(Status::Killed(9));
        let csv = csv(&results);
        let lines: Vec<_> = csv.lines().collect();
        assert_eq!(lines.len(), 7);
        let columns = COLUMNS.split(',').count();
        assert_eq!(lines[1].split(',').count(), columns);
        assert_eq!(
            lines[1],
            "1,,board,2.0,10.0,9.9,10.1,5.0,10.0,2.0,6.0,1.5,0.75,4.5,2.0,200,0,"
        );
        assert!(
            lines[3].starts_with("1,x,\"a,\"\"b\"\"\",2.0,1.0,"),
            "{}",
            lines[3]
        );
        assert!(lines[6].ends_with(",200,,9"), "{}", lines[6]);
    }
}
