#!/usr/bin/env python3
"""A fleet that polls one config-server: scale.py [--boards=10000] [--seconds=600] [--registered] [RUN ...], as markdown on stdout.

A RUN is a store and what is in it: `directory`, `etcd`, `directory-groups`, `etcd-groups` (20 groups); all four without any.
With BEFORE=BINARY each is measured with that binary too. EXPORTER is the binary (target/release's).

Every board has an address of its own (127.x.y.z) and does what the exporter does: a new connection for each request, at its start
a GET, a second one with its ports, and a PUT; then a GET with If-None-Match each 30 s by 10 % more or less, and one at once when it
is called on its management port. One in 100 reports now and then that it is degraded. Beside them somebody looks at the page,
Prometheus asks for /sd each minute, a board's configuration is changed each second, and one group each minute. What is measured:
the time from the connection to the whole answer, at the client; and the server's memory, processor time and writes, by /proc.

--instructions measures instead what a poll costs in instructions, with callgrind.
"""

import argparse
import collections
import contextlib
import errno
import heapq
import json
import multiprocessing
import os
import pathlib
import random
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXPORTER = os.environ.get("EXPORTER") or str(pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/edge-metrics-exporter")
BEFORE = os.environ.get("BEFORE")
TICK = os.sysconf("SC_CLK_TCK")
RUNS = ["directory", "directory-groups", "etcd", "etcd-groups"]
POLL, TIMEOUT, GROUPS = 30, 10, 20
CONFIG = json.dumps({
    "device_type": "jetson_orin", "interval": 1, "config_poll": POLL, "port": 9100, "reload_port": 9101,
    "metrics": {"power_total_watts": True, "jetson_temp_cpu_celsius": True},
}).encode()  # fmt: skip


def percentile(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * part))] if values else float("nan")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def name(number):
    return f"edge-{number // 500:02}-{number % 500:03}"


class Board:
    __slots__ = ("number", "name", "address", "tag", "trouble", "stage", "due", "callers", "failures")

    def __init__(self, number):
        self.number, self.name = number, name(number)
        self.address = f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}"
        self.tag, self.trouble, self.stage, self.due, self.callers, self.failures = "", "", "start", 0, [], 0

    def request(self, port, ports):
        report = "Exporter-Version: 0.1.0\r\n"
        if self.stage != "start":
            report += f"Exporter-Ports: 9100 {ports}\r\nExporter-Device-Type: jetson_orin\r\n{self.trouble}"
        method, head, body = "GET", "", b""
        if self.stage == "register":
            method, head, body = "PUT", f"Content-Type: application/json\r\nContent-Length: {len(CONFIG)}\r\nIf-None-Match: *\r\n", CONFIG
        elif self.tag:
            head = f"If-None-Match: {self.tag}\r\n"
        head = f"Accept: application/json\r\nConnection: close\r\n{report}{head}"
        return f"{method} /config/{self.name} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: ureq\r\n{head}\r\n".encode() + body


class Exchange:
    """One request of a board."""

    __slots__ = ("board", "socket", "begun", "out", "answer")


class Generator:
    """All boards, in one thread."""

    def __init__(self, boards, port, start):
        self.port, self.epoll = port, select.epoll()
        self.listener = socket.create_server(("0.0.0.0", 0), backlog=1024)
        self.listener.setblocking(False)
        self.ports = self.listener.getsockname()[1]
        self.epoll.register(self.listener, select.EPOLLIN)
        self.boards = [Board(number) for number in range(boards)]
        self.by_address = {board.address: board for board in self.boards}
        now = time.monotonic()
        self.heap = []
        for board in self.boards:
            self.plan(board, now + random.random() * start)
        self.exchanges, self.calls = {}, {}
        self.reset()

    def reset(self):
        self.waits, self.lags, self.outcomes = collections.defaultdict(list), [], collections.Counter()
        self.sent = self.received = 0

    def plan(self, board, due):
        board.due = due
        heapq.heappush(self.heap, (due, board.number))

    def run(self, until):
        while (now := time.monotonic()) < until:
            while self.heap and self.heap[0][0] <= now:
                due, number = heapq.heappop(self.heap)
                board = self.boards[number]
                # Else it was planned anew.
                if board.due == due:
                    self.lags.append(now - due)
                    self.ask(board)
                    now = time.monotonic()
            left = min(until, self.heap[0][0] if self.heap else until, now + 0.5) - now
            for file, event in self.epoll.poll(max(left, 0)):
                if file in self.exchanges:
                    self.go_on(self.exchanges[file], event)
                elif file == self.listener.fileno():
                    self.accept()
                else:
                    self.called(file)
            if self.exchanges:
                oldest = next(iter(self.exchanges.values()))
                if time.monotonic() - oldest.begun > TIMEOUT:
                    self.end(oldest, "no answer")

    def ask(self, board):
        board.due = 0
        exchange = Exchange()
        exchange.board, exchange.answer, exchange.begun = board, b"", time.monotonic()
        exchange.out = board.request(self.port, self.ports)
        exchange.socket = socket.socket()
        exchange.socket.setblocking(False)
        exchange.socket.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        exchange.socket.bind((board.address, 0))
        self.exchanges[exchange.socket.fileno()] = exchange
        self.epoll.register(exchange.socket, select.EPOLLOUT)
        failed = exchange.socket.connect_ex(("127.0.0.1", self.port))
        if failed not in (0, errno.EINPROGRESS):
            self.end(exchange, errno.errorcode[failed])

    def go_on(self, exchange, event):
        try:
            if event & select.EPOLLOUT:
                sent = exchange.socket.send(exchange.out)
                self.sent += sent
                exchange.out = exchange.out[sent:]
                if not exchange.out:
                    self.epoll.modify(exchange.socket, select.EPOLLIN)
                return
            part = exchange.socket.recv(1 << 16)
        except BlockingIOError:  # The event was of an earlier socket with this number.
            return
        except OSError as error:
            return self.end(exchange, errno.errorcode.get(error.errno, str(error)))
        self.received += len(part)
        exchange.answer += part
        head, found, body = exchange.answer.partition(b"\r\n\r\n")
        if found:
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
            if head[9:12] == b"304" or length and len(body) >= int(length[1]):
                return self.end(exchange, None, head)
        if not part:
            self.end(exchange, "cut off")

    def end(self, exchange, failure, head=b""):
        now, board = time.monotonic(), exchange.board
        del self.exchanges[exchange.socket.fileno()]
        exchange.socket.close()
        status = failure or head[9:12].decode()
        expected = {"start": ("404", "200"), "ports": ("404", "200", "304"), "register": ("200",), "poll": ("200", "304")}[board.stage]
        self.outcomes["answered" if status in expected else f"refused: {status}"] += 1
        self.waits[board.stage].append(now - exchange.begun)
        tag = re.search(rb"(?i)\r\netag: ([^\r]+)", head)
        if tag and status == "200":
            board.tag = tag[1].decode()
        if board.callers and board.stage == "poll":
            for caller in board.callers:
                self.answer_call(caller)
            board.callers = []
        if status == "412":  # The PUT was made, and its answer lost.
            board.stage = "poll"
        if status not in expected:
            board.failures += 1
            return self.plan(board, now + min(60, 2 ** (board.failures - 1)) * random.uniform(0.5, 1))
        board.failures = 0
        if board.stage == "poll" or status != "404" and board.stage != "start":
            board.stage = "poll"
            if board.number % 100 == 0 and random.random() < 0.1:
                board.trouble = "" if board.trouble else "Exporter-Degraded: jetson: no answer for 5 s\r\n"
            return self.plan(board, now + POLL * random.uniform(0.9, 1.1))
        board.stage = {"start": "ports", "ports": "register"}[board.stage]
        self.plan(board, now + 0.05)

    def accept(self):
        with contextlib.suppress(BlockingIOError):
            while True:
                caller, _ = self.listener.accept()
                caller.setblocking(False)
                self.calls[caller.fileno()] = caller
                self.epoll.register(caller, select.EPOLLIN)

    def called(self, file):
        caller = self.calls.get(file)
        if caller is None:  # It was closed by an earlier event of the same turn.
            return
        try:
            request = caller.recv(4096)
        except BlockingIOError:  # The event was of an earlier socket with this number.
            return
        except OSError:
            request = b""
        del self.calls[file]
        self.epoll.unregister(caller)
        board = self.by_address.get(caller.getsockname()[0]) if request else None
        if board is None:
            return caller.close()
        self.outcomes["called"] += 1
        board.callers.append(caller)
        if board.due:
            self.plan(board, time.monotonic())

    @staticmethod
    def answer_call(caller):
        with contextlib.suppress(OSError):
            caller.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        caller.close()


def others(port, boards, groups, seconds, pipe):
    """The page, Prometheus, and changes; their waits and sizes go into the pipe."""
    waits, sizes, refused = collections.defaultdict(list), {}, collections.Counter()

    def ask(what, path, method="GET", body=None, **headers):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **headers}
        begun = time.monotonic()
        try:
            with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers, method=method), timeout=60) as answer:
                sizes[what] = len(answer.read())
        except urllib.error.HTTPError as error:
            refused[f"{what}: {error.code}"] += 1
        except OSError as error:
            refused[f"{what}: {error}"] += 1
        waits[what].append(time.monotonic() - begun)

    every = {"page": 5, "sd": 60, "change": 1, "group": 60}
    begun = time.monotonic()
    due = {what: begun + pause * (0.5 if what == "group" else 0.1) for what, pause in every.items()}
    turn = 0
    while time.monotonic() - begun < seconds:
        what = min(due, key=due.get)
        time.sleep(max(0, min(due[what], begun + seconds) - time.monotonic()))
        due[what] += every[what]
        turn += 1
        if what == "page":
            ask("page", "/devices?limit=100")
        elif what == "sd":
            ask("sd", "/sd", **{"Accept-Encoding": "gzip"})
        elif what == "change":
            ask("change", f"/config/{name(random.randrange(boards))}", "PATCH", {"interval": 1 + turn % 7})
        elif groups:
            ask("group", f"/groups/rack-{turn % (GROUPS - 1):02}", "PATCH", {"config": {"history": {"seconds": 100 + turn % 200}}})
    pipe.send((dict(waits), sizes, dict(refused)))


class Process:
    def __init__(self, command, **more):
        self.process = subprocess.Popen(command, **more)

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def memory(self, field="VmRSS"):
        return int(re.search(rf"{field}:\s+(\d+)", pathlib.Path(f"/proc/{self.process.pid}/status").read_text())[1]) / 1024

    def written(self):
        return int(re.search(r"(?m)^write_bytes: (\d+)", pathlib.Path(f"/proc/{self.process.pid}/io").read_text())[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


class Etcd(Process):
    """Of one member. Compacts its history each minute, as etcd is to be told for a store that is written to all the time."""

    def __init__(self, directory):
        self.url, peers = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
        super().__init__([
            "etcd", f"--data-dir={directory / 'etcd'}", f"--listen-client-urls={self.url}", f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={peers}", f"--initial-advertise-peer-urls={peers}", f"--initial-cluster=default={peers}",
            "--logger=zap", "--log-level=error", "--auto-compaction-mode=periodic", "--auto-compaction-retention=1m",
        ], stderr=subprocess.DEVNULL)  # fmt: skip
        wait_for(f"{self.url}/health")

    def counters(self):
        text = urllib.request.urlopen(f"{self.url}/metrics", timeout=10).read().decode()
        sums = collections.Counter()
        for line in text.splitlines():
            if not line.startswith("#"):
                series, value = line.rsplit(" ", 1)
                sums[series] += float(value)
        handled = lambda method: sum(v for k, v in sums.items() if k.startswith("grpc_server_handled_total") and f'grpc_method="{method}"' in k)
        return {
            "reads": handled("Range"),
            "writes": handled("Put") + handled("Txn"),
            "size": sums["etcd_mvcc_db_total_size_in_bytes"],
            "wal": sums["etcd_disk_wal_write_bytes_total"],
        }


def wait_for(url):
    for _ in range(600):
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(url, timeout=30).read()
        time.sleep(0.05)
    raise TimeoutError(url)


def put_groups(port):
    """One for all boards, and 19 by name: the boards of 500 names each, of which the first have two."""
    for number in range(GROUPS):
        key = "default" if number == GROUPS - 1 else f"rack-{number:02}"
        group = {"order": 0, "config": {"self_metrics": True}} if key == "default" else {
            "order": 10, "members": {"name": [f"edge-{number:02}-*"]}, "labels": {"site": "berlin", "rack": str(number)},
            "config": {"history": {"seconds": 300}},
        }  # fmt: skip
        request = urllib.request.Request(f"http://127.0.0.1:{port}/groups/{key}", json.dumps(group).encode(), {"Content-Type": "application/json"}, method="PUT")
        urllib.request.urlopen(request, timeout=60).read()


def measure(binary, run, boards, seconds, registered=False):
    """Rows of what is measured, and its figure."""
    kind, _, groups = run.partition("-")
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        directory, port, etcd, store = pathlib.Path(temporary), free_port(), None, f"{temporary}/store"
        if kind == "etcd":
            etcd = stack.enter_context(Etcd(directory))
            store = f"{etcd.url.replace('http', 'etcd')}/scale"
        elif registered:
            pathlib.Path(store).mkdir()
            for number in range(boards):
                (pathlib.Path(store) / f"{name(number)}.yaml").write_bytes(CONFIG)
        log = stack.enter_context(open(directory / "log", "w"))
        command = [binary, "config-server", f"--store={store}", f"--web.listen-address=127.0.0.1:{port}"]
        server = stack.enter_context(Process(command, stderr=log))
        wait_for(f"http://127.0.0.1:{port}/sd")
        empty = server.memory()
        if groups:
            put_groups(port)
        # All boards start within one interval, or register themselves within three.
        start = POLL if registered and not etcd else 3 * POLL
        generator = Generator(boards, port, start)
        generator.run(time.monotonic() + start + POLL / 2)
        rows = {"boards": boards, "minutes": seconds / 60}
        starts = [wait for stage in ("start", "ports", "register") for wait in generator.waits[stage]]
        rows["start: refused"] = sum(n for what, n in generator.outcomes.items() if what.startswith("refused"))
        rows["start: p99, ms"] = percentile(starts, 0.99) * 1000
        rows["start: registration (PUT), p99, ms"] = percentile(generator.waits["register"], 0.99) * 1000
        generator.reset()
        here, there = multiprocessing.Pipe()
        beside = multiprocessing.Process(target=others, args=(port, boards, groups, seconds - 1, there))
        beside.start()
        cpu, written, begun = server.cpu(), server.written(), time.monotonic()
        if etcd:
            etcd_cpu, etcd_written, counted = etcd.cpu(), etcd.written(), etcd.counters()
        rss = 0
        while (left := begun + seconds - time.monotonic()) > 0:
            generator.run(time.monotonic() + min(left, 5))
            rss = max(rss, server.memory())
        took = time.monotonic() - begun
        cpu, written = server.cpu() - cpu, server.written() - written
        waits, sizes, refused = here.recv()
        beside.join()
        polls = generator.waits["poll"]
        refusals = sum(refused.values()) + sum(n for what, n in generator.outcomes.items() if what.startswith("refused"))
        for what, count in {**generator.outcomes, **refused}.items():
            if what not in ("answered", "called"):
                print(f"{run}: {what}: {count}", file=sys.stderr)
        rows["polls"] = len(polls)
        rows["refused"] = refusals
        rows["poll: median, ms"] = percentile(polls, 0.5) * 1000
        rows["poll: p99, ms"] = percentile(polls, 0.99) * 1000
        rows["poll: longest, ms"] = max(polls) * 1000
        rows["the generator's own delay, p99, ms"] = percentile(generator.lags, 0.99) * 1000
        rows["bytes of a poll, both ways"] = (generator.sent + generator.received) / len(polls)
        for what, words in {"page": "`/devices?limit=100`", "sd": "`/sd`, gzip", "change": "a change of a board (PATCH)", "group": "a change of a group (PATCH)"}.items():
            rows[f"{words}: median, ms"] = percentile(waits.get(what, []), 0.5) * 1000
            rows[f"{words}: longest, ms"] = max(waits.get(what, [float("nan")])) * 1000
            if what in ("page", "sd"):
                rows[f"{words}: bytes"] = sizes.get(what, float("nan"))
        rows["boards called for changes"] = generator.outcomes["called"]
        rows["RSS, MB"] = rss
        rows["RSS by board, bytes"] = (rss - empty) * 1024 * 1024 / boards
        rows["processor time by poll, all else included, µs"] = cpu / len(polls) * 1e6
        rows["of a core, %"] = cpu / took * 100
        day = 86400 / took / boards
        rows["written by the server, KB by board and day"] = written * day / 1000
        if etcd:
            now = etcd.counters()
            rows["etcd: reads by poll"] = (now["reads"] - counted["reads"]) / len(polls)
            rows["etcd: writes by poll"] = (now["writes"] - counted["writes"]) / len(polls)
            rows["etcd: log, KB by board and day"] = (now["wal"] - counted["wal"]) * day / 1000
            rows["etcd: written, KB by board and day"] = (etcd.written() - etcd_written) * day / 1000
            rows["etcd: database, MB"] = now["size"] / 1e6
            rows["etcd: RSS, MB"] = etcd.memory()
            rows["etcd: of a core, %"] = (etcd.cpu() - etcd_cpu) / took * 100
        return rows


def barest(port, ready):
    """A server that knows one answer: what remains is the generator's and the machine's."""
    listener, epoll, clients = socket.create_server(("127.0.0.1", port), backlog=1024), select.epoll(), {}
    listener.setblocking(False)
    epoll.register(listener, select.EPOLLIN)
    ready.send(True)
    while True:
        for file, _ in epoll.poll():
            if file == listener.fileno():
                client, _ = listener.accept()
                clients[client.fileno()] = client
                epoll.register(client, select.EPOLLIN)
                continue
            client = clients.pop(file)
            with contextlib.suppress(OSError):
                client.recv(4096)
                client.send(b'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: "1"\r\nConnection: close\r\n\r\n')
            epoll.unregister(client)
            client.close()


def measure_barest(boards, seconds):
    port, (here, there) = free_port(), multiprocessing.Pipe()
    process = multiprocessing.Process(target=barest, args=(port, there), daemon=True)
    process.start()
    here.recv()
    generator = Generator(boards, port, POLL)
    for board in generator.boards:
        board.stage = "poll"
    generator.run(time.monotonic() + seconds)
    process.kill()
    polls = generator.waits["poll"]
    return {
        "polls": len(polls),
        "poll: median, ms": percentile(polls, 0.5) * 1000,
        "poll: p99, ms": percentile(polls, 0.99) * 1000,
        "poll: longest, ms": max(polls) * 1000,
        "the generator's own delay, p99, ms": percentile(generator.lags, 0.99) * 1000,
    }


def instructions(binary, run, boards=100):
    """Instructions of a poll that finds nothing new: the difference of many polls and few."""
    kind, _, groups = run.partition("-")
    totals = []
    for rounds in (2, 12):
        with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
            directory, port, store = pathlib.Path(temporary), free_port(), f"{temporary}/store"
            if kind == "etcd":
                store = f"{stack.enter_context(Etcd(directory)).url.replace('http', 'etcd')}/scale"
            command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={directory / 'out'}", binary]
            command += ["config-server", f"--store={store}", f"--web.listen-address=127.0.0.1:{port}"]
            with open(directory / "log", "w") as log:
                process = subprocess.Popen(command, stderr=log)
            wait_for(f"http://127.0.0.1:{port}/sd")
            if groups:
                put_groups(port)
            all_boards = [Board(number) for number in range(boards)]
            for turn in range(rounds + 2):
                for board in all_boards:
                    board.stage = ("register", "poll")[turn > 0]
                    with socket.create_connection(("127.0.0.1", port)) as connection:
                        connection.sendall(board.request(port, 1))
                        answer = b""
                        while part := connection.recv(1 << 16):
                            answer += part
                    tag = re.search(rb"(?i)\r\netag: ([^\r]+)", answer)
                    board.tag = tag[1].decode() if tag and turn else ""
                if turn == 1:
                    # A file's times are trusted after two seconds.
                    time.sleep(3)
            process.terminate()
            process.wait()
            totals.append(int(re.search(r"(?m)^(?:summary|totals): (\d+)", (directory / "out").read_text())[1]))
    return (totals[1] - totals[0]) / (10 * boards)


def shown(value):
    if value is None:
        return ""
    if value != value:
        return "–"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def table(columns):
    names = list(columns)
    rows = list(dict.fromkeys(row for column in columns.values() for row in column))
    print("| | " + " | ".join(names) + " |")
    print("| --- |" + " ---: |" * len(names))
    for row in rows:
        print(f"| {row} | " + " | ".join(shown(columns[name].get(row)) for name in names) + " |")
    print(flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--boards", type=int, default=10000)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--instructions", action="store_true")
    parser.add_argument("--barest", action="store_true", help="the generator with the barest server alone")
    parser.add_argument("--registered", action="store_true", help="a directory has the boards' documents from the beginning")
    parser.add_argument("runs", nargs="*")
    given = parser.parse_args()
    runs = given.runs or RUNS
    assert all(run in RUNS for run in runs), f"there are {RUNS}"
    binaries = ([("before, ", BEFORE)] if BEFORE else []) + [("", EXPORTER)]
    # The binary of before may not have groups.
    chosen = [(f"{words}{run}", binary, run) for run in runs for words, binary in binaries if not (words and run.endswith("groups"))]
    if given.instructions:
        return table({column: {"instructions of a poll": instructions(binary, run)} for column, binary, run in chosen})
    columns = {"the barest server": measure_barest(given.boards, min(given.seconds, 20))}
    if not given.barest:
        columns = {column: measure(binary, run, given.boards, given.seconds, given.registered) for column, binary, run in chosen} | columns
    table(columns)


if __name__ == "__main__":
    main()
