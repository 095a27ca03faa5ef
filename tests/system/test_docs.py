"""The commands of the README and of docs/, as a new user types them: unchanged, with the ports and host names that the documents have. So
the test has a network and a table of mounts of its own: nothing else listens there, all host names lead to it, and /sys is that of a
board with meters. What stands in for programs: `sudo` and `cargo`, the latter with the binary under test in place of one that it builds."""

import contextlib
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time

from documents import blocks, commands
from peers import BINARY, ROOT, get, prometheus, running, temporary, wait_until

INSIDE = "EDGE_METRICS_DOCS_INSIDE"
BOARD = ROOT / "tests/boards/laptop_battery"
HOSTS = ["localhost", "edge-01", "board", "config-server", "a", "b", "prometheus", "old-server"]
# The device of the page about prometheus-power-exporter.
DEVICE = "192.168.1.7"
# What the server has that is replaced.
OLD = {"edge-01": {"device_type": "x86", "interval": 7}, "edge-02": {"device_type": "x86", "interval": 8}}
# curl succeeds whatever the status is; a command of the documents has failed with one of an error.
CURLRC = "fail\nsilent\nshow-error\nmax-time = 30\n"
STAND_INS = {
    "sudo": 'exec "$@"',
    # cargo run --locked -- demo
    "cargo": 'while [ "$1" != -- ]; do shift; done; shift; exec edge-metrics-exporter "$@"',
}


class Shell:
    """Runs the documents' blocks, each once."""

    def __init__(self, directory):
        self.directory = directory
        self.blocks = blocks("test_docs")
        programs = directory / "bin"
        programs.mkdir()
        (programs / "edge-metrics-exporter").symlink_to(BINARY)
        for name, text in STAND_INS.items():
            (programs / name).write_text(f"#!/bin/sh\n{text}\n")
            (programs / name).chmod(0o755)
        (directory / ".curlrc").write_text(CURLRC)
        self.log = open(directory / "log", "w+")
        self.environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(directory)}

    def run(self, name, **replaced):
        """Runs a block, all of whose commands have to succeed, and returns what it prints."""
        text = self.blocks.pop(name)
        for word, value in replaced.items():
            assert word in text, (word, text)
            text = text.replace(word, value)
        return self.command(text)

    def command(self, text):
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", text], **self.options(), capture_output=True, text=True, timeout=120)
        print(f"$ {text.strip()}\n{done.stdout[:300]}")
        assert done.returncode == 0, (text, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def options(self):
        return {"cwd": self.directory, "env": self.environment}

    @contextlib.contextmanager
    def started(self, command, address, cwd=None):
        """A command that runs on, once it answers at `address`."""
        print(f"$ {command}")
        options = self.options() | ({"cwd": cwd} if cwd else {})
        # A shell replaces itself by a single command with `exec`, so that the signal at the end reaches the program.
        script = re.sub(r"^((?:[A-Z_]+=\S+ )*)", r"\1exec ", command)
        with running(["bash", "-c", script], **options, stdout=self.log, stderr=self.log) as process:

            def answers():
                assert process.poll() is None, f"{command}: ended with {process.returncode}: {self.text()[-2000:]}"
                return get(f"http://{address}")[0]

            yield wait_until(f"{command} answers at {address}", answers)

    def text(self):
        self.log.flush()
        return (self.directory / "log").read_text()


def first_steps(shell):
    demo, board = commands(shell.blocks.pop("start"))
    with shell.started(demo, "localhost:9101/health", cwd=ROOT):
        wait_until("the demo has a total", lambda: "\npower_total_watts{" in get("http://localhost:9100/metrics")[0])
        shell.run("management")
        listed = json.loads(get("http://localhost:9101/metrics/list")[0])
        assert listed["metrics"]["jetson_gpu_usage_percent"] is True, listed
        here, other = commands(shell.blocks.pop("top"))
        assert "jetson_orin" in shell.command(other)
    assert "RAILS" in shell.command(here)
    with shell.started(board, "localhost:9100/metrics"):
        wait_until("the board has a battery", lambda: "\npower_watts{" in get("http://localhost:9100/metrics")[0])
        assert "\npower_watts{" in shell.run("first scrape")
    assert "BAT0" in shell.run("network")


def recording(shell):
    record, replay = commands(shell.blocks.pop("record"))
    assert "--for 60" in record
    shell.command(record.replace("--for 60", "--for 2"))
    with shell.started(replay, "localhost:9100/metrics"):
        wait_until("the replay has the battery", lambda: "\npower_watts{" in get("http://localhost:9100/metrics")[0])


def config_server(shell):
    ask = lambda path: json.loads(get(f"http://localhost:8080{path}")[0])
    with shell.started(shell.blocks.pop("config-server"), "localhost:8080/health"):
        shell.run("configurations")
        assert ask("/config/edge-01")["interval"] == 0.5
        shell.run("groups")
        assert ask("/config/edge-01")["metrics"] == {"power_total_watts": True}
        assert ask("/groups/rack-3")
        shell.run("many boards")
        shell.run("power")
        change = ask("/changes")["changes"][0]["id"]
        shell.run("history", **{"1796000000123-00ff": change})
        shell.run("export")
        assert "\n  edge-01:\n" in (shell.directory / "fleet.yaml").read_text()
        first, second = commands(shell.blocks.pop("board"))
        for command in (first, second):
            with shell.started(command, "localhost:9101/health"):
                server = wait_until("it has asked", lambda: json.loads(get("http://localhost:9101/health")[0])["config_server"])
                assert server, server
        old = "edge-metrics-exporter config-server --store ./old --web.listen-address :8081"
        with shell.started(old, "old-server:8081/health"):
            for board in ("edge-01", "edge-02"):
                put = f"curl -X PUT old-server:8081/config/{board} -H 'Content-Type: application/json'"
                shell.command(f"{put} -d '{json.dumps(OLD[board])}'")
            shell.run("copy configurations")
        assert {board: ask(f"/config/{board}?own") for board in OLD} == OLD
    make, server = commands(shell.blocks.pop("tokens"))
    shell.command(make)
    with shell.started(server, "localhost:8080/health"):
        put = "curl -X PUT localhost:8080/config/edge-03 -H 'Content-Type: application/json' -d '{\"device_type\": \"x86\"}'"
        # From a machine without the token: the name leads to another address of this one.
        refused = subprocess.run(["bash", "-c", put.replace("localhost", DEVICE)], **shell.options(), capture_output=True, text=True)
        assert refused.returncode == 22 and "401" in refused.stderr, refused
        bearer = re.search(r"(-H \"Authorization: [^\"]+\")", server)[1]
        shell.command(f"{put.replace('localhost', DEVICE)} {bearer}")


def answer_datagrams():
    """The device of the page about prometheus-power-exporter (proto/powermeasurement.proto): 500 mA."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
        device.bind((DEVICE, 5000))
        for number in range(1, 100):
            _, client = device.recvfrom(2048)
            device.sendto(struct.pack("<BBBdBf", 0x08, number, 0x11, 1000.0 * number, 0x1D, 500.0), client)


def replaced_programs(shell):
    here, demo = commands(shell.blocks.pop("kepler"))
    with shell.started(here, "localhost:28282/metrics"):
        pass
    with shell.started(demo, "localhost:28282/metrics"):
        joules = lambda: "\nkepler_node_cpu_joules_total{" in get("http://localhost:28282/metrics")[0]
        wait_until("Kepler's names are there", joules)
    with shell.started(shell.blocks.pop("scaphandre"), "localhost:8080/metrics"):
        wait_until("Scaphandre's names are there", lambda: "\nscaph_host_power_microwatts" in get("http://localhost:8080/metrics")[0])
    threading.Thread(target=answer_datagrams, daemon=True).start()
    with shell.started(shell.blocks.pop("power-exporter"), "localhost:8000/metrics"):
        current = "\npowerexporter_current_ampere 0.5\n"
        wait_until("the device's current is there", lambda: current in get("http://localhost:8000/metrics")[0])


def collector(shell):
    with running([BINARY, "demo"], stderr=shell.log), prometheus(["localhost:9100"], address="127.0.0.1:9090"):
        with shell.started(shell.blocks.pop("collect"), "localhost:8000/health"):
            # The collector asks every 30 s; what Prometheus does not have at the first time, it has at the second.
            wait_until("there is a row", lambda: get("http://localhost:8000/nodes")[0].count("\n") > 1, 90)
            shell.run("download")
    header, row = (shell.directory / "nodes.csv").read_text().splitlines()[:2]
    assert header.startswith("instance,collection_time,observation_time,"), header
    assert row.startswith("demo,"), row


def prepare(directory):
    (directory / "hosts").write_text("".join(f"127.0.0.1 {name}\n" for name in HOSTS))
    for command in (
        ["ip", "link", "set", "lo", "up"],
        ["ip", "address", "add", f"{DEVICE}/32", "dev", "lo"],
        ["mount", "--make-rprivate", "/"],
        ["mount", "--bind", directory / "hosts", "/etc/hosts"],
        ["mount", "--bind", BOARD / "sys", "/sys"],
    ):
        subprocess.run(command, check=True)


def main():
    if INSIDE not in os.environ:
        os.environ[INSIDE] = "yes"
        os.execvp("unshare", ["unshare", "--net", "--mount", sys.executable, __file__])
    began = time.monotonic()
    with temporary() as directory:
        prepare(directory)
        shell = Shell(directory)
        try:
            for part in (first_steps, recording, config_server, replaced_programs, collector):
                part(shell)
        except BaseException:
            print(shell.text()[-5000:])
            raise
        assert not shell.blocks, f"not run: {list(shell.blocks)}"
    print(f"all commands of the documents ran in {time.monotonic() - began:.0f} s")


main()
