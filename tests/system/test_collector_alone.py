"""The collector where nothing runs on a node but this exporter: /nodes, /pods and /workloads are full, their joules are those that
the board drew, and /history.csv has the same without a Prometheus."""

import contextlib
import csv
import io
import json
import math
import threading
import time
import urllib.parse

import pandas
import peers

from peers import collector, exporter, get, prometheus, query, temporary, wait_until

# The queries for CPU time look back over a minute, which has to be full.
peers.WAIT_SECONDS = 120

NAMESPACE = "experiment"
UIDS = {"web-0": "7c1d2e3f-4a5b-4c6d-8e9f-0123456789ab", "db-0": "8d2e3f4a-5b6c-4d7e-9f01-23456789abcd"}
# Pod, container, id, and the processors that it keeps busy.
CONTAINERS = [("web-0", "nginx", "1" * 64, 0.5), ("web-0", "sidecar", "2" * 64, 0.1), ("db-0", "db", "3" * 64, 0.2)]
SERVICE = 0.2
SYSTEM = 0.05
IDLE, PER_PROCESSOR = 3.0, 2.0
MIB = 1 << 20


class Board:
    """A board with pods and a service, whose power follows its load: four processors, a meter at its input, cgroup v2."""

    def __init__(self, directory):
        self.directory = directory
        self.write("sys/fs/cgroup/cgroup.controllers", "cpu memory\n")
        self.write("sys/devices/system/cpu/online", "0-3\n")
        self.write("proc/sys/kernel/hostname", "edge-01\n")
        self.write("proc/meminfo", "MemTotal: 4194304 kB\nMemFree: 1 kB\nMemAvailable: 3145728 kB\n")
        self.write("sys/class/hwmon/hwmon0/name", "ina226\n")
        self.write("sys/class/hwmon/hwmon0/in1_input", "5000\n")
        watts = IDLE + PER_PROCESSOR * (sum(c[3] for c in CONTAINERS) + SERVICE + SYSTEM)
        self.watts = watts
        self.write("sys/class/hwmon/hwmon0/power1_input", f"{round(watts * 1e6):>12}\n")
        (directory / "dev").mkdir()
        logs = directory / "logs"
        for pod, container, identity, _ in CONTAINERS:
            (logs / "pods" / f"{NAMESPACE}_{pod}_{UIDS[pod]}").mkdir(parents=True, exist_ok=True)
            (logs / "containers").mkdir(exist_ok=True)
            (logs / "containers" / f"{pod}_{NAMESPACE}_{container}-{identity}.log").write_text("")
            self.write(f"sys/fs/cgroup/{self.path(pod, identity)}/memory.current", f"{32 * MIB}\n")
            self.write(f"sys/fs/cgroup/kubepods/pod{UIDS[pod]}/memory.current", f"{100 * MIB}\n")
        self.write("sys/fs/cgroup/system.slice/ssh.service/memory.current", f"{8 * MIB}\n")
        self.write(
            "config.yaml",
            "device_type: generic\ninterval: 0.1\n"
            f"workloads: {{enabled: true, idle_watts: {IDLE}, names: {{sockets: [], pod_logs: {logs}, kubernetes: {{enabled: false}}}}}}\n",
        )
        self.began = time.monotonic()
        self.step()
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.live)

    @staticmethod
    def path(pod, identity):
        return f"kubepods/pod{UIDS[pod]}/cri-containerd-{identity}.scope"

    def write(self, path, text):
        path = self.directory / path
        path.parent.mkdir(parents=True, exist_ok=True)
        # The same file, and of the same length: descriptors are kept.
        with open(path, "r+" if path.exists() else "w") as file:
            file.write(text)

    def step(self):
        seconds = time.monotonic() - self.began
        used = {"system.slice/ssh.service": SERVICE, "system.slice": SERVICE}
        for pod, _, identity, load in CONTAINERS:
            path = self.path(pod, identity)
            for cgroup in (path, path.rpartition("/")[0], "kubepods"):
                used[cgroup] = used.get(cgroup, 0) + load
        # The processors first: what is used by nobody is the system's.
        busy = round((used["kubepods"] + SERVICE + SYSTEM) * seconds * 100)
        self.write("proc/stat", f"cpu  {busy:012} 0 0 99999 0 0 0 0 0 0\n")
        for cgroup, load in sorted(used.items()):
            self.write(f"sys/fs/cgroup/{cgroup}/cpu.stat", f"usage_usec {round(load * seconds * 1e6):014}\n")

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


def table(address, path):
    text, _ = get(f"http://{address}{path}")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def about(text, value, tolerance=0.1):
    return text != "" and math.isclose(float(text), value, rel_tol=tolerance)


def full(row, expected):
    """Whether all of these columns have about these values."""
    wrong = {name: (row[name], value) for name, value in expected.items() if not about(row[name], value)}
    assert not wrong, (wrong, row)
    return True


def last(rows, **which):
    found = [row for row in rows if all(row[name] == value for name, value in which.items())]
    assert found, (which, rows[-3:])
    return found[-1]


def joules_add_up(rows, watts):
    """The steps are the differences of the counter, and the counter grows as the power says."""
    rows = [row for row in rows if row["energy_joules"]]
    assert len(rows) > 5 and rows[0]["step_joules"] == "", rows[:2]
    counted = sum(float(row["step_joules"]) for row in rows[1:])
    grown = float(rows[-1]["energy_joules"]) - float(rows[0]["energy_joules"])
    assert math.isclose(counted, grown, rel_tol=1e-6, abs_tol=1e-6), (counted, grown)
    seconds = [pandas.Timestamp(rows[place]["observation_time"]).timestamp() for place in (0, -1)]
    assert math.isclose(grown / (seconds[1] - seconds[0]), watts, rel_tol=0.15), (grown, seconds, watts)
    return grown


def tables_are_full(address, board):
    load = {pod: sum(c[3] for c in CONTAINERS if c[0] == pod) for pod in UIDS}
    cores = sum(load.values()) + SERVICE + SYSTEM
    node = {"cpu_usage": cores, "memory_usage": 0.25, "wattage": board.watts, "num_processes": len(UIDS)}
    others = PER_PROCESSOR * (SERVICE + SYSTEM)
    node |= {"wattage_auxilary": others, "idle_wattage": IDLE}
    wait_until("the node's row is full", lambda: full(last(table(address, "/nodes?columns=all"), instance="edge-01"), node))
    assert table(address, "/nodes")[-1]["instance"] == "edge-01"
    for pod in UIDS:
        watts = PER_PROCESSOR * load[pod]
        expected = {"cpu_usage": load[pod], "memory_usage": 100 * MIB / 1e6, "wattage_kepler": watts}
        wait_until(f"{pod}'s row is full", lambda: full(last(table(address, "/pods"), name=pod), expected))
        row = last(table(address, "/pods?columns=all"), name=pod)
        assert row["instance"] == "edge-01" and row["namespace"] == NAMESPACE, row
        full(row, {"wattage": watts})
    service = {"cpu_usage": SERVICE, "memory_usage": 8 * MIB / 1e6, "wattage": PER_PROCESSOR * SERVICE}
    wait_until("the service's row is full", lambda: full(last(table(address, "/workloads"), name="ssh.service"), service))
    rows = table(address, "/workloads")
    assert {row["kind"] for row in rows} == {"service", "system", "other"}, rows

    wait_until("there are some rounds", lambda: len(table(address, "/nodes?size=1000")) > 8)
    everything = "?size=100000&columns=all"
    board_joules = joules_add_up(table(address, f"/nodes{everything}"), board.watts)
    for pod in UIDS:
        rows = [row for row in table(address, f"/pods{everything}") if row["name"] == pod]
        joules_add_up(rows, PER_PROCESSOR * load[pod])
    rows = [row for row in table(address, f"/workloads{everything}") if row["name"] == "ssh.service"]
    joules_add_up(rows, PER_PROCESSOR * SERVICE)
    health = json.loads(get(f"http://{address}/health")[0])
    assert health["status"] == "healthy" and not health["failing"], health
    return board_joules


def history_is_a_table(target, board):
    power = "name[]=power_total_watts"
    frame = pandas.read_csv(f"http://{target}/history.csv?step=1s&{power}", parse_dates=["time"], index_col="time")
    assert str(frame.index.tz) == "UTC" and frame.index.is_monotonic_increasing and frame.index.is_unique
    (column,) = frame.columns
    assert column.startswith("power_total_watts{") and (abs(frame[column] / board.watts - 1) < 1e-6).all()
    seconds = (frame.index[-1] - frame.index[0]).total_seconds()
    assert len(frame) >= seconds and len(frame) > 5
    every = pandas.read_csv(f"http://{target}/history.csv?last=2s&time=unix&{power}")
    assert 10 < len(every) < 30 and abs(every["time"].iloc[-1] - time.time()) < 5, every
    one = urllib.parse.quote(column)
    assert list(pandas.read_csv(f"http://{target}/history.csv?name[]={one}").columns) == ["time", column]
    pods = pandas.read_csv(f"http://{target}/history.csv?step=1s&name[]=workload_power_watts")
    (nginx,) = [name for name in pods.columns if 'container="nginx"' in name]
    assert math.isclose(pods[nginx].mean(), PER_PROCESSOR * 0.5, rel_tol=0.25), pods[nginx]


def main():
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(temporary())
        board = stack.enter_context(Board(directory))
        target = stack.enter_context(exporter(*board.arguments()))
        named = lambda: 'namespace="experiment"' in get(f"http://{target}/metrics")[0]
        wait_until("pods have names", named)
        plain = [{"job_name": "plain", "static_configs": [{"targets": [target]}]}]
        # As the Prometheus Operator does it: the exporter's own labels are renamed.
        labels = {"namespace": "monitoring", "pod": "edge-metrics-exporter-x", "container": "exporter"}
        operator = [{"job_name": "operator", "static_configs": [{"targets": [target], "labels": labels}]}]
        servers = [(jobs[0]["job_name"], stack.enter_context(prometheus([], jobs=jobs))) for jobs in (plain, operator)]
        for name, server in servers:
            wait_until("it scrapes", lambda: query(server, "workload_power_watts"))
            environment = {"PROMETHEUSSERVER": server, "UPDATE_INTERVAL": "1", "NAMESPACE": NAMESPACE}
            with collector(environment=environment) as (address, _):
                joules = tables_are_full(address, board)
                print(f"{name}: full; the board drew {joules:.1f} J")
        history_is_a_table(target, board)


main()
