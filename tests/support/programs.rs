//! Executables that a test creates. A child process writes them: a file that this process writes may be inherited, open for
//! writing, by a child that another thread has just forked, and executing it would fail with ETXTBSY.

use std::path::Path;
use std::process::Command;

/// Makes a file that this process has written executable.
pub fn make_executable(path: &Path) {
    let script = "cp \"$0\" \"$0.new\" && chmod 755 \"$0.new\" && mv \"$0.new\" \"$0\"";
    let mut sh = Command::new("sh");
    let status = sh.args(["-c", script]).arg(path).status();
    assert!(status.unwrap().success());
}

/// Copies an executable.
pub fn copy_program(from: &Path, to: &Path) {
    let status = Command::new("cp").arg(from).arg(to).status();
    assert!(status.unwrap().success());
}
