//! Temporary directories of tests: of the integration tests and, as `sys::temp_dir`, of the unit tests.
#![allow(dead_code, unreachable_pub)]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A new directory, removed when this is dropped.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> TempDir {
        // A new name: a killed test leaves its files behind.
        let name = std::env::temp_dir().join("edge-metrics-test-XXXXXX");
        let dir = nix::unistd::mkdtemp(&name).unwrap();
        // A test may start programs as another user, who has to reach its files.
        std::fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
        TempDir(dir)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file and creates its directories. An existing file that is not longer is overwritten in place, as the kernel's
    /// files change: a reader never finds it empty.
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
