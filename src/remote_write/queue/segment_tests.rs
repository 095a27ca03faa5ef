#![allow(clippy::print_stdout)]

use super::super::testing::{block, series, Random};

use super::*;
use crate::remote_write::Run;

const BOOT: BootId = [7; 16];

/// A segment of blocks of two sources in turn.
fn segment(blocks: usize, rows: usize) -> (Vec<u8>, Vec<Block>) {
    let mut random = Random::new(4);
    let sources = [series("rapl", 3), series("hwmon", 2)];
    let blocks: Vec<_> = (0..blocks)
        .map(|i| block(&mut random, &sources[i % 2], rows, 1000))
        .collect();
    let mut bytes = Vec::new();
    let mut writer = Writer::begin(BOOT, &blocks[0], &mut bytes);
    assert!(blocks.iter().all(|block| writer.put(block, &mut bytes)));
    (bytes, blocks)
}

/// The same segment as if it had been written in another boot.
pub(in super::super) fn in_another_boot(bytes: &[u8]) -> Vec<u8> {
    let mut replay = Replay::default();
    replay.next(&mut Records::from(bytes, 0));
    let mut header = *replay.header().unwrap();
    header.boot = header.boot.map(|byte| !byte);
    let mut out = Vec::new();
    header.put(&mut out);
    header.put(&mut out);
    out.extend(&bytes[out.len()..]);
    out
}

/// The blocks that can be read, and how many samples are known to be lost.
fn read(bytes: &[u8]) -> (Vec<Block>, usize, usize) {
    let mut replay = Replay::default();
    let mut records = Records::from(bytes, 0);
    let (mut blocks, mut lost, mut damaged) = (Vec::new(), 0, 0);
    while let Some(found) = replay.next(&mut records) {
        let samples = match found {
            Found::Damaged(samples) => samples,
            Found::Block(stored) => match replay.block(&stored) {
                Some(block) => {
                    assert_eq!(replay.clock(&stored), Some(block.clock));
                    blocks.push(block);
                    continue;
                }
                None => stored.samples,
            },
        };
        lost += samples;
        damaged += 1;
    }
    (blocks, lost, damaged)
}

/// Asserts that what was read is a part of what was written, in order. Returns the missing samples.
fn missing(read: &[Block], written: &[Block]) -> usize {
    let mut rest = written.iter();
    let mut missing = 0;
    for back in read {
        let next = rest.by_ref().find(|block| {
            let same = *block == back;
            missing += if same { 0 } else { block.samples() };
            same
        });
        assert!(next.is_some(), "{back:?} was not written");
    }
    missing + rest.map(Block::samples).sum::<usize>()
}

#[test]
fn segment_comes_back() {
    let (bytes, blocks) = segment(20, 30);
    let (back, lost, damaged) = read(&bytes);
    assert_eq!((back.len(), lost, damaged), (20, 0, 0));
    assert_eq!(missing(&back, &blocks), 0);
}

#[test]
fn series_twice_in_a_block_takes_no_other_series_number() {
    let mut random = Random::new(9);
    let (twice, other) = (series("rapl", 1), series("hwmon", 1));
    let twice = [&twice[..], &twice].concat();
    let blocks = [
        block(&mut random, &twice, 3, 10),
        block(&mut random, &other, 3, 10),
    ];
    let mut bytes = Vec::new();
    let mut writer = Writer::begin(BOOT, &blocks[0], &mut bytes);
    assert!(blocks.iter().all(|block| writer.put(block, &mut bytes)));
    let (back, _, _) = read(&bytes);
    assert_eq!(missing(&back, &blocks), 0);
}

#[test]
fn rest_of_a_torn_segment_comes_back() {
    let (bytes, blocks) = segment(6, 4);
    let mut ends = Vec::new();
    for length in 0..bytes.len() {
        let (back, _, damaged) = read(&bytes[..length]);
        missing(&back, &blocks);
        assert!(damaged <= 1, "{length}");
        ends.push(back.len());
    }
    // One more at a time, and all but the last at the end.
    assert!(ends.windows(2).all(|two| two[1] - two[0] <= 1));
    assert_eq!(ends.last(), Some(&5));
}

#[test]
fn flipped_bit_costs_only_its_record_and_is_counted() {
    let (bytes, blocks) = segment(6, 4);
    let samples: usize = blocks.iter().map(Block::samples).sum();
    let of_first: usize = blocks.iter().step_by(2).map(Block::samples).sum();
    let mut worst = 0;
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let (back, lost, damaged) = read(&bad);
        let missing = missing(&back, &blocks);
        assert!(damaged >= 1, "bit {bit} flips unnoticed");
        // The content of a record with a damaged head is not known.
        assert!(lost <= missing, "bit {bit}: {lost} of {missing}");
        worst = worst.max(missing);
    }
    // At worst the series of one source are lost.
    assert!(
        worst <= of_first.max(samples - of_first),
        "{worst} of {samples}"
    );
}

#[test]
fn segment_without_header_or_of_another_version_is_counted_and_not_read() {
    let (bytes, blocks) = segment(4, 4);
    let samples: usize = blocks.iter().map(Block::samples).sum();
    let header = record::HEAD + 25;
    let (back, lost, _) = read(&bytes[2 * header..]);
    assert_eq!((back.len(), lost), (0, samples));
    let mut other = Vec::new();
    for _ in 0..2 {
        record::put(&mut other, Kind::Header, 0, |out| {
            out.push(VERSION + 1);
            out.extend(&bytes[record::HEAD + 1..header]);
        });
    }
    other.extend(&bytes[2 * header..]);
    assert_eq!(read(&other).1, samples);
    let mut replay = Replay::default();
    replay.next(&mut Records::from(&other, 0));
    assert_eq!(replay.other_version(), Some(VERSION + 1));
}

#[test]
fn garbage_is_no_segment() {
    let mut random = Random::new(5);
    let (bytes, _) = segment(6, 8);
    for _ in 0..300 {
        let mut bad = bytes.clone();
        for _ in 0..1 + random.below(20) {
            let at = random.below(bad.len() as u64) as usize;
            bad[at] = random.next() as u8;
        }
        read(&bad);
        let noise: Vec<u8> = (0..random.below(500))
            .map(|_| random.next() as u8)
            .collect();
        assert_eq!(read(&noise).0.len(), 0);
    }
}

/// Bytes a sample that a source's rows take, written as they are when the receiver is away: what ten seconds bring at a
/// time, for some minutes.
fn bytes_a_sample(width: usize, rate: usize, mut row: impl FnMut(&mut Random) -> Vec<f64>) -> f64 {
    let mut random = Random::new(6);
    let series = series("meter", width);
    let clock = ClockOffset {
        nanos: 1_795_219_200_123_456_789,
        right: true,
    };
    let (mut bytes, mut samples, mut writer) = (Vec::new(), 0, None);
    let mut tick = 5000 * rate as u64;
    for _ in 0..if rate == 1 { 180 } else { 6 } {
        let most = 4096 / width;
        let mut left = 10 * rate;
        while left > 0 {
            let runs = series.iter().map(|series| Run {
                series: Arc::clone(&series.identity),
                start: series.start,
                samples: Vec::new(),
            });
            let mut block = Block {
                clock,
                runs: runs.collect(),
            };
            for _ in 0..left.min(most) {
                // Some tens of microseconds late, and now and then half a millisecond.
                let late = 20_000 + random.below(60_000) + (random.below(100) / 99) * 500_000;
                let at = tick * (1_000_000_000 / rate as u64) + late;
                tick += 1;
                let stamp = (at as i64 + clock.nanos % 1_000_000) / 1_000_000;
                for (run, value) in block.runs.iter_mut().zip(row(&mut random)) {
                    run.samples.push((stamp, value.to_bits()));
                }
            }
            left -= left.min(most);
            samples += block.samples();
            let writer = writer.get_or_insert_with(|| Writer::begin(BOOT, &block, &mut bytes));
            assert!(writer.put(&block, &mut bytes));
        }
    }
    bytes.len() as f64 / samples as f64
}

#[test]
fn sample_of_a_slow_series_takes_four_bytes_at_most() {
    let mut report = Vec::new();
    for rate in [1, 10, 100, 1000] {
        // RAPL: the energy of a package, its cores and its memory, summed up from microjoules.
        let mut joules = [1841.93, 611.2, 80.0];
        report.push((
            "energy",
            rate,
            bytes_a_sample(3, rate, |random| {
                for (i, joules) in joules.iter_mut().enumerate() {
                    let watts = [15e6, 5e6, 2e6][i] as u64;
                    let each = watts / rate as u64;
                    *joules += (each + random.below(each / 100)) as f64 * 1e-6;
                }
                joules.to_vec()
            }),
        ));
        // hwmon: eight voltages in millivolts, which waver.
        report.push((
            "voltages",
            rate,
            bytes_a_sample(8, rate, |random| {
                let volts =
                    |random: &mut Random, i: u64| (1000 * i + random.below(12)) as f64 / 1000.0;
                (1..9).map(|i| volts(random, i)).collect()
            }),
        ));
        // One thermal zone by itself, whose reading changes every few seconds.
        let mut celsius = 41.5;
        let mut reads = 0;
        report.push((
            "temperature",
            rate,
            bytes_a_sample(1, rate, |random| {
                reads += 1;
                if reads % (2 * rate) == 0 {
                    celsius = (celsius * 2.0 + random.below(3) as f64 - 1.0) / 2.0;
                }
                vec![celsius]
            }),
        ));
    }
    for rate in [1, 10, 100, 1000] {
        // A board with all of these: three energies, eight voltages, one temperature.
        let of_rate = || report.iter().filter(|(_, r, _)| *r == rate);
        let total: f64 = of_rate()
            .zip([3.0, 8.0, 1.0])
            .map(|((_, _, bytes), series)| bytes * series)
            .sum();
        let board = total / 12.0;
        let each: Vec<_> = of_rate()
            .map(|(what, _, bytes)| format!("{what} {bytes:.2}"))
            .collect();
        let line = format!("{rate} Hz: {board:.2} bytes a sample ({})", each.join(", "));
        println!("{line}");
        assert!(board <= 4.0, "{line}");
        // Energies by themselves at 1 Hz take more: a second's joules are new in 18 bits of 20, in blocks of ten.
        assert!(
            of_rate().all(|(_, _, bytes)| *bytes <= if rate == 1 { 4.3 } else { 4.0 }),
            "{line}"
        );
    }
}
