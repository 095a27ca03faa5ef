//! `GET /history`: what each rail drew in the last minutes, for the status page's charts.
//!
//! The rows of the sources' histories are drawn together into columns of half a second: least, greatest and mean value.
//! All pages share the columns, and each row is read once, however many pages there are. A page's cursor says which
//! columns it has, and is the page's to keep: here is nothing to remember for it. When nobody has asked for a while the
//! columns are let go.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use serde_json::{json, Value};

use super::Exporter;
use crate::metrics::{Columns, Cursor, Group, Registry, Rows, Series};
use crate::sys::clock::BootTime;
use crate::sys::lock;

/// How much time a column stands for.
const WIDTH: Duration = Duration::from_millis(500);
/// As many columns as a chart has, about: five minutes.
const MOST: usize = 600;
/// More rails than these are counted, and left out.
const MOST_LINES: usize = 64;
/// For so long the columns are kept when nobody asks.
const REST: Duration = Duration::from_secs(60);

const RAIL: &str = "power_watts";
const TOTAL: &str = "power_total_watts";
const ENERGY: &str = "energy_joules_total";

/// The charts, while somebody looks at them.
#[derive(Default)]
pub(super) struct Charts(Mutex<Option<Drawing>>);

struct Drawing {
    /// When it was begun: a cursor into another is none into this.
    epoch: u64,
    asked_at: BootTime,
    /// Grows each time rows are drawn.
    revision: u32,
    /// The registry's version for which `sheets` is complete.
    version: u64,
    sheets: Vec<Sheet>,
    /// Rails for which there was no room.
    left_out: usize,
}

/// The lines of one group.
struct Sheet {
    group: Weak<Group>,
    cursor: Cursor,
    lines: Vec<Line>,
}

struct Line {
    /// Where its values are in a row.
    place: usize,
    series: Arc<Series>,
    columns: Columns,
}

impl Charts {
    /// Lets the columns go when nobody has asked for them in a while.
    pub(super) fn rest(&self, now: BootTime) {
        let mut drawing = lock::lock(&self.0);
        let asked = drawing.as_ref().map(|drawing| drawing.asked_at);
        if asked.is_some_and(|asked| now.since(Some(asked)) > REST) {
            *drawing = None;
        }
    }
}

impl Exporter {
    /// What is new since `cursor`; everything, if that is none of ours.
    pub(super) fn history(&self, cursor: Option<&str>, now: BootTime) -> Value {
        let mut charts = lock::lock(&self.charts.0);
        let drawing = charts.get_or_insert_with(|| Drawing::new(now));
        drawing.asked_at = now;
        drawing.draw(&self.registry, now);
        let since = cursor.and_then(|cursor| drawing.revision_of(cursor));
        let snapshot = self.registry.snapshot(now);
        let (mut watts, mut joules, mut total) = (Vec::new(), Vec::new(), None);
        for view in snapshot.all() {
            match view.family.name.as_str() {
                RAIL => watts.extend(view.samples()),
                ENERGY => joules.extend(view.samples()),
                TOTAL => total = view.samples().next(),
                _ => {}
            }
        }
        let shown = |line: &Line, gap: f64| {
            let is = |series: &Series| std::ptr::eq(series, &*line.series);
            let same = |series: &Series| series.labels == line.series.labels;
            let watts = watts.iter().find(|(series, _)| is(series));
            let joules = joules.iter().find(|(series, _)| same(series));
            json!({
                "source": line.series.source,
                "rail": label(&line.series, "rail"),
                "series": line.series.prefix.trim_end(),
                "watts": watts.map(|(_, value)| value),
                "joules": joules.map(|(_, value)| value),
                "longest_gap": gap,
                "columns": columns(line, since.unwrap_or(0)),
            })
        };
        let rails: Vec<_> = drawing
            .lines()
            .filter(|(line, _)| line.series.family.name == RAIL)
            .map(|(line, gap)| shown(line, gap))
            .collect();
        let total = total.map(|(series, watts)| {
            let mut lines = drawing.lines();
            let line = lines.find(|(line, _)| std::ptr::eq(&*line.series, series));
            json!({
                "source": series.source,
                "watts": watts,
                "joules": line.map(|(line, _)| integral(line)),
                "seconds": line.and_then(|(line, _)| seconds(line, now)),
            })
        });
        json!({
            "cursor": format!("{}-{}", drawing.epoch, drawing.revision),
            "whole": since.is_none(),
            "now": number(now),
            "column_seconds": WIDTH.as_secs_f64(),
            "columns": MOST,
            "kept_seconds": self.store.current().history.keep.as_secs_f64(),
            "total": total,
            "rails": rails,
            "left_out": drawing.left_out,
        })
    }
}

impl Drawing {
    fn new(now: BootTime) -> Drawing {
        Drawing {
            epoch: now.0,
            asked_at: now,
            revision: 0,
            version: 0,
            sheets: Vec::new(),
            left_out: 0,
        }
    }

    /// The revision that a cursor names, if it is one of this drawing.
    fn revision_of(&self, cursor: &str) -> Option<u32> {
        let (epoch, revision) = cursor.split_once('-')?;
        let revision = revision.parse().ok()?;
        let is_ours = epoch.parse() == Ok(self.epoch) && revision <= self.revision;
        is_ours.then_some(revision)
    }

    fn lines(&self) -> impl Iterator<Item = (&Line, f64)> {
        self.sheets.iter().flat_map(|sheet| {
            let group = sheet.group.upgrade();
            let gap = group.map_or(0.0, |group| group.staleness_limit());
            sheet.lines.iter().map(move |line| (line, gap))
        })
    }

    /// Draws what was read since the last time.
    fn draw(&mut self, registry: &Registry, now: BootTime) {
        let version = registry.version();
        if self.version != version {
            self.survey(registry, now);
            self.version = version;
        }
        self.revision = self.revision.saturating_add(1);
        let oldest = (number(now) + 1).saturating_sub(MOST as u64);
        let (mut rows, mut values) = (Rows::default(), Vec::new());
        for sheet in &mut self.sheets {
            let Some(group) = sheet.group.upgrade() else {
                continue;
            };
            let gap = group.staleness_limit();
            while group.history().read(&mut sheet.cursor, &mut rows) {
                for (at, row) in rows.iter() {
                    values.clear();
                    values.extend(row);
                    for line in &mut sheet.lines {
                        if let Some(value) = values.get(line.place) {
                            line.columns.push(at, *value, gap, self.revision);
                        }
                    }
                }
            }
            for line in &mut sheet.lines {
                line.columns.drop_before(oldest);
            }
        }
    }

    /// Finds the groups and rails that have come, and drops those that have gone.
    fn survey(&mut self, registry: &Registry, now: BootTime) {
        let window = WIDTH.as_nanos() as u64 * MOST as u64;
        let since = BootTime(now.0.saturating_sub(window));
        let groups = registry.groups();
        let mut before = std::mem::take(&mut self.sheets);
        self.left_out = 0;
        let mut room = MOST_LINES;
        for group in groups {
            let is = |sheet: &Sheet| std::ptr::eq(sheet.group.as_ptr(), &*group);
            let mut sheet = match before.iter().position(is) {
                Some(place) => before.swap_remove(place),
                None => Sheet {
                    group: Arc::downgrade(&group),
                    cursor: group.history().cursor_since(since),
                    lines: Vec::new(),
                },
            };
            room = room.saturating_sub(sheet.lines.len());
            for (place, series) in group.all_series().into_iter().enumerate() {
                if !is_power(&series) || sheet.lines.iter().any(|line| line.place == place) {
                    continue;
                }
                if room == 0 {
                    self.left_out += 1;
                    continue;
                }
                room -= 1;
                sheet.lines.push(Line {
                    place,
                    series,
                    columns: Columns::new(WIDTH, MOST),
                });
            }
            self.sheets.push(sheet);
        }
    }
}

fn is_power(series: &Series) -> bool {
    [RAIL, TOTAL].contains(&series.family.name.as_str())
}

/// The column of a moment.
fn number(at: BootTime) -> u64 {
    at.0 / WIDTH.as_nanos() as u64
}

/// Number, least, greatest and mean value of each column that is new.
fn columns(line: &Line, since: u32) -> Vec<Value> {
    let changed = line.columns.changed_after(since);
    changed
        .map(|c| {
            let [low, high] = [c.low, c.high].map(|value| rounded(f64::from(value)));
            json!([c.number, low, high, rounded(c.mean())])
        })
        .collect()
}

/// What is finer than a tenth of a milliwatt is no chart's affair.
fn rounded(watts: f64) -> f64 {
    (watts * 1e4).round() / 1e4
}

fn integral(line: &Line) -> f64 {
    rounded(line.columns.all().map(|c| f64::from(c.integral)).sum())
}

/// For how long there are columns.
fn seconds(line: &Line, now: BootTime) -> Option<f64> {
    let first = line.columns.all().next()?.number;
    Some((number(now) + 1).saturating_sub(first) as f64 * WIDTH.as_secs_f64())
}

fn label<'a>(series: &'a Series, name: &str) -> Option<&'a str> {
    let mut labels = series.labels.iter();
    let found = labels.find(|(label, _)| label == name)?;
    Some(&found.1)
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
