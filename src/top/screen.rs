//! The board on a terminal, until the user has seen enough.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::signal::{raise, SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::feed::{Feed, Target, Update};
use super::format::lasting;
use super::keys::{Key, Keys};
use super::model::Model;
use super::terminal::{give_back, give_back_on_panic, Terminal};
use super::view::{lines, Choice, Context, Screen, Sort};

/// The signals that are taken as events. They are blocked in all threads.
const SIGNALS: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGTSTP,
    Signal::SIGCONT,
    Signal::SIGWINCH,
];
const CTRL_L: char = '\x0c';

/// Shows the board until the user or a signal ends it.
pub(super) fn run(
    target: Target,
    interval: Duration,
    mut terminal: Terminal,
    unicode: bool,
) -> Result<(), String> {
    let cannot = |e: Errno| format!("cannot wait for signals: {e}");
    let signals = SigSet::from_iter(SIGNALS);
    // Before the thread that reads the board is started, so that it has them blocked, too.
    signals.thread_block().map_err(cannot)?;
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let signals = SignalFd::with_flags(&signals, flags).map_err(cannot)?;
    give_back_on_panic();
    let feed = Feed::start(target, interval)?;
    terminal.enter()?;
    let mut session = Session {
        terminal,
        feed,
        signals,
        keys: Keys::default(),
        model: Model::default(),
        choice: Choice::default(),
        context: Context {
            interval: interval.as_secs_f64(),
            ..Context::default()
        },
        updated_at: None,
        unicode,
        is_dirty: true,
    };
    while session.turn()? {}
    Ok(())
}

struct Session {
    /// First, so that the terminal is given back before the reader is waited for.
    terminal: Terminal,
    feed: Feed,
    signals: SignalFd,
    keys: Keys,
    model: Model,
    choice: Choice,
    context: Context,
    /// When the board last answered.
    updated_at: Option<Instant>,
    unicode: bool,
    /// Whether there is something new to draw.
    is_dirty: bool,
}

impl Session {
    /// Draws what is new, and waits for what comes next. `false`: that is the end.
    fn turn(&mut self) -> Result<bool, String> {
        if self.is_dirty && !self.terminal.is_behind() {
            self.draw();
        }
        // A terminal that is gone is the end, as SIGHUP is.
        if self.terminal.flush().is_err() {
            return Ok(false);
        }
        let [typed, signalled, updated] = self.wait()?;
        if signalled && !self.handle_signals()? {
            return Ok(false);
        }
        if typed {
            let Ok(bytes) = self.terminal.read() else {
                return Ok(false);
            };
            for byte in bytes {
                if let Some(key) = self.keys.push(byte) {
                    if !self.press(key) {
                        return Ok(false);
                    }
                }
            }
        }
        if updated {
            if let Some(update) = self.feed.take() {
                self.update(update);
            }
        }
        Ok(true)
    }

    /// Whether the terminal, signals or the feed have something.
    fn wait(&self) -> Result<[bool; 3], String> {
        let mut wanted = PollFlags::POLLIN;
        if self.terminal.is_behind() {
            wanted |= PollFlags::POLLOUT;
        }
        let mut fds = [
            PollFd::new(self.terminal.as_fd(), wanted),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.feed.event.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {
                // Everything but room for output: a terminal that is gone is read as well, and found out.
                let is_ready = |fd: &PollFd<'_>| {
                    let events = fd.revents().unwrap_or(PollFlags::empty());
                    events.intersects(!PollFlags::POLLOUT)
                };
                Ok([is_ready(&fds[0]), is_ready(&fds[1]), is_ready(&fds[2])])
            }
            Err(Errno::EINTR) => Ok([false; 3]),
            Err(error) => Err(format!("cannot wait for the terminal: {error}")),
        }
    }

    fn draw(&mut self) {
        let (columns, rows) = self.terminal.size();
        let screen = Screen {
            columns,
            rows: Some(rows),
            unicode: self.unicode,
            has_keys: true,
        };
        // What is out of reach is not scrolled over.
        let most = self.model.workloads.len().saturating_sub(1);
        self.choice.scroll = self.choice.scroll.min(most);
        let lines = lines(&self.model, &self.context, &self.choice, &screen);
        self.terminal.draw(&lines);
        self.is_dirty = false;
    }

    /// `false`: the end.
    fn handle_signals(&mut self) -> Result<bool, String> {
        while let Ok(Some(info)) = self.signals.read_signal() {
            match Signal::try_from(info.ssi_signo as i32) {
                Ok(Signal::SIGWINCH) => {}
                Ok(Signal::SIGTSTP) => self.suspend()?,
                // Somebody else may have changed the terminal meanwhile.
                Ok(Signal::SIGCONT) => self.terminal.enter()?,
                _ => return Ok(false),
            }
            self.terminal.forget_shown();
            self.is_dirty = true;
        }
        Ok(true)
    }

    /// Gives the terminal back, and stops as a process does that knows nothing of SIGTSTP.
    fn suspend(&mut self) -> Result<(), String> {
        give_back();
        let stop = SigSet::from_iter([Signal::SIGTSTP]);
        let stopped = raise(Signal::SIGTSTP)
            .and_then(|()| stop.thread_unblock())
            // Here the process stands still until it is continued.
            .and_then(|()| stop.thread_block());
        stopped.map_err(|e| format!("cannot suspend: {e}"))?;
        self.terminal.enter()
    }

    /// `false`: the end.
    fn press(&mut self, key: Key) -> bool {
        self.is_dirty = true;
        let page = self.terminal.size().1 / 2;
        let choice = &mut self.choice;
        match key {
            Key::Char('q' | 'Q') => return false,
            Key::Char('?' | 'h') => choice.shows_help = !choice.shows_help,
            Key::Char('w') => choice.sort_by(Sort::Watts),
            Key::Char('e') => choice.sort_by(Sort::Energy),
            Key::Char('c') => choice.sort_by(Sort::Cpu),
            Key::Char('n') => choice.sort_by(Sort::Name),
            Key::Char('k') => choice.sort_by(Sort::Kind),
            Key::Char('r') => choice.is_reversed = !choice.is_reversed,
            Key::Char('d') => {
                let shown = self.model.shown_domain(choice.domain.as_deref());
                let shown = shown.map(|domain| domain.name.as_str());
                choice.domain = self.model.next_domain(shown);
            }
            Key::Char(CTRL_L) => self.terminal.forget_shown(),
            Key::Left => choice.sort_beside(Sort::ALL.len() - 1),
            Key::Right => choice.sort_beside(1),
            Key::Up => choice.scroll = choice.scroll.saturating_sub(1),
            Key::Down => choice.scroll += 1,
            Key::PageUp => choice.scroll = choice.scroll.saturating_sub(page),
            Key::PageDown => choice.scroll += page,
            Key::Home => choice.scroll = 0,
            Key::End => choice.scroll = self.model.workloads.len(),
            Key::Char(_) => {}
        }
        true
    }

    fn update(&mut self, update: Result<Update, String>) {
        match update {
            Ok(update) => {
                update.show_in(&mut self.model);
                self.updated_at = Some(Instant::now());
                self.context.message = None;
                self.context.origin = update.origin;
            }
            Err(error) => {
                let age = self.updated_at.map(|at| at.elapsed().as_secs_f64());
                let from = age.map(|age| format!("  (shown is from {} ago)", lasting(age)));
                self.context.message = Some(error + &from.unwrap_or_default());
            }
        }
        self.is_dirty = true;
    }
}

impl Choice {
    fn sort_by(&mut self, sort: Sort) {
        self.sort = sort;
        self.is_reversed = false;
        self.scroll = 0;
    }

    /// Sorts by the column so many places further to the right, around the corner.
    fn sort_beside(&mut self, places: usize) {
        let place = Sort::ALL.iter().position(|sort| *sort == self.sort);
        let next = (place.unwrap_or(0) + places) % Sort::ALL.len();
        self.sort_by(Sort::ALL[next]);
    }
}
