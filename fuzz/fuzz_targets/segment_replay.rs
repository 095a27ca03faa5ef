//! Any bytes as a segment of the disk queue, and as records whose checksums are right: what is read of them is bounded, in
//! order, and comes back when it is written again.
#![no_main]

use edge_metrics_exporter::remote_write::queue::block::{Block, MAX_SAMPLES};
use edge_metrics_exporter::remote_write::queue::record::{self, Kind, Records};
use edge_metrics_exporter::remote_write::queue::segment::{Found, Replay, Writer};
use edge_metrics_exporter::remote_write::queue::series::MAX_SERIES;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match bytes {
        [b'r', rest @ ..] => check(&records(rest)),
        _ => check(bytes),
    }
});

/// The bytes as a row of records: kind, samples, length, and so many bytes.
fn records(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let [kind, s0, s1, l0, l1, rest @ ..] = bytes {
        let (held, rest) =
            rest.split_at(rest.len().min(usize::from(u16::from_le_bytes([*l0, *l1]))));
        let kind = [Kind::Header, Kind::Series, Kind::Block][usize::from(kind % 3)];
        let samples = usize::from(u16::from_le_bytes([*s0, *s1]));
        record::put(&mut out, kind, samples, |out| out.extend(held));
        bytes = rest;
    }
    out
}

fn check(bytes: &[u8]) {
    let (blocks, _) = read(bytes);
    let Some(first) = blocks.first() else {
        return;
    };
    let mut again = Vec::new();
    let mut writer = Writer::begin([7; 16], first, &mut again);
    for block in &blocks {
        assert!(writer.put(block, &mut again));
    }
    let (back, damaged) = read(&again);
    assert_eq!((back.len(), damaged), (blocks.len(), 0));
    assert!(back == blocks);
}

/// The blocks, and how many records were damaged.
fn read(bytes: &[u8]) -> (Vec<Block>, usize) {
    let mut replay = Replay::default();
    let mut records = Records::from(bytes, 0);
    let (mut blocks, mut damaged, mut series) = (Vec::new(), 0, 0);
    let mut at = 0;
    while let Some(found) = replay.next(&mut records) {
        assert!(records.at() > at && records.at() <= bytes.len());
        at = records.at();
        let block = match &found {
            Found::Block(stored) => replay.block(stored),
            Found::Damaged(_) => None,
        };
        let Some(block) = block else {
            damaged += 1;
            continue;
        };
        assert!(!block.runs.is_empty() && block.runs.len() <= MAX_SERIES);
        assert!(block.samples() <= MAX_SAMPLES);
        for run in &block.runs {
            assert!(!run.samples.is_empty());
            assert!(run.samples.windows(2).all(|two| two[0].0 < two[1].0));
        }
        series += block.runs.len();
        blocks.push(block);
        // Enough of them for one input.
        if series > 2000 {
            break;
        }
    }
    (blocks, damaged)
}
