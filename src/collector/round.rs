//! One round: sends all queries for one moment, joins the answers to rows, and publishes the rows.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::feed::Feed;
use super::join::{RowKind, Table};
use super::kubernetes::Kubernetes;
use super::layout;
use super::names::Names;
use super::prometheus::Series;
use super::query::Prometheus;
use super::status::{ColumnId, RoundOutcome, Status};
use super::steps::Steps;
use crate::config::queries::{CONTAINERS, ENERGY, NODE_NAMES};
use crate::config::Queries;
use crate::sys::clock::{wall_nanos, BootTime};

/// Everything that a round needs.
pub struct Collector {
    /// The Prometheus that is queried.
    pub prometheus: Prometheus,
    /// The Kubernetes API, if it is used.
    pub kubernetes: Option<Kubernetes>,
    /// The queries, in which `$namespace` stands for the namespace.
    pub queries: Queries,
    /// The namespace of the pods.
    pub namespace: String,
    /// No query starts later than this after the round began. A started query may run up to its own timeout.
    pub max_duration: Duration,
}

/// What is known from earlier rounds.
#[derive(Default)]
pub struct Known {
    /// The last answer to each query for node names.
    nodes: Vec<Vec<Series>>,
    names: Names,
    /// The counters of energy, by [`RowKind::ALL`].
    steps: [Steps; RowKind::ALL.len()],
}

impl Collector {
    /// Does one round.
    ///
    /// All queries are for one moment, the time of Prometheus's clock when the round begins, so that the values of a row
    /// belong together. A query that fails leaves its column without values. If the first query fails, which asks for
    /// Prometheus's time, the whole round fails.
    pub fn round(&self, known: &mut Known, feeds: &[Arc<Feed>], status: &Status) {
        let began = BootTime::now();
        let collected = wall_nanos().div_euclid(1_000_000);
        let round = match self.prometheus.query("time()", None) {
            Err(error) => return status.round(began, Err(error)),
            Ok(time) => Round {
                collector: self,
                status,
                at: time.first().map(|series| series.at),
                deadline: Instant::now() + self.max_duration,
            },
        };
        let mut failed = !round.learn_names(known);
        for feed in feeds {
            let steps = &mut known.steps[feed.kind() as usize];
            let empty = Table::new(
                feed.kind(),
                layout::measured(feed.kind()).len(),
                feed.max_rows(),
                collected,
            );
            let (table, failures) = round.table(feed.kind(), empty, &known.names, steps);
            failed |= failures;
            status.add(feed.kind(), table.left_out, table.duplicates);
            feed.publish(table.into_rows());
        }
        let outcome = match failed {
            true => RoundOutcome::Partial,
            false => RoundOutcome::Complete,
        };
        status.round(began, Ok(outcome));
    }
}

struct Round<'r> {
    collector: &'r Collector,
    status: &'r Status,
    at: Option<f64>,
    deadline: Instant,
}

impl Round<'_> {
    /// Sends one query after the other, and returns whether all that were sent were answered. `take` gets each answer, `None`
    /// for a failed query, and returns whether to send the next one.
    fn query_all(
        &self,
        column: ColumnId,
        queries: &[String],
        mut take: impl FnMut(Option<Vec<Series>>) -> ControlFlow<()>,
    ) -> bool {
        let mut result = Ok(());
        for query in queries {
            let answer = match Instant::now() < self.deadline {
                true => {
                    let query = query.replace("$namespace", &self.collector.namespace);
                    self.collector.prometheus.query(&query, self.at)
                }
                false => Err("there was no time left for it in this round".into()),
            };
            let answer = answer.map_err(|error| result = Err(error)).ok();
            if take(answer).is_break() {
                break;
            }
        }
        let is_answered = result.is_ok();
        self.status.note(column, result);
        is_answered
    }

    /// Learns the names of nodes and pods, and returns whether every source of names answered. For a query that failed its
    /// last answer counts: otherwise a node would appear by its name in one round and by its address in the next, as two
    /// nodes.
    fn learn_names(&self, known: &mut Known) -> bool {
        let queries = &self.collector.queries;
        let mut names = Names::default();
        known.nodes.resize(queries.node_names.len(), Vec::new());
        let mut last_answers = known.nodes.iter_mut();
        let nodes = self.query_all(("names", NODE_NAMES.name), &queries.node_names, |answer| {
            if let Some(last) = last_answers.next() {
                *last = answer.unwrap_or_else(|| std::mem::take(last));
                names.learn_nodes(last);
            }
            ControlFlow::Continue(())
        });
        let containers =
            self.query_all(("names", CONTAINERS.name), &queries.containers, |answer| {
                names.learn_containers(&answer.unwrap_or_default());
                ControlFlow::Continue(())
            });
        let mut failed = !nodes || !containers;
        if let Some(kubernetes) = &self.collector.kubernetes {
            let result = kubernetes.learn(&mut names);
            failed |= result.is_err();
            self.status.note(("names", "kubernetes"), result);
        }
        if failed {
            // A container never moves to another pod.
            names.keep_containers(&known.names);
        }
        known.names = names;
        !failed
    }

    /// The table of this kind, filled, and whether a query for it failed.
    fn table(
        &self,
        kind: RowKind,
        mut table: Table,
        names: &Names,
        steps: &mut Steps,
    ) -> (Table, bool) {
        let queries = match kind {
            RowKind::Nodes => &self.collector.queries.nodes,
            RowKind::Pods => &self.collector.queries.pods,
            RowKind::Workloads => &self.collector.queries.workloads,
        };
        steps.begin_round();
        let mut failed = false;
        let columns = layout::measured(kind).iter().zip(queries);
        for (index, (column, queries)) in columns.enumerate() {
            let id = (kind.as_str(), column.name);
            let mut query = 0;
            // A later query fills in where an earlier one has no value. That is unknown if the earlier one failed.
            let is_answered = self.query_all(id, queries, |answer| match answer {
                Some(answer) => {
                    match column.name {
                        ENERGY => table.fill_energy(index, &answer, names, query, steps),
                        _ => table.fill(index, &answer, names),
                    }
                    query += 1;
                    ControlFlow::Continue(())
                }
                None => ControlFlow::Break(()),
            });
            failed |= !is_answered;
        }
        (table, failed)
    }
}
