//! A place for a test's files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of its own for each test, gone afterwards.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> TempDir {
        static N: AtomicU32 = AtomicU32::new(0);
        let n = N.fetch_add(1, Ordering::Relaxed);
        let name = format!("edge-metrics-test-{}-{n}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        TempDir(dir)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, with the directories above it. One that is as long or shorter is written over, as the kernel's are:
    /// whoever reads it meanwhile never finds it empty.
    pub fn write(&self, path: &str, content: &str) -> PathBuf {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let is_covered = |meta: std::fs::Metadata| meta.len() <= content.len() as u64;
        let covered = std::fs::metadata(&path).is_ok_and(is_covered);
        let mut file = std::fs::OpenOptions::new();
        let file = file.write(true).create(true).truncate(!covered);
        let mut file = file.open(&path).unwrap();
        std::io::Write::write_all(&mut file, content.as_bytes()).unwrap();
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
