//! Any bytes as the answer of a Prometheus, and of the Kubernetes API: few series, with labels that were asked for; rows
//! of as many fields as the header has, whose numbers read back.
#![no_main]

use edge_metrics_exporter::collector::join::{RowKind, Table};
use edge_metrics_exporter::collector::kubernetes;
use edge_metrics_exporter::collector::layout::{measured, Layout};
use edge_metrics_exporter::collector::names::Names;
use edge_metrics_exporter::collector::prometheus::{
    error_message, parse, Series, MAX_LABEL, MAX_SERIES,
};
use edge_metrics_exporter::config::queries::LABELS;
use libfuzzer_sys::fuzz_target;

const MAX_ROWS: usize = 8;

fuzz_target!(|bytes: &[u8]| {
    let mut names = Names::default();
    let _ = kubernetes::parse_pods(bytes, &mut names);
    match parse(bytes, LABELS) {
        Ok(series) => {
            assert!(error_message(bytes).is_none());
            check(&series);
            names.learn_nodes(&series);
            names.learn_containers(&series);
            join(&series, &names);
        }
        Err(error) => {
            let text = error.to_string();
            assert!(
                !text.is_empty() && text.chars().count() < 500 && !text.contains('\n'),
                "{text}"
            );
        }
    }
});

fn check(series: &[Series]) {
    assert!(series.len() <= MAX_SERIES);
    for one in series {
        assert!(one.at.is_finite());
        for (at, (name, value)) in one.labels.iter().enumerate() {
            assert!(LABELS.contains(name) && !value.is_empty() && value.len() <= MAX_LABEL);
            assert!(one.labels[..at].iter().all(|(other, _)| other != name));
        }
    }
}

fn join(series: &[Series], names: &Names) {
    for kind in RowKind::ALL {
        let columns = measured(kind).len();
        let mut table = Table::new(kind, columns, MAX_ROWS, 0);
        for column in 0..columns {
            table.fill(column, series, names);
        }
        let rows: Vec<_> = table.into_rows().collect();
        assert!(rows.len() <= MAX_ROWS);
        for row in rows {
            assert!(!row.name.is_empty() && row.values.iter().flatten().all(|v| v.is_finite()));
            for layout in [Some(Layout::own(kind)), Layout::original(kind)] {
                let Some(layout) = layout else {
                    continue;
                };
                let line = layout.line(&row, "ns");
                let fields = fields(&line);
                let width = layout.header().split(',').count();
                assert_eq!(fields.len(), width, "{line}");
                assert!(fields.contains(&row.name.to_string()) || kind == RowKind::Nodes);
            }
            let name = measured(kind)[0].name;
            let layout = Layout::chosen(kind, name).unwrap();
            let back: Option<f64> = layout.line(&row, "ns").parse().ok();
            let expected = row.values[0].map(f64::to_bits);
            assert_eq!(back.map(f64::to_bits), expected, "{name}");
        }
    }
}

/// The fields of one row (RFC 4180).
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                fields.last_mut().unwrap().push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields.last_mut().unwrap().push(c),
        }
    }
    assert!(!quoted, "{line}");
    fields
}
