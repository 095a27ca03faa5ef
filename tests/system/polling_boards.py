"""Real boards that poll config-servers."""

import concurrent.futures
import json
import os
import subprocess
import urllib.request

from peers import BINARY


def fixture(directory):
    """What all boards read: one USB supply of 10 W."""
    supply = directory / "sys/class/power_supply/usb"
    supply.mkdir(parents=True)
    for name, value in {"type": "USB", "online": 1, "voltage_now": 5_000_000, "current_now": 2_000_000}.items():
        (supply / name).write_text(f"{value}\n")
    (directory / "proc/sys/kernel").mkdir(parents=True)
    (directory / "proc/sys/kernel/hostname").write_text("nobody\n")
    (directory / "dev").mkdir()
    return directory


class Board:
    def __init__(self, number, directory, tree, servers):
        self.name = f"edge-{number:02}"
        self.directory = directory / self.name
        self.directory.mkdir()
        # Any free ports: nobody but the board itself knows them.
        config = f"hostname: {self.name}\ndevice_type: generic\ninterval: 1\nport: 0\nreload_port: 0\n"
        config += "config_poll: 2\nmetrics: {power_watts: true, energy_joules_total: true}\n"
        (self.directory / "config.yaml").write_text(config)
        roots = [("sysfs", "sys"), ("procfs", "proc"), ("dev", "dev")]
        self.command = [str(BINARY), "--config", str(self.directory / "config.yaml")]
        self.command += [f"--path.{flag}={tree / place}" for flag, place in roots]
        # Each begins with another of the servers.
        turn = number % len(servers)
        urls = ",".join(servers[turn:] + servers[:turn])
        self.environment = {**os.environ, "CONFIG_SERVER_URL": urls, "CONFIG_TIMEOUT": "5"}
        self.process = None

    def start(self):
        with open(self.directory / "log", "w") as log:
            self.process = subprocess.Popen(self.command, env=self.environment, stderr=log)
        return self

    def log(self):
        return (self.directory / "log").read_text()

    def management(self):
        mark = "management: listening on http://localhost:"
        lines = [line for line in self.log().splitlines() if mark in line]
        assert lines, f"{self.name} does not listen yet"
        line = lines[-1]
        return "http://127.0.0.1:" + line.split(mark)[1].strip("/")

    def ask(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.management() + path, data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()

    def wait(self):
        if self.process:
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def stop(boards):
    for board in boards:
        board.stop()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(Board.wait, boards))
