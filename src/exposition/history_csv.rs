//! The kept rows of several groups as one CSV table: a column for each series, a row for each reading or for each step.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::csv::{write_field, write_float, LINE_END};
use crate::metrics::{is_absent, Cursor, Group, Offset, Rows, Series, ABSENT};
use crate::sys::calendar::rfc3339_millis;
use crate::sys::clock::BootTime;

/// The name of the first column.
const TIME: &str = "time";

/// How the time of a row is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeFormat {
    /// RFC 3339, in UTC.
    Rfc3339,
    /// Seconds.
    Seconds,
}

/// What of the history is rendered, and how.
#[derive(Debug, Clone, Copy)]
pub struct HistoryRange {
    /// Rows before this are left out.
    pub since: BootTime,
    /// So are rows after this.
    pub until: BootTime,
    /// One row for each step, with the last values in it. `None`: one row for each reading.
    pub step: Option<Duration>,
    /// The offset of the timestamps.
    pub offset: Offset,
    /// Their format.
    pub time: TimeFormat,
    /// Whether they have microseconds instead of milliseconds.
    pub microseconds: bool,
    /// The most bytes of the table.
    pub max_bytes: usize,
}

/// The table would be longer than the limit.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

/// Renders the series for which `wanted` is true, and returns the table and how many columns of values it has.
pub fn render_history(
    groups: &[Arc<Group>],
    range: &HistoryRange,
    wanted: impl Fn(&Series) -> bool,
) -> Result<(String, usize), TooLong> {
    let mut csv = TIME.to_string();
    let mut readers = Vec::new();
    let mut columns = 0;
    for group in groups {
        let mut places = Vec::new();
        for (place, series) in group.all_series().iter().enumerate() {
            let is_shown = series.family.is_enabled() && !series.family.own;
            if is_shown && wanted(series) {
                places.push(place);
                write_field(series.prefix.trim_end(), &mut csv);
            }
        }
        if !places.is_empty() {
            let first = columns;
            columns += places.len();
            readers.push(Reader::new(group, places, first, range));
        }
    }
    csv.push_str(LINE_END);
    let mut line = vec![ABSENT; columns];
    // The group whose row is the oldest is next.
    while let Some(row_time) = readers.iter_mut().filter_map(Reader::next_time).min() {
        line.fill(ABSENT);
        for reader in &mut readers {
            while reader.next_time() == Some(row_time) {
                reader.take(&mut line);
            }
        }
        write_time(row_time, range, &mut csv);
        write_values(&line, &mut csv);
        if csv.len() > range.max_bytes {
            return Err(TooLong);
        }
    }
    Ok((csv, columns))
}

fn write_time(nanos: i64, range: &HistoryRange, csv: &mut String) {
    let (millis, micros) = (
        nanos.div_euclid(1_000_000),
        nanos.rem_euclid(1_000_000) / 1000,
    );
    match range.time {
        TimeFormat::Rfc3339 => {
            let time = rfc3339_millis(millis);
            csv.push_str(time.strip_suffix('Z').unwrap_or(&time));
        }
        TimeFormat::Seconds => {
            let (seconds, rest) = (millis.div_euclid(1000), millis.rem_euclid(1000));
            csv.push_str(&format!("{seconds}.{rest:03}"));
        }
    }
    if range.microseconds {
        csv.push_str(&format!("{micros:03}"));
    }
    if range.time == TimeFormat::Rfc3339 {
        csv.push('Z');
    }
}

fn write_values(values: &[f64], csv: &mut String) {
    for value in values {
        csv.push(',');
        write_float(*value, csv);
    }
    csv.push_str(LINE_END);
}

/// Reads the history of one group, a few thousand values at a time.
struct Reader<'r> {
    group: &'r Group,
    range: &'r HistoryRange,
    /// The places of the wanted series in a row, ascending.
    places: Vec<usize>,
    /// The column of the first of them.
    first: usize,
    cursor: Cursor,
    rows: Rows,
    /// The times of the rows that were read and not taken yet, and their values.
    times: VecDeque<i64>,
    values: VecDeque<f64>,
    is_at_end: bool,
}

impl<'r> Reader<'r> {
    fn new(
        group: &'r Group,
        places: Vec<usize>,
        first: usize,
        range: &'r HistoryRange,
    ) -> Reader<'r> {
        Reader {
            group,
            range,
            places,
            first,
            cursor: group.history().cursor_since(range.since),
            rows: Rows::default(),
            times: VecDeque::new(),
            values: VecDeque::new(),
            is_at_end: false,
        }
    }

    /// The time of the table's row that the next row belongs to, in nanoseconds.
    fn next_time(&mut self) -> Option<i64> {
        while self.times.is_empty() && !self.is_at_end {
            self.read();
        }
        self.times.front().copied()
    }

    fn read(&mut self) {
        let until = self.range.until;
        let history = self.group.history();
        let any = history.read_while(&mut self.cursor, &mut self.rows, |at| at <= until);
        self.is_at_end = !any;
        for (at, row) in self.rows.iter() {
            let begin = self.values.len();
            let mut places = self.places.iter().copied().peekable();
            for (place, value) in row.enumerate() {
                if places.next_if_eq(&place).is_some() {
                    self.values.push_back(value);
                }
            }
            // A row lacks the series that were registered after it.
            self.values.extend(places.map(|_| ABSENT));
            let is_empty = self.values.range(begin..).all(|value| is_absent(*value));
            match is_empty {
                true => self.values.truncate(begin),
                false => self.times.push_back(time_of(at, self.range)),
            }
        }
    }

    /// Puts the values of the next row into the line, over those of an earlier row.
    fn take(&mut self, line: &mut [f64]) {
        self.times.pop_front();
        let cells = line.iter_mut().skip(self.first).take(self.places.len());
        for (cell, value) in cells.zip(self.values.drain(..self.places.len())) {
            if !is_absent(value) {
                *cell = value;
            }
        }
    }
}

/// The time of the table's row that a reading belongs to.
fn time_of(at: BootTime, range: &HistoryRange) -> i64 {
    let at = i64::try_from(at.0).unwrap_or(i64::MAX);
    let nanos = at.saturating_add(range.offset.nanos());
    match range.step.map(|step| i64::try_from(step.as_nanos())) {
        Some(Ok(step)) if step > 0 => nanos.saturating_sub(nanos.rem_euclid(step)),
        _ => nanos,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Desc, Policy, Readings, Registry};

    const MILLISECOND: u64 = 1_000_000;

    /// Power and energy of `rapl`, every 100 ms, and the temperature of `hwmon`, every 250 ms, for a second.
    fn registry() -> Registry {
        let registry = Registry::new(Policy::All);
        let rapl = registry.add_group(0, "rapl", vec![]);
        let hwmon = registry.add_group(1, "hwmon", vec![]);
        let own = registry.add_group(2, "exporter", vec![]);
        for group in [&rapl, &hwmon, &own] {
            group.history().limit(Duration::from_secs(60), 1 << 20);
        }
        let watts = rapl.series(&Desc::gauge("power_watts", ""), &[("rail", "a,b")]);
        let joules = rapl.series(&Desc::counter("energy_joules_total", ""), &[]);
        let celsius = hwmon.series(&Desc::gauge("temperature_celsius", ""), &[]);
        let up = own.series(&Desc::gauge("exporter_up", "").own(), &[]);
        let mut out = Readings::new(5.0);
        let mut publish =
            |group: &Arc<Group>, ms: u64, values: &[(crate::metrics::SeriesId, f64)]| {
                out.begin(BootTime(ms * MILLISECOND));
                for (id, value) in values {
                    out.set(*id, *value);
                }
                assert!(group.publish(group.new_generation(), &out));
            };
        for n in 0..10 {
            let ms = 1000 + n * 100;
            // One reading of the power fails.
            let power = (n != 3).then_some((watts, 1.5 * n as f64));
            let energy = [(joules, n as f64)];
            let values: Vec<_> = power.into_iter().chain(energy).collect();
            publish(&rapl, ms, &values);
            publish(&own, ms, &[(up, 1.0)]);
        }
        for n in 0..4 {
            publish(&hwmon, 1050 + n * 250, &[(celsius, 40.25 + n as f64)]);
        }
        registry
    }

    fn range() -> HistoryRange {
        HistoryRange {
            since: BootTime(0),
            until: BootTime(u64::MAX),
            step: None,
            offset: Offset::of_boot_time(),
            time: TimeFormat::Seconds,
            microseconds: false,
            max_bytes: 1 << 20,
        }
    }

    fn lines(range: &HistoryRange, wanted: impl Fn(&Series) -> bool) -> Vec<String> {
        let (csv, _) = render_history(&registry().groups(), range, wanted).unwrap();
        assert!(csv.ends_with("\r\n"));
        csv.split_terminator("\r\n").map(str::to_owned).collect()
    }

    #[test]
    fn every_reading_has_a_row_in_the_order_of_time() {
        let lines = lines(&range(), |_| true);
        // Two of them are of the same time as two others.
        assert_eq!(lines.len(), 1 + 10 + 2);
        assert_eq!(
            lines[..6],
            [
                "time,\"power_watts{rail=\"\"a,b\"\"}\",energy_joules_total,temperature_celsius",
                "1.000,0.0,0.0,",
                "1.050,,,40.25",
                "1.100,1.5,1.0,",
                "1.200,3.0,2.0,",
                "1.300,,3.0,41.25",
            ]
        );
    }

    #[test]
    fn step_has_the_last_value_of_each_series_in_it() {
        let half = HistoryRange {
            step: Some(Duration::from_millis(500)),
            ..range()
        };
        let all = lines(&half, |_| true);
        assert_eq!(all[1..], ["1.000,6.0,4.0,41.25", "1.500,13.5,9.0,43.25"]);
        let long = HistoryRange {
            step: Some(Duration::MAX),
            ..range()
        };
        assert_eq!(lines(&long, |_| true).len(), 13, "a step that is none");
    }

    #[test]
    fn rows_are_those_of_the_range_and_of_the_wanted_series() {
        let short = HistoryRange {
            since: BootTime(1300 * MILLISECOND),
            until: BootTime(1500 * MILLISECOND),
            time: TimeFormat::Rfc3339,
            ..range()
        };
        let power = |series: &Series| series.family.name == "power_watts";
        assert_eq!(
            lines(&short, power)[1..],
            [
                "1970-01-01T00:00:01.400Z,6.0",
                "1970-01-01T00:00:01.500Z,7.5"
            ]
        );
        let fine = HistoryRange {
            microseconds: true,
            ..short
        };
        let row = "1970-01-01T00:00:01.400000Z,6.0";
        assert_eq!(lines(&fine, power)[1], row);
        assert_eq!(lines(&range(), |_| false), ["time"]);
    }

    #[test]
    fn microseconds_tell_readings_apart() {
        let range = HistoryRange {
            microseconds: true,
            ..range()
        };
        let time = |nanos| {
            let mut csv = String::new();
            write_time(nanos, &range, &mut csv);
            csv
        };
        assert_eq!(time(1_400_099_999), "1.400099");
        assert_eq!(time(1_400_100_000), "1.400100");
    }

    #[test]
    fn table_that_is_too_long_is_refused() {
        let small = HistoryRange {
            max_bytes: 150,
            ..range()
        };
        let rendered = render_history(&registry().groups(), &small, |_| true);
        assert_eq!(rendered, Err(TooLong));
    }
}
