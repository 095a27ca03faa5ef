//! One round: everything is asked for at one moment, joined, and published.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ask::Prometheus;
use super::form::{self, Form};
use super::join::{Kind, Table};
use super::kubernetes::Kubernetes;
use super::names::Names;
use super::prometheus::Series;
use super::rows::Feed;
use super::status::{Outcome, Status};
use crate::config::queries::{Column, CONTAINERS, NODES, NODE_NAMES, PODS};
use crate::config::Queries;
use crate::sys::clock::{wall_nanos, BootTime};

/// What collects.
pub struct Collecting {
    /// Who is asked.
    pub prometheus: Prometheus,
    /// Who else is asked, if anybody.
    pub kubernetes: Option<Kubernetes>,
    /// What is asked for, with `$namespace` in it.
    pub queries: Queries,
    /// The namespace.
    pub namespace: String,
    /// The longest that a round may take. A query that has begun may take its own time.
    pub longest: Duration,
}

/// What the rounds before have learned of names.
#[derive(Default)]
pub struct Before {
    /// The last answer to each of the queries for nodes.
    nodes: Vec<Vec<Series>>,
    names: Names,
}

impl Collecting {
    /// Does one round.
    ///
    /// All queries are asked for one moment, that of Prometheus's clock when the round begins, so that the values of a row
    /// belong together. A query that fails costs what it would have said and no more; without the first one, by which
    /// Prometheus tells its time, there is nothing to say at all.
    pub fn round(&self, before: &mut Before, feeds: &[Arc<Feed>], status: &Status) {
        let began = BootTime::now();
        let collected = wall_nanos().div_euclid(1_000_000);
        let round = match self.prometheus.ask("time()", None) {
            Err(trouble) => return status.round(began, Err(trouble)),
            Ok(time) => Round {
                collecting: self,
                status,
                at: time.first().map(|series| series.at),
                until: Instant::now() + self.longest,
            },
        };
        let mut failed = !round.learn_names(before);
        for feed in feeds {
            let (table, failures) = round.table(feed.kind(), feed.most(), &before.names);
            failed |= failures;
            status.add(feed.kind(), table.left_out, table.doubled);
            feed.publish(table.into_rows().map(|row| {
                Form::ALL.map(|form| {
                    let line = form::line(feed.kind(), form, &row, &self.namespace, collected);
                    line.into_boxed_str()
                })
            }));
        }
        let outcome = match failed {
            true => Outcome::Partial,
            false => Outcome::Complete,
        };
        status.round(began, Ok(outcome));
    }
}

struct Round<'r> {
    collecting: &'r Collecting,
    status: &'r Status,
    at: Option<f64>,
    until: Instant,
}

impl Round<'_> {
    /// Asks one query after the other; `take` gets each answer, or that there is none, and says whether to go on
    /// with the next. Whether all were answered.
    fn ask(
        &self,
        subject: (&'static str, &'static str),
        queries: &[String],
        mut take: impl FnMut(Option<Vec<Series>>) -> ControlFlow<()>,
    ) -> bool {
        let mut result = Ok(());
        for query in queries {
            let answer = match Instant::now() < self.until {
                true => {
                    let query = query.replace("$namespace", &self.collecting.namespace);
                    self.collecting.prometheus.ask(&query, self.at)
                }
                false => Err("there was no time left for it in this round".into()),
            };
            let answer = answer.map_err(|trouble| result = Err(trouble)).ok();
            if take(answer).is_break() {
                break;
            }
        }
        let good = result.is_ok();
        self.status.note(subject, result);
        good
    }

    /// Learns who is who, and says whether all of it could be learned. What is not answered this time is as it was the last
    /// time: a node that is called by its name in one round and by its address in the next would be two nodes.
    fn learn_names(&self, before: &mut Before) -> bool {
        let queries = &self.collecting.queries;
        let mut names = Names::default();
        before.nodes.resize(queries.node_names.len(), Vec::new());
        let mut of_nodes = before.nodes.iter_mut();
        let nodes = self.ask(("names", NODE_NAMES.name), &queries.node_names, |answer| {
            if let Some(last) = of_nodes.next() {
                *last = answer.unwrap_or_else(|| std::mem::take(last));
                names.learn_nodes(last);
            }
            ControlFlow::Continue(())
        });
        let containers = self.ask(("names", CONTAINERS.name), &queries.containers, |answer| {
            names.learn_containers(&answer.unwrap_or_default());
            ControlFlow::Continue(())
        });
        let mut failed = !nodes || !containers;
        if let Some(kubernetes) = &self.collecting.kubernetes {
            let result = kubernetes.learn(&mut names);
            failed |= result.is_err();
            self.status.note(("names", "kubernetes"), result);
        }
        if failed {
            // A container is in one pod for ever.
            names.keep_containers(&before.names);
        }
        before.names = names;
        !failed
    }

    /// A table, and whether something of it could not be had.
    fn table(&self, kind: Kind, most: usize, names: &Names) -> (Table, bool) {
        let (columns, queries): (&[Column], _) = match kind {
            Kind::Nodes => (NODES, &self.collecting.queries.nodes),
            Kind::Pods => (PODS, &self.collecting.queries.pods),
        };
        let mut table = Table::new(kind, columns.len(), most);
        let mut failed = false;
        for (number, (column, queries)) in columns.iter().zip(queries).enumerate() {
            let subject = (kind.as_str(), column.name);
            // What the next ones say counts only where this one has nothing to say: who knows, if it was not answered.
            let good = self.ask(subject, queries, |answer| match answer {
                Some(answer) => {
                    table.fill(number, &answer, names);
                    ControlFlow::Continue(())
                }
                None => ControlFlow::Break(()),
            });
            failed |= !good;
        }
        (table, failed)
    }
}
