//! Joins answers to rows: one for each node or pod, with a value in each column that has one. Pure.

use std::collections::btree_map::{BTreeMap, Entry};

use super::names::{Names, Pod};
use super::prometheus::Series;
use super::steps::{RowStep, Steps};

/// The values of a node, pod or other workload at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The node's, the pod's or the workload's name.
    pub name: Box<str>,
    /// The kind of a workload.
    pub kind: Option<Box<str>>,
    /// The node's name, which may be unknown for a pod.
    pub node: Option<Box<str>>,
    /// The time of the oldest value, in seconds since 1970.
    pub at: f64,
    /// The time of the query, in milliseconds since 1970.
    pub collected: i64,
    /// The value of each column, in the order of the columns, and the energy since the row before. `None`: it was not
    /// measured.
    pub values: Vec<Option<f64>>,
}

/// What the rows of a table are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// One row for each node.
    Nodes,
    /// One row for each pod.
    Pods,
    /// One row for each service, container or other workload of a node, except pods.
    Workloads,
}

impl RowKind {
    /// Every kind.
    pub const ALL: [RowKind; 3] = [RowKind::Nodes, RowKind::Pods, RowKind::Workloads];

    /// `nodes`, `pods` or `workloads`.
    pub fn as_str(self) -> &'static str {
        match self {
            RowKind::Nodes => "nodes",
            RowKind::Pods => "pods",
            RowKind::Workloads => "workloads",
        }
    }
}

/// The rows of one round, which are filled column by column.
#[derive(Debug)]
pub struct Table {
    kind: RowKind,
    columns: usize,
    max_rows: usize,
    collected: i64,
    rows: BTreeMap<Subject, Row>,
    /// The number of series left out because the table was full.
    pub left_out: u64,
    /// The number of series left out because the same answer had another one for the same row.
    pub duplicates: u64,
}

/// What a row is about. Pods and nodes have one row for each name, whatever the node; workloads one for each node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Subject {
    node: Option<Box<str>>,
    kind: Option<Box<str>>,
    name: Box<str>,
}

/// The value of one row in one answer.
struct Candidate<'s> {
    node: Option<Box<str>>,
    value: f64,
    at: f64,
    step: RowStep,
    from: &'s Series,
}

impl Table {
    /// An empty table of the query that began at `collected`, in milliseconds since 1970.
    pub fn new(kind: RowKind, columns: usize, max_rows: usize, collected: i64) -> Table {
        Table {
            kind,
            columns,
            max_rows,
            collected,
            rows: BTreeMap::new(),
            left_out: 0,
            duplicates: 0,
        }
    }

    /// Fills a column with the answer to one of its queries, in rows that have no value from an earlier query. Values that
    /// are not finite are ignored. The values of a pod's containers are summed. Of several other series for one row, the
    /// first in the order of labels counts, in whatever order they arrive.
    pub fn fill(&mut self, column: usize, answer: &[Series], names: &Names) {
        self.fill_with_steps(column, answer, names, None);
    }

    /// Fills the column of cumulative energy with the answer to its query of this number, and with it the energy since the
    /// row before.
    pub fn fill_energy(
        &mut self,
        column: usize,
        answer: &[Series],
        names: &Names,
        query: usize,
        steps: &mut Steps,
    ) {
        self.fill_with_steps(column, answer, names, Some((query, steps)));
    }

    fn fill_with_steps(
        &mut self,
        column: usize,
        answer: &[Series],
        names: &Names,
        mut steps: Option<(usize, &mut Steps)>,
    ) {
        let mut candidates: BTreeMap<Subject, Candidate<'_>> = BTreeMap::new();
        for series in answer.iter().filter(|series| series.value.is_finite()) {
            let Some((subject, node, is_container)) = self.subject_of(series, names) else {
                continue;
            };
            let mut candidate = Candidate {
                node,
                value: series.value,
                at: series.at,
                step: RowStep::default(),
                from: series,
            };
            let step = steps
                .as_mut()
                .map(|(query, steps)| steps.advance(*query, series));
            if let Some(step) = step {
                candidate.step.add(step);
            }
            // The energy of a pod comes by container.
            let is_part = is_container || steps.is_some() && self.kind == RowKind::Pods;
            match candidates.entry(subject) {
                Entry::Vacant(entry) => {
                    entry.insert(candidate);
                }
                Entry::Occupied(mut entry) if is_part => {
                    let sum = entry.get_mut();
                    sum.value += candidate.value;
                    sum.at = sum.at.min(candidate.at);
                    if let Some(step) = step {
                        sum.step.add(step);
                    }
                }
                Entry::Occupied(mut entry) => {
                    self.duplicates += 1;
                    if series.labels < entry.get().from.labels {
                        entry.insert(candidate);
                    }
                }
            }
        }
        for (subject, candidate) in candidates {
            self.set(column, subject, candidate);
        }
    }

    /// What a series is about, its node, and whether it is about one container of a pod.
    fn subject_of(
        &self,
        series: &Series,
        names: &Names,
    ) -> Option<(Subject, Option<Box<str>>, bool)> {
        let (node, kind, name, of, is_container) = match self.kind {
            RowKind::Nodes => {
                let name = names.node(series)?;
                (Some(name.clone()), None, name, None, false)
            }
            RowKind::Pods => {
                let (Pod { name, node }, is_container) = names.pod(series)?;
                (node, None, name, None, is_container)
            }
            RowKind::Workloads => {
                let (kind, name) = (series.label("kind")?, series.label("name")?);
                let node = names.node(series);
                (node.clone(), Some(kind.into()), name.into(), node, false)
            }
        };
        let subject = Subject {
            node: of,
            kind,
            name,
        };
        Some((subject, node, is_container))
    }

    fn set(&mut self, column: usize, subject: Subject, candidate: Candidate<'_>) {
        if self.rows.len() >= self.max_rows && !self.rows.contains_key(&subject) {
            self.left_out += 1;
            return;
        }
        let (columns, collected) = (self.columns, self.collected);
        let row = self.rows.entry(subject).or_insert_with_key(|subject| Row {
            name: subject.name.clone(),
            kind: subject.kind.clone(),
            node: None,
            at: candidate.at,
            collected,
            values: vec![None; columns + 1],
        });
        if let Some(value @ None) = row.values.get_mut(column) {
            *value = Some(candidate.value);
            row.at = row.at.min(candidate.at);
            if row.node.is_none() {
                row.node = candidate.node;
            }
            if let (Some(joules), Some(last)) = (candidate.step.joules(), row.values.last_mut()) {
                *last = Some(joules);
            }
        }
    }

    /// The rows: nodes and pods by name, workloads by node, kind and name.
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
        let row = |mut row: Row| {
            // The energy since the row before.
            row.values.pop();
            (row.name.into(), row.node.map(Into::into), row.values)
        };
        table.into_rows().map(row).collect()
    }

    #[test]
    fn series_of_a_node_join_whatever_their_ports() {
        let mut names = Names::default();
        names.learn_nodes(&[series(&[("internal_ip", "10.0.0.7"), ("node", "a")], 1.0)]);
        let mut table = Table::new(RowKind::Nodes, 3, 10, 0);
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
        let mut table = Table::new(RowKind::Nodes, 1, 10, 0);
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
        let mut table = Table::new(RowKind::Nodes, 1, 10, 0);
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
        let mut table = Table::new(RowKind::Pods, 2, 10, 0);
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
        let mut table = Table::new(RowKind::Nodes, 2, 3, 0);
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
        let mut table = Table::new(RowKind::Nodes, 2, 10, 0);
        table.fill(0, &[series(&[("node", "a")], 1.0)], &Names::default());
        let older = Series {
            at: 90.5,
            ..series(&[("node", "a")], 1.0)
        };
        table.fill(1, &[older], &Names::default());
        assert_eq!(table.into_rows().next().unwrap().at, 90.5);
    }

    #[test]
    fn workloads_have_a_row_on_each_node() {
        let labels = |node, kind, name| [("node", node), ("kind", kind), ("name", name)];
        let mut table = Table::new(RowKind::Workloads, 1, 10, 7);
        let answer = [
            series(&labels("b", "service", "ssh.service"), 1.0),
            series(&labels("a", "service", "ssh.service"), 2.0),
            series(&labels("a", "container", "ssh.service"), 3.0),
            series(&[("node", "a"), ("name", "x")], 9.0),
        ];
        table.fill(0, &answer, &Names::default());
        let rows: Vec<_> = table.into_rows().collect();
        let shown = rows.iter().map(|row| {
            let [node, kind] = [&row.node, &row.kind].map(|text| text.as_deref().unwrap());
            (node, kind, &*row.name, row.values[0].unwrap())
        });
        assert_eq!(
            shown.collect::<Vec<_>>(),
            [
                ("a", "container", "ssh.service", 3.0),
                ("a", "service", "ssh.service", 2.0),
                ("b", "service", "ssh.service", 1.0)
            ]
        );
        assert!(rows.iter().all(|row| row.collected == 7));
    }

    #[test]
    fn energy_of_a_pod_is_that_of_its_containers_and_comes_with_its_step() {
        let names = Names::default();
        let mut steps = Steps::default();
        let mut round = |answers: [&[(&str, f64)]; 2]| {
            steps.begin_round();
            let mut table = Table::new(RowKind::Pods, 1, 10, 0);
            for (query, answer) in answers.into_iter().enumerate() {
                let of = |(container, joules): &(&str, f64)| {
                    series(&[("pod_name", "web"), ("container", container)], *joules)
                };
                let answer: Vec<_> = answer.iter().map(of).collect();
                table.fill_energy(0, &answer, &names, query, &mut steps);
            }
            assert_eq!(table.duplicates, 0);
            table.into_rows().next().unwrap().values
        };
        assert_eq!(round([&[("a", 10.0), ("b", 5.0)], &[]]), [Some(15.0), None]);
        // The second query has no part in a row that the first one knows.
        assert_eq!(
            round([&[("a", 11.0), ("b", 6.0)], &[("a", 900.0)]]),
            [Some(17.0), Some(2.0)]
        );
        assert_eq!(
            round([&[("c", 1.0)], &[("a", 950.0)]]),
            [Some(1.0), None],
            "no container of the first query was there before"
        );
    }
}
