"""A board with a 1 kHz meter, servers that store every sample, and their comparison."""

import bisect
import json
import math
import multiprocessing
import os
import signal
import subprocess
import time

from peers import free_port, get, query, wait_until

TICK = 0.001
# The energy of a tick in µJ: 15 W and 5 W.
PACKAGE, CORE = 15_000, 5_000
OURS = ("job", "instance")


class Rapl:
    """A RAPL package with its cores, whose counters a separate process advances at every tick."""

    # (n, m): every n-th tick adds the energy of m more ticks.
    spike = (0, 0)

    def __init__(self, directory, config="", tick=TICK):
        self.directory, self.tick = directory, tick
        zone = directory / "sys/devices/virtual/powercap/intel-rapl/intel-rapl:0"
        for path, name in ((zone, "package-0"), (zone / "intel-rapl:0:0", "core")):
            path.mkdir(parents=True, exist_ok=True)
            (path / "name").write_text(f"{name}\n")
            (path / "max_energy_range_uj").write_text("262143328850\n")
            (path / "energy_uj").write_text(f"{0:>20}\n")
        powercap = directory / "sys/class/powercap"
        powercap.mkdir(parents=True)
        (powercap / "intel-rapl").symlink_to(zone.parent)
        (powercap / "intel-rapl:0").symlink_to(zone)
        (powercap / "intel-rapl:0:0").symlink_to(zone / "intel-rapl:0:0")
        (directory / "proc/sys/kernel").mkdir(parents=True)
        (directory / "proc/sys/kernel/hostname").write_text("edge-01\n")
        (directory / "dev").mkdir()
        (directory / "config.yaml").write_text(f"device_type: x86\ninterval: {tick}\n{config}")
        self.files = [zone / "energy_uj", zone / "intel-rapl:0:0/energy_uj"]

    def roots(self):
        roots = (("sysfs", "sys"), ("procfs", "proc"), ("dev", "dev"))
        return [f"--path.{flag}={self.directory / place}" for flag, place in roots]

    def arguments(self):
        return [f"--config={self.directory / 'config.yaml'}", *self.roots()]

    def move(self):
        files = [os.open(path, os.O_WRONLY) for path in self.files]
        begin, ticks, sleeps = time.monotonic(), 0, 0
        every, more = self.spike
        while True:
            ticks += 1
            if every and ticks % every == 0:
                ticks += more
            # In place and with a constant length: a reader never sees a partial number.
            for file, microjoules in zip(files, (PACKAGE, CORE)):
                os.pwrite(file, f"{ticks * microjoules:>20}\n".encode(), 0)
            sleeps += 1
            time.sleep(max(0, begin + (sleeps + 1) * self.tick - time.monotonic()))

    def __enter__(self):
        self.process = multiprocessing.Process(target=self.move, daemon=True)
        self.process.start()
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.join()


class Server:
    """A server that stores samples, and can be killed and started again with its data."""

    def __init__(self, directory, name):
        self.name, self.directory = name, directory / name
        self.directory.mkdir()
        self.address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.address}"
        self.process = None

    def start(self):
        self.log = open(self.directory / "log", "a")
        self.process = subprocess.Popen(self.command(), stderr=self.log, stdout=self.log)
        wait_until(f"{self.name} is ready", lambda: get(f"{self.url}{self.ready}"))

    def stop(self, how=signal.SIGTERM):
        if self.process:
            self.process.send_signal(how)
            self.process.wait(20)
            self.process = None

    def kill(self):
        self.stop(signal.SIGKILL)

    @staticmethod
    def equal(found, expected):
        """Whether the stored samples are the sent ones."""
        return found == expected

    def counter(self, name):
        text, _ = get(f"{self.url}/metrics")
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))

    def samples(self, name, begin, end):
        """Every sample of a family's series, as {labels: [(stamp in ms, value)]}."""
        window = int(end - begin) + 1
        found = query(self.url, f"{name}[{window}s] @ {end:.3f}")
        result = {}
        for series in found:
            labels = {k: v for k, v in series["metric"].items() if k not in ("__name__", *OURS)}
            pairs = [(round(float(at) * 1000), float(value)) for at, value in series["values"]]
            result[tuple(sorted(labels.items()))] = pairs
        return result


class Prometheus(Server):
    ready = "/-/ready"

    def __init__(self, directory, name, config, *flags):
        super().__init__(directory, name)
        # JSON is valid YAML.
        (self.directory / "prometheus.yml").write_text(json.dumps(config))
        self.flags = flags

    def command(self):
        return [
            "prometheus",
            f"--config.file={self.directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address={self.address}",
            "--query.max-samples=100000000",
            *self.flags,
        ]


class VictoriaMetrics(Server):
    ready = "/health"

    def kill(self):
        """SIGTERM instead: VictoriaMetrics has no write-ahead log, and would lose its latest samples itself."""
        self.stop(signal.SIGTERM)

    @staticmethod
    def equal(found, expected):
        """VictoriaMetrics stores floats as decimals with one exponent for each block."""
        largest = max((abs(value) for _, value in expected), default=0)
        return len(found) == len(expected) and all(
            a[0] == b[0] and math.isclose(a[1], b[1], rel_tol=1e-12, abs_tol=1e-12 * largest)
            for a, b in zip(found, expected)
        )

    def command(self):
        return [
            "victoria-metrics",
            f"-storageDataPath={self.directory / 'data'}",
            f"-httpListenAddr={self.address}",
            "-search.latencyOffset=0s",
            "-retentionPeriod=10y",
        ]

    def samples(self, name, begin, end):
        """Raw samples by the export API: a query would resample them."""
        get(f"{self.url}/internal/force_flush")
        text, _ = get(f"{self.url}/api/v1/export?match[]={name}&start={begin:.3f}&end={end:.3f}")
        result = {}
        for line in text.splitlines():
            series = json.loads(line)
            labels = {k: v for k, v in series["metric"].items() if k not in ("__name__", *OURS)}
            pairs = zip(series["timestamps"], series["values"])
            result.setdefault(tuple(sorted(labels.items())), []).extend((at, float(value)) for at, value in pairs)
        return {labels: sorted(pairs) for labels, pairs in result.items()}


def scrape(target, consumer, every):
    """Scrapes as a consumer, adds the new samples to {name: {labels: [(stamp in ms, value)]}}; returns their number."""
    text, _ = get(f"http://{target}/multirate?consumer={consumer}", {"X-Prometheus-Scrape-Timeout-Seconds": "60"})
    count = 0
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        series, value, stamp = line.rsplit(" ", 2)
        name, _, labels = series.partition("{")
        pairs = (pair.split("=", 1) for pair in labels.rstrip("}").split(",") if pair)
        labels = tuple(sorted((label, text.strip('"')) for label, text in pairs))
        every.setdefault(name, {}).setdefault(labels, []).append((int(stamp), float(value)))
        count += 1
    return count


def own(target, pattern):
    text, _ = get(f"http://{target}/metrics")
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(pattern)}


def compare(server, every, begin, end):
    """Asserts equal samples, series by series, within a window that both cover; returns their number."""
    total = 0
    for name, all_series in every.items():
        stored = server.samples(name, begin, end)
        for labels, truth in all_series.items():
            first = bisect.bisect_right(truth, (begin * 1000, float("inf")))
            last = bisect.bisect_right(truth, (end * 1000, float("inf")))
            expected = truth[first:last]
            found = [pair for pair in stored.get(labels, []) if begin * 1000 < pair[0] <= end * 1000]
            if not server.equal(found, expected):
                pairs = (expected, found), (found, expected)
                missing, extra = (sorted(dict(these).keys() - dict(those).keys()) for these, those in pairs)
                raise AssertionError(
                    f"{server.name}: {name}{dict(labels)}: {len(found)} found of {len(expected)}; {len(missing)} missing "
                    f"{missing[:3]} … {missing[-1:]}, {len(extra)} extra {extra[:3]} … {extra[-1:]}"
                )
            total += len(found)
    return total


def check_energy(every):
    """The exported counter equals the meter's: whole ticks, none lost, none twice."""
    for labels, samples in every["energy_joules_total"].items():
        joules = (PACKAGE if ("rail", "package-0") in labels else CORE) / 1e6
        ticks = [value / joules for _, value in samples]
        assert all(abs(tick - round(tick)) < 1e-3 for tick in ticks), "not whole ticks"
        assert all(a <= b for a, b in zip(ticks, ticks[1:])), "a counter went back"
        seconds = (samples[-1][0] - samples[0][0]) / 1000
        assert abs((ticks[-1] - ticks[0]) * TICK / seconds - 1) < 0.01, "not 1000 ticks a second"
        assert all(a[0] < b[0] for a, b in zip(samples, samples[1:])), "stamps do not ascend"
