//! The screen's lines, from what is known and what the user chose. Pure.

use std::cmp::Ordering;

use super::format::{cpu_time, lasting, quantity, share};
use super::line::{Line, Style};
use super::model::{Domain, Model, Rail, Workload};
use super::sparkline::{range, sparkline};
use crate::metrics::NoTotal;
use crate::sys::sort::sort_by;

/// The columns of numbers.
const WATTS: usize = 9;
const SHARE: usize = 8;
const JOULES: usize = 10;
const CPU: usize = 11;
const KIND: usize = 10;
/// The columns of a workload's name, at most: numbers far away from it are hard to follow.
const NAME: usize = 72;
/// The columns of a rail's name and of its source, where there is room.
const RAIL: usize = 24;
const SOURCE: usize = 13;
const RANGE: usize = 22;
/// From this width on, what is of less interest is shown as well.
const SOURCE_FROM: usize = 54;
const CHART_FROM: usize = 32;
const TOTAL_RANGE_FROM: usize = 40;
const RANGE_FROM: usize = 90;
const SHARE_FROM: usize = 30;
const KIND_FROM: usize = 44;
const JOULES_FROM: usize = 60;
const CPU_FROM: usize = 72;
/// Fewer lines than these have no heading.
const HEADING_FROM: usize = 3;

const HELP: [&str; 13] = [
    "w e c n k     sort workloads by watts, energy, CPU time, name, kind",
    "left, right   sort by the column before, after",
    "r             reverse the order",
    "d             share of the next domain (board, package, ...)",
    "up, down, PageUp, PageDown, Home, End   scroll the workloads",
    "Ctrl-L        draw the screen again",
    "?             this help, and back",
    "q, Ctrl-C     quit",
    "",
    "SHARE is a workload's part of its domain's power. idle is the domain's idle",
    "power; unattributed is what a GPU draws above idle and no process is known for.",
    "ENERGY and CPU TIME count from the moment at which attribution began: here,",
    "or in the exporter. Domains contain each other: do not add them up.",
];

/// What workloads are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sort {
    Name,
    Kind,
    #[default]
    Watts,
    Energy,
    Cpu,
}

impl Sort {
    /// In the order of the columns.
    pub(super) const ALL: [Sort; 5] =
        [Sort::Name, Sort::Kind, Sort::Watts, Sort::Energy, Sort::Cpu];
}

/// What the user chose.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Choice {
    pub(super) sort: Sort,
    pub(super) is_reversed: bool,
    /// The domain whose shares are shown.
    pub(super) domain: Option<String>,
    /// Workloads above the first one that is shown.
    pub(super) scroll: usize,
    pub(super) shows_help: bool,
}

/// Where the lines are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Screen {
    pub(super) columns: usize,
    /// `None`: as many as it takes.
    pub(super) rows: Option<usize>,
    /// Whether it is known to show UTF-8.
    pub(super) unicode: bool,
    /// Whether somebody can press keys.
    pub(super) has_keys: bool,
}

/// What the lines are about besides the board.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Context {
    /// The address, or what else says whose numbers these are.
    pub(super) origin: String,
    /// What went wrong, or what else is to be said.
    pub(super) message: Option<String>,
    /// Seconds between two values.
    pub(super) interval: f64,
}

/// The lines, no more than there are rows.
pub(super) fn lines(
    model: &Model,
    context: &Context,
    choice: &Choice,
    screen: &Screen,
) -> Vec<Line> {
    let view = View {
        model,
        context,
        choice,
        screen,
    };
    let mut lines = vec![view.title(), view.total()];
    if let Some(message) = &context.message {
        lines.push(view.line().text(Style::Bad, message));
    }
    if choice.shows_help {
        lines.push(view.line());
        lines.extend(HELP.map(|text| view.line().text(Style::Plain, text)));
    } else if model.is_read {
        let rows = screen.rows.map(|rows| rows.saturating_sub(lines.len()));
        lines.extend(view.sections(rows));
    }
    lines.truncate(screen.rows.unwrap_or(usize::MAX));
    lines
}

struct View<'a> {
    model: &'a Model,
    context: &'a Context,
    choice: &'a Choice,
    screen: &'a Screen,
}

impl View<'_> {
    fn line(&self) -> Line {
        Line::new(self.screen.columns, self.screen.unicode)
    }

    fn title(&self) -> Line {
        let Model {
            hostname,
            device_type,
            ..
        } = self.model;
        let keys = match self.screen.has_keys {
            true => " ? help  q quit ",
            false => "",
        };
        let line = Line::bar(self.screen.columns, self.screen.unicode);
        // Where it is narrow, the board's name is of more interest.
        let room = match line.left() >= 3 * keys.len() {
            true => line.left() - keys.len(),
            false => line.left(),
        };
        let what = [hostname, device_type, &self.context.origin];
        let what: Vec<_> = what
            .into_iter()
            .filter(|text| !text.is_empty())
            .map(String::as_str)
            .collect();
        line.cell(Style::Plain, &what.join("  "), room)
            .text(Style::Plain, keys)
    }

    /// The board's total, with its chart.
    fn total(&self) -> Line {
        let total = &self.model.total;
        let line = self.line();
        let Some(watts) = total.watts else {
            return line.text(Style::Quiet, self.no_total());
        };
        let line = line
            .text(Style::Bold, "total ")
            .text(Style::Bold, &quantity(watts, "W"))
            .text(Style::Plain, "  ");
        let columns = self.screen.columns;
        let joules = total.joules.filter(|_| columns >= JOULES_FROM);
        let joules = joules.map_or(String::new(), |joules| quantity(joules, "J"));
        if total.history.values().len() < 2 {
            return line.text(Style::Quiet, &joules);
        }
        let range_columns = if columns >= TOTAL_RANGE_FROM {
            RANGE
        } else {
            0
        };
        let joules_columns = match joules.chars().count() {
            0 => 0,
            width => width + 2,
        };
        let room = line.left().saturating_sub(range_columns + joules_columns);
        line.cell(Style::Chart, &self.chart(total, room), room)
            .right(Style::Quiet, &self.range(total, room), range_columns)
            .right(Style::Quiet, &joules, joules_columns)
    }

    /// Why there is no total: nothing measures it, or what does is not read at the moment.
    fn no_total(&self) -> &'static str {
        let model = self.model;
        let no_total = NoTotal {
            was_read: !model.total.history.is_empty(),
            has_power: model.has_power(),
            is_starting: model.starting > 0,
            has_unread: !model.unread_sources.is_empty(),
        };
        match model.is_read {
            true => no_total.why(),
            false => "reading ...",
        }
    }

    /// A rail's last values, where there is more than one.
    fn chart(&self, rail: &Rail, columns: usize) -> String {
        match rail.history.values().len() {
            0 | 1 => String::new(),
            _ => sparkline(rail.history.values(), columns, self.screen.unicode),
        }
    }

    /// The least and the greatest value of a chart of so many columns, if there is one.
    fn range(&self, rail: &Rail, columns: usize) -> String {
        let values = rail.history.values();
        let has_chart = values.len() > 1;
        let shown = range(values.rev().take(columns).flatten());
        shown
            .filter(|_| has_chart)
            .map_or(String::new(), |(low, high)| {
                format!("{} to {}", quantity(low, "W"), quantity(high, "W"))
            })
    }

    /// Rails, sources that are not read and workloads, in so many rows.
    fn sections(&self, rows: Option<usize>) -> Vec<Line> {
        let unread_sources = self.unread_sources();
        let workloads = self.model.workloads.len();
        let wanted = [
            self.model.rails.len() + 1,
            unread_sources.len(),
            workloads + 1,
        ];
        let (given, has_gaps) = share_rows(wanted, rows);
        let mut lines = Vec::new();
        let sections = [
            self.rails(given[0]),
            self.first_unread_sources(unread_sources, given[1]),
            self.workloads(given[2]),
        ];
        for section in sections.into_iter().filter(|section| !section.is_empty()) {
            if has_gaps {
                lines.push(self.line());
            }
            lines.extend(section);
        }
        lines
    }

    fn rails(&self, rows: usize) -> Vec<Line> {
        let rails = &self.model.rails;
        if rails.is_empty() {
            return Vec::new();
        }
        let mut lines = Vec::new();
        if rows >= HEADING_FROM || rows > rails.len() {
            lines.push(
                self.rail_line(Style::Heading, ["RAILS", "SOURCE", "WATTS"], |line| {
                    let room = self.chart_columns(&line);
                    let values = self.model.total.history.values().len().min(room);
                    let covered = lasting(values as f64 * self.context.interval);
                    match values {
                        0 | 1 => line,
                        _ => line.text(Style::Heading, &format!("LAST {covered}")),
                    }
                }),
            );
        }
        let room = rows - lines.len();
        // A line that says how many more there are takes the place of a rail, unless that would be the only one.
        let shown = match rails.len() > room && room > 1 {
            true => room - 1,
            false => rails.len().min(room),
        };
        let hidden = rails.len() - shown;
        for rail in rails.iter().take(shown) {
            let watts = rail.watts.map(|watts| quantity(watts, "W"));
            let watts = watts.as_deref().unwrap_or("not read");
            let texts = [&rail.name, &rail.source, watts];
            lines.push(self.rail_line(Style::Plain, texts, |line| {
                let room = self.chart_columns(&line);
                line.cell(Style::Chart, &self.chart(rail, room), room)
                    .right(Style::Quiet, &self.range(rail, room), RANGE)
            }));
        }
        if hidden > 0 && room > 1 {
            let text = format!("{hidden} more rails");
            lines.push(self.line().text(Style::Quiet, &text));
        }
        lines
    }

    /// The columns of a rail's chart: what is left, without those of its range where that is shown.
    fn chart_columns(&self, line: &Line) -> usize {
        match self.screen.columns >= RANGE_FROM {
            true => line.left().saturating_sub(RANGE),
            false => line.left(),
        }
    }

    /// A line of the table of rails: name, source, watts, and the rest.
    fn rail_line(
        &self,
        style: Style,
        [name, source, watts]: [&str; 3],
        rest: impl FnOnce(Line) -> Line,
    ) -> Line {
        let columns = self.screen.columns;
        let has_chart = columns >= CHART_FROM;
        let has_source = columns >= SOURCE_FROM;
        let name_columns = match (has_source, has_chart) {
            (true, _) => RAIL.min(columns / 3),
            (false, true) => columns * 2 / 5,
            (false, false) => columns.saturating_sub(WATTS),
        };
        let mut line = self.line().cell(style, name, name_columns);
        if has_source {
            line = line
                .cell(style, "", 1)
                .cell(style.or(Style::Quiet), source, SOURCE);
        }
        line = line.right(style.or(Style::Bold), watts, WATTS);
        match has_chart {
            true => rest(line.cell(Style::Plain, "", 2)),
            false => line,
        }
    }

    /// A line for each source that is not read, and one for what is beyond the limits.
    fn unread_sources(&self) -> Vec<Line> {
        let unread_sources = self.model.unread_sources.iter();
        let lines = unread_sources.map(|unread| {
            let since = unread.age.map(|age| format!(" for {}", lasting(age)));
            let since = since.unwrap_or_default();
            let line = self.line().text(Style::Bad, &unread.source);
            let line = line.text(Style::Plain, &format!(" is not read{since}"));
            match &unread.error {
                Some(error) => line.text(Style::Plain, &format!(": {error}")),
                None => line,
            }
        });
        // First, so that it is always among those that are shown.
        let left_out = (self.model.left_out > 0).then(|| {
            let text = format!("{} series more than are shown here", self.model.left_out);
            self.line().text(Style::Bad, &text)
        });
        left_out.into_iter().chain(lines).collect()
    }

    fn first_unread_sources(&self, mut lines: Vec<Line>, rows: usize) -> Vec<Line> {
        if lines.len() > rows {
            lines.truncate(rows.saturating_sub(1));
            if rows > 0 {
                let all = self.model.unread_sources.len();
                let shown = lines.len() - usize::from(self.model.left_out > 0).min(lines.len());
                let hidden = all - shown;
                let text = format!("{hidden} more of {all} sources that are not read");
                lines.push(self.line().text(Style::Bad, &text));
            }
        }
        lines
    }

    /// Heading, workloads and how many there are besides, in so many rows; or a line that says why there are none.
    fn workloads(&self, rows: usize) -> Vec<Line> {
        let model = self.model;
        let Some(domain) = model.shown_domain(self.choice.domain.as_deref()) else {
            let text = match model.workloads.is_empty() {
                true => "No workloads: `workloads: {enabled: true}` in the board's configuration attributes energy to them.",
                false => "No workloads: nothing is measured whose energy could be attributed to them.",
            };
            let line = self.line().text(Style::Quiet, text);
            return std::iter::once(line).take(rows).collect();
        };
        let mut workloads: Vec<_> = model.workloads.iter().collect();
        sort_by(&mut workloads, |a, b| {
            let order = order(a, b, self.choice.sort, &domain.name);
            match self.choice.is_reversed {
                true => order.reverse(),
                false => order,
            }
        });
        let all = workloads.len();
        let has_heading = rows >= HEADING_FROM || rows > all;
        let room = all.min(rows - usize::from(has_heading));
        let first = self.choice.scroll.min(all - room);
        let hidden = all - first - room;
        // A line that says how many more there are takes the place of a workload.
        let has_rest = hidden > 0 && has_heading;
        let visible = workloads.into_iter().skip(first);
        let visible = visible.take(room - usize::from(has_rest));
        let mut lines = Vec::new();
        lines.extend(has_heading.then(|| self.workload_heading(&domain.name)));
        lines.extend(visible.map(|workload| self.workload(workload, domain)));
        if has_rest {
            let text = format!("{} more of {all} workloads", hidden + 1);
            lines.push(self.line().text(Style::Quiet, &text));
        }
        lines
    }

    fn workload(&self, workload: &Workload, domain: &Domain) -> Line {
        let watts = workload.watts(&domain.name);
        let texts = [
            workload.name.clone(),
            workload.kind.clone(),
            shown(watts, |watts| quantity(watts, "W")),
            shown(
                watts.zip(domain.watts).filter(|(_, all)| *all > 0.0),
                |(watts, all)| share(watts / all),
            ),
            shown(workload.joules(&domain.name), |j| quantity(j, "J")),
            shown(workload.cpu_seconds, cpu_time),
        ];
        self.workload_line(Style::Plain, &texts)
    }

    fn workload_heading(&self, domain: &str) -> Line {
        let domains = &self.model.domains;
        let place = domains.iter().position(|one| one.name == domain);
        let of = match (domains.len(), place) {
            (2.., Some(place)) => format!("{domain} {}/{}", place + 1, domains.len()),
            _ => domain.to_owned(),
        };
        let mark = match (self.choice.is_reversed, self.screen.unicode) {
            (false, true) => "▾",
            (true, true) => "▴",
            (false, false) => "*",
            (true, false) => "^",
        };
        let name = |sort, text: &str| match self.choice.sort == sort && self.screen.has_keys {
            true => format!("{text}{mark}"),
            false => text.to_owned(),
        };
        let texts = [
            name(Sort::Name, &format!("WORKLOADS {of}")),
            name(Sort::Kind, "KIND"),
            name(Sort::Watts, "WATTS"),
            "SHARE".to_owned(),
            name(Sort::Energy, "ENERGY"),
            name(Sort::Cpu, "CPU TIME"),
        ];
        self.workload_line(Style::Heading, &texts)
    }

    /// Name, kind, watts, share, energy and CPU time: as many as there is room for.
    fn workload_line(&self, style: Style, texts: &[String; 6]) -> Line {
        let [name, kind, watts, share, joules, cpu] = texts;
        let columns = self.screen.columns;
        let optional = [
            (KIND, KIND_FROM),
            (WATTS, 0),
            (SHARE, SHARE_FROM),
            (JOULES, JOULES_FROM),
            (CPU, CPU_FROM),
        ];
        let width = |(width, from): (usize, usize)| if columns >= from { width } else { 0 };
        let taken: usize = optional.into_iter().map(width).sum();
        let [kind_columns, watts_columns, share_columns, joules_columns, cpu_columns] =
            optional.map(width);
        let gap = kind_columns.min(1);
        self.line()
            .cell(style, name, columns.saturating_sub(taken).min(NAME))
            .cell(style, "", gap)
            .cell(style.or(Style::Quiet), kind, kind_columns - gap)
            .right(style.or(Style::Bold), watts, watts_columns)
            .right(style, share, share_columns)
            .right(style, joules, joules_columns)
            .right(style, cpu, cpu_columns)
    }
}

impl Style {
    /// This style, or another one in place of the plain one.
    fn or(self, other: Style) -> Style {
        match self {
            Style::Plain => other,
            style => style,
        }
    }
}

/// The highest first; of names and kinds the first of the alphabet.
fn order(a: &Workload, b: &Workload, sort: Sort, domain: &str) -> Ordering {
    let descending = |a: Option<f64>, b: Option<f64>| {
        let known = |value: Option<f64>| value.unwrap_or(f64::NEG_INFINITY);
        known(b).total_cmp(&known(a))
    };
    let first = match sort {
        Sort::Name => Ordering::Equal,
        Sort::Kind => a.kind.cmp(&b.kind),
        Sort::Watts => descending(a.watts(domain), b.watts(domain)),
        Sort::Energy => descending(a.joules(domain), b.joules(domain)),
        Sort::Cpu => descending(a.cpu_seconds, b.cpu_seconds),
    };
    first
        .then_with(|| a.name.cmp(&b.name))
        .then_with(|| a.kind.cmp(&b.kind))
}

fn shown<T>(value: Option<T>, format: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), format)
}

/// How many rows rails, unread sources and workloads get of so many, and whether there is an empty one before each.
fn share_rows(wanted: [usize; 3], rows: Option<usize>) -> ([usize; 3], bool) {
    let [rails, unread_sources, workloads] = wanted;
    let Some(rows) = rows else {
        return (wanted, true);
    };
    if rails + unread_sources + workloads + 3 <= rows {
        return (wanted, true);
    }
    let unread_sources = unread_sources.min((rows / 4).max(1)).min(rows);
    let rest = rows - unread_sources;
    // What the workloads do not need is the rails', and the other way round.
    let rails = rails.min((rest / 2).max(rest.saturating_sub(workloads)));
    ([rails, unread_sources, rest - rails], false)
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
