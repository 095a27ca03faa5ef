//! Rows as CSV, in the layout of this program or in that of the original program (psc).

use std::sync::Arc;

use super::join::{Row, RowKind};
use crate::config::queries;
use crate::exposition::csv::{float, write_field};
use crate::exposition::write_number;
use crate::sys::calendar::{civil, rfc3339_millis};

/// The columns of a file or a stream, in order, and their formats.
#[derive(Debug, Clone)]
pub struct Layout {
    columns: Arc<[Column]>,
    is_original: bool,
}

#[derive(Debug, Clone, Copy)]
struct Column {
    header: &'static str,
    field: Field,
}

/// The content of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Name,
    /// The kind of a workload.
    Kind,
    Node,
    Namespace,
    Collected,
    Observed,
    /// The value at this index of [`Row::values`].
    Value(usize, Format),
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// In the fewest digits that read back the same, with a point or exponent.
    Float,
    /// Without a point if it is a whole number.
    Count,
    /// As Prometheus writes it.
    Prometheus,
    /// As Python prints it.
    Python,
}

/// What the columns without a query are called.
const FIELDS: [(&str, Field); 6] = [
    ("collection_time", Field::Collected),
    ("observation_time", Field::Observed),
    ("instance", Field::Node),
    ("kind", Field::Kind),
    ("name", Field::Name),
    ("namespace", Field::Namespace),
];

/// The energy since the row before of the same node, pod or workload. Its value follows those of the queries.
const STEP: &str = "step_joules";

/// The columns in the tables of the original's README.
const NODES: &[&str] = &[
    "instance",
    "collection_time",
    "observation_time",
    "cpu_usage",
    "memory_usage",
    "network_usage",
    "wattage",
    "num_processes",
    "kepler_wattage",
    "scaph_wattage",
    "wattage_auxilary",
];

const PODS: &[&str] = &[
    "instance",
    "collection_time",
    "observation_time",
    "name",
    "namespace",
    "cpu_usage",
    "memory_usage",
    "network_usage",
    "wattage_kepler",
    "wattage_scaph",
];

const WORKLOADS: &[&str] = &[
    "instance",
    "collection_time",
    "observation_time",
    "kind",
    "name",
    "cpu_usage",
    "memory_usage",
    "wattage",
    "energy_joules",
    "step_joules",
];

/// The original program's header, and which column is meant.
const ORIGINAL_NODES: &[(&str, &str)] = &[
    ("instance", "instance"),
    ("observation_time", "observation_time"),
    ("collection_time", "collection_time"),
    ("cpu_usage", "cpu_usage"),
    ("memory_usage", "memory_usage"),
    ("network_usage", "network_usage"),
    ("wattage", "wattage"),
    ("num_processes", "num_processes"),
    ("wattage_kepler", "kepler_wattage"),
    ("wattage_scaph", "scaph_wattage"),
    ("wattage_auxilary", "wattage_auxilary"),
    ("temperture", "temperature"),
];

const ORIGINAL_PODS: &[&str] = &[
    "collection_time",
    "observation_time",
    "name",
    "namespace",
    "cpu_usage",
    "memory_usage",
    "network_usage",
    "instance",
    "wattage_kepler",
    "wattage_scaph",
];

/// The columns of measurements of a table.
pub fn measured(kind: RowKind) -> &'static [queries::Column] {
    match kind {
        RowKind::Nodes => queries::NODES,
        RowKind::Pods => queries::PODS,
        RowKind::Workloads => queries::WORKLOADS,
    }
}

impl Layout {
    /// Columns and order of the tables in the original's README, and more tables; RFC 3339 times; numbers in the fewest digits
    /// that read back the same.
    pub fn own(kind: RowKind) -> Layout {
        let names = match kind {
            RowKind::Nodes => NODES,
            RowKind::Pods => PODS,
            RowKind::Workloads => WORKLOADS,
        };
        Layout::of(names.iter().filter_map(|name| column(kind, name)), false)
    }

    /// Header, order and formats of the original program: times as Python prints them, numbers of nodes as Prometheus writes
    /// them, numbers of pods as Python prints them. A missing value is empty, where the original wrote 0. `None`: the
    /// original has no such table.
    pub fn original(kind: RowKind) -> Option<Layout> {
        let named = |(header, name): (&'static str, &str)| {
            let mut column = column(kind, name)?;
            column.header = header;
            if let Field::Value(_, format) = &mut column.field {
                *format = match kind {
                    RowKind::Pods if name != "network_usage" => Format::Python,
                    _ => Format::Prometheus,
                };
            }
            Some(column)
        };
        match kind {
            RowKind::Nodes => {
                let columns = ORIGINAL_NODES.iter().copied().filter_map(named);
                Some(Layout::of(columns, true))
            }
            RowKind::Pods => {
                let columns = ORIGINAL_PODS.iter().map(|name| (*name, *name));
                Some(Layout::of(columns.filter_map(named), true))
            }
            RowKind::Workloads => None,
        }
    }

    /// The columns that a list names, separated by commas, in its order; `all` is all that there are. The error is a message
    /// for the user.
    pub fn chosen(kind: RowKind, list: &str) -> Result<Layout, String> {
        let known = names(kind);
        let mut chosen: Vec<Column> = Vec::new();
        for name in list.split(',').map(str::trim) {
            let named = match name {
                "all" => known.as_slice(),
                name => match known.iter().position(|known| *known == name) {
                    Some(i) => &known[i..=i],
                    None => {
                        return Err(format!(
                            "columns of {}: {}, or all",
                            kind.as_str(),
                            known.join(", ")
                        ))
                    }
                },
            };
            for name in named {
                // A second column of one name would be hard to tell from the first.
                if !chosen.iter().any(|column| column.header == *name) {
                    chosen.extend(column(kind, name));
                }
            }
        }
        Ok(Layout::of(chosen, false))
    }

    fn of(columns: impl IntoIterator<Item = Column>, is_original: bool) -> Layout {
        Layout {
            columns: columns.into_iter().collect(),
            is_original,
        }
    }

    /// The header, without a line ending.
    pub fn header(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|column| column.header).collect();
        names.join(",")
    }

    /// A row, without a line ending.
    pub fn line(&self, row: &Row, namespace: &str) -> String {
        let mut line = String::with_capacity(160);
        let time = |millis| match self.is_original {
            false => rfc3339_millis(millis),
            true => python_time(millis),
        };
        for column in &*self.columns {
            let text = match column.field {
                Field::Name => row.name.as_ref().into(),
                Field::Kind => row.kind.as_deref().unwrap_or_default().into(),
                Field::Node => row.node.as_deref().unwrap_or_default().into(),
                Field::Namespace => namespace.into(),
                Field::Collected => time(row.collected),
                Field::Observed => time((row.at * 1000.0).round() as i64),
                Field::Value(index, format) => match row.values.get(index).copied().flatten() {
                    None => String::new(),
                    Some(value) => match format {
                        Format::Float => float(value),
                        Format::Count => count(value),
                        Format::Prometheus => value.to_string(),
                        Format::Python => python_float(value),
                    },
                },
            };
            write_field(&text, &mut line);
        }
        line
    }
}

/// The names of all columns of a table: those of its default, then the others.
fn names(kind: RowKind) -> Vec<&'static str> {
    let mut names: Vec<_> = Layout::own(kind).columns.iter().map(|c| c.header).collect();
    let more = measured(kind).iter().map(|column| column.name);
    for name in more.chain([STEP]) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn column(kind: RowKind, name: &str) -> Option<Column> {
    let belongs = |field| match field {
        Field::Kind => kind == RowKind::Workloads,
        Field::Namespace => kind == RowKind::Pods,
        Field::Name => kind != RowKind::Nodes,
        _ => true,
    };
    if let Some((header, field)) = FIELDS.into_iter().find(|(known, _)| *known == name) {
        return belongs(field).then_some(Column { header, field });
    }
    let measured = measured(kind);
    let (header, index) = match name {
        STEP => (STEP, measured.len()),
        name => {
            let index = measured.iter().position(|column| column.name == name)?;
            (measured[index].name, index)
        }
    };
    let format = match name {
        "num_processes" => Format::Count,
        _ => Format::Float,
    };
    let field = Field::Value(index, format);
    Some(Column { header, field })
}

/// A count: without a point if it is a whole number.
fn count(value: f64) -> String {
    let mut text = Vec::new();
    write_number(value, &mut text);
    String::from_utf8(text).unwrap_or_default()
}

/// As Python's `str(datetime)` without microseconds. UTC, whatever the machine's time zone.
fn python_time(millis: i64) -> String {
    let at = civil(millis.div_euclid(1000));
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        at.year, at.month, at.day, at.hour, at.minute, at.second
    )
}

/// As Python's `repr`: the fewest digits that round-trip, with an exponent below 1e-4 and from 1e16 on.
fn python_float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>().unwrap_or_default() {
        -4..=15 if value.fract() == 0.0 => format!("{value}.0"),
        -4..=15 => value.to_string(),
        exponent => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[Option<f64>], collected: i64) -> Row {
        Row {
            name: "web-0".into(),
            kind: Some("service".into()),
            node: Some("node, a".into()),
            at: 1_749_558_896.789_4,
            collected,
            values: values.to_vec(),
        }
    }

    fn original(kind: RowKind) -> Layout {
        Layout::original(kind).unwrap()
    }

    /// As in the original's README, and in its code.
    #[test]
    fn headers_match_the_original_readme_and_program() {
        assert_eq!(
            Layout::own(RowKind::Nodes).header(),
            "instance,collection_time,observation_time,cpu_usage,memory_usage,network_usage,wattage,num_processes,\
             kepler_wattage,scaph_wattage,wattage_auxilary"
        );
        assert_eq!(
            Layout::own(RowKind::Pods).header(),
            "instance,collection_time,observation_time,name,namespace,cpu_usage,memory_usage,network_usage,\
             wattage_kepler,wattage_scaph"
        );
        assert_eq!(
            Layout::own(RowKind::Workloads).header(),
            "instance,collection_time,observation_time,kind,name,cpu_usage,memory_usage,wattage,energy_joules,step_joules"
        );
        assert_eq!(
            original(RowKind::Nodes).header(),
            "instance,observation_time,collection_time,cpu_usage,memory_usage,network_usage,wattage,num_processes,\
             wattage_kepler,wattage_scaph,wattage_auxilary,temperture"
        );
        assert_eq!(
            original(RowKind::Pods).header(),
            "collection_time,observation_time,name,namespace,cpu_usage,memory_usage,network_usage,instance,\
             wattage_kepler,wattage_scaph"
        );
        assert!(Layout::original(RowKind::Workloads).is_none());
    }

    #[test]
    fn columns_are_chosen_by_name_in_the_order_of_the_list() {
        let header = |kind, list| Layout::chosen(kind, list).map(|layout| layout.header());
        let chosen = header(RowKind::Nodes, "wattage, energy_joules,instance,wattage");
        assert_eq!(chosen.unwrap(), "wattage,energy_joules,instance");
        let chosen = header(RowKind::Nodes, "step_joules,all").unwrap();
        assert!(chosen.starts_with("step_joules,instance,collection_time,"));
        assert!(chosen.ends_with(",wattage_auxilary,temperature,idle_wattage,energy_joules"));
        for (kind, list) in [
            (RowKind::Nodes, ""),
            (RowKind::Nodes, "namespace"),
            (RowKind::Nodes, "instance,"),
            (RowKind::Pods, "kind"),
            (RowKind::Workloads, "num_processes"),
        ] {
            let error = header(kind, list).unwrap_err();
            assert!(error.contains("instance, collection_time"), "{error}");
        }
        // Every name in the list of the error is one.
        for kind in RowKind::ALL {
            for name in names(kind) {
                assert_eq!(header(kind, name).unwrap(), name);
            }
        }
    }

    #[test]
    fn node_rows_follow_the_layout() {
        let some = |value| Some(value);
        let values = [
            some(2.0),
            some(0.25),
            some(1e-7),
            None,
            some(12.0),
            some(0.1),
            None,
            some(0.0),
            some(48.0),
            None,
            some(2.0),
            some(5.0),
        ];
        let row = row(&values, 1_749_558_897_001);
        assert_eq!(
            Layout::own(RowKind::Nodes).line(&row, "ns"),
            "\"node, a\",2025-06-10T12:34:57.001Z,2025-06-10T12:34:56.789Z,2.0,0.25,1e-7,,12,0.1,,0.0"
        );
        assert_eq!(
            original(RowKind::Nodes).line(&row, "ns"),
            "\"node, a\",2025-06-10 12:34:56,2025-06-10 12:34:57,2,0.25,0.0000001,,12,0.1,,0,48"
        );
        let energy = Layout::chosen(RowKind::Nodes, "energy_joules,step_joules").unwrap();
        assert_eq!(energy.line(&row, "ns"), "2.0,5.0");
    }

    #[test]
    fn pod_rows_follow_the_layout() {
        let values = [Some(1.5e-5), Some(64.0), Some(1.5e-5), None, Some(2e16)];
        let mut row = row(&values, 0);
        row.node = None;
        assert_eq!(
            Layout::own(RowKind::Pods).line(&row, "st-cnae-g5"),
            "\"\",1970-01-01T00:00:00.000Z,2025-06-10T12:34:56.789Z,web-0,st-cnae-g5,0.000015,64.0,0.000015,,2e16"
        );
        assert_eq!(
            original(RowKind::Pods).line(&row, "st-cnae-g5"),
            "1970-01-01 00:00:00,2025-06-10 12:34:56,web-0,st-cnae-g5,1.5e-05,64.0,0.000015,,,2e+16"
        );
    }

    #[test]
    fn workload_rows_have_kind_and_name() {
        let row = row(&[None, Some(64.0), None, Some(7.0), Some(0.5)], 0);
        assert_eq!(
            Layout::own(RowKind::Workloads).line(&row, "ns"),
            "\"node, a\",1970-01-01T00:00:00.000Z,2025-06-10T12:34:56.789Z,service,web-0,,64.0,,7.0,0.5"
        );
    }

    #[test]
    fn python_floats_match_repr() {
        for (value, text) in [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (123456789.125, "123456789.125"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (-2.5e-300, "-2.5e-300"),
        ] {
            assert_eq!(python_float(value), text);
        }
    }
}
