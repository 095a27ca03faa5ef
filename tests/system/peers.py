"""Starts the exporter and its peers on free loopback ports, and stops them again."""

import contextlib
import json
import math
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("EXPORTER", ROOT / "target/release/edge-metrics-exporter")).resolve()
WAIT_SECONDS = 30


CLAIMED = []


def free_port():
    """A free port, reserved for this test while it runs. It lies outside the kernel's ephemeral range, so that no connection
    gets it. (tests/support/free_port.rs reserves ports in the same way.)"""
    first, last = map(int, pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = [port for port in range(10_000, 65_536) if not first <= port <= last] or list(range(10_000, 65_536))
    for port in random.sample(ports, len(ports)):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0edge-metrics-test-port-{port}")
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as s:
                    s.bind(("0.0.0.0", port))
        except OSError:
            claim.close()
            continue
        CLAIMED.append(claim)
        return port
    raise AssertionError("no port is free")


def wait_until(what, attempt, seconds=None):
    deadline = time.monotonic() + (seconds or WAIT_SECONDS)
    while True:
        with contextlib.suppress(OSError, AssertionError):
            found = attempt()
            if found:
                return found
        assert time.monotonic() < deadline, f"timed out: waited until {what}"
        time.sleep(0.05)


def get(url, headers=None):
    request = urllib.request.Request(url, headers=headers or {})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode(), answer.headers


@contextlib.contextmanager
def running(command, **options):
    process = subprocess.Popen([str(word) for word in command], **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def temporary():
    directory = pathlib.Path(tempfile.mkdtemp(prefix="edge-metrics-system-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class Exporter:
    """The release binary, which can be killed and started again; `metrics` is the address of its metrics port."""

    def __init__(self, directory, *arguments):
        ports = ["--web.listen-address", "127.0.0.1:0", "--web.management-address", "127.0.0.1:0"]
        self.command = [str(word) for word in (BINARY, *ports, *arguments)]
        self.log = directory / "exporter.log"
        self.said, self.process, self.metrics = 0, None, None

    def text(self):
        """The log of all its runs."""
        return self.log.read_text() if self.log.exists() else ""

    def start(self):
        self.said = len(self.text())
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(self.command, stderr=log)
        self.metrics = self.listening("metrics")

    def listening(self, port):
        pattern = rf"{port}: listening on https?://([0-9.:]+)/"
        return wait_until("it listens", lambda: re.search(pattern, self.text()[self.said :]))[1]

    def stop(self, how=signal.SIGTERM):
        if self.process:
            self.process.send_signal(how)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


@contextlib.contextmanager
def exporter(*arguments):
    """A running exporter; yields the address of its metrics port, as host:port."""
    with managed_exporter(*arguments) as (metrics, _):
        yield metrics


@contextlib.contextmanager
def managed_exporter(*arguments):
    """A running exporter; yields the addresses of its metrics port and its management port."""
    with temporary() as directory:
        exporter = Exporter(directory, *arguments)
        try:
            exporter.start()
            yield exporter.metrics, exporter.listening("management")
        except BaseException:
            print(exporter.text())
            raise
        finally:
            exporter.stop()


@contextlib.contextmanager
def collector(*arguments, environment=None):
    """The collector; yields its address, as host:port, and its process."""
    with temporary() as directory, open(directory / "log", "w+") as log:
        command = [BINARY, "collect", "--web.listen-address", "127.0.0.1:0", *arguments]
        names = ("PROMETHEUSSERVER", "UPDATE_INTERVAL", "NAMESPACE", "KUBERNETES_SERVICE_HOST", "RUST_LOG")
        variables = {name: value for name, value in os.environ.items() if name not in names}
        variables.update(environment or {})
        with running(command, stderr=log, stdin=subprocess.DEVNULL, env=variables) as process:
            pattern = r"collect: listening on http://([0-9.:]+)/"
            text = lambda: (directory / "log").read_text()
            address = wait_until("it listens", lambda: re.search(pattern, text()))[1]
            try:
                yield address, process
            except BaseException:
                print(text())
                raise


@contextlib.contextmanager
def prometheus(targets, interval="1s", jobs=None, rules=(), address=None, flags=()):
    """A Prometheus that scrapes `targets`, or has these jobs instead; yields its base URL."""
    with temporary() as directory:
        config = {
            "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
            "rule_files": [str(file) for file in rules],
            "scrape_configs": jobs or [{"job_name": "edge-power", "static_configs": [{"targets": targets}]}],
        }
        # JSON is valid YAML.
        (directory / "prometheus.yml").write_text(json.dumps(config))
        address = address or f"127.0.0.1:{free_port()}"
        command = [
            "prometheus",
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address={address}",
            "--log.level=error",
            *flags,
        ]
        with running(command):
            url = f"http://{address}"
            wait_until("Prometheus is ready", lambda: get(f"{url}/-/ready"))
            yield url


def query(url, expression, time=None):
    parameters = {"query": expression} | ({} if time is None else {"time": time})
    answer, _ = get(f"{url}/api/v1/query?" + urllib.parse.urlencode(parameters))
    return json.loads(answer)["data"]["result"]


class LiveBoard:
    """A board with one USB supply whose power follows a sine, and whose energy is therefore known."""

    VOLTS = 5.0

    def __init__(self, directory):
        self.directory = directory
        supply = directory / "sys/class/power_supply/usb"
        supply.mkdir(parents=True)
        (directory / "proc/sys/kernel").mkdir(parents=True)
        (directory / "proc/sys/kernel/hostname").write_text("edge-01\n")
        (directory / "dev").mkdir()
        (supply / "type").write_text("USB\n")
        (supply / "online").write_text("1\n")
        self.write(supply / "voltage_now", self.VOLTS * 1e6)
        self.current = supply / "current_now"
        self.step()
        (directory / "config.yaml").write_text("device_type: generic\ninterval: 0.1\n")
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.live)

    @staticmethod
    def watts(moment):
        return 10.0 + 5.0 * math.sin(moment * math.tau / 10)

    @staticmethod
    def write(path, value):
        # In place and with a constant length: a reader never sees a partial number.
        with open(os.open(path, os.O_WRONLY | os.O_CREAT), "w") as file:
            file.write(f"{int(value):>20}\n")

    def step(self):
        self.write(self.current, self.watts(time.time()) / self.VOLTS * 1e6)

    def live(self):
        while not self.stopped.wait(0.02):
            self.step()

    def arguments(self):
        roots = [(flag, self.directory / place) for flag, place in (("sysfs", "sys"), ("procfs", "proc"), ("dev", "dev"))]
        return [f"--config={self.directory / 'config.yaml'}"] + [f"--path.{flag}={path}" for flag, path in roots]

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()


@contextlib.contextmanager
def etcd(certificate=None, options=()):
    """An etcd of one member, with TLS by CERTIFICATE.pem and .key; yields its address, as host:port, and its process."""
    scheme, tls = "http", []
    if certificate:
        scheme, tls = "https", [f"--cert-file={certificate}.pem", f"--key-file={certificate}.key"]
    with temporary() as directory:
        address, peers = f"127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
        command = [
            "etcd",
            f"--data-dir={directory / 'data'}",
            f"--listen-client-urls={scheme}://{address}",
            f"--advertise-client-urls={scheme}://{address}",
            *tls,
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--logger=zap",
            "--log-level=error",
            *options,
        ]
        with open(directory / "log", "w+") as log, running(command, stderr=log) as process:
            trust = ssl._create_unverified_context() if certificate else None
            healthy = lambda: b"true" in urllib.request.urlopen(f"{scheme}://{address}/health", context=trust, timeout=5).read()
            wait_until("etcd is up", healthy)
            yield address, process


class ConfigServer:
    """A config-server that can be killed and started again at the same address."""

    def __init__(self, store, *arguments):
        self.address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.address}"
        self.command = [str(BINARY), "config-server", "--store", str(store)]
        self.command += ["--web.listen-address", self.address, *arguments]
        self.process = None
        self.log = tempfile.TemporaryFile("w+")

    def start(self):
        self.process = subprocess.Popen(self.command, stderr=self.log)
        # A server listens even while its store is unreachable.
        wait_until("the config-server listens", self.listens)
        return self

    def listens(self):
        assert self.process.poll() is None, "the config-server ended"
        return self.ask("GET", "/")[0] == 200

    def kill(self):
        self.process.kill()
        self.process.wait()

    def ask(self, method, path, body=None, headers=None):
        """Status, JSON (or text) and headers; OSError without a response."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **(headers or {})}
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=40) as answer:
                status, text, head = answer.status, answer.read().decode(), answer.headers
        except urllib.error.HTTPError as error:
            with error:
                status, text, head = error.code, error.read().decode(), error.headers
        with contextlib.suppress(ValueError):
            return status, json.loads(text), head
        return status, text, head

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(5)
        if kind:
            self.log.seek(0)
            print(self.log.read())
        self.log.close()
