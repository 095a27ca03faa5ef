#!/usr/bin/env python3
"""Whether a meter that is read a thousand or ten thousand times a second is read at every tick, and what that costs, beside the
barest loop that reads the same files (`poll pace` of bench/poll.rs): markdown on stdout.

They take turns, so that what else the machine does concerns both. What counts is the ratio: only an idle core misses no tick. The loop
runs before and after each turn of the exporter: how much its own turns differ says which differences mean something.

`µs a tick` is the processor time of the whole process by ticks that were not missed. `ns a sample` is that by the series that the meter has on
/metrics, which are more than the four values that are read."""

import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[1]
EXPORTER = os.environ.get("EXPORTER", ROOT / "target/release/edge-metrics-exporter")
SECONDS = int(os.environ.get("PACING_SECONDS", 60))
# How often the loop, the exporter and the loop again take turns.
ROUNDS = int(os.environ.get("PACING_ROUNDS", 8))


def powercap(root):
    """Four RAPL domains in powercap, as an Intel desktop has them."""
    files = []
    for i, name in enumerate(("package-0", "core", "uncore", "dram")):
        zone = root / "sys/class/powercap" / ("intel-rapl:0" if i == 0 else f"intel-rapl:0:{i - 1}")
        zone.mkdir(parents=True)
        (zone / "name").write_text(f"{name}\n")
        (zone / "max_energy_range_uj").write_text("262143328850\n")
        (zone / "energy_uj").write_text("98765432100\n")
        files.append(zone / "energy_uj")
    return files


def hwmon(root):
    """An INA226."""
    chip = root / "sys/class/hwmon/hwmon0"
    chip.mkdir(parents=True)
    (chip / "name").write_text("ina226\n")
    values = {"in1": 12000, "curr1": 1250, "power1": 15000000, "temp1": 41500}
    for name, value in values.items():
        (chip / f"{name}_input").write_text(f"{value}\n")
    return [chip / f"{name}_input" for name in values]


def perf(root):
    """Four events of the kernel's software clock, in the place of a RAPL PMU."""
    pmu = root / "sys/bus/event_source/devices/power"
    (pmu / "events").mkdir(parents=True)
    (pmu / "type").write_text("1\n")
    (pmu / "cpumask").write_text("0\n")
    for name in ("cores", "pkg", "gpu", "ram"):
        event = f"events/energy-{name}"
        for suffix, text in (("", "event=0x00"), (".scale", "1e-8"), (".unit", "Joules")):
            (pmu / f"{event}{suffix}").write_text(f"{text}\n")
    topology = root / "sys/devices/system/cpu/cpu0/topology"
    topology.mkdir(parents=True)
    (topology / "physical_package_id").write_text("0\n")
    return ["perf:1:0:0"] * 4


def numbers(address):
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {series: float(value) for series, value in pairs}


def resident(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def exporter(root, seconds):
    """Ticks, those that were missed, processor time, values of a poll, and memory in MB."""

    def of(found, name):
        return sum(value for series, value in found.items() if series.split("{")[0] == name)

    paths = [f"--path.sysfs={root / 'sys'}", f"--path.procfs={root}", f"--path.dev={root}"]
    ports = ["--web.listen-address=127.0.0.1:0", "--web.management-address=127.0.0.1:0"]
    command = [EXPORTER, f"--config={root / 'config.yaml'}", *paths, *ports]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stderr:
            if found := re.search(r"metrics: listening on http://([0-9.:]+)/", line):
                break
        else:
            sys.exit("the exporter did not start")
        address = found[1]
        time.sleep(1)
        before, begin = numbers(address), time.monotonic()
        time.sleep(seconds)
        after, took = numbers(address), time.monotonic() - begin
        missed = "exporter_source_missed_polls_total"
        # What a poll keeps for those who want every sample: all but the exporter's own.
        values = sum(not series.startswith(("exporter_", "process_")) for series in after)
        cpu = of(after, "process_cpu_seconds_total") - of(before, "process_cpu_seconds_total")
        return took, of(after, missed) - of(before, missed), cpu, values, resident(process)
    finally:
        process.kill()
        process.wait()


def bare_loop():
    """The binary of bench/poll.rs."""
    command = ["cargo", "bench", "--locked", "--bench", "poll", "--no-run", "--message-format=json"]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    messages = (json.loads(line) for line in built.splitlines())
    return next(m["executable"] for m in messages if m.get("target", {}).get("name") == "poll" and m.get("executable"))


def bare(loop, interval, seconds, files):
    """Ticks of the loop, those that it missed, and its processor time."""
    arguments = [str(round(interval * 1e9)), str(seconds), *map(str, files)]
    read, missed, cpu = map(float, subprocess.run([loop, "pace", *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout.split()[:3])
    return read + missed, missed, cpu


def totals(turns):
    return [sum(values) for values in zip(*turns)]


def spread(turns):
    """Missed ticks in percent: the median turn, and the least and the most of all turns."""
    parts = sorted(100 * missed / ticks for ticks, missed, _ in turns)
    return f"{statistics.median(parts):.3f} ({parts[0]:.3f} to {parts[-1]:.3f})"


def compare(name, tree, interval, loop, realtime=False):
    """A row of the first table; returns one of the second."""
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        files = tree(root)
        (root / "config.yaml").write_text(
            f"device_type: x86\ninterval: {interval:.4f}\nrealtime: {str(realtime).lower()}\nhistory: {{seconds: 60, bytes: 4194304}}\nsources: [rapl, hwmon]\n"
        )
        ours, first, second = [], [], []
        each = max(1, SECONDS // ROUNDS)
        for _ in range(ROUNDS):
            first.append(bare(loop, interval, each, files))
            took, missed, cpu, values, memory = exporter(root, each)
            ours.append((took / interval, missed, cpu))
            second.append(bare(loop, interval, each, files))
    ticks, missed, cpu = totals(ours)
    bare_ticks, bare_missed, bare_cpu = totals(first + second)
    per_tick, bare_per_tick = 1e6 * cpu / (ticks - missed), 1e6 * bare_cpu / (bare_ticks - bare_missed)
    print(
        f"| {name} | {ticks:,.0f} | {missed:,.0f} ({100 * missed / ticks:.3f} %) | "
        f"{100 * bare_missed / bare_ticks:.3f} % | {per_tick:.2f} | {bare_per_tick:.2f} | "
        f"{per_tick / bare_per_tick:.2f} | {100 * cpu / (ticks * interval):.1f} % | {1000 * per_tick / values:,.0f} | {memory:.1f} |",
        flush=True,
    )
    beside = [before[1] / before[0] + after[1] / after[0] for before, after in zip(first, second)]
    more = sum(2 * turn[1] / turn[0] > loops for turn, loops in zip(ours, beside))
    return f"| {name} | {spread(ours)} | {spread(first)} | {spread(second)} | {more} of {ROUNDS} |"


def main():
    loop = os.environ.get("BARE_LOOP") or bare_loop()
    print("| four values | ticks | missed | by the loop | µs a tick | the loop's | ratio | of a core | ns a sample | MB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    rows = [("powercap, 1 kHz", powercap, 0.001), ("powercap, 10 kHz", powercap, 0.0001), ("hwmon, 10 kHz", hwmon, 0.0001)]
    if os.geteuid() == 0:
        rows += [("powercap, 1 kHz, `realtime`", powercap, 0.001, True), ("powercap, 10 kHz, `realtime`", powercap, 0.0001, True)]
    paranoid = pathlib.Path("/proc/sys/kernel/perf_event_paranoid")
    if os.geteuid() == 0 or int(paranoid.read_text()) <= 0:
        rows.append(("perf events, 10 kHz", perf, 0.0001))
    spreads = [compare(name, tree, interval, loop, *realtime) for name, tree, interval, *realtime in rows]
    print("\n| missed, % of a turn's ticks | exporter | the loop before it | the loop after it | turns in which the loops missed less |")
    print("| --- | ---: | ---: | ---: | ---: |")
    print("\n".join(spreads))


main()
