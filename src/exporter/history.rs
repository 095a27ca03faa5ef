//! `GET /history`: the power of each rail in the last minutes, for the charts of the status page, and that of workloads now.
//!
//! The rows of the sources' histories are aggregated into columns of half a second: least, greatest and mean value. All
//! pages share the columns, and each row is read once, however many pages there are. A page's cursor says which columns
//! the page has; the server keeps nothing per page. The columns are dropped when no page has asked for them in a while.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use serde_json::{json, Value};

use super::workloads::workloads;
use super::Exporter;
use crate::metrics::{Columns, Cursor, Group, NoTotal, Registry, Rows, Series};
use crate::sys::clock::BootTime;
use crate::sys::lock;

/// The time that a column covers.
const COLUMN_WIDTH: Duration = Duration::from_millis(500);
/// The columns of a chart: five minutes.
const MAX_COLUMNS: usize = 600;
/// More rails than these are left out, and counted.
const MAX_RAILS: usize = 64;
/// The columns are dropped when no page has asked for them for this long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

const POWER: &str = "power_watts";
const TOTAL: &str = "power_total_watts";
const ENERGY: &str = "energy_joules_total";

/// The charts, while a page shows them.
#[derive(Default)]
pub(super) struct Charts(Mutex<Option<ChartData>>);

struct ChartData {
    /// When the data were begun. A cursor of another epoch is invalid.
    epoch: u64,
    requested_at: BootTime,
    /// Grows each time rows are aggregated.
    revision: u32,
    /// The registry's version that `groups` is complete for.
    version: u64,
    groups: Vec<GroupCharts>,
    /// Rails beyond `MAX_RAILS`.
    left_out: usize,
}

/// The rails of one group.
struct GroupCharts {
    group: Weak<Group>,
    cursor: Cursor,
    rails: Vec<RailChart>,
}

struct RailChart {
    /// The place of its values in a row.
    place: usize,
    series: Arc<Series>,
    columns: Columns,
}

impl Charts {
    /// Drops the columns when no page has asked for them in a while.
    pub(super) fn drop_if_idle(&self, now: BootTime) {
        let mut data = lock::lock(&self.0);
        let asked = data.as_ref().map(|data| data.requested_at);
        if asked.is_some_and(|asked| now.since(Some(asked)) > IDLE_TIMEOUT) {
            *data = None;
        }
    }
}

impl Exporter {
    /// What is new since `cursor`; everything, if the cursor is not valid.
    pub(super) fn history(&self, cursor: Option<&str>, now: BootTime) -> Value {
        let mut charts = lock::lock(&self.charts.0);
        let data = charts.get_or_insert_with(|| ChartData::new(now));
        data.requested_at = now;
        data.update(&self.registry, now);
        let since = cursor.and_then(|cursor| data.revision_of(cursor));
        let snapshot = self.registry.snapshot(now);
        let (mut watts, mut joules, mut total) = (Vec::new(), Vec::new(), None);
        for view in snapshot.all() {
            match view.family.name.as_str() {
                POWER => watts.extend(view.samples()),
                ENERGY => joules.extend(view.samples()),
                TOTAL => total = view.samples().next(),
                _ => {}
            }
        }
        let shown = |rail: &RailChart, gap: f64| {
            let is = |series: &Series| std::ptr::eq(series, &*rail.series);
            let same = |series: &Series| series.labels().eq(rail.series.labels());
            let watts = watts.iter().find(|(series, _)| is(series));
            let joules = joules.iter().find(|(series, _)| same(series));
            json!({
                "source": rail.series.source,
                "rail": rail.series.label("rail"),
                "series": rail.series.prefix.trim_end(),
                "watts": watts.map(|(_, value)| value),
                "joules": joules.map(|(_, value)| value),
                "longest_gap": gap,
                "columns": columns(rail, since.unwrap_or(0)),
            })
        };
        let rails: Vec<_> = data
            .rails()
            .filter(|(rail, _)| rail.series.family.name == POWER)
            .map(|(rail, gap)| shown(rail, gap))
            .collect();
        let sources = self.sources();
        let mut rail_charts = data.rails().map(|(rail, _)| rail);
        let no_total = NoTotal {
            was_read: rail_charts.any(|rail| rail.series.family.name == TOTAL),
            has_power: !watts.is_empty(),
            is_starting: sources.iter().any(|one| !one.context().group.is_settled()),
            has_unread: sources.iter().any(|one| !one.context().group.is_fresh(now)),
        };
        let no_total = total.is_none().then(|| no_total.why());
        let total = total.map(|(series, watts)| {
            let mut rails = data.rails();
            let rail = rails.find(|(rail, _)| std::ptr::eq(&*rail.series, series));
            json!({
                "source": series.source,
                "watts": watts,
                "joules": rail.map(|(rail, _)| joules_in_columns(rail)),
                "seconds": rail.and_then(|(rail, _)| seconds(rail, now)),
                "longest_gap": rail.map(|(_, gap)| gap),
                "columns": rail.map(|(rail, _)| columns(rail, since.unwrap_or(0))),
            })
        });
        json!({
            "cursor": format!("{}-{}", data.epoch, data.revision),
            "whole": since.is_none(),
            "now": column_number(now),
            "column_seconds": COLUMN_WIDTH.as_secs_f64(),
            "columns": MAX_COLUMNS,
            "kept_seconds": self.store.current().history.keep.as_secs_f64(),
            "total": total,
            "no_total": no_total,
            "rails": rails,
            "left_out": data.left_out,
            "workloads": workloads(&snapshot),
        })
    }
}

impl ChartData {
    fn new(now: BootTime) -> ChartData {
        ChartData {
            epoch: now.0,
            requested_at: now,
            revision: 0,
            version: 0,
            groups: Vec::new(),
            left_out: 0,
        }
    }

    /// The revision of a cursor, if that is of this epoch.
    fn revision_of(&self, cursor: &str) -> Option<u32> {
        let (epoch, revision) = cursor.split_once('-')?;
        let revision = revision.parse().ok()?;
        let is_ours = epoch.parse() == Ok(self.epoch) && revision <= self.revision;
        is_ours.then_some(revision)
    }

    fn rails(&self) -> impl Iterator<Item = (&RailChart, f64)> {
        self.groups.iter().flat_map(|charts| {
            let group = charts.group.upgrade();
            let gap = group.map_or(0.0, |group| group.staleness_limit());
            charts.rails.iter().map(move |rail| (rail, gap))
        })
    }

    /// Aggregates the rows that are new.
    fn update(&mut self, registry: &Registry, now: BootTime) {
        let version = registry.version();
        if self.version != version {
            self.sync_groups(registry, now);
            self.version = version;
        }
        self.revision = self.revision.saturating_add(1);
        let oldest = (column_number(now) + 1).saturating_sub(MAX_COLUMNS as u64);
        let (mut rows, mut values) = (Rows::default(), Vec::new());
        for charts in &mut self.groups {
            let Some(group) = charts.group.upgrade() else {
                continue;
            };
            let gap = group.staleness_limit();
            while group.history().read(&mut charts.cursor, &mut rows) {
                for (at, row) in rows.iter() {
                    values.clear();
                    values.extend(row);
                    for rail in &mut charts.rails {
                        if let Some(value) = values.get(rail.place) {
                            rail.columns.push(at, *value, gap, self.revision);
                        }
                    }
                }
            }
            for rail in &mut charts.rails {
                rail.columns.drop_before(oldest);
            }
        }
    }

    /// Adds new groups and rails, and drops those that are gone.
    fn sync_groups(&mut self, registry: &Registry, now: BootTime) {
        let window = COLUMN_WIDTH.as_nanos() as u64 * MAX_COLUMNS as u64;
        let since = BootTime(now.0.saturating_sub(window));
        let groups = registry.groups();
        let mut before = std::mem::take(&mut self.groups);
        self.left_out = 0;
        let mut room = MAX_RAILS;
        for group in groups {
            let is = |charts: &GroupCharts| std::ptr::eq(charts.group.as_ptr(), &*group);
            let mut charts = match before.iter().position(is) {
                Some(place) => before.swap_remove(place),
                None => GroupCharts {
                    group: Arc::downgrade(&group),
                    cursor: group.history().cursor_since(since),
                    rails: Vec::new(),
                },
            };
            room = room.saturating_sub(charts.rails.len());
            for (place, series) in group.all_series().into_iter().enumerate() {
                if !is_power(&series) || charts.rails.iter().any(|rail| rail.place == place) {
                    continue;
                }
                if room == 0 {
                    self.left_out += 1;
                    continue;
                }
                room -= 1;
                charts.rails.push(RailChart {
                    place,
                    series,
                    columns: Columns::new(COLUMN_WIDTH, MAX_COLUMNS),
                });
            }
            self.groups.push(charts);
        }
    }
}

fn is_power(series: &Series) -> bool {
    [POWER, TOTAL].contains(&series.family.name.as_str())
}

/// The number of the column of a moment.
fn column_number(at: BootTime) -> u64 {
    at.0 / COLUMN_WIDTH.as_nanos() as u64
}

/// Number, least, greatest and mean value of each column that changed after a revision.
fn columns(rail: &RailChart, since: u32) -> Vec<Value> {
    let changed = rail.columns.changed_after(since);
    changed
        .map(|c| {
            let [low, high] = [c.low, c.high].map(|value| rounded(f64::from(value)));
            json!([c.number, low, high, rounded(c.mean())])
        })
        .collect()
}

/// A chart shows nothing finer than a tenth of a milliwatt.
pub(super) fn rounded(watts: f64) -> f64 {
    (watts * 1e4).round() / 1e4
}

fn joules_in_columns(rail: &RailChart) -> f64 {
    rounded(rail.columns.all().map(|c| f64::from(c.integral)).sum())
}

/// The time that the columns cover, in seconds.
fn seconds(rail: &RailChart, now: BootTime) -> Option<f64> {
    let first = rail.columns.all().next()?.number;
    Some((column_number(now) + 1).saturating_sub(first) as f64 * COLUMN_WIDTH.as_secs_f64())
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
