//! Rows as CSV: in our own form, and in the original program's (psc).

use crate::exposition::csv::{float, write_field};
use crate::exposition::write_number;
use crate::sys::calendar::{civil, rfc3339_millis};

use super::join::{Kind, Row};

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The columns and their order as the tables of the original's README have them; RFC 3339 times; numbers in the fewest digits that read
    /// back the same.
    Ours,
    /// Header, order and formats of the original program itself: times as Python prints them, numbers of nodes as Prometheus
    /// writes them, of pods as Python does. A value that is missing is missing here too: the original said 0.
    Original,
}

impl Form {
    /// Both.
    pub const ALL: [Form; 2] = [Form::Ours, Form::Original];
}

/// One column of a form.
#[derive(Clone, Copy)]
enum Field {
    Name,
    Node,
    Namespace,
    Collected,
    Observed,
    /// The value of this number.
    Value(usize),
}

type Layout = &'static [(&'static str, Field)];

use Field::{Collected, Name, Namespace, Node, Observed, Value};

const NODES: Layout = &[
    ("instance", Node),
    ("collection_time", Collected),
    ("observation_time", Observed),
    ("cpu_usage", Value(0)),
    ("memory_usage", Value(1)),
    ("network_usage", Value(2)),
    ("wattage", Value(3)),
    ("num_processes", Value(WHOLE)),
    ("kepler_wattage", Value(5)),
    ("scaph_wattage", Value(6)),
    ("wattage_auxilary", Value(7)),
];

/// The one column of nodes that counts.
const WHOLE: usize = 4;

const ORIGINAL_NODES: Layout = &[
    ("instance", Node),
    ("observation_time", Observed),
    ("collection_time", Collected),
    ("cpu_usage", Value(0)),
    ("memory_usage", Value(1)),
    ("network_usage", Value(2)),
    ("wattage", Value(3)),
    ("num_processes", Value(4)),
    ("wattage_kepler", Value(5)),
    ("wattage_scaph", Value(6)),
    ("wattage_auxilary", Value(7)),
    ("temperture", Value(8)),
];

const PODS: Layout = &[
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

const ORIGINAL_PODS: Layout = &[
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

/// The column of pods that the original did not convert.
const NETWORK: usize = 2;

fn layout(kind: Kind, form: Form) -> Layout {
    match (kind, form) {
        (Kind::Nodes, Form::Ours) => NODES,
        (Kind::Nodes, Form::Original) => ORIGINAL_NODES,
        (Kind::Pods, Form::Ours) => PODS,
        (Kind::Pods, Form::Original) => ORIGINAL_PODS,
    }
}

/// The header, without a line end.
pub fn header(kind: Kind, form: Form) -> String {
    let names: Vec<_> = layout(kind, form).iter().map(|(name, _)| *name).collect();
    names.join(",")
}

/// A row, without a line end. `collected` is when it was asked for, in milliseconds since 1970.
pub fn line(kind: Kind, form: Form, row: &Row, namespace: &str, collected: i64) -> String {
    let mut line = String::with_capacity(160);
    let time = |millis| match form {
        Form::Ours => rfc3339_millis(millis),
        Form::Original => python_time(millis),
    };
    for (_, field) in layout(kind, form) {
        let text = match *field {
            Name => row.name.as_ref().into(),
            Node => row.node.as_deref().unwrap_or_default().into(),
            Namespace => namespace.into(),
            Collected => time(collected),
            Observed => time((row.at * 1000.0).round() as i64),
            Value(column) => match row.values.get(column).copied().flatten() {
                None => String::new(),
                Some(value) => match (kind, form, column) {
                    (Kind::Nodes, Form::Ours, WHOLE) => whole(value),
                    (_, Form::Ours, _) => float(value),
                    (Kind::Nodes, Form::Original, _) | (_, _, NETWORK) => value.to_string(),
                    (Kind::Pods, Form::Original, _) => python_float(value),
                },
            },
        };
        write_field(&text, &mut line);
    }
    line
}

/// A count, without a point where it is whole.
fn whole(value: f64) -> String {
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

/// As Python's `repr`: the shortest digits, with an exponent below 1e-4 and from 1e16 on.
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
    fn every_column_has_its_query() {
        for kind in Kind::ALL {
            let columns = match kind {
                Kind::Nodes => queries::NODES,
                Kind::Pods => queries::PODS,
            };
            for (name, field) in layout(kind, Form::Ours) {
                if let Value(column) = field {
                    assert_eq!(columns[*column].name, *name);
                }
            }
        }
    }

    /// The README's tables of the original, and its code.
    #[test]
    fn headers_are_as_the_seed_and_its_program_have_them() {
        assert_eq!(
            header(Kind::Nodes, Form::Ours),
            "instance,collection_time,observation_time,cpu_usage,memory_usage,network_usage,wattage,num_processes,\
             kepler_wattage,scaph_wattage,wattage_auxilary"
        );
        assert_eq!(
            header(Kind::Pods, Form::Ours),
            "instance,collection_time,observation_time,name,namespace,cpu_usage,memory_usage,network_usage,\
             wattage_kepler,wattage_scaph"
        );
        assert_eq!(
            header(Kind::Nodes, Form::Original),
            "instance,observation_time,collection_time,cpu_usage,memory_usage,network_usage,wattage,num_processes,\
             wattage_kepler,wattage_scaph,wattage_auxilary,temperture"
        );
        assert_eq!(
            header(Kind::Pods, Form::Original),
            "collection_time,observation_time,name,namespace,cpu_usage,memory_usage,network_usage,instance,\
             wattage_kepler,wattage_scaph"
        );
    }

    #[test]
    fn nodes_as_rows() {
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
            line(Kind::Nodes, Form::Ours, &row(&values), "ns", 1_749_558_897_001),
            "\"node, a\",2025-06-10T12:34:57.001Z,2025-06-10T12:34:56.789Z,2.0,0.25,1e-7,,12,0.1,,0.0"
        );
        assert_eq!(
            line(
                Kind::Nodes,
                Form::Original,
                &row(&values),
                "ns",
                1_749_558_897_001
            ),
            "\"node, a\",2025-06-10 12:34:56,2025-06-10 12:34:57,2,0.25,0.0000001,,12,0.1,,0,48"
        );
    }

    #[test]
    fn pods_as_rows() {
        let values = [Some(1.5e-5), Some(64.0), Some(1.5e-5), None, Some(2e16)];
        let mut row = row(&values);
        row.node = None;
        assert_eq!(
            line(Kind::Pods, Form::Ours, &row, "st-cnae-g5", 0),
            "\"\",1970-01-01T00:00:00.000Z,2025-06-10T12:34:56.789Z,web-0,st-cnae-g5,0.000015,64.0,0.000015,,2e16"
        );
        assert_eq!(
            line(Kind::Pods, Form::Original, &row, "st-cnae-g5", 0),
            "1970-01-01 00:00:00,2025-06-10 12:34:56,web-0,st-cnae-g5,1.5e-05,64.0,0.000015,,,2e+16"
        );
    }

    #[test]
    fn floats_as_python_prints_them() {
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
