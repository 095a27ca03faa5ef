"""`top` on a real terminal (tmux): it shows the board, sorts, follows the window's size, is suspended and continued, and gives the
terminal back on every way out. With SCREENSHOTS=DIRECTORY, the captured screens are saved."""

import contextlib
import os
import pathlib
import re
import shlex
import signal
import subprocess
import threading

from peers import BINARY, exporter, temporary, wait_until

SOCKET = f"edge-metrics-test-{os.getpid()}"
EVIL = "\x1b]0;owned\x07\x1b[31m日本語のサービス"


class Terminal:
    """A window of tmux with a shell in it."""

    def __init__(self, directory, columns=80, rows=24, **environment):
        self.directory = directory
        self.name = directory.name
        variables = {"LC_ALL": "C.UTF-8", "PS1": "$ ", "NO_COLOR": "", **environment}
        assignments = [f"{name}={value}" for name, value in variables.items()]
        self.tmux("new-session", "-d", "-s", self.name, "-x", columns, "-y", rows, "env", *assignments, "bash", "--norc", "--noprofile")
        self.type("stty -a > before")

    def tmux(self, *arguments):
        words = ["tmux", "-u", "-L", SOCKET, "-f", "/dev/null", *map(str, arguments)]
        done = subprocess.run(words, capture_output=True, cwd=self.directory, check=True)
        return done.stdout.decode()

    def keys(self, *keys):
        self.tmux("send-keys", "-t", self.name, *keys)

    def type(self, command):
        self.keys("-l", command)
        self.keys("Enter")

    def screen(self, *options):
        return self.tmux("capture-pane", "-p", "-t", self.name, *options)

    def shows(self, *words, without=()):
        """Waits for a screen with these words, and returns its lines."""

        def attempt():
            screen = self.screen()
            found = all(word in screen for word in words) and not any(word in screen for word in without)
            return screen.splitlines() if found else None

        try:
            return wait_until(f"the screen has {words}", attempt)
        except AssertionError:
            print(self.screen())
            raise

    def resize(self, columns, rows):
        self.tmux("resize-window", "-t", self.name, "-x", columns, "-y", rows)

    def asks(self, format):
        return self.tmux("display-message", "-p", "-t", self.name, format).strip()

    def is_restored(self):
        """The shell is back, on its own screen, with a cursor, wrapped lines, and the terminal's settings."""
        wait_until("the shell's screen is back", lambda: self.asks("#{alternate_on}#{cursor_flag}#{wrap_flag}") == "011")
        (self.directory / "after").unlink(missing_ok=True)
        self.type("stty -a > after; echo rest''ored")
        wait_until("it echoes", lambda: "restored\n" in self.screen() and "rest''ored" in self.screen())
        before, after = ((self.directory / name).read_text() for name in ("before", "after"))
        # The window may have another size.
        size = re.compile(r"rows \d+; columns \d+;")
        assert size.sub("", before) == size.sub("", after), after
        self.type("clear")
        self.shows("$", without=("restored",))

    def pid(self):
        return int(subprocess.run(["pgrep", "-P", self.asks("#{pane_pid}"), "-f", " top"], capture_output=True, check=True).stdout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(subprocess.CalledProcessError):
            self.tmux("kill-session", "-t", self.name)


def save(name, terminal):
    if directory := os.environ.get("SCREENSHOTS"):
        pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
        (pathlib.Path(directory) / f"top-{name}.txt").write_text(terminal.screen())


def names(lines):
    """The first column of the workloads."""
    (heading,) = (n for n, line in enumerate(lines) if line.startswith("WORKLOADS"))
    return [line.split()[0] for line in lines[heading + 1 :] if line and "more of" not in line]


class Board:
    """A board with one meter at its input, and services that use CPU time; see docs/workloads.md."""

    def __init__(self, directory, services):
        self.directory = directory
        self.write("sys/fs/cgroup/cgroup.controllers", "cpu\n")
        self.write("sys/devices/system/cpu/online", "0-3\n")
        self.write("proc/sys/kernel/hostname", "edge-01\n")
        self.write("sys/class/hwmon/hwmon0/name", "ina226\n")
        self.write("sys/class/hwmon/hwmon0/in1_input", "5000\n")
        self.write("sys/class/hwmon/hwmon0/power1_input", "8500000\n")
        self.services, self.ticks = services, 0
        self.tick()
        self.write("config.yaml", "device_type: generic\nworkloads: {enabled: true, idle_watts: {board: 2}}\n")
        (directory / "dev").mkdir()
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.live)

    def tick(self):
        """Each service works a little more than the one before it, and all of them as much as a processor or two."""
        self.ticks += 1
        used = [n * self.ticks for n in range(len(self.services))]
        for service, milliseconds in zip(self.services, used):
            self.write(f"sys/fs/cgroup/{service}/cpu.stat", f"usage_usec {milliseconds * 1000:014}\n")
        for above in ("", "system.slice/"):
            self.write(f"sys/fs/cgroup/{above}cpu.stat", f"usage_usec {sum(used) * 1000:014}\n")
        self.write("proc/stat", f"cpu  {sum(used) // 10:012} 0 0 99999 0 0 0 0 0 0\n")

    def live(self):
        while not self.stopped.wait(0.3):
            self.tick()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()

    def write(self, path, text):
        path = self.directory / path
        path.parent.mkdir(parents=True, exist_ok=True)
        # In place and with a constant length: a reader never sees a partial number.
        with open(os.open(path, os.O_WRONLY | os.O_CREAT), "w") as file:
            file.write(text)

    def arguments(self):
        roots = [(flag, self.directory / place) for flag, place in (("sysfs", "sys"), ("procfs", "proc"), ("dev", "dev"))]
        return [f"--config={self.directory / 'config.yaml'}"] + [f"--path.{flag}={path}" for flag, path in roots]

    def top(self, *more):
        return shlex.join(map(str, [BINARY, "top", *self.arguments(), *more]))


def shows_and_sorts(board, directory):
    with Terminal(directory) as terminal:
        terminal.type(board.top("--interval", "0.2"))
        lines = terminal.shows("total 8.50 W", "WATTS▾", "service-29.service", "power1")
        assert terminal.asks("#{alternate_on}#{cursor_flag}#{wrap_flag}") == "100"
        assert lines[0].startswith("edge-01  generic") and lines[0].rstrip().endswith("? help  q quit"), lines
        # Two values or more make a chart: the load is constant.
        terminal.shows("▅▅▅")
        save("80x24", terminal)
        for key, heading in (("n", "WORKLOADS board▾"), ("k", "KIND▾"), ("e", "ENERGY▾"), ("c", "CPU TIME▾")):
            terminal.keys(key)
            terminal.shows(heading)
        terminal.keys("n")
        first = names(terminal.shows("WORKLOADS board▾"))
        assert first == sorted(first), first
        terminal.keys("r")
        last = names(terminal.shows("WORKLOADS board▴"))
        assert last == sorted(last, reverse=True), last
        terminal.keys("n")
        terminal.keys("Down", "Down")
        terminal.shows(first[2], without=(first[0] + " ",))
        terminal.keys("End")
        terminal.shows(last[0], without=("more of",))
        terminal.keys("Home")
        terminal.shows(first[0], "more of")
        terminal.keys("Right")
        terminal.shows("KIND▾")
        terminal.keys("Left", "Left")
        terminal.shows("CPU TIME▾")
        terminal.keys("?")
        terminal.shows("sort workloads by", without=("RAILS",))
        save("help", terminal)
        terminal.keys("?")
        terminal.shows("RAILS", without=("sort workloads by",))
        terminal.keys("q")
        terminal.is_restored()


def follows_the_size(board, directory):
    with Terminal(directory) as terminal:
        terminal.type(board.top("--interval", "0.1"))
        terminal.shows("total 8.50 W")
        for columns, rows in ((20, 5), (200, 60), (1, 1), (33, 7), (300, 100), (80, 24)):
            terminal.resize(columns, rows)
            if columns < 20:
                continue

            def is_drawn():
                lines = terminal.screen().splitlines()
                is_bounded = len(lines) <= rows and all(len(line) <= columns for line in lines)
                heads = lines[0].startswith("edge-01"), lines[1].startswith("total 8.50 W"), "CPU TIME" in "".join(lines)
                return is_bounded and heads == (True, True, columns >= 80)

            wait_until(f"it is drawn in {columns}x{rows}", is_drawn)
            save(f"{columns}x{rows}", terminal)
        # While it draws all the time.
        for step in range(60):
            terminal.resize(40 + step, 10 + step % 20)
        terminal.resize(80, 24)

        def is_clean():
            lines = terminal.screen().splitlines()
            return [sum(word in line for line in lines) for word in ("total", "RAILS", "WORKLOADS", "more of")] == [1] * 4

        wait_until("nothing is left of other sizes", is_clean)
        terminal.keys("C-c")
        terminal.is_restored()


def every_way_out(board, directory):
    with Terminal(directory) as terminal:
        for how in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            terminal.type(board.top())
            terminal.shows("total 8.50 W")
            os.kill(terminal.pid(), how)
            terminal.is_restored()
        # Suspended by its key, and by a signal that it cannot know of; continued after both.
        terminal.type(board.top())
        terminal.shows("total 8.50 W")
        terminal.keys("C-z")
        terminal.shows("Stopped", without=("total 8.50 W",))
        terminal.is_restored()
        terminal.type("fg")
        terminal.shows("total 8.50 W", without=("Stopped",))
        os.kill(terminal.pid(), signal.SIGSTOP)
        wait_until("the shell has seen it", lambda: "Stopped" in terminal.screen())
        terminal.type("fg")
        terminal.shows("total 8.50 W", "RAILS", without=("Stopped", "fg"))
        # In the background it stops, rather than to draw over the shell.
        terminal.keys("C-z")
        terminal.shows("Stopped", without=("total 8.50 W",))
        pid = terminal.pid()
        state = lambda: pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        terminal.type("clear; bg; echo resumed")
        terminal.shows("\nresumed")
        wait_until("it has stopped again", lambda: state() == "T")
        assert "total" not in terminal.screen() and terminal.asks("#{alternate_on}") == "0", terminal.screen()
        terminal.type("fg")
        terminal.shows("total 8.50 W", without=("Stopped",))
        terminal.keys("q")
        terminal.is_restored()
    # The terminal goes away: SIGHUP says so, and where that is ignored, what is read and written.
    for ignored in ("", "trap '' HUP; "):
        with temporary() as own, Terminal(own) as terminal:
            terminal.type(f"({ignored}exec {board.top()})")
            terminal.shows("total 8.50 W")
            pid = terminal.pid()
            terminal.tmux("kill-session", "-t", terminal.name)
            wait_until("it has ended", lambda: not pathlib.Path(f"/proc/{pid}").exists())


def other_terminals(board, directory):
    """No colours, no UTF-8, and a terminal that can do nothing but print."""
    colour = re.compile(r"\x1b\[[0-9;]*3[1-7]m")
    with Terminal(directory) as terminal:
        command = board.top("--interval", "0.2")
        terminal.type(f"env -u NO_COLOR {command}")
        terminal.shows("▅▅▅")
        assert colour.search(terminal.screen("-e"))
        terminal.keys("q")
        terminal.is_restored()
        terminal.type(f"NO_COLOR=1 {command}")
        terminal.shows("▅▅▅")
        assert not colour.search(terminal.screen("-e"))
        terminal.keys("q")
        terminal.is_restored()
        terminal.type(f"LC_ALL=C {command}")
        terminal.shows("total 8.50 W", "===", "WATTS*")
        assert terminal.screen().isascii()
        save("ascii", terminal)
        terminal.keys("q")
        terminal.is_restored()
        # What is printed is as long as it is.
        terminal.resize(80, 60)
        for environment in ("TERM=dumb", "-u TERM"):
            terminal.type(f"clear; env {environment} {command}; echo status=$?")
            terminal.shows("total 8.50 W", "status=0")
            assert terminal.asks("#{alternate_on}") == "0"
            terminal.is_restored()


def another_board(board, directory):
    """Through an exporter: what it says is shown, and that it has gone and come back."""
    with Terminal(directory) as terminal, contextlib.ExitStack() as stack:
        address = stack.enter_context(exporter(*board.arguments()))
        terminal.type(shlex.join([str(BINARY), "top", "--interval", "0.2", "--url", f"http://{address}"]))
        terminal.shows("total 8.50 W", f"http://{address}/metrics", "service-29.service")
        # A name that is wide stays in its column, and nothing of it reaches the terminal but characters.
        lines = terminal.shows("日本語")
        (wide,) = (line for line in lines if "日本語" in line)
        assert wide.split()[1] == "service", wide
        assert "owned" not in terminal.asks("#{pane_title}")
        save("url", terminal)
        stack.close()
        terminal.shows("refused", "shown is from", "total 8.50 W")
        with exporter(*board.arguments(), "--web.listen-address", address):
            terminal.shows("total 8.50 W", without=("refused",))
            terminal.keys("q")
            terminal.is_restored()


def main():
    services = [f"system.slice/service-{n:02}.service" for n in range(30)]
    with temporary() as directory, Board(directory, [*services, f"system.slice/{EVIL}.service"]) as board:
        try:
            for test in (shows_and_sorts, follows_the_size, every_way_out, other_terminals, another_board):
                with temporary() as own:
                    test(board, own)
        finally:
            subprocess.run(["tmux", "-L", SOCKET, "kill-server"], capture_output=True)


main()
