use super::super::ABSENT;
use super::*;

const SECOND: u64 = 1_000_000_000;

fn history(keep: u64, words: usize) -> History {
    let history = History::default();
    history.limit(Duration::from_secs(keep), words * 8);
    history
}

fn push(history: &History, second: u64, values: &[f64]) {
    history.push(BootTime(second * SECOND), values.iter().copied());
}

/// All rows from a cursor on: seconds, and values.
fn read(history: &History, cursor: &mut Cursor) -> (Vec<(u64, Vec<f64>)>, u64) {
    let mut rows = Rows::default();
    let mut all = Vec::new();
    while history.read(cursor, &mut rows) {
        all.extend(
            rows.iter()
                .map(|(at, values)| (at.0 / SECOND, values.collect())),
        );
    }
    (all, rows.dropped)
}

#[test]
fn every_consumer_reads_every_row_once() {
    let history = history(60, 1000);
    let (mut a, mut b) = (Cursor::default(), Cursor::default());
    push(&history, 1, &[1.0, 2.0]);
    assert_eq!(read(&history, &mut a), (vec![(1, vec![1.0, 2.0])], 0));
    assert_eq!(read(&history, &mut a), (vec![], 0));
    push(&history, 2, &[3.0, 4.0, 5.0]);
    assert_eq!(read(&history, &mut a), (vec![(2, vec![3.0, 4.0, 5.0])], 0));
    let both = vec![(1, vec![1.0, 2.0]), (2, vec![3.0, 4.0, 5.0])];
    assert_eq!(read(&history, &mut b), (both, 0));
}

#[test]
fn samples_missed_by_a_slow_consumer_are_counted() {
    let history = history(60, 10);
    let mut cursor = Cursor::default();
    push(&history, 1, &[1.0, 1.0]);
    push(&history, 2, &[2.0, ABSENT]);
    push(&history, 3, &[3.0, 3.0]);
    assert_eq!(history.bytes(), 64);
    let (rows, dropped) = read(&history, &mut cursor);
    let seconds: Vec<_> = rows.iter().map(|(at, _)| *at).collect();
    assert_eq!((seconds, dropped), (vec![2, 3], 2));
    push(&history, 4, &[4.0, 4.0]);
    push(&history, 5, &[5.0, 5.0]);
    push(&history, 6, &[6.0, 6.0]);
    assert_eq!(read(&history, &mut cursor).1, 2);
}

#[test]
fn too_old_rows_are_dropped() {
    let history = history(10, 1000);
    for second in [1, 5, 11, 12] {
        push(&history, second, &[1.0]);
    }
    let mut cursor = Cursor::default();
    let (rows, dropped) = read(&history, &mut cursor);
    let seconds: Vec<_> = rows.iter().map(|(at, _)| *at).collect();
    assert_eq!((seconds, dropped), (vec![5, 11, 12], 1));
}

#[test]
fn rows_beyond_the_limit_are_dropped() {
    let history = history(60, 1000);
    for second in 1..10 {
        push(&history, second, &[1.0, 2.0]);
    }
    history.limit_rows(3);
    assert_eq!(history.bytes(), 3 * 4 * 8);
    push(&history, 10, &[1.0, 2.0]);
    let (rows, dropped) = read(&history, &mut Cursor::default());
    let seconds: Vec<_> = rows.iter().map(|(at, _)| *at).collect();
    assert_eq!((seconds, dropped), (vec![8, 9, 10], 14));
}

#[test]
fn cursor_since_starts_at_the_requested_time() {
    let history = history(60, 1000);
    for second in 1..10 {
        push(&history, second, &[1.0]);
    }
    let mut cursor = history.cursor_since(BootTime(8 * SECOND));
    assert_eq!(
        read(&history, &mut cursor),
        (vec![(8, vec![1.0]), (9, vec![1.0])], 0)
    );
}

#[test]
fn long_history_is_read_in_chunks() {
    let history = history(1_000_000, 200_000);
    let row = [1.0; 100];
    for second in 0..1000 {
        push(&history, second, &row);
    }
    let mut cursor = Cursor::default();
    let mut rows = Rows::default();
    let mut chunks = Vec::new();
    while history.read(&mut cursor, &mut rows) {
        chunks.push(rows.iter().count());
    }
    assert_eq!(chunks.iter().sum::<usize>(), 1000);
    assert!(chunks.len() > 10 && chunks.iter().all(|n| n * 102 <= CHUNK_WORDS));
}

#[test]
fn rejected_row_stays_for_the_next_read() {
    let history = history(60, 1000);
    for second in 1..5 {
        push(&history, second, &[1.0]);
    }
    let (mut cursor, mut rows) = (Cursor::default(), Rows::default());
    let until = |second: u64| move |at: BootTime| at.0 < second * SECOND;
    assert!(history.read_while(&mut cursor, &mut rows, until(3)));
    assert_eq!(rows.iter().count(), 2);
    assert!(!history.read_while(&mut cursor, &mut rows, until(3)));
    assert_eq!(read(&history, &mut cursor).0.len(), 2);
}

#[test]
fn memory_stays_within_the_limit() {
    let history = history(60, 1000);
    for second in 1..2000 {
        push(&history, second, &[1.0; 10]);
    }
    assert!(lock::lock(&history.ring).words.capacity() <= 1000);
}

#[test]
fn nothing_is_kept_without_a_limit() {
    let history = History::default();
    push(&history, 1, &[1.0]);
    assert_eq!(history.bytes(), 0);
    let history = self::history(60, 2);
    push(&history, 1, &[1.0]);
    assert_eq!(history.bytes(), 0, "a row that does not fit is not kept");
    let history = self::history(60, 100);
    push(&history, 1, &[ABSENT]);
    assert_eq!(history.bytes(), 0, "a row of nothing is no row");
}

#[test]
fn half_full_by_words_rows_or_time() {
    // By words, by rows, and by time; each row of one value takes three words.
    for (keep, words, rows) in [
        (1000, 30, usize::MAX),
        (1000, 1000, 10),
        (10, 1000, usize::MAX),
    ] {
        let history = history(keep, words);
        history.limit_rows(rows);
        let mut cursor = Cursor::default();
        for second in 1..=4 {
            push(&history, second, &[1.0]);
        }
        assert!(!history.is_half_full_after(&cursor));
        push(&history, 5, &[1.0]);
        push(&history, 6, &[1.0]);
        assert!(history.is_half_full_after(&cursor));
        read(&history, &mut cursor);
        assert!(!history.is_half_full_after(&cursor));
        for second in 7..=100 {
            push(&history, second, &[1.0]);
        }
        assert!(history.is_half_full_after(&cursor));
    }
}
