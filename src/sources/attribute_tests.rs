use super::*;
use crate::sys::temp_dir::TempDir;

#[test]
fn value_that_becomes_invalid_is_read_again_when_it_is_valid() {
    let dir = TempDir::new();
    let path = dir.path().join("power1_input");
    std::fs::write(&path, "1500000\n").unwrap();
    let health = Arc::new(Health::default());
    let mut attribute = Attribute::new(&health, &path);
    assert_eq!(attribute.read(), Some(1_500_000));
    std::fs::write(&path, "garbage").unwrap();
    assert_eq!(attribute.read(), None);
    std::fs::write(&path, "").unwrap();
    assert_eq!(attribute.read(), None);
    assert_eq!(health.errors(), 2);
    std::fs::write(&path, "2500000\n").unwrap();
    assert_eq!(attribute.read(), Some(2_500_000));
}

#[test]
fn missing_file_is_not_tried_again_at_once() {
    let health = Arc::new(Health::default());
    let mut attribute = Attribute::new(&health, "/nonexistent/in1_input");
    assert_eq!(attribute.read(), None);
    assert_eq!(attribute.read(), None);
    assert!(
        attribute.failing,
        "the second read did not try to open the file"
    );
    assert_eq!(health.errors(), 1);
}

#[test]
fn fifo_is_refused_instead_of_blocking() {
    let dir = TempDir::new();
    let path = dir.path().join("in1_input");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let health = Arc::new(Health::default());
    assert_eq!(Attribute::new(&health, &path).read(), None);
    let error = read_text(&health, &path).unwrap_err();
    assert!(error.to_string().ends_with("in1_input is not a file"));
}
