//! The terminal: switched to the screen of its own that a program may have, and back on every way out.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::termios::{
    tcgetattr, tcsetattr, LocalFlags, SetArg, SpecialCharacterIndices, Termios,
};

use super::line::Line;
use crate::sys::lock;
use crate::sys::terminal::size;

/// The alternate screen, without a cursor and without wrapping lines.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
/// The end of an update, plain characters, and the opposite of [`ENTER`].
const LEAVE: &str = "\x1b[?2026l\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";
/// A terminal shows what is between these at once, if it knows them.
const BEGIN_UPDATE: &str = "\x1b[?2026h";
const END_UPDATE: &str = "\x1b[?2026l";
/// How long a terminal that takes no output is waited for at the end.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(500);

/// How the terminal is given back, while it is taken.
static TAKEN: Mutex<Option<Taken>> = Mutex::new(None);

struct Taken {
    file: File,
    settings: Termios,
}

/// The process's terminal, while it is used.
pub(super) struct Terminal {
    file: File,
    /// What is still to be written.
    pending: Vec<u8>,
    /// What the terminal shows once that is written.
    shown: Vec<String>,
    colours: bool,
}

impl Terminal {
    /// Opens the controlling terminal. The error is a message for the user.
    pub(super) fn open(colours: bool) -> Result<Terminal, String> {
        // Opened anew, because standard output's own flags are shared with the shell: without blocking, a terminal that takes
        // nothing cannot keep the program from ending.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open("/dev/tty")
            .map_err(|e| format!("cannot open /dev/tty: {e}"))?;
        Ok(Terminal {
            file,
            pending: Vec::new(),
            shown: Vec::new(),
            colours,
        })
    }

    /// Takes the terminal: no line editing, no echo. Ctrl-C and Ctrl-Z stay signals, which all processes of the job get.
    pub(super) fn enter(&mut self) -> Result<(), String> {
        let cannot = |e: nix::Error| format!("cannot set up the terminal: {e}");
        let mut taken = lock::lock(&TAKEN);
        let settings = match taken.take() {
            // Another program, or the shell, may have changed them meanwhile; what is given back are the first ones.
            Some(taken) => taken.settings,
            None => tcgetattr(&self.file).map_err(cannot)?,
        };
        let mut raw = settings.clone();
        raw.local_flags
            .remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::IEXTEN);
        raw.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        raw.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        let file = self.file.try_clone().map_err(|e| e.to_string())?;
        *taken = Some(Taken { file, settings });
        drop(taken);
        tcsetattr(&self.file, SetArg::TCSANOW, &raw).map_err(cannot)?;
        self.pending.clear();
        self.pending.extend_from_slice(ENTER.as_bytes());
        self.shown.clear();
        Ok(())
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> (usize, usize) {
        let (columns, rows) = size(&self.file).unwrap_or((80, 24));
        (usize::from(columns), usize::from(rows))
    }

    /// The next draw writes every line.
    pub(super) fn forget_shown(&mut self) {
        self.shown.clear();
    }

    /// Whether the last drawing is not written yet.
    pub(super) fn is_behind(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Shows these lines. Nothing that is drawn may be pending.
    pub(super) fn draw(&mut self, lines: &[Line]) {
        let lines = lines.iter().map(|line| line.ansi(self.colours));
        let lines: Vec<_> = lines.collect();
        let mut out = String::from(BEGIN_UPDATE);
        let is_new = self.shown.is_empty();
        if is_new {
            out.push_str("\x1b[0m\x1b[2J");
        }
        for (row, line) in lines.iter().enumerate() {
            if self.shown.get(row) != Some(line) {
                out.push_str(&format!("\x1b[{};1H{line}", row + 1));
            }
        }
        if self.shown.len() > lines.len() {
            out.push_str(&format!("\x1b[{};1H\x1b[0m\x1b[J", lines.len() + 1));
        }
        out.push_str(END_UPDATE);
        self.pending.extend_from_slice(out.as_bytes());
        self.shown = lines;
    }

    /// Writes what the terminal takes now.
    pub(super) fn flush(&mut self) -> std::io::Result<()> {
        while !self.pending.is_empty() {
            match self.file.write(&self.pending) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => drop(self.pending.drain(..written)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What was typed. An error also if the terminal is gone.
    pub(super) fn read(&mut self) -> std::io::Result<Vec<u8>> {
        let mut bytes = [0; 256];
        match self.file.read(&mut bytes) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => Ok(bytes[..count].to_vec()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Vec::new()),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

/// Gives the terminal back as it was, if it is taken. Part of a drawing may be missing from it.
pub(super) fn give_back() {
    // A thread that panics while it holds the lock has not taken the terminal yet.
    let taken = TAKEN.try_lock().ok().and_then(|mut taken| taken.take());
    let Some(Taken { mut file, settings }) = taken else {
        return;
    };
    let deadline = Instant::now() + LEAVE_TIMEOUT;
    let mut left = LEAVE.as_bytes();
    while !left.is_empty() && Instant::now() < deadline {
        match file.write(left) {
            Ok(written) => left = left.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
                let _ = poll(&mut fds, PollTimeout::from(50u8));
            }
            Err(_) => break,
        }
    }
    // Not after the output (TCSADRAIN), which a terminal that takes nothing would never let end.
    let _ = tcsetattr(&file, SetArg::TCSANOW, &settings);
}

/// Has a panic of any thread give the terminal back before it is logged and the process ends.
pub(super) fn give_back_on_panic() {
    let log = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        give_back();
        log(panic);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const NAME: &str = "top::terminal::tests::panic_of_another_thread_gives_the_terminal_back";
    const IN_TERMINAL: &str = "EDGE_METRICS_TEST_PANICS_IN_THIS_TERMINAL";

    /// Takes the terminal, and ends as a program with `panic = "abort"` does: without dropping anything.
    fn panic_in_terminal() -> ! {
        give_back_on_panic();
        let mut terminal = Terminal::open(false).unwrap();
        terminal.enter().unwrap();
        terminal.flush().unwrap();
        let panicked = std::thread::spawn(|| panic!("the test's panic")).join();
        assert!(panicked.is_err());
        std::process::exit(7);
    }

    #[test]
    fn panic_of_another_thread_gives_the_terminal_back() {
        if std::env::var_os(IN_TERMINAL).is_some() {
            panic_in_terminal();
        }
        // A terminal of its own, whose settings are shown before and after.
        let test = std::env::current_exe().unwrap();
        let script = format!(
            "stty -g; '{}' --exact {NAME} --nocapture; echo status=$?; stty -g",
            test.display()
        );
        let output = Command::new("script")
            .args(["-qec", &script, "/dev/null"])
            .env(IN_TERMINAL, "1")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("status=7"), "{text:?}");
        let is_number = |word: &str| u64::from_str_radix(word, 16).is_ok();
        let settings = |line: &&str| line.contains(':') && line.split(':').all(is_number);
        let settings: Vec<_> = text.lines().filter(settings).collect();
        assert!(
            settings.len() == 2 && settings[0] == settings[1],
            "{text:?}"
        );
        let (_, entered) = text.split_once(ENTER).unwrap();
        let (_, left) = entered.split_once(LEAVE).unwrap();
        assert!(left.contains("the test's panic"), "{text:?}");
    }
}
