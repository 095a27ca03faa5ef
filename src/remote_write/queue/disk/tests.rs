use crate::sys::temp_dir::TempDir;

use super::super::record::{self, Item, Kind};
use super::super::testing::{block, series, Random};
use super::*;
use std::fs::OpenOptions;

const BOOT: BootId = [1; 16];
const MIB: u64 = 1 << 20;

fn blocks(seed: u64, count: usize) -> Vec<Block> {
    let mut random = Random::new(seed);
    let sources = [series("rapl", 3), series("hwmon", 2)];
    let one = |i: usize| block(&mut random, &sources[i % 2], 10, 1000);
    (0..count).map(one).collect()
}

fn open(place: &TempDir, max_bytes: u64) -> Disk {
    Disk::open(place.path(), max_bytes, BOOT).unwrap()
}

fn samples(blocks: &[Block]) -> u64 {
    blocks.iter().map(|block| block.samples() as u64).sum()
}

/// Takes and marks as sent all blocks.
fn drain(disk: &mut Disk, max_samples: usize) -> Vec<Block> {
    let mut all = Vec::new();
    loop {
        let taken = disk.take(max_samples);
        let Some(last) = taken.last() else {
            return all;
        };
        let end = last.end;
        let sent = taken.iter().map(|t| t.block.samples() as u64).sum();
        all.extend(taken.into_iter().map(|taken| taken.block));
        disk.sent(end, sent);
    }
}

fn assert_all_same(back: &[Block], blocks: &[Block]) {
    assert!(back == blocks, "{} of {}", back.len(), blocks.len());
}

fn files(place: &TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(place.path()).unwrap();
    let mut names: Vec<_> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn blocks_come_out_once_in_order_and_leave_no_files() {
    let place = TempDir::new();
    let mut disk = open(&place, MIB);
    let all = blocks(1, 400);
    for some in all.chunks(7) {
        disk.append(some).unwrap();
    }
    assert_eq!(disk.samples(), samples(&all));
    let on_disk: u64 = files(&place)
        .iter()
        .filter(|name| name.ends_with(".segment"))
        .map(|name| std::fs::metadata(place.path().join(name)).unwrap().len())
        .sum();
    assert_eq!(on_disk, disk.bytes());
    assert_eq!(disk.written(), disk.bytes());
    // The same blocks come until they are marked as sent.
    let first = disk.take(50);
    assert_eq!(first.len(), disk.take(50).len());
    assert_all_same(&drain(&mut disk, 50), &all);
    assert!(disk.is_empty() && disk.samples() == 0 && disk.bytes() == 0);
    assert_eq!(files(&place), ["lock", "sent"]);
    assert_eq!(disk.lost(), Lost::default());
    // And again.
    disk.append(&all[..9]).unwrap();
    assert_all_same(&drain(&mut disk, 1), &all[..9]);
}

#[test]
fn blocks_appended_while_reading_come_out_too() {
    let place = TempDir::new();
    let mut disk = open(&place, MIB);
    let all = blocks(2, 300);
    let mut back = Vec::new();
    for (i, block) in all.iter().enumerate() {
        disk.append(std::slice::from_ref(block)).unwrap();
        if i % 3 == 0 {
            let mut taken = disk.take(1);
            let taken = taken.pop().unwrap();
            disk.sent(taken.end, taken.block.samples() as u64);
            back.push(taken.block);
        }
    }
    back.extend(drain(&mut disk, 1000));
    assert_all_same(&back, &all);
}

#[test]
fn killed_process_continues_where_it_was() {
    let place = TempDir::new();
    let all = blocks(3, 300);
    let mut back = Vec::new();
    for (round, some) in all.chunks(30).enumerate() {
        let mut disk = open(&place, MIB);
        disk.append(some).unwrap();
        if round % 2 == 0 {
            disk.sync().unwrap();
        }
        for _ in 0..20 {
            let taken = disk.take(1).pop().unwrap();
            disk.sent(taken.end, taken.block.samples() as u64);
            back.push(taken.block);
        }
        // The process does not end cleanly: what the kernel has been given stays.
    }
    let mut disk = open(&place, MIB);
    assert_eq!(disk.samples(), samples(&all[back.len()..]));
    back.extend(drain(&mut disk, 1000));
    assert_all_same(&back, &all);
}

#[test]
fn oldest_segment_is_dropped_at_the_limit_and_counted() {
    let place = TempDir::new();
    let mut disk = open(&place, 64 * 1024);
    let all = blocks(4, 600);
    for block in &all {
        disk.append(std::slice::from_ref(block)).unwrap();
        assert!(disk.bytes() <= 64 * 1024);
        assert_eq!(
            disk.samples() + disk.lost().full,
            samples(&all[..]).min(disk.samples() + disk.lost().full)
        );
    }
    let lost = disk.lost().full;
    assert!(lost > 0);
    assert_eq!(disk.samples() + lost, samples(&all));
    // Less than a sixteenth is dropped at a time.
    assert!(disk.bytes() > 56 * 1024, "{}", disk.bytes());
    let back = drain(&mut disk, 100);
    assert_eq!(samples(&back) + lost, samples(&all));
    assert_all_same(&back, &all[all.len() - back.len()..]);
}

#[test]
fn lowered_limit_holds_from_the_start() {
    let place = TempDir::new();
    let mut disk = open(&place, MIB);
    disk.append(&blocks(5, 1200)).unwrap();
    let (had, bytes) = (disk.samples(), disk.bytes());
    assert!(bytes > 100_000);
    drop(disk);
    let disk = open(&place, 80_000);
    assert!((1..=80_000).contains(&disk.bytes()));
    assert_eq!(disk.samples() + disk.lost().full, had);
}

#[test]
fn number_of_files_is_limited() {
    let place = TempDir::new();
    let one = blocks(6, 1);
    for _ in 0..MAX_SEGMENTS + 20 {
        open(&place, MIB).append(&one).unwrap();
    }
    assert!(files(&place).len() <= MAX_SEGMENTS + 2);
    let mut disk = open(&place, MIB);
    assert!(drain(&mut disk, 1).len() >= MAX_SEGMENTS - 2);
}

#[test]
fn damaged_segments_cost_only_what_is_damaged() {
    let place = TempDir::new();
    let mut random = Random::new(7);
    for round in 0..60 {
        let mut disk = open(&place, MIB);
        let all = blocks(round, 60);
        disk.append(&all).unwrap();
        drop(disk);
        let name = files(&place)
            .into_iter()
            .find(|name| name.ends_with(".segment"))
            .unwrap();
        let path = place.path().join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        match round % 3 {
            0 => bytes.truncate(random.below(bytes.len() as u64) as usize),
            1 => {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << random.below(8);
            }
            _ => {
                let at = random.below(bytes.len() as u64) as usize;
                bytes.splice(at..at, (0..random.below(200)).map(|_| random.next() as u8));
            }
        }
        std::fs::write(&path, &bytes).unwrap();
        let mut disk = open(&place, MIB);
        // Blocks that are appended now are not affected.
        let more = blocks(round + 1000, 5);
        disk.append(&more).unwrap();
        let back = drain(&mut disk, 100);
        assert_all_same(&back[back.len() - 5..], &more);
        let lost = samples(&all) + samples(&more) - samples(&back);
        assert!(disk.lost().damaged <= lost);
        assert!(disk.is_empty() && disk.samples() == 0);
    }
}

#[test]
fn foreign_files_in_the_directory_are_ignored() {
    let place = TempDir::new();
    std::fs::write(place.path().join("0000000003.segment"), vec![0xe9; 300_000]).unwrap();
    std::fs::write(place.path().join("0000000004.segment"), "").unwrap();
    std::fs::create_dir(place.path().join("0000000005.segment")).unwrap();
    std::fs::write(place.path().join("sent"), "?").unwrap();
    let mut disk = open(&place, MIB);
    assert_eq!(disk.samples(), 0);
    let all = blocks(8, 5);
    disk.append(&all).unwrap();
    assert_all_same(&drain(&mut disk, 100), &all);
    assert!(disk.lost().damaged_records > 0);
}

#[test]
fn segment_of_another_format_is_dropped_and_counted() {
    let place = TempDir::new();
    let all = blocks(8, 5);
    open(&place, MIB).append(&all).unwrap();
    let path = place.path().join("0000000001.segment");
    let bytes = std::fs::read(&path).unwrap();
    let mut other = Vec::new();
    for record in Records::from(&bytes, 0) {
        let Item::Record {
            kind,
            samples,
            content,
        } = record
        else {
            panic!("{record:?}");
        };
        let mut content = content.into_owned();
        if kind == Kind::Header {
            content[0] = VERSION - 1;
        }
        record::put(&mut other, kind, samples, |out| out.extend(content));
    }
    std::fs::write(&path, other).unwrap();
    let mut disk = open(&place, MIB);
    assert_eq!(disk.lost().damaged, samples(&all));
    assert_eq!(disk.lost().damaged_records, 1);
    assert!(!path.exists());
    disk.append(&all).unwrap();
    assert_all_same(&drain(&mut disk, 100), &all);
}

#[test]
fn vanished_segment_is_skipped_and_counted() {
    let place = TempDir::new();
    let all = blocks(9, 40);
    open(&place, MIB).append(&all[..20]).unwrap();
    let mut disk = open(&place, MIB);
    disk.append(&all[20..]).unwrap();
    drop(std::mem::take(&mut disk.loaded));
    std::fs::remove_file(place.path().join("0000000001.segment")).unwrap();
    assert_all_same(&drain(&mut disk, 100), &all[20..]);
    assert_eq!(disk.lost().damaged, samples(&all[..20]));
}

#[test]
fn full_disk_keeps_its_blocks_and_takes_more_later() {
    let place = TempDir::new();
    let mut disk = open(&place, MIB);
    let all = blocks(10, 40);
    disk.append(&all[..20]).unwrap();
    // A full disk: not one byte is written, neither to a file that exists nor to a new one.
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    disk.active.as_mut().unwrap().file = full;
    let error = disk.append(&all[20..]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    let moved = place.path().with_extension("moved");
    std::fs::rename(place.path(), &moved).unwrap();
    assert!(disk.append(&all[20..]).is_err());
    std::fs::rename(&moved, place.path()).unwrap();
    disk.append(&all[20..]).unwrap();
    assert_all_same(&drain(&mut disk, 100), &all);
    assert_eq!(disk.lost(), Lost::default());
}

#[test]
fn last_clock_of_each_boot_is_known_to_the_next() {
    let place = TempDir::new();
    let mut all = blocks(11, 3);
    for (block, (nanos, right)) in all.iter_mut().zip([(5, true), (7, true), (1, false)]) {
        (block.clock.nanos, block.clock.right) = (nanos, right);
    }
    let mut disk = open(&place, MIB);
    disk.append(&all).unwrap();
    assert_eq!(disk.clock(&BOOT), Some(7));
    drop(disk);
    let mut disk = Disk::open(place.path(), MIB, [2; 16]).unwrap();
    all[0].clock.right = false;
    disk.append(&all[..1]).unwrap();
    assert_eq!(disk.clock(&BOOT), Some(7));
    assert_eq!(disk.clock(&[2; 16]), None);
    let boots: Vec<_> = disk.take(1000).iter().map(|taken| taken.boot).collect();
    assert_eq!(boots, [BOOT; 3]);
}

#[test]
fn position_in_a_dropped_segment_is_ignored() {
    let place = TempDir::new();
    let mut disk = open(&place, 64 * 1024);
    disk.append(&blocks(12, 10)).unwrap();
    let taken = disk.take(1).pop().unwrap();
    disk.append(&blocks(13, 600)).unwrap();
    let (samples, sent) = (disk.samples(), disk.sent);
    assert!(sent > taken.end);
    disk.sent(taken.end, taken.block.samples() as u64);
    assert_eq!((disk.samples(), disk.sent), (samples, sent));
}
