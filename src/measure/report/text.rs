//! The report for people.

use std::fmt::Write;

use super::{Results, Run};
use crate::measure::statistics::Estimate;
use crate::sys::child::Status;

/// The longest command that is shown whole, in characters.
const MAX_COMMAND: usize = 60;
/// More than this of the joules between `least` and `most` is shown.
const SHOWN_SPREAD: f64 = 0.05;

/// The report, in lines.
pub fn text(results: &Results) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "\n{}", headline(results));
    table(results, &mut out);
    let idle = results.idle.as_ref();
    if let Some(idle) = idle.filter(|idle| !idle.watts.is_empty()) {
        let _ = writeln!(
            out,
            "Idle is what the board drew in {} s before. Rails contain each other: do not add them up.",
            number(idle.seconds)
        );
    }
    for note in results.notes.iter().chain(&results.caveats()) {
        let _ = writeln!(out, "note: {note}");
    }
    out
}

/// The command, how long it took, how it ended, and its CPU time.
fn headline(results: &Results) -> String {
    let command: String = results.command.join(" ");
    let visible = command
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c });
    let mut out: String = visible.take(MAX_COMMAND).collect();
    if command.chars().count() > MAX_COMMAND {
        out.push('…');
    }
    let Some(last) = results.runs.last() else {
        return format!("{out}: not run");
    };
    let count = results.runs.len();
    if results.repeat > 1 {
        let _ = write!(out, ": {count} of {} runs", results.repeat);
    }
    if let Some(seconds) = results.mean(|run| Some(run.seconds)) {
        let _ = write!(out, ": {} s", shown(Some(seconds)));
    }
    let _ = write!(out, ", {}", ending(last));
    if let Some(seconds) = results.mean(|run| run.cpu_seconds) {
        let _ = write!(out, ", {} s of CPU time", shown(Some(seconds)));
    }
    if let Some(share) = results.mean(Run::cpu_share) {
        let _ = write!(out, " ({:.0} % of all on the board)", share.mean * 100.0);
    }
    out
}

fn ending(run: &Run) -> String {
    let mut ending = match run.status {
        Some(Status::Exited(status)) => format!("exit status {status}"),
        Some(Status::Killed(signal)) => format!("killed by signal {signal}"),
        None => "still running".to_string(),
    };
    if run.is_interrupted {
        ending.push_str(", interrupted");
    }
    ending
}

/// A line for each rail.
fn table(results: &Results, out: &mut String) {
    let rails = results.rails();
    if rails.is_empty() {
        return;
    }
    let spread = |rail| {
        let mut runs = results.runs.iter();
        runs.any(|run| {
            let measured = run.rails.get(rail);
            measured.is_some_and(|m| m.at_most - m.at_least > SHOWN_SPREAD * m.joules.abs())
        })
    };
    let has_spread = results.runs.len() == 1 && rails.iter().any(|rail| spread(rail));
    let has_idle = results.idle.is_some();
    let has_share = results.runs.iter().any(|run| run.cpu_share().is_some());
    let columns = [
        ("rail", true),
        ("joules", true),
        ("least", has_spread),
        ("most", has_spread),
        ("mean W", true),
        ("peak W", true),
        ("J above idle", has_idle),
        ("J by CPU time", has_idle && has_share),
    ];
    let mut lines = vec![columns.map(|(name, _)| name.to_string())];
    for rail in rails {
        let mean = results.rail_mean(rail);
        let bounds = results.runs.last().and_then(|run| run.rails.get(rail));
        lines.push([
            rail.to_string(),
            shown(mean.joules),
            bounds.map_or(String::new(), |m| number(m.at_least)),
            bounds.map_or(String::new(), |m| number(m.at_most)),
            shown(mean.mean_watts),
            mean.peak_watts.map_or("-".to_string(), number),
            shown(mean.above_idle),
            shown(mean.attributed),
        ]);
    }
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns.len()).map(width).collect();
    for line in &lines {
        let mut text = String::new();
        let cells = line.iter().zip(&widths).zip(&columns);
        for (place, ((cell, width), (_, is_shown))) in cells.enumerate() {
            let pad = " ".repeat(width - cell.chars().count());
            match (place, is_shown) {
                (_, false) => {}
                (0, true) => text = format!("{cell}{pad}"),
                _ => text.push_str(&format!("  {pad}{cell}")),
            }
        }
        let _ = writeln!(out, "{}", text.trim_end());
    }
}

/// A mean, with its interval where there is one.
fn shown(estimate: Option<Estimate>) -> String {
    match estimate {
        None => "-".to_string(),
        Some(Estimate {
            mean,
            half_width: None,
        }) => number(mean),
        Some(Estimate {
            mean,
            half_width: Some(half),
        }) => {
            // Two digits of what is uncertain, and as many decimals of the mean.
            let decimals = decimals(half, 2).min(decimals(mean, 4));
            format!("{mean:.decimals$} ± {half:.decimals$}")
        }
    }
}

/// Four digits, and no more than six decimals.
fn number(value: f64) -> String {
    format!("{value:.0$}", decimals(value, 4))
}

/// How many decimals show so many digits.
fn decimals(value: f64, digits: u8) -> usize {
    let magnitude = match value.abs() {
        zero if zero < 1e-9 => 0.0,
        value => value.log10().floor(),
    };
    (f64::from(digits) - 1.0 - magnitude).clamp(0.0, 6.0) as usize
}

#[cfg(test)]
mod tests {
    use super::super::testing::results;
    use super::*;

    #[test]
    fn report_has_a_line_for_each_rail() {
        assert_eq!(
            text(&results(&[12.0])),
            "\nmake a b: 2.000 s, exit status 0, 1.500 s of CPU time (75 % of all on the board)\n\
             rail            joules  mean W  peak W  J above idle  J by CPU time\n\
             board            12.00   6.000   12.00         8.000          6.000\n\
             nvidia 0         1.000  0.5000   1.000        0.5000              -\n\
             rapl package-0   6.000   3.000   6.000         4.000          3.000\n\
             Idle is what the board drew in 5.000 s before. Rails contain each other: do not add them up.\n"
        );
    }

    #[test]
    fn repeats_show_their_interval_and_a_short_run_its_bounds() {
        let several = text(&results(&[10.0, 12.0, 14.0]));
        assert!(
            several.contains("make a b: 3 of 3 runs: 2.0 ± 0.0 s, exit status 0"),
            "{several}"
        );
        assert!(several.contains("board           12.0 ± 5.0"), "{several}");
        let mut short = results(&[12.0]);
        let run = &mut short.runs[0];
        run.rails.values_mut().for_each(|m| m.at_least = 0.0);
        (run.status, run.is_interrupted) = (Some(Status::Killed(2)), true);
        short.idle = None;
        let short = text(&short);
        assert!(short.contains("killed by signal 2, interrupted"), "{short}");
        let header = "rail            joules  least   most  mean W  peak W\n";
        assert!(short.contains(header), "{short}");
        assert!(short.contains("note: board, nvidia 0, rapl package-0: "));
    }

    #[test]
    fn numbers_have_four_digits() {
        for (value, expected) in [
            (0.0, "0.000"),
            (12_345.6, "12346"),
            (1.0, "1.000"),
            (0.001_234_56, "0.001235"),
            (-7.654_3, "-7.654"),
            (1e-12, "0.000"),
        ] {
            assert_eq!(number(value), expected);
        }
        let mut long = results(&[1.0]);
        long.command = vec!["é\u{1b}[2J".repeat(100)];
        let long = headline(&long);
        assert!(!long.contains('\u{1b}') && long.contains('…'), "{long}");
    }
}
