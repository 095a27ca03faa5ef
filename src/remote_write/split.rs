//! Splits a batch into requests: no larger than a request may be, and smaller ones where a receiver refuses a whole
//! one.

use std::collections::BTreeMap;

use super::feed::Run;

/// Splits runs into requests of at most `max` samples. Older samples of a series come in an earlier request.
pub(super) fn split_by_size(runs: &[Run], max: usize) -> Vec<Vec<Run>> {
    let max = max.max(1);
    let mut requests: Vec<Vec<Run>> = Vec::new();
    let mut room = 0;
    for run in runs {
        let mut rest = run.samples.as_slice();
        while !rest.is_empty() {
            if room == 0 {
                requests.push(Vec::new());
                room = max;
            }
            let (taken, left) = rest.split_at(rest.len().min(room));
            if let Some(request) = requests.last_mut() {
                request.push(part(run, taken));
            }
            room -= taken.len();
            rest = left;
        }
    }
    requests
}

/// The same in the order of time: what comes in a later request is later than all of an earlier one. A moment with more
/// than `max` samples takes several requests.
pub(super) fn split_by_time(runs: &[Run], max: usize) -> Vec<Vec<Run>> {
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    for (stamp, _) in runs.iter().flat_map(|run| &run.samples) {
        *counts.entry(*stamp).or_default() += 1;
    }
    let (mut ends, mut last, mut held) = (Vec::new(), i64::MIN, 0);
    for (stamp, count) in counts {
        if held > 0 && held + count > max {
            ends.push(last);
            held = 0;
        }
        held += count;
        last = stamp;
    }
    ends.push(last);
    let mut requests = Vec::new();
    let mut rests: Vec<_> = runs.iter().map(|run| run.samples.as_slice()).collect();
    for end in ends {
        let mut samples = Vec::new();
        for (run, rest) in runs.iter().zip(&mut rests) {
            let (taken, left) = rest.split_at(rest.partition_point(|(stamp, _)| *stamp <= end));
            *rest = left;
            if !taken.is_empty() {
                samples.push(part(run, taken));
            }
        }
        requests.extend(split_by_size(&samples, max));
    }
    requests
}

/// Two halves: by series where there are several, else by time, the older one first. `None`: there is only one sample.
pub(super) fn split_in_half(runs: &[Run]) -> Option<(Vec<Run>, Vec<Run>)> {
    match runs {
        [] => None,
        [run] => {
            let middle = run.samples.len() / 2;
            if middle == 0 {
                return None;
            }
            let (older, newer) = run.samples.split_at(middle);
            Some((vec![part(run, older)], vec![part(run, newer)]))
        }
        several => {
            let (some, others) = several.split_at(several.len() / 2);
            Some((some.to_vec(), others.to_vec()))
        }
    }
}

fn part(run: &Run, samples: &[(i64, u64)]) -> Run {
    Run {
        series: run.series.clone(),
        start: run.start,
        samples: samples.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::feed::SeriesIdentity;
    use super::*;
    use crate::metrics::Kind;

    fn run(name: &str, stamps: std::ops::Range<i64>) -> Run {
        Run {
            series: Arc::new(SeriesIdentity {
                labels: vec![("__name__".into(), name.into())],
                kind: Kind::Gauge,
                help: String::new(),
                unit: String::new(),
            }),
            start: None,
            samples: stamps.map(|stamp| (stamp, 0)).collect(),
        }
    }

    /// Name and stamps of each run of each request.
    fn text(requests: &[Vec<Run>]) -> Vec<Vec<String>> {
        let run = |run: &Run| {
            let stamps: Vec<_> = run
                .samples
                .iter()
                .map(|(stamp, _)| stamp.to_string())
                .collect();
            format!("{}:{}", run.series.labels[0].1, stamps.join(","))
        };
        requests
            .iter()
            .map(|request| request.iter().map(run).collect())
            .collect()
    }

    #[test]
    fn requests_are_full_and_in_order() {
        let runs = [run("a", 0..2), run("b", 0..5), run("c", 0..1)];
        assert_eq!(
            text(&split_by_size(&runs, 3)),
            [vec!["a:0,1", "b:0"], vec!["b:1,2,3"], vec!["b:4", "c:0"]]
        );
        assert_eq!(split_by_size(&runs, 100).len(), 1);
        assert_eq!(split_by_size(&runs, 0).len(), 8);
        assert!(split_by_size(&[], 3).is_empty());
    }

    #[test]
    fn split_by_time_keeps_the_order_of_time() {
        let runs = [run("a", 0..4), run("b", 1..3), run("c", 2..3)];
        assert_eq!(
            text(&split_by_time(&runs, 3)),
            [vec!["a:0,1", "b:1"], vec!["a:2", "b:2", "c:2"], vec!["a:3"]]
        );
        let one_by_one: Vec<_> = text(&split_by_time(&runs, 1)).concat();
        assert_eq!(
            one_by_one,
            ["a:0", "a:1", "b:1", "a:2", "b:2", "c:2", "a:3"]
        );
        assert_eq!(split_by_time(&runs, 100).len(), 1);
        assert!(split_by_time(&[], 3).is_empty());
    }

    #[test]
    fn halving_ends_with_single_samples() {
        let runs = [run("a", 0..3), run("b", 0..1)];
        let (a, b) = split_in_half(&runs).unwrap();
        assert_eq!(
            text(&[a.clone(), b.clone()]),
            [vec!["a:0,1,2"], vec!["b:0"]]
        );
        let (older, newer) = split_in_half(&a).unwrap();
        assert_eq!(text(&[older.clone(), newer]), [vec!["a:0"], vec!["a:1,2"]]);
        assert_eq!(
            (split_in_half(&older), split_in_half(&b), split_in_half(&[])),
            (None, None, None)
        );
    }
}
