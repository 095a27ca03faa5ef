use super::*;
use crate::sys::temp_dir::TempDir;

#[test]
fn a_value_that_vanishes_comes_back() {
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
fn a_file_that_is_left_alone_has_not_recovered() {
    let health = Arc::new(Health::default());
    let mut attribute = Attribute::new(&health, "/nonexistent/in1_input");
    assert_eq!(attribute.read(), None);
    assert_eq!(attribute.read(), None);
    assert!(attribute.failing, "it was not even tried");
    assert_eq!(health.errors(), 1);
}

#[test]
fn a_fifo_is_refused_instead_of_waited_for() {
    let dir = TempDir::new();
    let path = dir.path().join("in1_input");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let health = Arc::new(Health::default());
    assert_eq!(Attribute::new(&health, &path).read(), None);
    let error = read_text(&health, &path).unwrap_err();
    assert!(error.to_string().ends_with("in1_input is not a file"));
}
