use super::super::testing::Random;
use super::*;

fn round_trip(values: &[f64]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, values);
    let mut reader = Reader::new(&out);
    let again = take(&mut reader, values.len()).unwrap();
    let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&again), bits(values));
    assert!(reader.rest.is_empty());
    out
}

/// The code of a column, and its bytes when a record has compressed it.
fn way(values: &[f64]) -> (u8, usize) {
    let out = round_trip(values);
    (
        out[0],
        snap::raw::Encoder::new().compress_vec(&out).unwrap().len(),
    )
}

#[test]
fn every_bit_of_any_column_comes_back() {
    let mut random = Random::new(1);
    for round in 0..400 {
        let kind = round % 10;
        let mut value = 41.5;
        let rows = random.below(60) as usize;
        let values = std::iter::repeat_with(|| {
            value = random.value(kind, value);
            value
        });
        round_trip(&values.take(rows).collect::<Vec<_>>());
    }
}

#[test]
fn values_of_each_kind_of_meter_get_a_suitable_code() {
    let mut random = Random::new(2);
    let (_, length) = way(&[0.1 + 0.2; 1000]);
    assert!(length < 50, "{length}");
    // hwmon's millivolts, which waver.
    let volts: Vec<f64> = (0..1000)
        .map(|_| (12_000 + random.below(9)) as f64 / 1000.0)
        .collect();
    let (code, length) = way(&volts);
    assert!(code == TEN + 3 && length < 1100, "{code} {length}");
    // A temperature that changes once a second, read a thousand times a second.
    let degrees: Vec<f64> = (0..5000)
        .map(|i| (41_500 + i / 1000) as f64 / 1000.0)
        .collect();
    let (code, length) = way(&degrees);
    assert!(code == TEN + 3 && length < 100, "{code} {length}");
    // RAPL's microjoules, summed up as the energy's counter is: each sum a little beside the quotient.
    let mut joules = 1841.93;
    let sums = std::iter::repeat_with(|| {
        joules += (15_000 + random.below(500)) as f64 * 1e-6;
        joules
    });
    let sums: Vec<f64> = sums.take(1000).collect();
    let (code, length) = way(&sums);
    assert!(
        code == (TEN + 6) | HAS_DISTANCES && length < 3500,
        "{code} {length}"
    );
    // The same in a processor's own units of 2^-14 J.
    let mut units = 1 << 24;
    let joules = std::iter::repeat_with(|| {
        units += 250 + random.below(20);
        units as f64 / 16_384.0
    });
    let joules: Vec<f64> = joules.take(1000).collect();
    let (code, length) = way(&joules);
    assert!(code == TWO + 14 && length < 2200, "{code} {length}");
    let noise: Vec<f64> = (0..1000).map(|_| 15.0 + random.fraction()).collect();
    let (code, length) = way(&noise);
    assert!(length < 7000, "{code} {length}");
}

#[test]
fn random_bits_are_written_as_they_are() {
    let mut random = Random::new(3);
    let values: Vec<f64> = (0..1000).map(|_| f64::from_bits(random.next())).collect();
    let (code, length) = way(&values);
    assert!(code == BITS && length < 8200, "{code} {length}");
}

#[test]
fn staleness_marker_costs_only_itself() {
    let volts: Vec<f64> = (0..1000)
        .map(|i| f64::from(12_000 + i % 9) / 1000.0)
        .collect();
    let marked = [&volts[..], &[crate::metrics::ABSENT]].concat();
    assert!(way(&marked).1 < way(&volts).1 + 50);
}

#[test]
fn truncated_and_unknown_columns_are_rejected() {
    let mut out = Vec::new();
    put(&mut out, &[1.0, 2.0, 0.1 + 0.2]);
    for length in 0..out.len() {
        assert!(take(&mut Reader::new(&out[..length]), 3).is_none());
    }
    for code in [TWO + MAX_BITS + 1, !HAS_DISTANCES, BITS | HAS_DISTANCES, !0] {
        assert!(take(&mut Reader::new(&[code, 0, 0, 0, 0, 0, 0]), 1).is_none());
    }
}
