//! Answers become rows: one for each node or pod, with a value in each column that has one. Pure.

use std::collections::btree_map::{BTreeMap, Entry};

use super::names::{Names, Pod};
use super::prometheus::Series;

/// A node or a pod at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The node's or the pod's name.
    pub name: Box<str>,
    /// The node; of a pod it may not be known.
    pub node: Option<Box<str>>,
    /// The oldest of its values' times, in seconds since 1970.
    pub at: f64,
    /// A value for each column, in the columns' order. `None`: nobody measured it.
    pub values: Vec<Option<f64>>,
}

/// Whose rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One row for each node.
    Nodes,
    /// One row for each pod.
    Pods,
}

impl Kind {
    /// Both.
    pub const ALL: [Kind; 2] = [Kind::Nodes, Kind::Pods];

    /// `nodes` or `pods`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Nodes => "nodes",
            Kind::Pods => "pods",
        }
    }
}

/// The rows of one round, being filled.
#[derive(Debug)]
pub struct Table {
    kind: Kind,
    columns: usize,
    /// The most rows.
    most: usize,
    rows: BTreeMap<Box<str>, Row>,
    /// Series of rows that there was no room for.
    pub left_out: u64,
    /// Series beside another of the same row in the same answer.
    pub doubled: u64,
}

/// What one answer says of one row.
struct Found<'s> {
    pod: Pod,
    value: f64,
    at: f64,
    from: &'s Series,
}

impl Table {
    /// An empty one.
    pub fn new(kind: Kind, columns: usize, most: usize) -> Table {
        Table {
            kind,
            columns,
            most,
            rows: BTreeMap::new(),
            left_out: 0,
            doubled: 0,
        }
    }

    /// Fills a column with the answer to one of its queries, where it has no value from an earlier one. What is not
    /// finite is no value. Containers of one pod are added up; of other series of one row the first by its labels counts,
    /// whatever order they come in.
    pub fn fill(&mut self, column: usize, answer: &[Series], names: &Names) {
        let mut found: BTreeMap<Box<str>, Found<'_>> = BTreeMap::new();
        for series in answer.iter().filter(|series| series.value.is_finite()) {
            let Some((pod, is_part)) = self.whose(series, names) else {
                continue;
            };
            let name = pod.name.clone();
            let one = Found {
                pod,
                value: series.value,
                at: series.at,
                from: series,
            };
            match found.entry(name) {
                Entry::Vacant(entry) => {
                    entry.insert(one);
                }
                Entry::Occupied(mut entry) if is_part => {
                    let sum = entry.get_mut();
                    sum.value += one.value;
                    sum.at = sum.at.min(one.at);
                }
                Entry::Occupied(mut entry) => {
                    self.doubled += 1;
                    if series.labels < entry.get().from.labels {
                        entry.insert(one);
                    }
                }
            }
        }
        for (name, found) in found {
            self.set(column, name, &found);
        }
    }

    fn whose(&self, series: &Series, names: &Names) -> Option<(Pod, bool)> {
        match self.kind {
            Kind::Pods => names.pod(series),
            Kind::Nodes => names.node(series).map(|name| {
                let node = Some(name.clone());
                (Pod { name, node }, false)
            }),
        }
    }

    fn set(&mut self, column: usize, name: Box<str>, found: &Found<'_>) {
        if self.rows.len() >= self.most && !self.rows.contains_key(&name) {
            self.left_out += 1;
            return;
        }
        let columns = self.columns;
        let row = self.rows.entry(name).or_insert_with_key(|name| Row {
            name: name.clone(),
            node: None,
            at: found.at,
            values: vec![None; columns],
        });
        if let Some(value @ None) = row.values.get_mut(column) {
            *value = Some(found.value);
            row.at = row.at.min(found.at);
            if row.node.is_none() {
                row.node.clone_from(&found.pod.node);
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
    fn nodes_join_whatever_their_ports() {
        let mut names = Names::default();
        names.learn_nodes(&[series(&[("internal_ip", "10.0.0.7"), ("node", "a")], 1.0)]);
        let mut table = Table::new(Kind::Nodes, 3, 10);
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
    fn an_earlier_query_counts_more_and_a_later_one_fills_what_it_left() {
        let names = Names::default();
        let mut table = Table::new(Kind::Nodes, 1, 10);
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
    fn what_is_not_finite_makes_no_row() {
        let mut table = Table::new(Kind::Nodes, 1, 10);
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            table.fill(0, &[series(&[("node", "a")], value)], &Names::default());
        }
        assert_eq!(rows(table), []);
    }

    #[test]
    fn containers_are_added_up_and_other_doubles_are_not() {
        let mut names = Names::default();
        for (id, pod) in [("c1", "web"), ("c2", "web"), ("c3", "db")] {
            names.learn_container(id, pod, Some("a"));
        }
        let mut table = Table::new(Kind::Pods, 2, 10);
        let containers = ["c1", "c2", "c3", "unknown"];
        let answer: Vec<_> = containers
            .iter()
            .map(|id| series(&[("container_id", id)], 1.25))
            .collect();
        table.fill(0, &answer, &names);
        // The same pod on two nodes: it has just moved.
        let mut moved = [
            series(&[("instance", "b:1"), ("pod", "web")], 5.0),
            series(&[("instance", "a:1"), ("pod", "web")], 4.0),
        ];
        for _ in 0..2 {
            moved.reverse();
            table.fill(1, &moved, &names);
        }
        assert_eq!(table.doubled, 2);
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
    fn there_are_no_more_rows_than_may_be() {
        let mut table = Table::new(Kind::Nodes, 2, 3);
        let nodes = ["a", "b", "c", "d", "e"].map(|n| series(&[("node", n)], 1.0));
        table.fill(0, &nodes, &Names::default());
        table.fill(1, &nodes, &Names::default());
        assert_eq!(table.left_out, 4);
        let rows = rows(table);
        assert_eq!(rows.len(), 3);
        assert!(rows.iter().all(|row| row.2 == [Some(1.0), Some(1.0)]));
    }

    #[test]
    fn the_oldest_value_is_the_rows_time() {
        let mut table = Table::new(Kind::Nodes, 2, 10);
        table.fill(0, &[series(&[("node", "a")], 1.0)], &Names::default());
        let older = Series {
            at: 90.5,
            ..series(&[("node", "a")], 1.0)
        };
        table.fill(1, &[older], &Names::default());
        assert_eq!(table.into_rows().next().unwrap().at, 90.5);
    }
}
