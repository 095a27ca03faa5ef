//! Programs that a test places. It is a child that writes them: what this process writes, another thread's child may hold
//! open for writing as long as it is no more than forked, and then it cannot be run (ETXTBSY).

use std::path::Path;
use std::process::Command;

/// Makes a program of a file that was written here.
pub fn make_executable(path: &Path) {
    let script = "cp \"$0\" \"$0.new\" && chmod 755 \"$0.new\" && mv \"$0.new\" \"$0\"";
    let mut sh = Command::new("sh");
    let status = sh.args(["-c", script]).arg(path).status();
    assert!(status.unwrap().success());
}

/// A copy of a program, which can be run at once.
pub fn copy_program(from: &Path, to: &Path) {
    let status = Command::new("cp").arg(from).arg(to).status();
    assert!(status.unwrap().success());
}
