#!/usr/bin/env python3
"""Whether a meter that is read a thousand times a second is read at every tick, and what that costs: markdown on stdout.

On a machine that others use too, what counts is that few ticks are missed: only an idle core misses none."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[1]
EXPORTER = os.environ.get("EXPORTER", ROOT / "target/release/edge-metrics-exporter")
SECONDS = int(os.environ.get("PACING_SECONDS", 60))


def tree(root):
    """Four RAPL domains in powercap, as an Intel desktop has them."""
    for i, name in enumerate(("package-0", "core", "uncore", "dram")):
        zone = root / "sys/class/powercap" / ("intel-rapl:0" if i == 0 else f"intel-rapl:0:{i - 1}")
        zone.mkdir(parents=True)
        (zone / "name").write_text(f"{name}\n")
        (zone / "max_energy_range_uj").write_text("262143328850\n")
        (zone / "energy_uj").write_text("98765432100\n")
    (root / "config.yaml").write_text("device_type: x86\ninterval: 0.001\nhistory: {seconds: 60}\n")


def numbers(address):
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {series: float(value) for series, value in pairs}


def measure(address):
    def of(found, name):
        return sum(value for series, value in found.items() if series.split("{")[0] == name)

    before, begin = numbers(address), time.monotonic()
    time.sleep(SECONDS)
    after, seconds = numbers(address), time.monotonic() - begin
    # What a poll keeps for those who want every sample: all but the exporter's own.
    values = sum(not series.startswith(("exporter_", "process_")) for series in after)
    missed = of(after, "exporter_source_missed_polls_total") - of(before, "exporter_source_missed_polls_total")
    cpu = of(after, "process_cpu_seconds_total") - of(before, "process_cpu_seconds_total")
    ticks = seconds / 0.001
    print("| 1 kHz, four RAPL domains | |\n| --- | ---: |")
    print(f"| ticks | {ticks:,.0f} |")
    print(f"| missed | {missed:,.0f} ({100 * missed / ticks:.3f} %) |")
    print(f"| processor time | {100 * cpu / seconds:.1f} % of a core |")
    print(f"| processor time a sample | {1e9 * cpu / ((ticks - missed) * values):,.0f} ns |")


def main():
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        tree(root)
        paths = [f"--path.sysfs={root / 'sys'}", f"--path.procfs={root}", f"--path.dev={root}"]
        ports = ["--web.listen-address=127.0.0.1:0", "--web.management-address=127.0.0.1:0"]
        command = [EXPORTER, f"--config={root / 'config.yaml'}", *paths, *ports]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            for line in process.stderr:
                if found := re.search(r"metrics: listening on http://([0-9.:]+)/", line):
                    time.sleep(1)
                    return measure(found[1])
            sys.exit("the exporter did not start")
        finally:
            process.kill()
            process.wait()


main()
