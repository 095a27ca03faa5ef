//! One round: everything is asked for at one moment, joined, and published.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ask::Prometheus;
use super::form::{self, Form};
use super::join::{Kind, Table};
use super::kubernetes::Kubernetes;
use super::names::Names;
use super::queries::{Column, CONTAINERS, NODES, NODE_NAMES, PODS};
use super::rows::Feed;
use super::status::{Outcome, Status};
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

impl Collecting {
    /// Does one round.
    ///
    /// All queries are asked for one moment, that of Prometheus's clock when the round begins, so that the values of a row
    /// belong together. A query that fails costs what it would have said and no more; without the first one, by which
    /// Prometheus tells its time, there is nothing to say at all.
    pub fn round(&self, feeds: &[Arc<Feed>], status: &Status) {
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
        let (names, mut failed) = round.names();
        for feed in feeds {
            let (table, failures) = round.table(feed.kind(), feed.most(), &names);
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
    /// Asks one query after the other; `take` gets each answer. Whether all of them were answered.
    fn ask(
        &self,
        subject: (&'static str, &'static str),
        queries: &[String],
        mut take: impl FnMut(&[super::prometheus::Series]),
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
            match answer {
                Ok(answer) => take(&answer),
                Err(trouble) => result = Err(trouble),
            }
        }
        let good = result.is_ok();
        self.status.note(subject, result);
        good
    }

    /// Who is who, and whether some of it could not be learned.
    fn names(&self) -> (Names, bool) {
        let queries = &self.collecting.queries;
        let mut names = Names::default();
        let nodes = self.ask(("names", NODE_NAMES.name), &queries.node_names, |answer| {
            names.learn_nodes(answer);
        });
        let containers = self.ask(("names", CONTAINERS.name), &queries.containers, |answer| {
            names.learn_containers(answer);
        });
        let mut failed = !nodes || !containers;
        if let Some(kubernetes) = &self.collecting.kubernetes {
            let result = kubernetes.learn(&mut names);
            failed |= result.is_err();
            self.status.note(("names", "kubernetes"), result);
        }
        (names, failed)
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
            let good = self.ask(subject, queries, |answer| table.fill(number, answer, names));
            failed |= !good;
        }
        (table, failed)
    }
}
