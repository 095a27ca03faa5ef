#!/usr/bin/env python3
"""config-server with a large fleet: fleet.py [BOARDS ...] (10000 and 50000), as markdown on stdout.

EXPORTER is the binary (target/release's), BEFORE another one to compare with, which is given BEFORE_BOARDS (1000): the cost of
each of its requests grows with the fleet. BENCH_SECONDS (5) is how long each load lasts. The server has one processor to itself,
where there are two. What counts is requests by second of processor time, by /proc/PID/stat: the machine may be shared.
"""

import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXPORTER = os.environ.get("EXPORTER") or str(pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/edge-metrics-exporter")
BEFORE = os.environ.get("BEFORE")
SECONDS = float(os.environ.get("BENCH_SECONDS", "5"))
TICK = os.sysconf("SC_CLK_TCK")
CPUS = sorted(os.sched_getaffinity(0))
CONFIG = """\
device_type: jetson_orin
interval: 1
port: 9100
reload_port: 9101
ip_address: 10.{a}.{b}.{c}
metrics:
  power_total_watts: true
  jetson_temp_cpu_celsius: true
"""


class Connection:
    """One that is kept alive."""

    def __init__(self, port):
        self.port, self.socket = port, None

    def ask(self, path, method="GET", head="", body=b""):
        for _ in range(2):
            if self.socket is None:
                self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=600)
            request = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode()
            try:
                self.socket.sendall(request + body)
                answer = self.socket.recv(1 << 20)
                if answer:
                    break
            except ConnectionError:
                pass
            self.socket = None
        while b"\r\n\r\n" not in answer:
            answer += self.socket.recv(1 << 20)
        said, _, rest = answer.partition(b"\r\n\r\n")
        length = int(re.search(rb"(?i)content-length: (\d+)", said)[1])
        left, buffer = length - len(rest), memoryview(bytearray(1 << 20))
        while left > 0:
            got = self.socket.recv_into(buffer)
            if got == 0:
                raise ConnectionError(path)
            left -= got
        return int(said.split()[1]), length


class Server:
    def __init__(self, binary, store):
        probe = socket.create_server(("127.0.0.1", 0))
        self.port = probe.getsockname()[1]
        probe.close()
        command = [binary, "config-server", f"--store={store}", f"--web.listen-address=127.0.0.1:{self.port}"]
        self.begun = time.monotonic()
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        if len(CPUS) > 1:
            os.sched_setaffinity(self.process.pid, {CPUS[0]})
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except ConnectionError:
                time.sleep(0.01)

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def memory(self, field):
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{field}:\s+(\d+)", text)[1]) / 1024

    def load(self, path, head=""):
        """Four connections, as often as they can; beside them a board that asks for its configuration 20 times a second."""
        stop, counts, waits = threading.Event(), [0] * 4, []

        def client(n):
            connection = Connection(self.port)
            while not stop.is_set():
                assert connection.ask(path, head=head)[0] == 200
                counts[n] += 1

        def board():
            connection, n = Connection(self.port), 0
            while not stop.is_set():
                begun = time.monotonic()
                assert connection.ask(f"/config/edge-{n % 1000:05}")[0] == 200
                waits.append(time.monotonic() - begun)
                n += 37
                stop.wait(0.05)

        threads = [threading.Thread(target=client, args=[n]) for n in range(4)] + [threading.Thread(target=board)]
        cpu, begun = self.cpu(), time.monotonic()
        for thread in threads:
            thread.start()
        time.sleep(SECONDS)
        stop.set()
        took = time.monotonic() - begun
        for thread in threads:
            thread.join()
        cpu, waits = self.cpu() - cpu, sorted(waits)
        return sum(counts) / took, sum(counts) / max(cpu, 1 / TICK), waits[int(len(waits) * 0.99)] * 1000

    def abandon(self, path):
        """430 who ask and leave; the processor time that is spent after they have left, and the memory at its peak."""
        for _ in range(43):
            some = [socket.create_connection(("127.0.0.1", self.port)) for _ in range(10)]
            for connection in some:
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            for connection in some:
                connection.close()
        before, rest = self.cpu(), None
        for _ in range(60):
            time.sleep(1)
            now = self.cpu()
            if rest is not None and now - rest < 0.05:
                break
            rest = now
        return self.cpu() - before


def store(directory, boards):
    directory.mkdir()
    for n in range(boards):
        text = CONFIG.format(a=n >> 16, b=n >> 8 & 255, c=n & 255)
        (directory / f"edge-{n:05}.yaml").write_text(text)


def measure(binary, boards):
    """Rows of what is measured, and its figure."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = pathlib.Path(temporary) / "devices"
        store(directory, boards)
        server = Server(binary, directory)
        try:
            one = Connection(server.port)
            status, length = one.ask("/sd")
            assert status == 200
            rows = {"start to the first `/sd`, s": time.monotonic() - server.begun, "bytes of `/sd`": length}
            time.sleep(5)
            one.ask("/sd")
            one.ask("/devices")
            rows["RSS, MB"] = server.memory("VmRSS")
            gzip = "Accept-Encoding: gzip\r\n"
            loads = [("`/sd`", "/sd", ""), ("`/sd`, gzip as Prometheus asks", "/sd", gzip), ("`/devices`", "/devices", "")]
            for name, path, head in [*loads, ("`/devices?limit=100`", "/devices?limit=100", "")]:
                rate, by_cpu, wait = server.load(path, head)
                rows[f"{name}: requests/s"] = rate
                rows[f"{name}: requests by second of processor time"] = by_cpu
                rows[f"{name}: a board's `/config` meanwhile, p99, ms"] = wait
            begun = time.monotonic()
            for n in range(20):
                body = CONFIG.format(a=9, b=9, c=n).replace("interval: 1", f"interval: {n + 2}").encode()
                head = "Content-Type: application/yaml\r\nExporter-Version: 1\r\n"
                assert one.ask(f"/config/edge-{n:05}", "PUT", head, body)[0] == 200
            rows["a PUT, ms"] = (time.monotonic() - begun) * 50
            rows["processor time after 430 abandoned `/sd`, s"] = server.abandon("/sd")
            rows["RSS at its peak, MB"] = server.memory("VmHWM")
            return rows
        finally:
            server.process.kill()
            server.process.wait()


def shown(value):
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table(columns):
    names = list(columns)
    print("| | " + " | ".join(names) + " |")
    print("| --- |" + " ---: |" * len(names))
    for row in columns[names[-1]]:
        print(f"| {row} | " + " | ".join(shown(columns[name][row]) for name in names) + " |")
    print(flush=True)


def main():
    if BEFORE:
        boards = int(os.environ.get("BEFORE_BOARDS", "1000"))
        before, after = measure(BEFORE, boards), measure(EXPORTER, boards)
        ratio = {row: after[row] / max(before[row], 1e-3) for row in after}
        table({f"{boards:,} boards, before": before, "after": after, "ratio": ratio})
    sizes = [int(size) for size in sys.argv[1:]] or [10000, 50000]
    for size in sizes:
        table({f"{size:,} boards": measure(EXPORTER, size)})


if __name__ == "__main__":
    main()
