"""A board whose RAPL counters a process of its own moves, and what samples of it say."""

import bisect
import json
import multiprocessing
import os
import time

from peers import get

# What a tick adds, in µJ: 15 W and 5 W at 1 kHz.
PACKAGE, CORE = 15_000, 5_000


class Rapl:
    """A RAPL package with its cores, whose counters move at every tick."""

    def __init__(self, directory, tick=0.001, **configuration):
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
        self.configure(**configuration)
        self.files = [zone / "energy_uj", zone / "intel-rapl:0:0/energy_uj"]

    def configure(self, **configuration):
        """Writes the configuration; JSON is YAML."""
        configuration = {"device_type": "x86", "interval": self.tick, **configuration}
        (self.directory / "config.yaml").write_text(json.dumps(configuration))

    def roots(self):
        roots = (("sysfs", "sys"), ("procfs", "proc"), ("dev", "dev"))
        return [f"--path.{flag}={self.directory / place}" for flag, place in roots]

    def arguments(self):
        return [f"--config={self.directory / 'config.yaml'}", *self.roots()]

    def run(self):
        files = [os.open(path, os.O_WRONLY) for path in self.files]
        begin, ticks = time.monotonic(), 0
        while True:
            ticks += 1
            # In place and of equal length: a reader never sees half of a number.
            for file, microjoules in zip(files, (PACKAGE, CORE)):
                os.pwrite(file, f"{ticks * microjoules:>20}\n".encode(), 0)
            time.sleep(max(0, begin + (ticks + 1) * self.tick - time.monotonic()))

    def __enter__(self):
        self.process = multiprocessing.Process(target=self.run, daemon=True)
        self.process.start()
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.join()


def scrape(target, consumer, every):
    """Adds what a consumer has not had to {name: {labels: [(stamp in ms, value)]}}; returns how many."""
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
    """The exporter's own metrics that begin so."""
    text, _ = get(f"http://{target}/metrics")
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(pattern)}


def compare(store, every, begin, end):
    """Count and values equal, series by series, within a window (in seconds since 1970) that both cover."""
    total = 0
    for name, all_series in every.items():
        stored = store.samples(name, begin, end)
        for labels, truth in all_series.items():
            first = bisect.bisect_right(truth, (begin * 1000, float("inf")))
            last = bisect.bisect_right(truth, (end * 1000, float("inf")))
            expected = truth[first:last]
            found = [pair for pair in stored.get(labels, []) if begin * 1000 < pair[0] <= end * 1000]
            missing, extra = (sorted(dict(a).keys() - dict(b).keys()) for a, b in ((expected, found), (found, expected)))
            assert [stamp for stamp, _ in found] == [stamp for stamp, _ in expected], (
                f"{store.name}: {name}{dict(labels)}: {len(found)} found of {len(expected)}; "
                f"{len(missing)} missing {missing[:3]} … {missing[-1:]}, {len(extra)} extra {extra[:3]} … {extra[-1:]}"
            )
            other = [pair for pair, (_, value) in zip(found, expected) if not store.equal(pair[1], value)]
            assert not other, f"{store.name}: {name}{dict(labels)}: {len(other)} other values: {other[:3]}"
            total += len(found)
    return total
