"""A day of a fleet as Prometheus stores it: boards of known, constant power, some of which come and go, are scraped by several
jobs, move to another address or share a name. Written by remote write, with the ends of series that Prometheus marks where it
scrapes."""

import contextlib
import itertools
import math
import struct
import urllib.request

import cramjam
from peers import prometheus, temporary
from remote_write_messages import compiled

MINUTE, HOUR, DAY = 60, 3600, 86_400
# When the day begins: 2026-01-01, midnight.
BEGIN = 1_767_225_600
END = BEGIN + DAY
# NaN with the bits that Prometheus ends a series with.
STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
# No other board has these kinds.
KINDS = "sim_.*"
# A board's own readings, and how long the exporter keeps them for /multirate.
READ_EVERY, KEPT = 2, 300


class Target:
    """An address at which a job scrapes a board, from second `since` of the day to `until`."""

    def __init__(self, job, instance, since=0, until=DAY, multirate=False, pushes=False):
        self.job, self.instance, self.since, self.until = job, instance, since, until
        self.multirate, self.pushes = multirate, pushes


class Board:
    """A board whose exporter runs in the periods `on`, and cannot be reached in those of `away`. Its counter begins anew with each
    period, and it loads a configuration then, and when it is reloaded."""

    def __init__(self, hostname, kind, watts, targets, on=((0, DAY),), away=(), reloaded=()):
        self.hostname, self.kind, self.watts, self.targets = hostname, kind, watts, targets
        self.on, self.away, self.reloaded = on, away, reloaded

    @property
    def key(self):
        return self.hostname, self.kind

    def started(self, at):
        """When the running exporter started, or None while there is none."""
        return next((start for start, end in self.on if start <= at < end), None)

    def loaded(self, at):
        """When the active configuration was loaded, in seconds since 1970."""
        return BEGIN + max(load for load in (self.started(at), *self.reloaded) if load <= at)

    def answers(self, at):
        return self.started(at) is not None and not any(start <= at < end for start, end in self.away)

    def joules(self, since, until):
        return self.watts * sum(max(0, min(end, until) - max(start, since)) for start, end in self.on)

    def tolerance(self, since, until, interval):
        """What is unknown of its joules: at each start, end and edge, what lies between that and the next scrape."""
        edges = {edge for period in self.on for edge in period if since < edge < until} | {since, until}
        return self.watts * interval * len(edges)

    def changes(self):
        """When its power, as Prometheus sees it, is another than before."""
        edges = {edge for period in (*self.on, *self.away) for edge in period}
        return edges | {edge for target in self.targets for edge in (target.since, target.until)}


def edge_power(name, **more):
    return Target("edge-power", f"{name}:9100", **more)


def multirate(name):
    return Target("edge-power-multirate", f"{name}:9100", multirate=True)


def listed(address, **more):
    return Target("edge-power-fleet", f"{address}:9100", **more)


BOARDS = [
    Board("always", "sim_orin", 10, [edge_power("always")], reloaded=(7 * HOUR, 16 * HOUR)),
    Board("half-the-day", "sim_orin", 20, [edge_power("half-the-day")], on=((0, 6 * HOUR), (18 * HOUR, DAY))),
    # By two jobs at one address.
    Board("two-jobs", "sim_pi", 5, [edge_power("two-jobs"), multirate("two-jobs")]),
    # By two jobs at two addresses, of which one is new.
    Board("two-names", "sim_pi", 7, [edge_power("two-names"), listed("192.0.2.7", since=22 * HOUR)]),
    # The exporter starts anew between two scrapes.
    Board(
        "restarts", "sim_pc", 50, [edge_power("restarts"), multirate("restarts")],
        on=((0, 5 * HOUR), (5 * HOUR + 1, 9 * HOUR), (9 * HOUR + 1, 20 * HOUR), (20 * HOUR + 1, DAY)),
    ),
    # Off for three minutes: Prometheus shows the last sample of /multirate for five.
    Board("just-off", "sim_pc", 3, [edge_power("just-off"), multirate("just-off")], on=((0, DAY - 3 * MINUTE),)),
    Board("new", "sim_pc", 11, [edge_power("new")], on=((17 * HOUR, DAY),)),
    Board("raspberrypi", "sim_pi", 4, [edge_power("192.0.2.10")]),
    Board("raspberrypi", "sim_pi", 6, [edge_power("192.0.2.11")], on=((0, 3 * HOUR), (5 * HOUR, DAY))),
    # Another address since noon.
    Board("moved", "sim_opi", 8, [listed("192.0.2.20", until=DAY // 2), listed("192.0.2.21", since=DAY // 2)]),
    # Went on without the network.
    Board("unreachable", "sim_opi", 9, [edge_power("unreachable")], away=((10 * HOUR, 12 * HOUR),)),
    Board("sends", "sim_opi", 2, [Target("edge-metrics-exporter", "sends:9100", pushes=True)], on=((0, 13 * HOUR), (19 * HOUR, DAY))),
]  # fmt: skip


def by_name(values):
    """{(hostname, kind): sum} of [(board, value)]: boards of one name are one to Prometheus."""
    names = {}
    for board, value in values:
        names[board.key] = names.get(board.key, 0) + value
    return names


def joules(window):
    """{(hostname, kind): joules} of the last `window` seconds of the day, without boards that used none."""
    return by_name((board, used) for board in BOARDS if (used := board.joules(DAY - window, DAY)))


def tolerances(window, interval):
    return by_name((board, board.tolerance(DAY - window, DAY, interval)) for board in BOARDS)


def watts(at=DAY - 1):
    """{(hostname, kind): watts} of the boards that answer at a second of the day."""
    return by_name((board, board.watts) for board in BOARDS if board.answers(at))


def silent():
    """How many addresses do not answer at the end."""
    off = [board for board in BOARDS if not board.answers(DAY - 1)]
    return len({target.instance for board in off for target in board.targets if target.until == DAY and not target.pushes})


def is_settled(at, interval):
    """Whether nothing has changed since the last scrapes."""
    return not any(at - 2 * interval <= change <= at for board in BOARDS for change in board.changes())


def scrape_times(interval, number):
    """Of target `number`: each has its own phase."""
    return range((number * 7) % interval, DAY, interval)


def history(interval):
    """[(labels, [(second of the day, value)])]"""
    targets = [(board, target) for board in BOARDS for target in board.targets]
    for number, (board, target) in enumerate(targets):
        of_job = {"job": target.job, "instance": target.instance}
        own = of_job | {"hostname": board.hostname, "device_type": board.kind}
        up, power, energy, seen, cpu, loaded = [], [], [], [], [], []
        answered = None
        for at in scrape_times(interval, number):
            if not target.since <= at < target.until:
                continue
            answers = board.answers(at)
            up.append((at, float(answers)))
            if answers and target.multirate:
                since = max(at - KEPT if answered is None else answered, at - KEPT)
                for read in range(math.ceil(since), at):
                    start = board.started(read)
                    if read % READ_EVERY == 0 and start is not None and read > (energy[-1][0] if energy else -1):
                        power.append((read, float(board.watts)))
                        energy.append((read, float(board.watts * (read - start))))
            elif answers:
                age = at - board.started(at)
                power.append((at, float(board.watts)))
                energy.append((at, float(board.watts * age)))
                seen.append((at, 1.0))
                cpu.append((at, 0.01 * age))
                loaded.append((at, float(board.loaded(at))))
            elif not target.multirate and answered is not None:
                for samples in (power, energy, seen, cpu, loaded):
                    samples.append((at, STALE))
            answered = at if answers else None
        if target.until < DAY:
            for samples in (up, power, energy, seen, cpu, loaded):
                samples.append((target.until, STALE))
        series = [("power_total_watts", own, power), ("board_energy_joules_total", own, energy)]
        series.append(("power_watts", own | {"source": "sim", "rail": "in"}, power))
        if not target.pushes:
            series.append(("up", of_job, up))
            if not target.multirate:
                series.append(("exporter_build_info", of_job | {"version": "1.0.0", "arch": "x86_64"}, seen))
                series.append(("process_cpu_seconds_total", of_job, cpu))
                series.append(("exporter_config_last_reload_success_timestamp_seconds", of_job, loaded))
        for name, labels, samples in series:
            yield labels | {"__name__": name}, samples


def copies(snapshot, interval, hours=1.25):
    """The series of a snapshot, [(labels, value)], in the last hours of the day: counters count, the rest stands still."""
    for number, (labels, value) in enumerate(snapshot):
        counts = 1.0 if labels["__name__"].endswith("_total") else 0.0
        begin = DAY - round(hours * HOUR)
        times = [at for at in scrape_times(interval, number % 60) if at >= begin]
        yield labels, [(at, value + counts * (at - begin)) for at in times]


def write(url, series):
    """By remote write, an hour of all series at a time."""
    with temporary() as directory:
        kinds = compiled(directory)
    series = [(sorted(labels.items()), samples) for labels, samples in series]
    for hour in range(0, DAY + 1, HOUR):
        request = kinds.WriteRequest()
        for index, (labels, samples) in enumerate(series):
            now = list(itertools.takewhile(lambda sample: sample[0] < hour + HOUR, samples))
            if now:
                series[index] = (labels, samples[len(now) :])
                one = request.timeseries.add()
                for name, value in labels:
                    one.labels.add(name=name, value=value)
                for at, value in now:
                    one.samples.add(value=value, timestamp=(BEGIN + at) * 1000)
        headers = {"Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "0.1.0"}
        body = bytes(cramjam.snappy.compress_raw(request.SerializeToString()))
        asked = urllib.request.Request(f"{url}/api/v1/write", data=body, headers=headers, method="POST")
        with urllib.request.urlopen(asked, timeout=60) as answer:
            assert answer.status in (200, 204), answer.status


@contextlib.contextmanager
def stored(interval, snapshot):
    """A Prometheus with this day, scraped every `interval` seconds, and with the snapshot's series in its last hour."""
    # One block for all of it, which takes samples in any order of the series.
    flags = ["--web.enable-remote-write-receiver"]
    flags += [f"--storage.tsdb.{which}-block-duration=2d" for which in ("min", "max")]
    nothing = [{"job_name": "none", "static_configs": []}]
    with prometheus([], jobs=nothing, flags=flags) as url:
        write(url, [*history(interval), *copies(snapshot, interval)])
        yield url
