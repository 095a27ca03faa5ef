//! The program's allocator: it returns memory to the kernel after a burst, and preserves the contents of blocks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::alloc::{GlobalAlloc, Layout};
use std::net::SocketAddr;
use std::sync::Mutex;

use edge_metrics_exporter::sys::heap::{give_back, Heap};
use support::{exporter, try_get, wait_until, Exporter, TempDir};

#[global_allocator]
static HEAP: Heap = Heap;

/// Memory is measured of the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Anonymous memory of a process in KiB.
fn anonymous(process: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("Anonymous:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

/// Blocks of many sizes, each filled with its own byte.
fn fill(count: usize) -> Vec<Vec<u8>> {
    let block = |n: usize| vec![n as u8; 24 + n * 7919 % 6000];
    (0..count).map(block).collect()
}

fn is_whole(block: &[u8]) -> bool {
    block.iter().all(|byte| *byte == block[0])
}

#[test]
fn freed_memory_between_live_blocks_is_returned_to_the_kernel() {
    let _alone = ALONE.lock().unwrap();
    give_back();
    let before = anonymous("self");
    let mut blocks = fill(16_000);
    let full = anonymous("self");
    assert!(full > before + 40_000, "{before} {full} KiB");
    // Every hundredth stays: neither the end of the heap nor a whole segment of it is free.
    let mut n = 0;
    blocks.retain(|_| {
        n += 1;
        n % 100 == 0
    });
    blocks.shrink_to_fit();
    give_back();
    let after = anonymous("self");
    assert!(after < before + 6_000, "{before} {full} {after} KiB");
    assert!(blocks.iter().all(|block| is_whole(block)));
    // The returned memory can be allocated again, repeatedly.
    for _ in 0..3 {
        let more = fill(4_000);
        give_back();
        assert!(more.iter().chain(&blocks).all(|block| is_whole(block)));
        drop(more);
        give_back();
        assert!(anonymous("self") < before + 6_000);
    }
}

#[test]
fn blocks_keep_their_contents_when_resized() {
    let _alone = ALONE.lock().unwrap();
    let mut block: Vec<u8> = Vec::new();
    for size in [
        1,
        100,
        70_000,
        131_071,
        131_072,
        131_073,
        5 << 20,
        200_000,
        4_096,
        20 << 20,
        1,
    ] {
        let kept = block.len().min(size);
        block.resize(size, 0);
        block.shrink_to_fit();
        assert!((0..kept).all(|n| block[n] == n as u8), "{size}");
        (0..size).for_each(|n| block[n] = n as u8);
    }
    assert!(vec![0_u64; 1 << 20].iter().all(|word| *word == 0));
    for align in [1, 16, 64, 4096, 65536] {
        for size in [1, 5000, 200_000] {
            let layout = Layout::from_size_align(size, align).unwrap();
            #[allow(unsafe_code)]
            // SAFETY: a block of this layout, written within its size, and freed once with the layout that it has.
            unsafe {
                let block = HEAP.alloc_zeroed(layout);
                assert!(!block.is_null() && block as usize % align == 0);
                assert_eq!((block.read(), block.add(size - 1).read()), (0, 0));
                block.write(7);
                let grown = HEAP.realloc(block, layout, size * 3);
                assert!(grown as usize % align == 0 && grown.read() == 7);
                HEAP.dealloc(grown, Layout::from_size_align(size * 3, align).unwrap());
                // An allocation that cannot succeed returns null.
                let much = Layout::from_size_align(isize::MAX as usize - align, align).unwrap();
                assert!(HEAP.alloc(much).is_null());
            }
        }
    }
}

#[test]
fn threads_allocate_while_memory_is_returned() {
    let _alone = ALONE.lock().unwrap();
    std::thread::scope(|scope| {
        for thread in 1..5 {
            scope.spawn(move || {
                let mut kept = Vec::new();
                for round in 0..20 {
                    let mut blocks = fill(300);
                    kept.extend(blocks.pop());
                    kept.push(vec![thread; 150_000 + round * 5000]);
                    assert!(blocks.iter().chain(&kept).all(|block| is_whole(block)));
                }
            });
        }
        for _ in 0..50 {
            give_back();
            std::thread::yield_now();
        }
    });
}

/// A board with some thousand series.
fn board() -> TempDir {
    let dir = TempDir::new();
    for chip in 0..60 {
        let chip = dir.path().join(format!("sys/class/hwmon/hwmon{chip}"));
        std::fs::create_dir_all(&chip).unwrap();
        std::fs::write(chip.join("name"), "chip\n").unwrap();
        for n in 1..9 {
            for (kind, value) in [("in", "12000"), ("curr", "1000"), ("power", "12000000")] {
                std::fs::write(chip.join(format!("{kind}{n}_input")), value).unwrap();
            }
        }
    }
    dir
}

fn burst(address: SocketAddr) {
    std::thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(move || {
                for _ in 0..4 {
                    // Scrapes beyond the limit are refused.
                    let _ = try_get(address, "/metrics");
                }
            });
        }
    });
}

#[test]
fn exporter_returns_memory_after_a_burst_of_scrapes() {
    let _alone = ALONE.lock().unwrap();
    let dir = board();
    let mut command = exporter();
    command.arg("--path.sysfs").arg(dir.path().join("sys"));
    // Without a history, which would grow.
    let config = dir.write("config.yaml", "history: {seconds: 0}\n");
    command.arg("--config").arg(config);
    let exporter = Exporter::start(&mut command);
    wait_until("the readings", || {
        let scraped = try_get(exporter.metrics, "/metrics")?.text();
        (scraped.len() > 100_000).then_some(())
    });
    let process = exporter.child.id().to_string();
    let before = anonymous(&process);
    burst(exporter.metrics);
    wait_until("the memory is given back", || {
        let after = anonymous(&process);
        (after < before + 1_500).then_some(())
    });
}
