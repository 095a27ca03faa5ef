#!/usr/bin/env python3
"""Writes scripts/order.ld: which functions the static binary has side by side.

    scripts/order.py BINARY

`make order` builds that, with its symbols, and calls this.

The kernel maps a program's pages in runs of 64 KB around the one that was asked for, so that a few functions here and there
make nearly all of it resident. Here it runs under callgrind with what most boards have. What was executed while it was scraped
goes first, then what remote write and other routes need, then what starting needed. The rest follows as it comes. A name that is
found no more does no harm: the function is then among the rest. So this is done anew when much has changed, and need not be at
every change.

Needs valgrind and binutils.
"""

import collections
import concurrent.futures
import contextlib
import http.client
import http.server
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tests/system")]
from boards import laptop  # noqa: E402
from peers import free_port, running as running_program  # noqa: E402

OUT = ROOT / "scripts/order.ld"
JETSON = ROOT / "tests/boards/jetson_orin_nano_jp6_root"
PORT, MANAGEMENT, SINK = (free_port() for _ in range(3))
START_SECONDS = 15  # valgrind takes thirty times as long
CONFIG = f"""device_type: jetson_orin
interval: 0.2
port: {PORT}
reload_port: {MANAGEMENT}
listen_address: 127.0.0.1
labels: true
jetson: {{enabled: true, tegrastats: {ROOT}/tests/support/bin/tegrastats}}
"""
REMOTE_WRITE = f'remote_write: {{url: "http://127.0.0.1:{SINK}/api/v1/write"}}'
OPEN_METRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
# As Prometheus, curl, a browser and the simplest of clients ask.
HEADS = (
    {"Accept": OPEN_METRICS, "Accept-Encoding": "gzip", "User-Agent": "Prometheus/2.42.0"},
    {"Accept": "application/openmetrics-text; version=1.0.0", "Accept-Encoding": "identity", "Connection": "close"},
    {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Accept-Encoding": "gzip, deflate, br, zstd"},
    {},
)
# What is small and used everywhere follows as a whole, since which of it is executed differs from run to run, and which name it
# has from build to build: the C library, the heap, locks, numbers, maps, files, what drops values.
WHOLE = [f"{file}(.text .text.*)" for file in ("*libc.a:*", "*libcompiler_rt.a:*", "*_zcu.o", "*crt1.o")]
WHOLE += [f"*(.text.*Cs*_{path}*)" for path in ("8dlmalloc", "3ryu", "9hashbrown", "4core3fmt", "4core3mem", "4core4time")]
WHOLE += [f"*(.text.*Cs*_3std{path}*)" for path in ("3sys4sync", "3sys2fs", "4sync", "4time", "2fs", "2io")]
WHOLE += ["*(.text.*Cs*_4core3ptr13drop_in_place*)"]


class Sink(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def ask(path, port=PORT, headers=None, method="GET", times=1):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        for _ in range(times):
            connection.request(method, path, headers=headers or {})
            answer = connection.getresponse().read()
    return answer


def scrape():
    """Several at once, who stay for more than one answer."""
    with concurrent.futures.ThreadPoolExecutor(len(HEADS)) as scrapers:
        list(scrapers.map(lambda headers: ask("/metrics", headers=headers, times=5), HEADS))


def executed(binary, folder):
    """The names of the functions that were executed while it started, of those afterwards, and of those that more needed."""
    laptop(folder)
    (folder / "config.yaml").write_text(CONFIG)
    out = folder / "callgrind"
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--demangle=no", "--compress-strings=no"]
    command += [binary, "--config", folder / "config.yaml"]
    command += [word for root in ("sys", "proc") for word in (f"--path.{root}fs", folder / root)]
    command += ["--path.dev", folder / "dev"]
    environment = {"PATH": "/usr/bin:/bin", "TEGRASTATS_LINES": str(JETSON / "tegrastats.txt")}
    with running_program(command, env=environment) as process:

        def dump():
            subprocess.run(["callgrind_control", "--dump", str(process.pid)], check=True, stdout=subprocess.DEVNULL)
            time.sleep(1)
            return newest(out)

        # Nobody asks yet: what the first scrape needs is there again when it comes.
        time.sleep(START_SECONDS)
        assert process.poll() is None, "it does not run"
        start = dump()
        for _ in range(4):
            scrape()
            time.sleep(2)
        running = dump()
        (folder / "config.yaml").write_text(CONFIG + REMOTE_WRITE)
        process.send_signal(signal.SIGHUP)
        for _ in range(4):
            ask("/multirate")
            ask("/metrics", method="HEAD")
            ask("/health", MANAGEMENT)
            time.sleep(3)
        return start, running, dump()


def newest(out):
    dumps = out.parent.glob(f"{out.name}.*")
    text = max(dumps, key=lambda file: int(file.suffix[1:])).read_text()
    return {re.sub(r"'\d+$", "", name) for name in re.findall(r"^fn=(.+)$", text, re.MULTILINE)}


def symbols(binary):
    """Every function's address and size, by name. Those that are the same in every byte may be one, with several names."""
    lines = subprocess.run(["nm", "-S", binary], check=True, capture_output=True, text=True).stdout.splitlines()
    fields = [line.split() for line in lines]
    return {f[3]: (f[0], int(f[1], 16)) for f in fields if len(f) == 4 and f[2] in "tTwW"}


def pattern(name):
    """A name as other compilers, targets and versions of the crates have it too (v0 mangling, RFC 2603).

    Of equal functions the compiler keeps one, under a name that differs from build to build: of those of the standard library,
    which are equal most often, it is all that are made of the same generic one.
    """
    name = re.sub(r"\.(llvm\.)?\d+$", "", name)  # one of several
    for crate in re.finditer(r"Cs[0-9A-Za-z]+_(\d+)", name):
        if crate.end() + int(crate[1]) == len(name):
            name = name[: crate.start()]  # for whom it was made
            break
    own = next((name[at.start() :] for at in re.finditer(r"\d+", name) if at.end() + int(at[0]) == len(name)), None)
    library = re.search(r"Cs[0-9A-Za-z]+_((?:4core|5alloc|3std|9hashbrown)[0-9a-z_]*)I", name)
    if own and not own.endswith("_") and library and "drop_in_place" not in name:
        return f"_R*Cs*_{library[1]}I*{own}*"
    name = re.sub(r"Cs[0-9A-Za-z]+_(?=\d)", "Cs*_", name)  # which crate of that name
    name = re.sub(r"B[0-9A-Za-z]*_", "B*_", name)  # a reference to what was said before: how far that is
    return re.sub(r"j[0-9a-f]+_", "j*_", name) + "*"  # a number


def functions(names):
    # rustc has cold functions in sections of another kind.
    return sorted({f"*(.text.{p} .text.unlikely.{p})" for p in map(pattern, names)})


def main():
    binary = sys.argv[1]
    known = symbols(binary)
    assert known, f"{binary} has no symbols"
    aliases = collections.defaultdict(set)
    for name, place in known.items():
        aliases[place].add(name)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", SINK), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        start, running, more = (
            {alias for name in names & known.keys() for alias in aliases[known[name]]}
            for names in executed(binary, pathlib.Path(folder))
        )
    more, start = more - start - running, start - running
    sections = {"running": functions(running), "whole": WHOLE, "more": functions(more), "start": functions(start)}
    text = "/* Made by scripts/order.py, which says what it is for. */\nSECTIONS\n{\n"
    for title, lines in sections.items():
        text += f"  .text.{title} :\n  {{\n" + "".join(f"    {line}\n" for line in lines) + "  }\n"
    OUT.write_text(text + "}\nINSERT BEFORE .text;\n")
    for title, names in (("running", running), ("more", more), ("start", start)):
        print(f"{title}: {len(names)} functions, {sum(size for _, size in {known[name] for name in names})} bytes")


main()
