use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A temporary directory, removed on drop.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static N: AtomicU32 = AtomicU32::new(0);
        let n = N.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("eme-save-{}-{n}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        Dir(dir)
    }

    fn file(&self, content: &str) -> PathBuf {
        let path = self.0.join("config.yaml");
        fs::write(&path, content).unwrap();
        path
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn append(text: &str) -> Result<String, Diagnostic> {
    Ok(format!("{text}x"))
}

#[test]
fn replaced_file_keeps_mode_and_owner() {
    let dir = Dir::new();
    let path = dir.file("a");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(1234), Some(4321)).unwrap();
    }
    let before = fs::metadata(&path).unwrap();
    let update = update(&path, append).unwrap();
    assert_eq!((&*update.before, &*update.after), (&b"a"[..], &b"ax"[..]));
    assert_eq!(fs::read(&path).unwrap(), b"ax");
    let after = fs::metadata(&path).unwrap();
    assert_ne!(after.ino(), before.ino());
    let same = |m: &Metadata| (m.mode(), m.uid(), m.gid());
    assert_eq!(same(&after), same(&before));
    assert_eq!(dir.names(), ["config.yaml"]);
}

#[test]
fn unchanged_text_is_not_written() {
    let dir = Dir::new();
    let path = dir.file("a");
    let before = fs::metadata(&path).unwrap();
    update(&path, |text| Ok(text.to_owned())).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().ino(), before.ino());
}

#[test]
fn links_are_followed_and_stale_temporary_files_are_removed() {
    let dir = Dir::new();
    let path = dir.file("a");
    fs::create_dir(dir.0.join("etc")).unwrap();
    let link = dir.0.join("etc/link.yaml");
    symlink("../config.yaml", &link).unwrap();
    fs::write(dir.0.join(".config.yaml.new"), "half of someth").unwrap();
    update(&link, append).unwrap();
    assert!(link.is_symlink());
    assert_eq!(fs::read(&path).unwrap(), b"ax");
    assert_eq!(dir.names(), ["config.yaml", "etc"]);
}

#[test]
fn a_link_in_place_of_the_temporary_file_is_not_followed() {
    let dir = Dir::new();
    let path = dir.file("a");
    let victim = dir.0.join("victim");
    fs::write(&victim, "mine").unwrap();
    symlink("victim", dir.0.join(".config.yaml.new")).unwrap();
    update(&path, append).unwrap();
    assert_eq!(fs::read(&victim).unwrap(), b"mine");
    assert_eq!(fs::read(&path).unwrap(), b"ax");
}

#[test]
fn concurrent_edit_by_another_program_is_kept() {
    let dir = Dir::new();
    let path = dir.file("a");
    let calls = AtomicU32::new(0);
    let update = update(&path, |text| {
        if calls.fetch_add(1, Ordering::Relaxed) == 0 {
            fs::write(&path, "by hand").unwrap();
        }
        append(text)
    });
    assert_eq!(update.unwrap().before, b"by hand");
    assert_eq!(fs::read(&path).unwrap(), b"by handx");
}

#[test]
fn concurrent_updates_are_both_kept() {
    let dir = Dir::new();
    let path = dir.file("");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..20 {
                    update(&path, append).unwrap();
                }
            });
        }
    });
    assert_eq!(fs::read(&path).unwrap(), "x".repeat(40).as_bytes());
}

#[test]
fn refused_edit_changes_nothing_and_names_the_line() {
    let dir = Dir::new();
    let path = dir.file("a");
    let refuse = |_: &str| Err(Diagnostic::at(3, 1, "no".into()));
    let error = update(&path, refuse).unwrap_err().to_string();
    assert_eq!(error, format!("{}:3:1: no", path.display()));
    assert_eq!(dir.names(), ["config.yaml"]);

    fs::write(&path, b"\xff").unwrap();
    let error = update(&path, append).unwrap_err().to_string();
    assert!(error.contains("UTF-8"), "{error}");
    let error = update(&dir.0.join("none"), append).unwrap_err().to_string();
    assert!(error.contains("cannot read"), "{error}");
    let error = update(Path::new("/dev/null"), append);
    assert!(matches!(error, Err(SaveError::Write { .. })), "{error:?}");
}

#[test]
fn read_only_file_is_not_replaced() {
    let dir = Dir::new();
    let path = dir.file("a");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    // Root may write any file.
    if !nix::unistd::geteuid().is_root() {
        let error = update(&path, append).unwrap_err().to_string();
        assert!(error.contains("must own the file"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"a");
    }
}
