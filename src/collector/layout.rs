//! Rows as CSV, in the layout of this program or in that of the original program (psc).

use crate::exposition::csv::{float, write_field};
use crate::exposition::write_number;
use crate::sys::calendar::{civil, rfc3339_millis};

use super::join::{Row, RowKind};

/// The columns of a table, their order, and their formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Columns and order of the tables in the original's README; RFC 3339 times; numbers in the fewest digits that read back
    /// the same.
    Own,
    /// Header, order and formats of the original program: times as Python prints them, numbers of nodes as Prometheus writes
    /// them, numbers of pods as Python prints them. A missing value is empty, where the original wrote 0.
    Original,
}

impl Layout {
    /// Every layout.
    pub const ALL: [Layout; 2] = [Layout::Own, Layout::Original];
}

/// The content of a column.
#[derive(Clone, Copy)]
enum Field {
    Name,
    Node,
    Namespace,
    Collected,
    Observed,
    /// The value at this index of [`Row::values`].
    Value(usize),
}

type Columns = &'static [(&'static str, Field)];

use Field::{Collected, Name, Namespace, Node, Observed, Value};

const NODES: Columns = &[
    ("instance", Node),
    ("collection_time", Collected),
    ("observation_time", Observed),
    ("cpu_usage", Value(0)),
    ("memory_usage", Value(1)),
    ("network_usage", Value(2)),
    ("wattage", Value(3)),
    ("num_processes", Value(NUM_PROCESSES)),
    ("kepler_wattage", Value(5)),
    ("scaph_wattage", Value(6)),
    ("wattage_auxilary", Value(7)),
];

/// The index of the node column that is a count.
const NUM_PROCESSES: usize = 4;

const ORIGINAL_NODES: Columns = &[
    ("instance", Node),
    ("observation_time", Observed),
    ("collection_time", Collected),
    ("cpu_usage", Value(0)),
    ("memory_usage", Value(1)),
    ("network_usage", Value(2)),
    ("wattage", Value(3)),
    ("num_processes", Value(NUM_PROCESSES)),
    ("wattage_kepler", Value(5)),
    ("wattage_scaph", Value(6)),
    ("wattage_auxilary", Value(7)),
    ("temperture", Value(8)),
];

const PODS: Columns = &[
    ("instance", Node),
    ("collection_time", Collected),
    ("observation_time", Observed),
    ("name", Name),
    ("namespace", Namespace),
    ("cpu_usage", Value(0)),
    ("memory_usage", Value(1)),
    ("network_usage", Value(2)),
    ("wattage_kepler", Value(3)),
    ("wattage_scaph", Value(4)),
];

const ORIGINAL_PODS: Columns = &[
    ("collection_time", Collected),
    ("observation_time", Observed),
    ("name", Name),
    ("namespace", Namespace),
    ("cpu_usage", Value(0)),
    ("memory_usage", Value(1)),
    ("network_usage", Value(2)),
    ("instance", Node),
    ("wattage_kepler", Value(3)),
    ("wattage_scaph", Value(4)),
];

/// The index of the pod column that the original wrote as Prometheus did.
const POD_NETWORK: usize = 2;

fn columns(kind: RowKind, layout: Layout) -> Columns {
    match (kind, layout) {
        (RowKind::Nodes, Layout::Own) => NODES,
        (RowKind::Nodes, Layout::Original) => ORIGINAL_NODES,
        (RowKind::Pods, Layout::Own) => PODS,
        (RowKind::Pods, Layout::Original) => ORIGINAL_PODS,
    }
}

/// The header, without a line ending.
pub fn header(kind: RowKind, layout: Layout) -> String {
    let names: Vec<_> = columns(kind, layout)
        .iter()
        .map(|(name, _)| *name)
        .collect();
    names.join(",")
}

/// A row, without a line ending. `collected` is the time of the query, in milliseconds since 1970.
pub fn line(kind: RowKind, layout: Layout, row: &Row, namespace: &str, collected: i64) -> String {
    let mut line = String::with_capacity(160);
    let time = |millis| match layout {
        Layout::Own => rfc3339_millis(millis),
        Layout::Original => python_time(millis),
    };
    for (_, field) in columns(kind, layout) {
        let text = match *field {
            Name => row.name.as_ref().into(),
            Node => row.node.as_deref().unwrap_or_default().into(),
            Namespace => namespace.into(),
            Collected => time(collected),
            Observed => time((row.at * 1000.0).round() as i64),
            Value(column) => match row.values.get(column).copied().flatten() {
                None => String::new(),
                Some(value) => match (kind, layout, column) {
                    (RowKind::Nodes, Layout::Own, NUM_PROCESSES) => count(value),
                    (_, Layout::Own, _) => float(value),
                    (RowKind::Nodes, Layout::Original, _) | (_, _, POD_NETWORK) => {
                        value.to_string()
                    }
                    (RowKind::Pods, Layout::Original, _) => python_float(value),
                },
            },
        };
        write_field(&text, &mut line);
    }
    line
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
    use crate::config::queries;

    fn row(values: &[Option<f64>]) -> Row {
        Row {
            name: "web-0".into(),
            node: Some("node, a".into()),
            at: 1_749_558_896.789_4,
            values: values.to_vec(),
        }
    }

    #[test]
    fn every_column_is_named_after_its_query() {
        for kind in RowKind::ALL {
            let queried = match kind {
                RowKind::Nodes => queries::NODES,
                RowKind::Pods => queries::PODS,
            };
            for (name, field) in columns(kind, Layout::Own) {
                if let Value(index) = field {
                    assert_eq!(queried[*index].name, *name);
                }
            }
        }
    }

    /// As in the original's README, and in its code.
    #[test]
    fn headers_match_the_original_readme_and_program() {
        assert_eq!(
            header(RowKind::Nodes, Layout::Own),
            "instance,collection_time,observation_time,cpu_usage,memory_usage,network_usage,wattage,num_processes,\
             kepler_wattage,scaph_wattage,wattage_auxilary"
        );
        assert_eq!(
            header(RowKind::Pods, Layout::Own),
            "instance,collection_time,observation_time,name,namespace,cpu_usage,memory_usage,network_usage,\
             wattage_kepler,wattage_scaph"
        );
        assert_eq!(
            header(RowKind::Nodes, Layout::Original),
            "instance,observation_time,collection_time,cpu_usage,memory_usage,network_usage,wattage,num_processes,\
             wattage_kepler,wattage_scaph,wattage_auxilary,temperture"
        );
        assert_eq!(
            header(RowKind::Pods, Layout::Original),
            "collection_time,observation_time,name,namespace,cpu_usage,memory_usage,network_usage,instance,\
             wattage_kepler,wattage_scaph"
        );
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
        ];
        assert_eq!(
            line(RowKind::Nodes, Layout::Own, &row(&values), "ns", 1_749_558_897_001),
            "\"node, a\",2025-06-10T12:34:57.001Z,2025-06-10T12:34:56.789Z,2.0,0.25,1e-7,,12,0.1,,0.0"
        );
        assert_eq!(
            line(
                RowKind::Nodes,
                Layout::Original,
                &row(&values),
                "ns",
                1_749_558_897_001
            ),
            "\"node, a\",2025-06-10 12:34:56,2025-06-10 12:34:57,2,0.25,0.0000001,,12,0.1,,0,48"
        );
    }

    #[test]
    fn pod_rows_follow_the_layout() {
        let values = [Some(1.5e-5), Some(64.0), Some(1.5e-5), None, Some(2e16)];
        let mut row = row(&values);
        row.node = None;
        assert_eq!(
            line(RowKind::Pods, Layout::Own, &row, "st-cnae-g5", 0),
            "\"\",1970-01-01T00:00:00.000Z,2025-06-10T12:34:56.789Z,web-0,st-cnae-g5,0.000015,64.0,0.000015,,2e16"
        );
        assert_eq!(
            line(RowKind::Pods, Layout::Original, &row, "st-cnae-g5", 0),
            "1970-01-01 00:00:00,2025-06-10 12:34:56,web-0,st-cnae-g5,1.5e-05,64.0,0.000015,,,2e+16"
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
