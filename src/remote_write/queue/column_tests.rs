use super::super::testing::Random;
use super::*;

fn round_trip(columns: &[Vec<Option<f64>>]) -> Vec<u8> {
    let mut out = Vec::new();
    for i in 0..columns.len() {
        put(&mut out, &columns[i], &columns[..i]);
    }
    let mut reader = Reader::new(&out);
    let mut back = Vec::new();
    for column in columns {
        let again = take(&mut reader, column.len(), &back).unwrap();
        let bits = |column: &[Option<f64>]| -> Vec<_> {
            column.iter().map(|v| v.map(f64::to_bits)).collect()
        };
        assert_eq!(bits(&again), bits(column));
        back.push(again);
    }
    assert!(reader.rest.is_empty());
    out
}

/// How a single column is written, and in how many bytes.
fn way(values: &[f64]) -> (u8, usize) {
    let out = round_trip(&[values.iter().copied().map(Some).collect()]);
    (out[0] & 7, out.len())
}

#[test]
fn every_bit_of_any_column_comes_back() {
    let mut random = Random::new(1);
    for round in 0..400 {
        let kind = round % 10;
        let mut value = 41.5;
        let rows = random.below(60) as usize;
        let mut first = Vec::new();
        for _ in 0..rows {
            value = random.value(kind, value);
            first.push((random.below(8) > 0).then_some(value));
        }
        round_trip(&[first.clone(), first]);
    }
}

#[test]
fn rows_without_a_value_come_back_wherever_they_are() {
    for column in [
        vec![],
        vec![None],
        vec![None, None],
        vec![None, Some(1.0), None],
        vec![Some(1.0), None, None, Some(2.0)],
    ] {
        round_trip(&[column]);
    }
}

#[test]
fn each_kind_of_meter_has_a_way_that_suits_it() {
    let mut random = Random::new(2);
    assert_eq!(way(&[0.1 + 0.2; 1000]), (CONSTANT, 9));
    // hwmon's millivolts, which waver.
    let volts: Vec<f64> = (0..1000)
        .map(|_| (12_000 + random.below(9)) as f64 / 1000.0)
        .collect();
    let (kind, length) = way(&volts);
    assert!(kind == DECIMAL && length < 1100, "{kind} {length}");
    // A temperature that changes once a second, read a thousand times a second.
    let degrees: Vec<f64> = (0..5000)
        .map(|i| (41_500 + i / 1000) as f64 / 1000.0)
        .collect();
    let (kind, length) = way(&degrees);
    assert!(kind == DECIMAL && length < 40, "{kind} {length}");
    // RAPL's microjoules, summed up as the energy's counter is: each sum a little beside the quotient.
    let mut joules = 1841.93;
    let sums = std::iter::repeat_with(|| {
        joules += (15_000 + random.below(500)) as f64 * 1e-6;
        joules
    });
    let sums: Vec<f64> = sums.take(1000).collect();
    let (kind, length) = way(&sums);
    assert!(kind == NEAR_DECIMAL && length < 3500, "{kind} {length}");
    // The same in a processor's own units of 2^-14 J.
    let mut units = 1 << 24;
    let joules = std::iter::repeat_with(|| {
        units += 250 + random.below(20);
        units as f64 / 16_384.0
    });
    let joules: Vec<f64> = joules.take(1000).collect();
    let (kind, length) = way(&joules);
    assert!(kind == BINARY && length < 2200, "{kind} {length}");
    let noise: Vec<f64> = (0..1000).map(|_| 15.0 + random.fraction()).collect();
    let (kind, length) = way(&noise);
    assert!(length < 8000, "{kind} {length}");
}

#[test]
fn what_two_series_share_is_written_once() {
    let noise: Vec<_> = (0..100).map(|i| Some((i as f64).sqrt())).collect();
    let once = round_trip(std::slice::from_ref(&noise)).len();
    assert_eq!(round_trip(&[noise.clone(), noise]).len(), once + 2);
}

#[test]
fn nothing_that_is_read_makes_more_rows_than_there_are() {
    let mut out = Vec::new();
    put(&mut out, &[Some(1.0), None, Some(2.0)], &[]);
    for rows in [0, 1, 2, 4, 5] {
        assert!(take(&mut Reader::new(&out), rows, &[]).is_none(), "{rows}");
    }
    for length in 0..out.len() {
        assert!(take(&mut Reader::new(&out[..length]), 3, &[]).is_none());
    }
    for way in [6, 7, DECIMAL | 13 << 4, NEAR_DECIMAL | 15 << 4] {
        assert!(take(&mut Reader::new(&[way, 0, 0, 0]), 1, &[]).is_none());
    }
    assert!(take(&mut Reader::new(&[SAME, 0]), 1, &[]).is_none());
    assert!(take(&mut Reader::new(&[BINARY, 63, 0, 0]), 1, &[]).is_none());
}
