//! The MSR device files of a fixture board, which cannot be committed.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::TempDir;

/// The board's tree, or a copy with MSR device files if it has any.
pub fn with_registers(board: &Path, temp: &TempDir) -> PathBuf {
    let Ok(registers) = std::fs::read_to_string(board.join("msr.txt")) else {
        return board.to_path_buf();
    };
    let tree = temp.path().join("board");
    let copied = Command::new("cp").arg("-a").arg(board).arg(&tree).status();
    assert!(copied.unwrap().success());
    for line in registers.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let Some(cpu) = words.next() else { continue };
        let mut number = || {
            let word = words.next().unwrap().trim_start_matches("0x");
            u64::from_str_radix(word, 16).unwrap()
        };
        let (register, value) = (number(), number());
        let path = tree.join("dev/cpu").join(cpu).join("msr");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Register n is at offset 8 n of a sparse file. (The device uses n as the offset; in a file, registers would overlap.)
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(false)
            .write(true)
            .truncate(false)
            .open(path);
        file.unwrap()
            .write_all_at(&value.to_le_bytes(), register * 8)
            .unwrap();
    }
    tree
}
