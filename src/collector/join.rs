//! Joins answers to rows: one for each node or pod, with a value in each column that has one. Pure.

use std::collections::btree_map::{BTreeMap, Entry};

use super::names::{Names, Pod};
use super::prometheus::Series;

/// The values of a node or pod at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The node's or the pod's name.
    pub name: Box<str>,
    /// The node's name, which may be unknown for a pod.
    pub node: Option<Box<str>>,
    /// The time of the oldest value, in seconds since 1970.
    pub at: f64,
    /// The value of each column, in the order of the columns. `None`: it was not measured.
    pub values: Vec<Option<f64>>,
}

/// What the rows of a table are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// One row for each node.
    Nodes,
    /// One row for each pod.
    Pods,
}

impl RowKind {
    /// Every kind.
    pub const ALL: [RowKind; 2] = [RowKind::Nodes, RowKind::Pods];

    /// `nodes` or `pods`.
    pub fn as_str(self) -> &'static str {
        match self {
            RowKind::Nodes => "nodes",
            RowKind::Pods => "pods",
        }
    }
}

/// The rows of one round, which are filled column by column.
#[derive(Debug)]
pub struct Table {
    kind: RowKind,
    columns: usize,
    max_rows: usize,
    rows: BTreeMap<Box<str>, Row>,
    /// The number of series left out because the table was full.
    pub left_out: u64,
    /// The number of series left out because the same answer had another one for the same row.
    pub duplicates: u64,
}

/// The value of one row in one answer.
struct Candidate<'s> {
    pod: Pod,
    value: f64,
    at: f64,
    from: &'s Series,
}

impl Table {
    /// An empty table.
    pub fn new(kind: RowKind, columns: usize, max_rows: usize) -> Table {
        Table {
            kind,
            columns,
            max_rows,
            rows: BTreeMap::new(),
            left_out: 0,
            duplicates: 0,
        }
    }

    /// Fills a column with the answer to one of its queries, in rows that have no value from an earlier query. Values that
    /// are not finite are ignored. The values of a pod's containers are summed. Of several other series for one row, the
    /// first in the order of labels counts, in whatever order they arrive.
    pub fn fill(&mut self, column: usize, answer: &[Series], names: &Names) {
        let mut candidates: BTreeMap<Box<str>, Candidate<'_>> = BTreeMap::new();
        for series in answer.iter().filter(|series| series.value.is_finite()) {
            let Some((pod, is_container)) = self.subject_of(series, names) else {
                continue;
            };
            let name = pod.name.clone();
            let candidate = Candidate {
                pod,
                value: series.value,
                at: series.at,
                from: series,
            };
            match candidates.entry(name) {
                Entry::Vacant(entry) => {
                    entry.insert(candidate);
                }
                Entry::Occupied(mut entry) if is_container => {
                    let sum = entry.get_mut();
                    sum.value += candidate.value;
                    sum.at = sum.at.min(candidate.at);
                }
                Entry::Occupied(mut entry) => {
                    self.duplicates += 1;
                    if series.labels < entry.get().from.labels {
                        entry.insert(candidate);
                    }
                }
            }
        }
        for (name, candidate) in candidates {
            self.set(column, name, &candidate);
        }
    }

    fn subject_of(&self, series: &Series, names: &Names) -> Option<(Pod, bool)> {
        match self.kind {
            RowKind::Pods => names.pod(series),
            RowKind::Nodes => names.node(series).map(|name| {
                let node = Some(name.clone());
                (Pod { name, node }, false)
            }),
        }
    }

    fn set(&mut self, column: usize, name: Box<str>, candidate: &Candidate<'_>) {
        if self.rows.len() >= self.max_rows && !self.rows.contains_key(&name) {
            self.left_out += 1;
            return;
        }
        let columns = self.columns;
        let row = self.rows.entry(name).or_insert_with_key(|name| Row {
            name: name.clone(),
            node: None,
            at: candidate.at,
            values: vec![None; columns],
        });
        if let Some(value @ None) = row.values.get_mut(column) {
            *value = Some(candidate.value);
            row.at = row.at.min(candidate.at);
            if row.node.is_none() {
                row.node.clone_from(&candidate.pod.node);
            }
        }
    }

    /// The rows, by name.
    pub fn into_rows(self) -> impl Iterator<Item = Row> {
        self.rows.into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(labels: &[(&'static str, &str)], value: f64) -> Series {
        Series {
            labels: labels.iter().map(|(n, v)| (*n, (*v).into())).collect(),
            at: 100.0,
            value,
        }
    }

    fn rows(table: Table) -> Vec<(String, Option<String>, Vec<Option<f64>>)> {
        let row = |row: Row| (row.name.into(), row.node.map(Into::into), row.values);
        table.into_rows().map(row).collect()
    }

    #[test]
    fn series_of_a_node_join_whatever_their_ports() {
        let mut names = Names::default();
        names.learn_nodes(&[series(&[("internal_ip", "10.0.0.7"), ("node", "a")], 1.0)]);
        let mut table = Table::new(RowKind::Nodes, 3, 10);
        table.fill(0, &[series(&[("instance", "10.0.0.7:9100")], 1.5)], &names);
        table.fill(2, &[series(&[("instance", "10.0.0.7:10250")], 7.0)], &names);
        table.fill(1, &[series(&[("node", "b")], 2.0)], &names);
        table.fill(1, &[series(&[], 9.0)], &names);
        let a = (
            "a".to_string(),
            Some("a".to_string()),
            vec![Some(1.5), None, Some(7.0)],
        );
        let b = (
            "b".to_string(),
            Some("b".to_string()),
            vec![None, Some(2.0), None],
        );
        assert_eq!(rows(table), [a, b]);
    }

    #[test]
    fn later_queries_fill_only_what_earlier_ones_left() {
        let names = Names::default();
        let mut table = Table::new(RowKind::Nodes, 1, 10);
        table.fill(
            0,
            &[
                series(&[("node", "a")], 1.0),
                series(&[("node", "b")], f64::NAN),
            ],
            &names,
        );
        table.fill(
            0,
            &[series(&[("node", "a")], 3.0), series(&[("node", "b")], 4.0)],
            &names,
        );
        let values: Vec<_> = rows(table).into_iter().map(|row| row.2).collect();
        assert_eq!(values, [[Some(1.0)], [Some(4.0)]]);
    }

    #[test]
    fn non_finite_values_make_no_row() {
        let mut table = Table::new(RowKind::Nodes, 1, 10);
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            table.fill(0, &[series(&[("node", "a")], value)], &Names::default());
        }
        assert_eq!(rows(table), []);
    }

    #[test]
    fn containers_are_summed_and_other_duplicates_are_not() {
        let mut names = Names::default();
        for (id, pod) in [("c1", "web"), ("c2", "web"), ("c3", "db")] {
            names.learn_container(id, pod, Some("a"));
        }
        let mut table = Table::new(RowKind::Pods, 2, 10);
        let containers = ["c1", "c2", "c3", "unknown"];
        let answer: Vec<_> = containers
            .iter()
            .map(|id| series(&[("container_id", id)], 1.25))
            .collect();
        table.fill(0, &answer, &names);
        // The same pod on two nodes: it was moved just now.
        let mut moved = [
            series(&[("instance", "b:1"), ("pod", "web")], 5.0),
            series(&[("instance", "a:1"), ("pod", "web")], 4.0),
        ];
        for _ in 0..2 {
            moved.reverse();
            table.fill(1, &moved, &names);
        }
        assert_eq!(table.duplicates, 2);
        let a = || Some("a".to_string());
        assert_eq!(
            rows(table),
            [
                ("db".to_string(), a(), vec![Some(1.25), None]),
                ("web".to_string(), a(), vec![Some(2.5), Some(4.0)]),
            ]
        );
    }

    #[test]
    fn rows_beyond_the_limit_are_counted_as_left_out() {
        let mut table = Table::new(RowKind::Nodes, 2, 3);
        let nodes = ["a", "b", "c", "d", "e"].map(|n| series(&[("node", n)], 1.0));
        table.fill(0, &nodes, &Names::default());
        table.fill(1, &nodes, &Names::default());
        assert_eq!(table.left_out, 4);
        let rows = rows(table);
        assert_eq!(rows.len(), 3);
        assert!(rows.iter().all(|row| row.2 == [Some(1.0), Some(1.0)]));
    }

    #[test]
    fn row_time_is_that_of_the_oldest_value() {
        let mut table = Table::new(RowKind::Nodes, 2, 10);
        table.fill(0, &[series(&[("node", "a")], 1.0)], &Names::default());
        let older = Series {
            at: 90.5,
            ..series(&[("node", "a")], 1.0)
        };
        table.fill(1, &[older], &Names::default());
        assert_eq!(table.into_rows().next().unwrap().at, 90.5);
    }
}
