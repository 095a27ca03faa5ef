//! A batch in pieces: no larger than a request may be, and smaller ones where a receiver refuses a whole one.

use std::collections::BTreeMap;

use super::feed::Run;

/// The runs in pieces of at most `most` samples each; of each series the older samples come in an earlier piece.
pub(super) fn pieces(runs: &[Run], most: usize) -> Vec<Vec<Run>> {
    let most = most.max(1);
    let mut pieces: Vec<Vec<Run>> = Vec::new();
    let mut room = 0;
    for run in runs {
        let mut rest = run.samples.as_slice();
        while !rest.is_empty() {
            if room == 0 {
                pieces.push(Vec::new());
                room = most;
            }
            let (now, later) = rest.split_at(rest.len().min(room));
            if let Some(piece) = pieces.last_mut() {
                piece.push(part(run, now));
            }
            room -= now.len();
            rest = later;
        }
    }
    pieces
}

/// The same in the order of time, so that what comes in a later piece is later than all of an earlier one; but of one moment
/// several pieces are made if it has more than `most`.
pub(super) fn slices(runs: &[Run], most: usize) -> Vec<Vec<Run>> {
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    for (stamp, _) in runs.iter().flat_map(|run| &run.samples) {
        *counts.entry(*stamp).or_default() += 1;
    }
    let (mut ends, mut last, mut held) = (Vec::new(), i64::MIN, 0);
    for (stamp, count) in counts {
        if held > 0 && held + count > most {
            ends.push(last);
            held = 0;
        }
        held += count;
        last = stamp;
    }
    ends.push(last);
    let mut slices = Vec::new();
    let mut rests: Vec<_> = runs.iter().map(|run| run.samples.as_slice()).collect();
    for end in ends {
        let mut slice = Vec::new();
        for (run, rest) in runs.iter().zip(&mut rests) {
            let (now, later) = rest.split_at(rest.partition_point(|(stamp, _)| *stamp <= end));
            *rest = later;
            if !now.is_empty() {
                slice.push(part(run, now));
            }
        }
        slices.extend(pieces(&slice, most));
    }
    slices
}

/// Two halves, by series where there are several, else by time, the older one first. `None`: it is one sample.
pub(super) fn halves(runs: &[Run]) -> Option<(Vec<Run>, Vec<Run>)> {
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

    use super::super::feed::Identity;
    use super::*;
    use crate::metrics::Kind;

    fn run(name: &str, stamps: std::ops::Range<i64>) -> Run {
        Run {
            series: Arc::new(Identity {
                labels: vec![("__name__".into(), name.into())],
                kind: Kind::Gauge,
                help: String::new(),
                unit: String::new(),
            }),
            start: None,
            samples: stamps.map(|stamp| (stamp, 0)).collect(),
        }
    }

    /// Name and stamps of each run of each piece.
    fn shown(pieces: &[Vec<Run>]) -> Vec<Vec<String>> {
        let run = |run: &Run| {
            let stamps: Vec<_> = run
                .samples
                .iter()
                .map(|(stamp, _)| stamp.to_string())
                .collect();
            format!("{}:{}", run.series.labels[0].1, stamps.join(","))
        };
        pieces
            .iter()
            .map(|piece| piece.iter().map(run).collect())
            .collect()
    }

    #[test]
    fn pieces_are_full_and_in_order() {
        let runs = [run("a", 0..2), run("b", 0..5), run("c", 0..1)];
        assert_eq!(
            shown(&pieces(&runs, 3)),
            [vec!["a:0,1", "b:0"], vec!["b:1,2,3"], vec!["b:4", "c:0"]]
        );
        assert_eq!(pieces(&runs, 100).len(), 1);
        assert_eq!(pieces(&runs, 0).len(), 8);
        assert!(pieces(&[], 3).is_empty());
    }

    #[test]
    fn slices_are_in_the_order_of_time() {
        let runs = [run("a", 0..4), run("b", 1..3), run("c", 2..3)];
        assert_eq!(
            shown(&slices(&runs, 3)),
            [vec!["a:0,1", "b:1"], vec!["a:2", "b:2", "c:2"], vec!["a:3"]]
        );
        let one_by_one: Vec<_> = shown(&slices(&runs, 1)).concat();
        assert_eq!(
            one_by_one,
            ["a:0", "a:1", "b:1", "a:2", "b:2", "c:2", "a:3"]
        );
        assert_eq!(slices(&runs, 100).len(), 1);
        assert!(slices(&[], 3).is_empty());
    }

    #[test]
    fn halves_end_with_single_samples() {
        let runs = [run("a", 0..3), run("b", 0..1)];
        let (a, b) = halves(&runs).unwrap();
        assert_eq!(
            shown(&[a.clone(), b.clone()]),
            [vec!["a:0,1,2"], vec!["b:0"]]
        );
        let (older, newer) = halves(&a).unwrap();
        assert_eq!(shown(&[older.clone(), newer]), [vec!["a:0"], vec!["a:1,2"]]);
        assert_eq!(
            (halves(&older), halves(&b), halves(&[])),
            (None, None, None)
        );
    }
}
