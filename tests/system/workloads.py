"""Attribution seen from outside: real processes in real cgroups, and a meter whose power follows this machine's processors. Used
on the machine of the tests (test_local_workloads) and in a booted Debian (test_boot_workloads)."""

import contextlib
import functools
import json
import math
import multiprocessing
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
import traceback

from peers import get, wait_until

IDLE_WATTS = 5.0
WATTS_PER_PROCESSOR = 10.0
# Both are the same counter. The package's idle power is given, the core's is learned.
GIVEN, LEARNED = DOMAINS = "package", "core"
CONFIG = f"""device_type: generic
interval: 1
# It would grow while memory is measured.
history: {{seconds: 0}}
workloads: {{enabled: true, idle_watts: {{package: {IDLE_WATTS}}}}}
"""

# A program that is busy for this part of the time, on one processor. Where others take it, it makes up for that.
BUSY = """
import sys, time
part, round = float(sys.argv[1]), time.monotonic()
while True:
    end = time.process_time() + part * 0.05
    while time.process_time() < end:
        pass
    now = time.monotonic()
    round = max(round + 0.05, now - 1)
    time.sleep(max(round - now, 0))
"""
# Names of cgroups are anything but a slash and a new line, of up to 255 bytes.
HOSTILE = [b'a"b.service', b"a\t1\r\x1b[31m.service", b"a\\.service", "ä€😀.service".encode(), b"x" * 247 + b".service", b"{}=,.service"]


def short_processes(directory):
    """The program of short processes, which needs nothing else where it runs."""
    program = directory / "short_processes"
    source = pathlib.Path(__file__).with_name("short_processes.c")
    subprocess.run(["cc", "-static", "-O2", "-o", program, source], check=True)
    return program


def run_on_time(pid):
    """Those whose energy is counted do not make that process late."""
    with contextlib.suppress(PermissionError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setscheduler(int(thread), os.SCHED_RR, os.sched_param(1))


class Meter:
    """A sysfs whose RAPL counts what this machine would have used for its processes, and whose other parts are its own."""

    def __init__(self, directory, busy_seconds, step=0.1):
        self.busy_seconds = busy_seconds
        self.sysfs = directory / "sys"
        package = self.sysfs / "class/powercap/intel-rapl:0"
        core = package / "intel-rapl:0:0"
        core.mkdir(parents=True)
        (package / "name").write_text("package-0\n")
        (core / "name").write_text("core\n")
        for name in ("devices", "fs"):
            (self.sysfs / name).symlink_to(pathlib.Path("/sys") / name)
        for zone in (package, core):
            (zone / "max_energy_range_uj").write_text("262143328850\n")
        flags = os.O_WRONLY | os.O_CREAT
        self.counters = [os.open(zone / "energy_uj", flags, 0o644) for zone in (package, core)]
        self.began = time.monotonic(), busy_seconds()
        self.count()
        # Not a thread, which would wait for others of this program that hold its lock and have no processor.
        self.process = multiprocessing.get_context("fork").Process(target=self.run, args=[step], daemon=True)

    def count(self):
        seconds, busy = time.monotonic() - self.began[0], self.busy_seconds() - self.began[1]
        joules = IDLE_WATTS * seconds + WATTS_PER_PROCESSOR * busy
        for counter in self.counters:
            # In place and with a constant length: a reader never sees a partial number.
            os.pwrite(counter, b"%20d\n" % (joules * 1e6), 0)

    def run(self, step):
        run_on_time(os.getpid())
        while True:
            time.sleep(step)
            self.count()

    def __enter__(self):
        self.process.start()
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.join()


# On a slow machine, thousands of series are not parsed anew each time.
@functools.lru_cache(maxsize=20_000)
def name_and_labels(series):
    found = re.fullmatch(r'(\w+)(?:\{((?:\w+="(?:[^"\\\n]|\\["\\n])*",?)*)\})?', series)
    assert found, f"no series: {series!r}"
    name, labels = found.groups()
    return name, dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or ""))


class Scrape:
    """What /metrics says."""

    def __init__(self, text):
        self.samples = {}
        for line in text.splitlines():
            if line.startswith("#"):
                continue
            series, _, value = line.rpartition(" ")
            name, labels = name_and_labels(series)
            self.samples.setdefault(name, []).append((labels, float(value)))

    def all(self, metric, **labels):
        found = self.samples.get(metric, [])
        return [(of, value) for of, value in found if labels.items() <= of.items()]

    def value(self, metric, **labels):
        """The only sample with these labels; None: there is none."""
        values = [value for _, value in self.all(metric, **labels)]
        assert len(values) < 2, f"{metric} {labels} is there {len(values)} times"
        return values[0] if values else None

    def joules(self, workload, domain):
        kind, name = workload
        return self.value("workload_energy_joules_total", kind=kind, name=name, domain=domain)

    def cpu_seconds(self, workload):
        kind, name = workload
        return self.value("workload_cpu_seconds_total", kind=kind, name=name)

    def above_idle(self, domain):
        whole = self.value("workload_domain_energy_joules_total", domain=domain)
        return whole - self.value("workload_idle_energy_joules_total", domain=domain)

    def workloads(self):
        return {(labels["kind"], labels["name"]) for labels, _ in self.all("workload_cpu_seconds_total")}

    def limits(self):
        reached = self.all("exporter_limit_reached_total", source="workloads")
        return {labels["limit"]: int(value) for labels, value in reached}

    def check(self):
        """The sum is that of its parts, and there is no value that cannot be. Returns how much the sum is off."""
        worst = 0.0
        for labels, whole in self.all("workload_domain_energy_joules_total"):
            domain = labels["domain"]
            parts = [value for _, value in self.all("workload_energy_joules_total", domain=domain)]
            parts += [self.value(f"workload_{part}_energy_joules_total", domain=domain) for part in ("idle", "ended")]
            off = abs(sum(parts) - whole) / max(whole, 1.0)
            assert off <= 1e-6, f"{domain}: {sum(parts)} J of {whole} J"
            metered = self.value("energy_joules_total", source="rapl", rail=f"{domain}-0")
            if domain == "board":
                metered = self.value("board_energy_joules_total")
            assert whole <= metered * (1 + 1e-9), f"{domain}: {whole} J of {metered} J"
            worst = max(worst, off)
        for metric, samples in self.samples.items():
            if metric.startswith("workload_"):
                for labels, value in samples:
                    assert math.isfinite(value) and value >= 0.0, f"{metric} {labels} {value}"
        return worst


class Attribution:
    """A running exporter and its workloads: `services` starts them. Again and again it is looked whether nothing is lost."""

    def __init__(self, address, pid, services, names, pause=0.5):
        self.address = address
        self.names = names
        self.pause = pause
        self.pid = pid
        self.services = services
        self.scrapes, self.worst, self.failure, self.failed = 0, 0.0, None, []
        self.known = set()
        # What one thread scrapes is known before another thread's next scrape, however long it takes to parse.
        self.scraping = threading.Lock()
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def scrape(self):
        with self.scraping:
            text, _ = get(f"http://{self.address}/metrics")
            scrape = Scrape(text)
            self.worst = max(self.worst, scrape.check())
            self.scrapes += 1
            self.known |= scrape.workloads()
        return scrape

    def watch(self):
        try:
            while not self.stopped.wait(2 * self.pause):
                self.scrape()
        except BaseException as error:
            self.failure = error

    def __enter__(self):
        wait_until("attribution has begun", lambda: self.scrape().value("workload_domain_energy_joules_total", domain=GIVEN))
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        self.stopped.set()
        self.thread.join()
        if kind is None:
            assert not self.failed, f"failed: {self.failed}"
            print(f"{self.scrapes} scrapes: the parts' sums are off by {self.worst:.1e} at most")

    @contextlib.contextmanager
    def part(self, name):
        """A part of the test. If it fails, the others are tried all the same."""
        began = time.monotonic()
        try:
            yield
            if self.failure:
                raise self.failure
        except Exception:
            traceback.print_exc(file=sys.stdout)
            self.failed.append(name)
        print(f"== {name}: {time.monotonic() - began:.0f} s", flush=True)

    def at_rest(self, *names):
        """A scrape that knows all that these services, which do nothing now, have used."""

        seen = {}

        def knows_all():
            # A scrape takes time from those that are measured.
            time.sleep(self.pause)
            scrape = self.scrape()
            for name in names:
                known = scrape.cpu_seconds(("service", name))
                power = scrape.value("workload_power_watts", kind="service", name=name, domain=GIVEN)
                seen[name] = known, self.services.usage(name), power
            for name in names:
                workload = "service", name
                if scrape.value("workload_power_watts", kind="service", name=name, domain=GIVEN) != 0:
                    return None
                if abs(scrape.cpu_seconds(workload) - self.services.usage(name)) > 1e-6:
                    return None
            return scrape

        try:
            return wait_until(f"the exporter knows what {', '.join(names)} used", knows_all)
        except AssertionError as error:
            raise AssertionError(f"{error}: CPU time, the kernel's counter and power: {seen}")

    def run_until_used(self, seconds):
        """The services run until each has used so much CPU time, however long others make it wait."""
        targets = {name: self.services.usage(name) + more for name, more in zip(self.names, seconds)}
        for name in self.names:
            self.services.resume(name)
        deadline = time.monotonic() + 30 * sum(seconds)
        while targets:
            assert time.monotonic() < deadline, f"{list(targets)} did not get {seconds} s of CPU time"
            time.sleep(0.02)
            for name in [name for name, target in targets.items() if self.services.usage(name) >= target]:
                self.services.pause(name)
                del targets[name]

    def two_to_one(self, seconds):
        """Two services that are paused run until one has used so much CPU time, and the other half of that."""
        names = self.names
        before, began = self.at_rest(*names), [self.services.usage(name) for name in names]
        self.run_until_used([seconds, seconds / 2])
        after, ended = self.at_rest(*names), [self.services.usage(name) for name in names]
        used = [now - then for now, then in zip(ended, began)]
        assert 1.8 < used[0] / used[1] < 2.2, f"the load was {used[0]:.2f} s to {used[1]:.2f} s"
        for domain in DOMAINS:
            joules = [after.joules(("service", name), domain) - before.joules(("service", name), domain) for name in names]
            said = joules[0] / joules[1] / (used[0] / used[1])
            parts = [here / (WATTS_PER_PROCESSOR * cpu) for here, cpu in zip(joules, used)]
            print(
                f"{domain}: {used[0]:.2f} s and {used[1]:.2f} s have {joules[0]:.2f} J and {joules[1]:.2f} J: {said:.4f} of the "
                f"ratio, {parts[0]:.4f} and {parts[1]:.4f} of what the meter counted for them"
            )
            # While idle power is unknown, those who are busy at a moment share that, too: the two are so at other moments.
            assert abs(said - 1) < (0.02 if domain == GIVEN else 0.05), "the two are not shared as their CPU time is"
            off = max(abs(part - 1) for part in parts)
            assert domain == LEARNED or off < 0.02, "a part is not that of the CPU time"

    def counted(self):
        """What the services use is counted to the last microsecond."""
        self.run_until_used([0.5, 0.25])
        self.at_rest(*self.names)

    def come_and_go(self, seconds=5):
        """Load of three levels, for so long each."""
        for name in self.names:
            self.services.resume(name)
        time.sleep(seconds)
        for name in self.names:
            self.services.pause(name)
            time.sleep(seconds)

    def learned_idle(self):
        """Idle power as it is learned so far: unknown, or right."""
        scrape = self.scrape()
        watts, fit, error = (scrape.value(f"workload_idle_{of}", domain=LEARNED) for of in ("watts", "fit_ratio", "error_watts"))
        print(f"learned idle power: {watts} W, fit {fit}, standard error {error} W")
        # Where others take the processors, the meter and its reader are late, and the error says so.
        assert watts is None or abs(watts - IDLE_WATTS) < max(0.03 * IDLE_WATTS, 3 * error), f"{watts} W are not {IDLE_WATTS} W"
        return watts

    def short_processes(self, count, program, directory, meanwhile=lambda: time.sleep(0.5)):
        """All of many short processes are counted."""
        name = "short.service"
        left = directory / "left"
        left.write_text("")
        with self.services.running(name, [program, str(count), left]):
            while left.exists():
                meanwhile()
                self.services.check(name)
            scrape = self.at_rest(name)
            used = scrape.cpu_seconds(("service", name))
            print(f"{count} processes: {used:.6f} s, {self.services.usage(name):.6f} s by the kernel's counter")
            assert used > count * 0.005, "the processes did not run"

    def hostile_names(self):
        """Cgroups of strange names have series, whose labels are printable."""
        before = self.scrape().workloads()

        def are_there():
            new = self.scrape().workloads() - before
            return new if len(new) == len(HOSTILE) else None

        with self.services.folders(HOSTILE):
            new = wait_until(f"all of {HOSTILE} have series", are_there)
        for kind, name in sorted(new):
            assert kind == "service" and name.isprintable() and 0 < len(name) <= 64, (kind, name)
        print(f"{len(HOSTILE)} strange names: {sorted(name for _, name in new)}")
        self.are_gone(new.__contains__)

    def long_path(self, levels=18):
        """What runs in a cgroup whose path is longer than a path may be is counted with the slices above it."""
        top = "y" * 249 + ".slice"
        before = self.scrape().cpu_seconds(("other", "other"))
        with self.services.nested(top, levels) as length:
            assert length > 4096, length
            used = self.services.usage_of(self.services.slice / top)
            assert used > 0.5, f"it used {used} s"
            wait_until("it is counted", lambda: self.scrape().cpu_seconds(("other", "other")) - before > used - 1e-6)
        print(f"{used:.3f} s in a cgroup whose path has {length} bytes are counted")

    def many(self, count):
        """Each of many cgroups has series or is said to have none, and they take little memory."""
        is_one = lambda workload: workload[1].startswith("many-")
        memory, before = self.memory(), self.limits()

        def are_all_known():
            scrape = self.scrape()
            with_series = len(list(filter(is_one, scrape.workloads())))
            without = scrape.limits().get("workloads", 0) - before.get("workloads", 0)
            return with_series + without == count and (with_series, without)

        with self.services.folders([f"many-{number}.service" for number in range(count)]):
            with_series, without = wait_until("all of them are known", are_all_known)
            assert with_series > 300, f"{with_series} have series"
            assert self.limits().get("cgroups") == before.get("cgroups"), f"{before}, {self.limits()}"
            print(f"{count} cgroups: {with_series} have series, {without} have not")
            self.takes_at_most(3000, memory)
        self.are_gone(is_one)

    def too_many(self, count, doctor):
        """More cgroups than are read: memory is bounded, it is said, and services that were there before are counted."""
        memory = self.memory()
        with self.services.folders(f"too-many-{number}.service" for number in range(count)):
            expected = {"cgroups", "workloads"}
            limits = wait_until("the limits are said", lambda: expected <= (limits := self.limits()).keys() and limits)
            (said,) = [source["limits"] for source in json.loads(doctor())["sources"] if source["source"] == "workloads"]
            self.counted()
            print(f"{count} cgroups: left out: {limits}")
            assert said.keys() == expected, f"doctor says {said}"
            self.takes_at_most(8000, memory)
        self.are_gone(lambda workload: workload[1].startswith("too-many-"))

    def takes_at_most(self, more, memory):
        """What the answers took is given back."""
        seen = []

        def is_little():
            time.sleep(self.pause)
            seen.append(self.memory() - memory)
            return seen[-1] <= more

        try:
            wait_until("memory is little", is_little)
        finally:
            print(f"{seen[-1]} kB more than {memory} kB of memory")

    def are_gone(self, is_one):
        wait_until("they are gone", lambda: not any(map(is_one, self.scrape().workloads())))

    def storm(self, seconds):
        """Cgroups come and go all the time, with processes and without: no series but theirs."""
        self.scrape()
        before, until, rounds = set(self.known), time.monotonic() + seconds, 0
        while time.monotonic() < until:
            rounds += 1
            with self.services.folders([f"storm-{rounds % 50}.service"]):
                if rounds % 20 == 0:
                    self.services.brief("storm-process.service")
        is_ours = lambda workload: workload[0] == "service" and workload[1].startswith("storm-")
        ours = {workload for workload in self.known - before if is_ours(workload)}
        assert self.known - before == ours, f"series of nothing: {self.known - before - ours}"
        self.are_gone(is_ours)
        print(f"{rounds} cgroups came and went under 51 names, of which {len(ours)} had series")

    def memory(self):
        """Anonymous memory of the exporter in kB."""
        text = pathlib.Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return int(re.search(r"Anonymous:\s+(\d+) kB", text)[1])

    def limits(self):
        return self.scrape().limits()


class Cgroups:
    """Services that are folders in this machine's own cgroups: of version 2, or of the `cpuacct` controller of version 1."""

    def __init__(self):
        top = pathlib.Path("/sys/fs/cgroup")
        self.is_v2 = (top / "cgroup.controllers").exists()
        if self.is_v2:
            self.root = top
        else:
            roots = [top / name for name in ("cpuacct", "cpu,cpuacct") if (top / name / "cpuacct.usage").exists()]
            assert roots, f"{top} has neither cgroup.controllers nor cpuacct/cpuacct.usage"
            self.root = roots[0]
        self.slice = self.root / f"edgemetrics{os.getpid()}.slice"
        self.processes = {}
        self.inside, self.outside, self.last = 0.0, 0.0, {}

    def __enter__(self):
        self.slice.mkdir()
        return self

    def __exit__(self, *_):
        for name in list(self.processes):
            self.stop(name)
        self.remove(self.slice)

    @staticmethod
    def remove(folder):
        """A cgroup, and those in it. It is busy until its last process has been waited for."""
        for path, folders, _ in os.walk(folder, topdown=False):
            wait_until(f"{path!r} is removed", lambda: os.rmdir(path) is None)

    def folder(self, name):
        return self.slice / name

    def usage(self, name):
        """CPU time by the kernel's counter, in seconds."""
        return self.usage_of(self.folder(name))

    def usage_of(self, folder):
        if self.is_v2:
            with open(f"{folder}/cpu.stat") as file:
                name, microseconds = file.readline().split()
            assert name == "usage_usec", name
            return int(microseconds) / 1e6
        with open(f"{folder}/cpuacct.usage") as file:
            return int(file.read()) / 1e9

    def busy_seconds(self):
        """CPU time of all processes: of those in cgroups, and what /proc/stat, which counts by the ticks of a clock, has besides."""
        # Units of mounts have no processes.
        for name in os.listdir(self.root):
            if name.endswith((".slice", ".scope")):
                with contextlib.suppress(OSError):
                    usage, last = self.usage_of(f"{self.root}/{name}"), self.last.get(name, 0.0)
                    self.inside += usage - last if usage >= last else usage
                    self.last[name] = usage
        with open("/proc/stat") as file:
            words = [int(word) for word in file.readline().split()[1:]]
        busy = (sum(words[:3]) + sum(words[5:7])) / os.sysconf("SC_CLK_TCK")
        self.outside = max(self.outside, busy - self.inside)
        return self.inside + self.outside

    def start(self, name, command):
        folder = self.slice / name
        folder.mkdir(exist_ok=True)

        def enter():
            with open(folder / "cgroup.procs", "w") as file:
                file.write("0")

        self.processes[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=enter, start_new_session=True)

    def start_busy(self, name, part):
        """A service that is paused, and else is busy for a part of the time."""
        self.start(name, [sys.executable, "-c", BUSY, str(part)])
        self.pause(name)

    def check(self, name):
        assert self.processes[name].poll() is None, f"{name} ended"

    def send(self, name, number):
        for pid in (self.folder(name) / "cgroup.procs").read_text().split():
            os.kill(int(pid), number)

    def pause(self, name):
        self.send(name, signal.SIGSTOP)

    def resume(self, name):
        self.send(name, signal.SIGCONT)

    def stop(self, name):
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.remove(self.slice / name)

    def brief(self, name):
        """A service that ends at once."""
        with self.running(name, ["true"]):
            pass

    @contextlib.contextmanager
    def running(self, name, command):
        self.start(name, command)
        try:
            yield
        finally:
            self.stop(name)

    @contextlib.contextmanager
    def nested(self, name, levels):
        """Slices one in the other, in the last of which a process has used some CPU time; the length of its path."""
        (self.slice / name).mkdir()
        files = [os.open(self.slice / name, os.O_RDONLY)]
        try:
            for _ in range(1, levels):
                os.mkdir(name, dir_fd=files[-1])
                files.append(os.open(name, os.O_RDONLY, dir_fd=files[-1]))

            def enter():
                procs = os.open("cgroup.procs", os.O_WRONLY, dir_fd=files[-1])
                os.write(procs, b"0")
                os.close(procs)

            spend = "import time\nwhile time.process_time() < 0.6: pass"
            subprocess.run([sys.executable, "-c", spend], preexec_fn=enter, check=True)
            yield len(os.fsencode(self.slice)) + levels * (len(name) + 1)
        finally:
            for folder in files[-2::-1]:
                wait_until("it is removed", lambda: os.rmdir(name, dir_fd=folder) is None)
            for file in files:
                os.close(file)
            self.remove(self.slice / name)

    @contextlib.contextmanager
    def folders(self, names):
        """Cgroups without processes."""
        made = []
        try:
            for name in names:
                path = os.path.join(os.fsencode(self.slice), os.fsencode(name))
                os.mkdir(path)
                made.append(path)
            yield
        finally:
            for path in made:
                os.rmdir(path)
