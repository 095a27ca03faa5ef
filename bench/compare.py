"""The exporter, node_exporter on the same tree, and a prometheus_client exporter with as many series, under load.

The contenders take turns, since the machine may be shared; every figure is the median of the rounds. BEFORE=BINARY compares
with another build of the exporter instead.
"""

import contextlib
import os
import pathlib
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from boards import laptop

HERE = pathlib.Path(__file__).resolve().parent
EXPORTER = os.environ["EXPORTER"]
BEFORE = os.environ.get("BEFORE")
NODE_EXPORTER = shutil.which("prometheus-node-exporter")
SECONDS = int(os.environ.get("BENCH_SECONDS", "5"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
STARTS = 11
# What Prometheus 2.42 sends.
ACCEPT = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
LIKE_PROMETHEUS = ["-H", f"Accept: {ACCEPT}", "-H", "Accept-Encoding: gzip"]


class Contender:
    def __init__(self, name, command, sign, files):
        self.name, self.command, self.sign, self.files = name, command, sign, files
        self.rounds, self.starts, self.series = [], [], 0

    @contextlib.contextmanager
    def running(self):
        """Gives pid, port and the seconds from exec to the first scrape that has a meter's value."""
        port = free_port()
        command = [str(word).replace("PORT", str(port)) for word in self.command]
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while self.sign not in (scrape(port) or b""):
                if process.poll() is not None or time.perf_counter() - begun > 20:
                    sys.exit(f"{self.name} does not answer: {' '.join(command)}")
            yield process.pid, port, time.perf_counter() - begun
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def round(self):
        for file in self.files:
            forget(file)
        with self.running() as (pid, port, _):
            time.sleep(2)
            figures = {"idle": resident(pid)}
            body = scrape(port)
            self.series = sum(1 for line in body.split(b"\r\n\r\n", 1)[1].splitlines() if line[:1] not in (b"", b"#"))
            before = cpu_seconds(pid)
            figures |= load(port, [])
            figures["cpu"] = (cpu_seconds(pid) - before) / figures["requests"]
            figures |= {f"gzip_{k}": v for k, v in load(port, LIKE_PROMETHEUS).items()}
            figures["loaded"] = resident(pid)
        self.rounds.append(figures)

    def start(self):
        with self.running() as (_, _, seconds):
            self.starts.append(seconds)

    def __getitem__(self, figure):
        if figure == "start":
            return statistics.median(self.starts)
        if figure == "size":
            return sum(os.path.getsize(file) for file in self.files)
        return statistics.median(r[figure] for r in self.rounds)


def forget(file):
    """Has it read from the disk anew, as after a boot.

    What was just written lies in the page cache in pieces of up to a megabyte, and a newer kernel (6.18) maps a piece as a whole.
    """
    descriptor = os.open(file, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def linkage(binary):
    """Whether it asks for a dynamic linker, or is the static build."""
    return "dynamic" if b"/ld-linux" in pathlib.Path(binary).read_bytes() else "static"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def scrape(port):
    """A whole answer, head and all; None where nobody listens yet."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as s:
        s.sendall(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
        return b"".join(iter(lambda: s.recv(1 << 16), b""))
    return None


def resident(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(port, headers):
    url = f"http://127.0.0.1:{port}/metrics"
    command = ["wrk", "-t1", "-c4", f"-d{SECONDS}s", "--latency", *headers, url]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    errors = re.search(r"Non-2xx.*|Socket errors.*", text)
    # HTTP/1.0 servers close every connection, which wrk counts as a read error now and then.
    if errors and "Non-2xx" in errors[0]:
        sys.exit(f"{url}: {errors[0]}")
    unit = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
    percentile = lambda p: (lambda m: float(m[1]) * unit[m[2]])(re.search(rf"\b{p}%\s+([\d.]+)(us|ms|s|m)", text))
    return {
        "requests": int(re.search(r"(\d+) requests in", text)[1]),
        "rate": float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]),
        "p50": percentile(50),
        "p99": percentile(99),
    }


def exporter(name, binary, tree):
    roots = [f"--path.{root}={tree / place}" for root, place in (("sysfs", "sys"), ("procfs", "proc"), ("dev", "dev"))]
    return Contender(
        name,
        [binary, *roots, f"--config={tree / 'config.yaml'}"]
        + ["--web.listen-address=127.0.0.1:PORT", "--web.management-address=127.0.0.1:0"],
        b"\ntemperature_celsius{",
        [binary],
    )


def contenders(tree):
    ours = exporter(f"edge-metrics-exporter ({linkage(EXPORTER)})", EXPORTER, tree)
    collectors = ["disable-defaults", "rapl", "hwmon", "powersupplyclass", "thermal_zone"]
    node = Contender(
        "node_exporter",
        [NODE_EXPORTER, f"--path.sysfs={tree / 'sys'}", "--web.listen-address=127.0.0.1:PORT"]
        + [f"--collector.{name}" for name in collectors],
        b"\nnode_thermal_zone_temp{",
        [NODE_EXPORTER],
    )
    with ours.running() as (_, port, _):
        time.sleep(2)
        (tree / "ours.prom").write_bytes(scrape(port).split(b"\r\n\r\n", 1)[1])
    client = Contender(
        "prometheus_client",
        [sys.executable, HERE / "client.py", "PORT", tree / "ours.prom"],
        b"\ntemperature_celsius{",
        [],
    )
    return [ours, node, client]


MEGA = lambda figure: lambda c: f"{c[figure] / 1e6:.1f} MB"
MILLI = lambda figure: lambda c: f"{c[figure] * 1e3:.3g} ms"
RATE = lambda figure: lambda c: f"{c[figure]:,.0f}"
ROWS = [
    ("memory (RSS), idle", "idle", MEGA),
    ("memory (RSS), after the load", "loaded", MEGA),
    ("processor time a scrape", "cpu", lambda figure: lambda c: f"{c[figure] * 1e6:,.0f} µs"),
    ("scrapes a second, 4 connections", "rate", RATE),
    ("latency, median", "p50", MILLI),
    ("latency, 99th percentile", "p99", MILLI),
    ("scrapes a second as Prometheus asks (gzip)", "gzip_rate", RATE),
    ("latency as Prometheus asks, 99th percentile", "gzip_p99", MILLI),
    ("start to first scrape with a meter's value", "start", MILLI),
    ("binary", "size", lambda figure: lambda c: MEGA(figure)(c) if c.files else "(Python)"),
]


def table(each, ratio=False):
    """A row for each figure, with a last column for that of the second contender over that of the first, if `ratio`."""
    print(f"| | {' | '.join(c.name for c in each)} |{' ratio |' if ratio else ''}")
    print("| --- |" + " ---: |" * (len(each) + ratio))
    print(f"| series | {' | '.join(str(c.series) for c in each)} |{' |' if ratio else ''}")
    for label, figure, show in ROWS:
        last = f" {each[1][figure] / each[0][figure]:.2f} |" if ratio else ""
        print(f"| {label} | {' | '.join(show(figure)(c) for c in each)} |{last}")


def report(ours, node, client):
    each = [ours, node, client]
    version = subprocess.run([NODE_EXPORTER, "--version"], capture_output=True, text=True)
    version = re.search(r"version ([\d.]+)", version.stdout + version.stderr)[1]
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    print("# Figures\n")
    print("Made by `bench/run --update`; what they mean, and how they are taken, is in `bench/README.md`.\n")
    print(f"Machine: {os.cpu_count()} × {cpu[1] if cpu else platform.machine()}, shared with others; Linux", end=" ")
    print(f"{platform.release().split('-')[0]}. node_exporter {version} reads the same sysfs tree; the", end=" ")
    print("prometheus_client exporter (Python) has as many series as ours.\n")
    table(each)
    print("\n| goal | reached |\n| --- | --- |")

    def goal(what, reached, met):
        print(f"| {what} | {reached}{'' if met else ' (missed)'} |")

    for other in (node, client):
        for figure, how in (("rate", ""), ("gzip_rate", " as Prometheus asks")):
            ratio = ours[figure] / other[figure]
            goal(f"20 × the requests/s of {other.name}{how}", f"{ratio:.0f} ×", ratio >= 20)
        for figure, how in (("p99", ""), ("gzip_p99", " as Prometheus asks")):
            ratio = ours[figure] / other[figure]
            goal(f"a tenth of the p99 of {other.name}{how}", f"1/{1 / ratio:.0f}", ratio <= 0.1)
    for figure, when in (("idle", "idle"), ("loaded", "after the load")):
        ratio = ours[figure] / node[figure]
        goal(f"a tenth of the RSS of node_exporter, {when}", f"1/{1 / ratio:.1f}", ratio <= 0.1)
    goal("50 ms from start to first scrape", f"{ours['start'] * 1e3:.1f} ms", ours["start"] <= 0.05)


def main():
    with tempfile.TemporaryDirectory(prefix="edge-metrics-bench-") as directory:
        tree = pathlib.Path(directory)
        laptop(tree)
        each = [exporter("before", BEFORE, tree), exporter("now", EXPORTER, tree)] if BEFORE else contenders(tree)
        for _ in range(STARTS):
            for contender in each:
                contender.start()
        for _ in range(ROUNDS):
            for contender in each:
                contender.round()
        if BEFORE:
            table(each, ratio=True)
        else:
            report(*each)


main()
